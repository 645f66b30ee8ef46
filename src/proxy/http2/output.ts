// Owns: the frames that one turn of the event loop produces, gathered so that each connection makes one write of them (one system call, one run of TLS
// records), and the order in which connections with something to say are flushed. A connection holds a buffer only between its first frame and the flush.
// A turn handles every socket that had something to read: requests of many clients leave in one write to the instance they share, and the answers it gives
// at once leave in one write to each client. Flushing after every event instead costs a third more CPU (docs/decisions/0013).

import type { Outbox } from "../net/outbox.ts";
import { recycleStreams } from "./session-stream.ts";

/** Four full DATA frames, and some heads. */
export const gatherSize = 4 * (16_384 + 9) + 3_000;
/** Buffers kept for the next event; more than this many connections rarely write in one event. */
const keptBuffers = 8;
const free: Buffer[] = [];

/** Outputs with frames that wait for the end of the event. */
let dirty: Output[] = [];
let spare: Output[] = [];
let scheduled = false;
/** How many events are being handled (they nest when one connection's bytes end another). */
let depth = 0;

/** Call when a socket's event begins, and `leave` when it ends: what was written meanwhile, on whatever connection, goes out at the end of the turn. */
export function enter(): void {
  depth++;
}

export function leave(): void {
  if (--depth === 0 && dirty.length > 0) schedule();
}

/** Right after the sockets of this turn, before the loop waits again: nothing is held back for longer than the work at hand. */
function schedule(): void {
  if (scheduled) return;
  scheduled = true;
  setImmediate(flushAll);
}

function flushAll(): void {
  scheduled = false;
  const now = dirty;
  dirty = spare;
  for (let i = 0; i < now.length; i++) (now[i] as Output).flush();
  now.length = 0;
  spare = now;
  recycleStreams();
}

export class Output {
  readonly #box: Outbox;
  /** Frames being gathered; null when there are none. */
  #buffer: Buffer | null = null;
  size = 0;
  /** Called after a flush that had something to say. */
  readonly #flushed: () => void;

  constructor(box: Outbox, flushed: () => void) {
    this.#box = box;
    this.#flushed = flushed;
  }

  /** A buffer with room for `room` more bytes at `size`; `room` is at most `gatherSize`. Advance `size` by what was written. */
  reserve(room: number): Buffer {
    let buffer = this.#buffer;
    if (buffer !== null) {
      if (this.size + room <= gatherSize) return buffer;
      this.#write();
      buffer = this.#buffer;
    }
    if (buffer === null) {
      buffer = free.pop() ?? Buffer.allocUnsafeSlow(gatherSize);
      this.#buffer = buffer;
      dirty.push(this);
      if (depth === 0) schedule();
    }
    return buffer;
  }

  /** Writes what was gathered, and keeps the buffer for more. */
  #write(): void {
    const size = this.size;
    if (size === 0) return;
    this.size = 0;
    this.#box.write(this.#buffer as Buffer, 0, size);
  }

  /** Writes what was gathered, and gives the buffer back. */
  flush(): void {
    const buffer = this.#buffer;
    if (buffer === null) return;
    this.#write();
    this.#buffer = null;
    if (free.length < keptBuffers) free.push(buffer);
    this.#flushed();
  }

  /** The connection is gone. */
  drop(): void {
    this.size = 0;
  }
}
