// Owns: how many discovery streams this control plane takes, and how fast new ones: a fleet that comes back in one wave is let in at a pace at which each
// is served at once, and what is too much is sent to another control plane. Never ends a stream that is open, and never looks at the others to judge one.

/** Streams at once: 2 000 proxies take a few hundred MiB, so that beyond this it is time for another control plane. */
export const maxStreams = 10_000;
/** New streams a second: each costs about a millisecond of the one core, TLS and its first configuration included. */
export const newStreamsPerSecond = 500;
/** So many at once after a quiet moment. */
export const newStreamsBurst = 1_000;

/** Streams of one node at once: a program that shares its bootstrap with others of its host, and some that are about to end. */
export const maxStreamsPerNode = 256;
/** Streams that wait to be let in, of all clients: they have shown nothing yet. */
export const maxUnadmitted = 4_096;

/** One stream's place among the open ones. */
export interface StreamPlace {
  /** It is that node's, which has not too many; else how many it has, and nothing is noted. Once a place. */
  admit(node: string): number | undefined;
  /** The stream is over. Idempotent. */
  leave(): void;
}

/** Counts of what is open. Each step costs the same, however many streams there are. */
export class OpenStreams {
  readonly #byNode = new Map<string, number>();
  #unadmitted = 0;

  /** Undefined: too many wait to be let in. */
  enter(): StreamPlace | undefined {
    if (this.#unadmitted >= maxUnadmitted) return undefined;
    this.#unadmitted++;
    let node: string | undefined;
    let gone = false;
    return {
      admit: (key) => {
        const same = this.#byNode.get(key) ?? 0;
        if (same >= maxStreamsPerNode) return same;
        if (gone || node !== undefined) return undefined;
        node = key;
        this.#unadmitted--;
        this.#byNode.set(key, same + 1);
        return undefined;
      },
      leave: () => {
        if (gone) return;
        gone = true;
        if (node === undefined) {
          this.#unadmitted--;
          return;
        }
        const left = (this.#byNode.get(node) ?? 1) - 1;
        if (left === 0) this.#byNode.delete(node);
        else this.#byNode.set(node, left);
      },
    };
  }

  get unadmitted(): number {
    return this.#unadmitted;
  }

  /** Nodes with open streams. */
  get nodes(): number {
    return this.#byNode.size;
  }
}

export class StreamGate {
  readonly streams = new OpenStreams();
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
