// Owns: when the page asks, and what it believes between answers. One round every 2 s while the page is visible; none while it is hidden.
// A failed round never clears the picture: it stays, marked with the time it is from, and rounds go on until one succeeds.

import type { GraphAnswer, MeshObject, ProxyObject } from "../../src/api/live.ts";
import type { Answer, Api, Failure } from "./api.ts";

export const pollEveryMs = 2_000;
/** Mesh and proxies change seldom and their lists can be long: every third round. */
const slowEvery = 3;

export type Connection =
  | { readonly name: "loading" }
  | { readonly name: "live" }
  /** `sinceMs`: when the picture on the page was last true; without one, when asking first failed. */
  | { readonly name: "lost"; readonly sinceMs: number; readonly failure: Failure };

export interface LiveState {
  readonly connection: Connection;
  readonly graph: GraphAnswer | null;
  readonly mesh: MeshObject | null;
  readonly proxies: readonly ProxyObject[] | null;
  /** Grows with each good round; details of a selection are read again when it does. */
  readonly round: number;
}

/** Time and visibility as the page has them; a test passes its own. */
export interface PollerEffects {
  readonly api: Pick<Api, "graph" | "mesh" | "proxies">;
  readonly now: () => number;
  readonly after: (delayMs: number, run: () => void) => () => void;
  readonly publish: (state: LiveState) => void;
}

export interface Poller {
  /** Asks at once, for another window if one is given. */
  ask(windowSeconds?: number): void;
  /** A hidden page stops asking; a page that shows again asks at once. */
  setVisible(visible: boolean): void;
  stop(): void;
}

export const initialState: LiveState = { connection: { name: "loading" }, graph: null, mesh: null, proxies: null, round: 0 };

export function createPoller(effects: PollerEffects, firstWindowSeconds: number): Poller {
  let state = initialState;
  let windowSeconds = firstWindowSeconds;
  let visible = true;
  let goodAtMs: number | null = null;
  let rounds = 0;
  let flight: AbortController | null = null;
  let cancelTimer: (() => void) | null = null;

  const publish = (next: LiveState): void => {
    state = next;
    effects.publish(next);
  };

  async function round(mine: AbortController): Promise<void> {
    const slow = rounds++ % slowEvery === 0 || state.connection.name !== "live";
    const [graph, mesh, proxies] = await Promise.all([
      effects.api.graph(windowSeconds, mine.signal),
      slow ? effects.api.mesh(mine.signal) : null,
      slow ? effects.api.proxies(mine.signal) : null,
    ]);
    // A newer round (or the end) has taken over: this one's answers are late.
    if (flight !== mine) return;
    flight = null;
    const failed = [graph, mesh, proxies].find((answer): answer is Answer<never> & { ok: false } => answer !== null && !answer.ok);
    const nowMs = effects.now();
    if (graph.ok && failed === undefined) goodAtMs = nowMs;
    const before = state.connection;
    publish({
      connection: failed
        ? { name: "lost", sinceMs: before.name === "lost" ? before.sinceMs : (goodAtMs ?? nowMs), failure: failed.failure }
        : { name: "live" },
      graph: graph.ok ? graph.value : state.graph,
      mesh: mesh?.ok ? mesh.value : state.mesh,
      proxies: proxies?.ok ? proxies.value.items : state.proxies,
      round: failed ? state.round : state.round + 1,
    });
    cancelTimer = effects.after(pollEveryMs, ask);
  }

  function ask(): void {
    halt();
    if (!visible) return;
    flight = new AbortController();
    void round(flight);
  }

  function halt(): void {
    cancelTimer?.();
    cancelTimer = null;
    const old = flight;
    flight = null;
    old?.abort();
  }

  return {
    ask(nextWindowSeconds) {
      if (nextWindowSeconds !== undefined) windowSeconds = nextWindowSeconds;
      ask();
    },
    setVisible(now) {
      if (visible === now) return;
      visible = now;
      if (visible) ask();
      else halt();
    },
    stop() {
      visible = false;
      halt();
    },
  };
}
