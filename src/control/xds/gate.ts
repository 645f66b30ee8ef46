// Owns: how many discovery streams this control plane takes, and how fast new ones: a fleet that comes back in one wave is let in at a pace at which each
// is served at once, and what is too much is sent to another control plane. Never ends a stream that is open.

/** Streams at once: 2 000 proxies take a few hundred MiB, so that beyond this it is time for another control plane. */
export const maxStreams = 10_000;
/** New streams a second: each costs about a millisecond of the one core, TLS and its first configuration included. */
export const newStreamsPerSecond = 500;
/** So many at once after a quiet moment. */
export const newStreamsBurst = 1_000;

export class StreamGate {
  readonly #nowMs: () => number;
  #room = newStreamsBurst;
  #filledMs: number;
  /** Why none is taken at present. */
  closed: string | undefined;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    this.#filledMs = nowMs();
  }

  /** Why a further stream is not taken (for the client's eyes; gRPC's UNAVAILABLE); undefined = it is, and is counted. */
  refuses(open: number): string | undefined {
    if (this.closed !== undefined) return this.closed;
    if (open >= maxStreams) return `this control plane has ${open} streams open, its most; connect to another one`;
    const now = this.#nowMs();
    this.#room = Math.min(newStreamsBurst, this.#room + ((now - this.#filledMs) * newStreamsPerSecond) / 1000);
    this.#filledMs = now;
    if (this.#room < 1) return `this control plane takes ${newStreamsPerSecond} new streams a second; try again, or connect to another one`;
    this.#room--;
    return undefined;
  }
}
