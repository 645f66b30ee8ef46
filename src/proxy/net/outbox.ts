// Owns: writing to a socket that may not take everything: what was not accepted waits here, in order, until the socket drains.
// Never decides who is paused: a writer that gets `false` pauses its source, and resumes it when `drain` says the box is empty.

/** The part of Bun's socket that connections use. `data` is the connection that owns the socket. */
export interface Wire {
  write(bytes: Uint8Array, from?: number, size?: number): number;
  end(): void;
  terminate(): void;
  shutdown(): void;
  pause(): void;
  resume(): void;
  timeout(seconds: number): void;
  readonly remoteAddress: string;
  /** Who is at the other end of the socket, where `remoteAddress` is what a PROXY protocol header said. */
  readonly directAddress?: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
}

/** FIN, then the socket closes with the peer's FIN, or after a few seconds without one. Nothing in flight is lost, unlike with `terminate`. */
export function closeGently(wire: Wire): void {
  wire.end();
  wire.timeout(5);
}

/** Shared by every connection of the process for building heads and small messages; whoever writes from it must finish in one go. */
export const scratch = Buffer.allocUnsafeSlow(96 * 1024);

/** Reads of at least this size are given back by hand. */
const largeBytes = 65_536;

/**
 * Gives the memory of a large read back at once: the collector would let hundreds of them pile up before it looks. Only for bytes that nobody looks at
 * again, whoever holds a view of them.
 */
export function discard(bytes: Uint8Array): void {
  const buffer = bytes.buffer;
  if (buffer.byteLength >= largeBytes && buffer instanceof ArrayBuffer) buffer.transfer(0);
}

/** The way out of one connection. */
export class Outbox {
  wire: Wire | null = null;
  /** Bytes waiting. Bounded by one read of the source, since the source is paused while anything waits. */
  waiting = 0;
  /** Copies, so that a little that waits does not hold all of a large read. */
  #rest: Uint8Array[] | null = null;
  /** FIN once everything is out. */
  #endAfter = false;
  /** Bytes accepted by the kernel (or the TLS layer). */
  sent = 0;

  /** True: everything was taken. What must wait is copied: the bytes are the caller's again. A closed socket takes and drops everything. */
  write(bytes: Uint8Array, from: number, to: number): boolean {
    if (to === from) return this.waiting === 0;
    if (this.waiting === 0) {
      const wire = this.wire;
      if (wire === null) return true;
      const taken = wire.write(bytes, from, to - from);
      if (taken === to - from) {
        this.sent += taken;
        return true;
      }
      if (taken < 0) {
        this.wire = null;
        return true;
      }
      this.sent += taken;
      from += taken;
    }
    this.#rest ??= [];
    // A Buffer's own `slice` is a view.
    this.#rest.push(Uint8Array.prototype.slice.call(bytes, from, to));
    this.waiting += to - from;
    return false;
  }

  /** Call on the socket's drain event. True when nothing waits any more. */
  drain(): boolean {
    while (this.waiting > 0) {
      const wire = this.wire;
      if (wire === null) {
        this.clear();
        return true;
      }
      const rest = this.#rest as Uint8Array[];
      const first = rest[0] as Uint8Array;
      const taken = wire.write(first, 0, first.length);
      if (taken < 0) {
        this.wire = null;
        this.clear();
        return true;
      }
      this.sent += taken;
      this.waiting -= taken;
      if (taken < first.length) {
        rest[0] = first.subarray(taken);
        return false;
      }
      rest.shift();
      discard(first);
    }
    if (this.#endAfter) {
      this.#endAfter = false;
      this.wire?.shutdown();
    }
    return true;
  }

  /** FIN after what waits. */
  finish(): void {
    if (this.waiting > 0) this.#endAfter = true;
    else this.wire?.shutdown();
  }

  clear(): void {
    this.#rest = null;
    this.waiting = 0;
    this.#endAfter = false;
  }
}
