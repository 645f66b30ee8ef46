// Owns: the ring of log lines and those who follow it. Bounded: the oldest lines go, and a follower that cannot keep up is told what it missed
// instead of being waited for. Never keeps a line for anyone.

import type { LogLine } from "../api/live.ts";

export interface LogFilter {
  readonly namespace: string | undefined;
  /** Label `app` of the workload. */
  readonly app: string | undefined;
}

export interface Entry {
  readonly line: LogLine;
  readonly app: string;
}

export const maxLines = 4096;
/** Lines handed to a slow follower at once. */
const batch = 256;

export class LogRing {
  readonly #entries: (Entry | undefined)[] = new Array<Entry | undefined>(maxLines);
  /** Sequence number of the next line; the ring holds the `maxLines` before it. */
  #next = 0;
  readonly #wakers = new Set<() => void>();

  /** Sequence number that the next line will get. */
  get next(): number {
    return this.#next;
  }

  append(line: LogLine, app: string): void {
    this.#entries[this.#next % maxLines] = { line, app };
    this.#next++;
    for (const wake of [...this.#wakers]) wake();
  }

  /** Lines from sequence number `from` on that pass, at most `limit`; where to go on; how many are gone. */
  read(from: number, filter: LogFilter, limit: number): { readonly lines: LogLine[]; readonly next: number; readonly missed: number } {
    const oldest = Math.max(0, this.#next - maxLines);
    const missed = Math.max(0, oldest - from);
    const lines: LogLine[] = [];
    let at = Math.max(from, oldest);
    for (; at < this.#next && lines.length < limit; at++) {
      const entry = this.#entries[at % maxLines];
      if (entry !== undefined && passes(entry, filter)) lines.push(entry.line);
    }
    return { lines, next: at, missed };
  }

  /** The newest `count` lines that pass, oldest first. */
  tail(filter: LogFilter, count: number): LogLine[] {
    const lines: LogLine[] = [];
    for (let at = this.#next - 1; at >= 0 && at >= this.#next - maxLines && lines.length < count; at--) {
      const entry = this.#entries[at % maxLines];
      if (entry !== undefined && passes(entry, filter)) lines.push(entry.line);
    }
    return lines.reverse();
  }

  /** Calls `wake` after each line until the returned function is called. */
  onLine(wake: () => void): () => void {
    this.#wakers.add(wake);
    return () => this.#wakers.delete(wake);
  }
}

function passes({ line, app }: Entry, filter: LogFilter): boolean {
  return (filter.namespace === undefined || line.namespace === filter.namespace) && (filter.app === undefined || app === filter.app);
}

/** JSON lines: the newest `tail` ones, and with `follow` every later one until the reader goes. */
export function logBody(ring: LogRing, filter: LogFilter, tail: number, follow: boolean): ReadableStream<Uint8Array> {
  const text = new TextEncoder();
  const encode = (lines: readonly LogLine[]) => text.encode(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  const first = ring.tail(filter, tail);
  let from = ring.next;
  let stopListening = () => {};
  let wake: (() => void) | undefined;
  return new ReadableStream<Uint8Array>({
    start(controller) {
      if (first.length > 0) controller.enqueue(encode(first));
      if (!follow) {
        controller.close();
        return;
      }
      stopListening = ring.onLine(() => wake?.());
    },
    async pull(controller) {
      for (;;) {
        const { lines, next, missed } = ring.read(from, filter, batch);
        from = next;
        if (missed > 0) lines.unshift(gap(missed));
        if (lines.length > 0) {
          controller.enqueue(encode(lines));
          return;
        }
        const line = Promise.withResolvers<void>();
        wake = line.resolve;
        await line.promise;
        wake = undefined;
      }
    },
    cancel() {
      stopListening();
      wake?.();
    },
  });
}

function gap(missed: number): LogLine {
  return {
    at: new Date(0).toISOString(),
    kind: "event",
    level: "warn",
    namespace: "",
    workload: "",
    message: `${missed} lines came faster than they were read and are gone`,
  };
}
