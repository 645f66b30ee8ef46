// Owns: what the page says when something is not as it should be, and when there is nothing to show: plainly, with the next step.

import { type ReactNode, useEffect, useState } from "react";
import type { Connection } from "../live/poller.ts";
import { clockTime, span } from "../model/format.ts";
import { StrokeIcon } from "./icons.tsx";

/** Shown while the last round failed. The picture below stays. */
export function Banner({
  connection,
  hasPicture,
  onRetry,
}: {
  connection: Connection;
  hasPicture: boolean;
  onRetry: () => void;
}): ReactNode {
  const lost = connection.name === "lost" ? connection : null;
  const now = useSecondHand(lost !== null);
  if (lost === null) return null;
  const { failure, sinceMs } = lost;
  const since = hasPicture && (
    <>
      {" "}
      The picture is from {clockTime(sinceMs)}
      {/* Counts up each second: hidden, or a screen reader would read the whole notice anew each time. */}
      <span aria-hidden="true"> ({span(now - sinceMs)} ago)</span>.
    </>
  );
  const message = failure.message.replace(/\.$/, "");
  if (failure.kind === "refused") {
    return (
      <div className="banner bad" role="alert">
        <p>
          <b>{failure.status === 401 ? "You are not signed in." : "This sign-in may not read the mesh."}</b>{" "}
          {failure.status === 401 ? "Open the address that" : "Sign in with the address that"} <code>weft up</code> printed, the one with{" "}
          <code>?token=</code>.{since} {message !== "" && <span className="soft">({message})</span>}
        </p>
        <button type="button" onClick={() => window.location.reload()}>
          Sign in
        </button>
      </div>
    );
  }
  return (
    <div className="banner" role="alert">
      <p>
        {failure.kind === "away" ? (
          <>
            <b>The control plane is away</b> ({message}).
          </>
        ) : (
          <>
            <b>The control plane answers with error {failure.status}:</b> {message || "without saying why"}.
          </>
        )}
        {since} Traffic in the mesh goes on without it; this page reconnects by itself.
      </p>
      <button type="button" onClick={onRetry}>
        Try now
      </button>
    </div>
  );
}

function useSecondHand(running: boolean): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (!running) return;
    setNow(Date.now());
    const id = window.setInterval(() => setNow(Date.now()), 1_000);
    return () => window.clearInterval(id);
  }, [running]);
  return now;
}

/** Nothing runs in the mesh. */
export function EmptyMesh(): ReactNode {
  return (
    <div className="empty">
      <h2>Nothing runs in this mesh yet</h2>
      <p>Start a program beside its sidecar; it shows up here within seconds:</p>
      <Command text="weft run --service hello --port 8080 -- python3 -m http.server 8080" />
      <p>Then call it from a second one:</p>
      <Command text="weft run --service caller --port 8081 -- sh -c 'while sleep 1; do curl -s http://hello/; done'" />
    </div>
  );
}

/** Services, but no call between them in the window: a hint over the picture, not instead of it. */
export function NoCalls({ windowSeconds }: { windowSeconds: number }): ReactNode {
  return (
    <p className="hint" role="status">
      No calls in the last {windowSeconds} s. A call shows up when a program that <code>weft run</code> started asks for{" "}
      <code>http://SERVICE/</code>.
    </p>
  );
}

export function NothingFound({ onClear }: { onClear: () => void }): ReactNode {
  return (
    <div className="empty">
      <h2>No service matches the filter</h2>
      <button type="button" onClick={onClear}>
        Show everything
      </button>
    </div>
  );
}

function Command({ text }: { text: string }): ReactNode {
  const [done, setDone] = useState(false);
  return (
    <p className="command">
      <code>{text}</code>
      {navigator.clipboard !== undefined && (
        <button
          type="button"
          className="copy"
          aria-label={done ? "Copied" : "Copy the command"}
          onClick={() => {
            navigator.clipboard.writeText(text).then(
              () => setDone(true),
              () => setDone(false),
            );
          }}
        >
          <StrokeIcon name={done ? "check" : "copy"} />
        </button>
      )}
    </p>
  );
}
