// Owns: the bridge from the poller to React, and the reads that explain a selection (series, objects). Draws nothing.

import { useEffect, useMemo, useRef, useState } from "react";
import type { SeriesAnswer } from "../../src/api/live.ts";
import type { Selection } from "../model/location.ts";
import type { Objects } from "../model/related.ts";
import { type Api, type Failure, listedKinds } from "./api.ts";
import { createPoller, initialState, type LiveState, type Poller } from "./poller.ts";

const seriesMinutes = 5;
/** Objects are read again with every third good round while a panel is open. */
const objectsEvery = 3;

/** Live state for the window; asks at once when the window changes and when the page becomes visible. `again` asks now. */
export function useLive(api: Api, windowSeconds: number): LiveState & { readonly again: () => void } {
  const [state, setState] = useState(initialState);
  const poller = useRef<Poller | null>(null);
  const first = useRef(windowSeconds);
  useEffect(() => {
    const made = createPoller(
      {
        api,
        now: () => Date.now(),
        after: (delayMs, run) => {
          const id = window.setTimeout(run, delayMs);
          return () => window.clearTimeout(id);
        },
        publish: setState,
      },
      first.current,
    );
    poller.current = made;
    const onVisibility = (): void => made.setVisible(document.visibilityState === "visible");
    document.addEventListener("visibilitychange", onVisibility);
    onVisibility();
    made.ask();
    return () => {
      document.removeEventListener("visibilitychange", onVisibility);
      made.stop();
    };
  }, [api]);
  useEffect(() => {
    if (windowSeconds === first.current) return;
    first.current = windowSeconds;
    poller.current?.ask(windowSeconds);
  }, [windowSeconds]);
  return useMemo(() => ({ ...state, again: () => poller.current?.ask() }), [state]);
}

export interface Details {
  readonly series: SeriesAnswer | null;
  readonly seriesFailure: Failure | null;
  readonly objects: Objects | null;
  readonly objectsFailure: Failure | null;
}

const noDetails: Details = { series: null, seriesFailure: null, objects: null, objectsFailure: null };

/** Series and objects for the selection, read again as rounds succeed; the last good ones stay while the control plane is away. */
export function useDetails(api: Api, selection: Selection, seriesId: string, round: number): Details {
  const key = `${selection.kind} ${seriesId}`;
  const [held, setHeld] = useState<{ key: string; details: Details }>({ key, details: noDetails });
  // biome-ignore lint/correctness/useExhaustiveDependencies: `round` is what makes it read again.
  useEffect(() => {
    const flight = new AbortController();
    void api.series(selection.kind === "service" ? "node" : "edge", seriesId, seriesMinutes, flight.signal).then((answer) => {
      if (flight.signal.aborted) return;
      // Not found = nothing was seen of it yet, which is no failure.
      const nothing = !answer.ok && answer.failure.kind === "error" && answer.failure.status === 404;
      if (nothing) merge({ series: { stepSeconds: 5, points: [] }, seriesFailure: null });
      else merge(answer.ok ? { series: answer.value, seriesFailure: null } : { seriesFailure: answer.failure });
    });
    return () => flight.abort();

    function merge(part: Partial<Details>): void {
      setHeld((old) => ({
        key,
        details: { ...(old.key === key ? old.details : { ...noDetails, objects: old.details.objects }), ...part },
      }));
    }
  }, [api, key, selection.kind, seriesId, round]);

  const slowRound = Math.floor(round / objectsEvery);
  // biome-ignore lint/correctness/useExhaustiveDependencies: as above, every few rounds.
  useEffect(() => {
    const flight = new AbortController();
    void Promise.all(listedKinds.map(async (kind) => [kind, await api.list(kind, flight.signal)] as const)).then((answers) => {
      if (flight.signal.aborted) return;
      const failed = answers.find(([, answer]) => !answer.ok)?.[1];
      const part: Partial<Details> =
        failed && !failed.ok
          ? { objectsFailure: failed.failure }
          : {
              objects: Object.fromEntries(answers.map(([kind, a]) => [kind, a.ok ? a.value.items : []])) as unknown as Objects,
              objectsFailure: null,
            };
      setHeld((old) => ({ ...old, details: { ...old.details, ...part } }));
    });
    return () => flight.abort();
  }, [api, slowRound]);

  return held.key === key ? held.details : { ...noDetails, objects: held.details.objects };
}
