// Owns: who watches the store, and that each of them gets every event once and in order: first from history, page by page, then live.
// Never touches the database: it is given a function that reads a page of history.

import type { Revision, StoreEvent, WatchHandle } from "./store.ts";

/** Events after `after`, oldest first, at most one page. A short page does not mean the end; an empty one does. */
export type ReadHistory = (after: Revision, resource: string | undefined) => readonly StoreEvent[];

interface Watcher {
  readonly resource: string | undefined;
  readonly onEvent: (event: StoreEvent) => void;
  /** The newest revision this watcher has seen or need not see. */
  cursor: Revision;
  /** `stalled`: its history could not be read; goes back to `catching-up` at the next commit. */
  state: "catching-up" | "stalled" | "live" | "stopped";
}

export class Watchers {
  readonly #read: ReadHistory;
  readonly #onError: (error: unknown) => void;
  readonly #all = new Set<Watcher>();

  /** `onError` hears of a watcher whose callback threw, or whose history could not be read; the others go on. */
  constructor(read: ReadHistory, onError: (error: unknown) => void) {
    this.#read = read;
    this.#onError = onError;
  }

  add(from: Revision, resource: string | undefined, onEvent: (event: StoreEvent) => void): WatchHandle {
    const watcher: Watcher = { resource, onEvent, cursor: from, state: "catching-up" };
    this.#all.add(watcher);
    this.#catchUp(watcher);
    return {
      stop: () => {
        watcher.state = "stopped";
        this.#all.delete(watcher);
      },
    };
  }

  /** Called after each commit with its events, in order. */
  publish(events: readonly StoreEvent[]): void {
    // A copy: a callback may add or stop watchers.
    for (const watcher of [...this.#all]) {
      if (watcher.state === "stalled") {
        watcher.state = "catching-up";
        this.#catchUp(watcher);
      }
      if (watcher.state !== "live") continue;
      for (const event of events) {
        if (watcher.resource === undefined || watcher.resource === event.key.resource) this.#deliver(watcher, event);
      }
    }
  }

  /** History after this revision is still to be read by somebody who is catching up; Infinity when nobody is. */
  oldestNeeded(): Revision {
    let oldest = Number.POSITIVE_INFINITY;
    for (const watcher of this.#all)
      if (watcher.state === "catching-up" || watcher.state === "stalled") oldest = Math.min(oldest, watcher.cursor);
    return oldest;
  }

  clear(): void {
    for (const watcher of this.#all) watcher.state = "stopped";
    this.#all.clear();
  }

  // One page a turn of the loop, so that a long history does not hold up everything else. The turn that finds nothing more makes the
  // watcher live; no commit can fall between, because reading and switching happen in one synchronous step.
  #catchUp(watcher: Watcher): void {
    setImmediate(() => {
      if (watcher.state !== "catching-up") return;
      let page: readonly StoreEvent[];
      try {
        page = this.#read(watcher.cursor, watcher.resource);
      } catch (error) {
        // Trying at once would spin; the next commit shows that the medium works again.
        this.#onError(error);
        watcher.state = "stalled";
        return;
      }
      if (page.length === 0) {
        watcher.state = "live";
        return;
      }
      for (const event of page) this.#deliver(watcher, event);
      this.#catchUp(watcher);
    });
  }

  #deliver(watcher: Watcher, event: StoreEvent): void {
    if (watcher.state === "stopped" || event.revision <= watcher.cursor) return;
    watcher.cursor = event.revision;
    try {
      watcher.onEvent(event);
    } catch (error) {
      this.#onError(error);
    }
  }
}
