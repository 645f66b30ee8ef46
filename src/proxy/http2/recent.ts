// Owns: which streams of a session were over lately, and why: what may still come on them depends on that (RFC 9113 section 5.1). Bounded, and empty until
// the first stream is over. Streams that we reset are kept longer, as their peer may not have heard of it yet.

export const gone = { unknown: 0, byUs: 1, ended: 2, byPeer: 3 } as const;

/** Resets of ours that frames of the peer's may cross. */
const resets = 256;
const others = 32;

class Ring {
  readonly #ids: Int32Array;
  #at = 0;

  constructor(size: number) {
    this.#ids = new Int32Array(size);
  }

  /** Above zero, as ids are; `mark` tells two kinds apart by the sign. */
  add(id: number, mark: 1 | -1): void {
    this.#ids[this.#at] = id * mark;
    this.#at = (this.#at + 1) % this.#ids.length;
  }

  has(value: number): boolean {
    return this.#ids.includes(value);
  }
}

export class RecentStreams {
  #byUs: Ring | null = null;
  #others: Ring | null = null;

  add(id: number, why: number): void {
    if (why === gone.byUs) {
      this.#byUs ??= new Ring(resets);
      this.#byUs.add(id, 1);
    } else {
      this.#others ??= new Ring(others);
      this.#others.add(id, why === gone.ended ? 1 : -1);
    }
  }

  why(id: number): number {
    if (this.#byUs?.has(id)) return gone.byUs;
    if (this.#others === null) return gone.unknown;
    if (this.#others.has(id)) return gone.ended;
    return this.#others.has(-id) ? gone.byPeer : gone.unknown;
  }
}
