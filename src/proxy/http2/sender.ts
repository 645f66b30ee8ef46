// Owns: what one session sends: header blocks in frames, DATA as far as windows and socket allow, what waits for them and whose turn it is, and the small
// frames. Never reads and never decides: the session does.

import type { Outbox } from "../net/outbox.ts";
import {
  defaultMaxFrameSize,
  defaultWindow,
  flagEndHeaders,
  flagEndStream,
  frameContinuation,
  frameData,
  frameGoaway,
  frameHeadBytes,
  frameHeaders,
  framePing,
  frameRstStream,
  writeFrameHead,
  writeUint32,
} from "./frame.ts";
import type { Guard } from "./guard.ts";
import { putLines, roomForLines } from "./head-writer.ts";
import { HpackEncoder } from "./hpack-encoder.ts";
import { limits } from "./limits.ts";
import { gatherSize, Output } from "./output.ts";
import { type SessionStream, streamState } from "./session-stream.ts";

/** Payloads of our PINGs: this, then their kind. */
export const pingMark = 0x77656674;

/** Blocks that do not fit one frame are made here first. */
let largeBlock: Buffer | null = null;
const noBytes = Buffer.alloc(0);

/** The session, as its sender needs it. */
export interface SenderHost {
  /** Our END_STREAM is out. */
  localEnded(stream: SessionStream): void;
  /** The queue of a stream that is to be reset after it is out. */
  sent(stream: SessionStream): void;
  /** The peer's window made a frame tiny. True: once too often, and the session is over. */
  tiny(): boolean;
  /** A stream waits for its peer's window. */
  stalled(): void;
  /** The peer does not read our answers to its frames: the session is to end. */
  unread(): void;
}

export class Sender {
  readonly output: Output;
  readonly encoder = new HpackEncoder();
  /** The connection's window. */
  window = defaultWindow;
  /** Streams with something to send that the windows or the socket hold up, in the order of their turns. */
  readonly ready: SessionStream[] = [];
  readonly #host: SenderHost;
  readonly #box: Outbox;
  readonly #guard: Guard;
  readonly #time: { readonly nowMs: number };
  #pumping = false;
  /** Answers to the peer's own frames since the outbox was last empty. */
  #queued = 0;

  constructor(host: SenderHost, box: Outbox, guard: Guard, time: { readonly nowMs: number }) {
    this.#host = host;
    this.#box = box;
    this.#guard = guard;
    this.#time = time;
    this.output = new Output(box, () => {
      if (box.waiting === 0) this.#queued = 0;
    });
  }

  /** Begins a HEADERS frame whose block takes at most `room` bytes. Write with the encoder, then call `endBlock`. */
  beginBlock(room: number): HpackEncoder {
    const encoder = this.encoder;
    if (room <= defaultMaxFrameSize) {
      const out = this.output.reserve(frameHeadBytes + room);
      encoder.begin(out, this.output.size + frameHeadBytes);
    } else {
      if (largeBlock === null || largeBlock.length < room) largeBlock = Buffer.allocUnsafeSlow(room);
      encoder.begin(largeBlock, 0);
    }
    return encoder;
  }

  endBlock(stream: SessionStream, endStream: boolean): void {
    const encoder = this.encoder;
    const flags = endStream ? flagEndStream : 0;
    if (encoder.out !== largeBlock) {
      const start = this.output.size;
      writeFrameHead(encoder.out, start, encoder.at - start - frameHeadBytes, frameHeaders, flags | flagEndHeaders, stream.id);
      this.output.size = encoder.at;
    } else {
      const block = largeBlock;
      let at = 0;
      do {
        const size = Math.min(encoder.at - at, defaultMaxFrameSize);
        const last = at + size === encoder.at;
        const out = this.output.reserve(frameHeadBytes + size);
        writeFrameHead(
          out,
          this.output.size,
          size,
          at === 0 ? frameHeaders : frameContinuation,
          (at === 0 ? flags : 0) | (last ? flagEndHeaders : 0),
          stream.id,
        );
        block.copy(out, this.output.size + frameHeadBytes, at, at + size);
        this.output.size += frameHeadBytes + size;
        at += size;
      } while (at < encoder.at);
    }
    if (endStream) this.#host.localEnded(stream);
  }

  /** Sends payload, or queues what the windows and the socket do not take. False: something is queued; the user hears `onWritable`. */
  send(stream: SessionStream, bytes: Uint8Array, from: number, to: number, end: boolean): boolean {
    if (!stream.canSend || stream.endQueued) return true;
    let at = from;
    if (!stream.listed && this.#box.waiting === 0) {
      at = this.#writeData(stream, bytes, from, to, end, gatherSize * 64);
      if (!stream.canSend || (at === to && !end)) return true;
    } else if (from === to && !end) return stream.queued === 0;
    if (to > at) {
      // A small part of a large read must not keep all of it.
      const size = to - at;
      const rest = size * 4 < bytes.buffer.byteLength ? Buffer.from(bytes.subarray(at, to)) : bytes.subarray(at, to);
      // Most streams never queue; they share one empty list.
      if (stream.queue.length === 0) stream.queue = [rest];
      else stream.queue.push(rest);
      stream.queued += size;
    }
    if (end) stream.endQueued = true;
    this.#list(stream);
    return false;
  }

  /** Ends our message with trailer lines: now, or after what is queued. */
  sendTrailers(stream: SessionStream, bytes: Uint8Array, from: number, to: number): void {
    if (!stream.canSend || stream.endQueued) return;
    if (stream.listed) {
      stream.endQueued = true;
      stream.trailers = Buffer.from(bytes.subarray(from, to));
      return;
    }
    this.#writeTrailers(stream, bytes, from, to);
  }

  #writeTrailers(stream: SessionStream, bytes: Uint8Array, from: number, to: number): void {
    if (from === to) {
      this.#writeData(stream, noBytes, 0, 0, true, 0);
      return;
    }
    putLines(this.beginBlock(roomForLines(from, to)), bytes, from, to);
    this.endBlock(stream, true);
  }

  #list(stream: SessionStream): void {
    if (stream.listed) return;
    stream.listed = true;
    this.ready.push(stream);
    this.#noteStall(stream);
  }

  #noteStall(stream: SessionStream): void {
    if (this.#box.waiting > 0 || stream.stalledSinceMs !== 0) return;
    stream.stalledSinceMs = this.#time.nowMs;
    this.#host.stalled();
  }

  /** DATA frames of at most `most` bytes in all, as far as windows and socket allow. Answers the position after what was written. */
  #writeData(stream: SessionStream, bytes: Uint8Array, from: number, to: number, end: boolean, most: number): number {
    let at = from;
    let left = most;
    while (at < to || (end && stream.canSend)) {
      let size = to - at < defaultMaxFrameSize ? to - at : defaultMaxFrameSize;
      if (size > 0) {
        if (left <= 0) return at;
        const window = stream.sendWindow < this.window ? stream.sendWindow : this.window;
        if (size > window) {
          if (window <= 0) return at;
          size = window;
          if (size < limits.tinyData && this.#host.tiny()) return at;
        }
      }
      const last = end && at + size === to;
      const output = this.output;
      const out = output.reserve(frameHeadBytes + size);
      writeFrameHead(out, output.size, size, frameData, last ? flagEndStream : 0, stream.id);
      if (size > 0) copyBytes(bytes, at, at + size, out, output.size + frameHeadBytes);
      output.size += frameHeadBytes + size;
      this.#guard.dataSent++;
      stream.sendWindow -= size;
      this.window -= size;
      at += size;
      left -= size;
      if (last) this.#host.localEnded(stream);
      else if (this.#box.waiting > 0) return at;
    }
    return at;
  }

  /** Gives the listed streams their turns, a frame each. */
  pump(): void {
    if (this.#pumping || this.#box.waiting > 0) return;
    this.#pumping = true;
    const ready = this.ready;
    let moved = true;
    while (moved && ready.length > 0 && this.#box.waiting === 0) {
      moved = false;
      for (let i = 0; i < ready.length && this.#box.waiting === 0; ) {
        const stream = ready[i] as SessionStream;
        if (this.#turn(stream)) moved = true;
        if (ready[i] === stream) i++;
      }
    }
    this.#pumping = false;
  }

  /** One frame's worth of a listed stream. True: something was written. The stream leaves the list when nothing is left. */
  #turn(stream: SessionStream): boolean {
    const first = stream.queue[0];
    let moved = false;
    if (first !== undefined) {
      const ends = stream.endQueued && stream.trailers === null && stream.queue.length === 1;
      const taken = this.#writeData(stream, first, 0, first.length, ends, defaultMaxFrameSize);
      moved = taken > 0;
      stream.queued -= taken;
      if (!stream.listed) return moved;
      if (taken === first.length) stream.queue.shift();
      else if (taken > 0) stream.queue[0] = first.subarray(taken);
      if (moved) stream.stalledSinceMs = 0;
      if (stream.queue.length > 0) {
        this.#noteStall(stream);
        return moved;
      }
    }
    // The end, when it did not go out with the last frame.
    this.ready.splice(this.ready.indexOf(stream), 1);
    stream.listed = false;
    stream.stalledSinceMs = 0;
    if (stream.endQueued && stream.canSend) {
      moved = true;
      const trailers = stream.trailers;
      if (trailers !== null) this.#writeTrailers(stream, trailers, 0, trailers.length);
      else this.#writeData(stream, noBytes, 0, 0, true, 0);
    }
    if (stream.resetAfterQueue && stream.canSend) {
      moved = true;
      this.#host.sent(stream);
    } else if (stream.state !== streamState.closed) stream.user.onWritable();
    return moved;
  }

  /** The socket has taken what waited. */
  drained(): void {
    this.#queued = 0;
    this.pump();
  }

  /** The stream is over: nothing of it waits any more. */
  forget(stream: SessionStream): void {
    if (stream.listed) {
      stream.listed = false;
      const at = this.ready.indexOf(stream);
      if (at >= 0) this.ready.splice(at, 1);
    }
    if (stream.queue.length > 0) stream.queue = [];
    stream.queued = 0;
    stream.trailers = null;
  }

  /** Counts an answer to a frame of the peer's. True: it does not read them, and the connection is over. */
  control(size: number): boolean {
    if (this.#box.waiting === 0 && this.output.size + size < gatherSize) return false;
    if (++this.#queued <= limits.controlBacklog) return false;
    this.#host.unread();
    return true;
  }

  reset(id: number, code: number): void {
    if (this.control(frameHeadBytes + 4)) return;
    this.number(frameRstStream, id, code);
  }

  number(type: number, stream: number, value: number): void {
    const out = this.output.reserve(frameHeadBytes + 4);
    writeFrameHead(out, this.output.size, 4, type, 0, stream);
    writeUint32(out, this.output.size + frameHeadBytes, value);
    this.output.size += frameHeadBytes + 4;
  }

  ping(kind: number): void {
    const out = this.output.reserve(frameHeadBytes + 8);
    writeFrameHead(out, this.output.size, 8, framePing, 0, 0);
    writeUint32(out, this.output.size + frameHeadBytes, pingMark);
    writeUint32(out, this.output.size + frameHeadBytes + 4, kind);
    this.output.size += frameHeadBytes + 8;
  }

  goaway(last: number, code: number, why: string): void {
    const text = Buffer.from(why.slice(0, 200), "latin1");
    const out = this.output.reserve(frameHeadBytes + 8 + text.length);
    writeFrameHead(out, this.output.size, 8 + text.length, frameGoaway, 0, 0);
    writeUint32(out, this.output.size + frameHeadBytes, last);
    writeUint32(out, this.output.size + frameHeadBytes + 4, code);
    text.copy(out, this.output.size + frameHeadBytes + 8);
    this.output.size += frameHeadBytes + 8 + text.length;
  }
}
/** Short ranges by hand: a native call costs more than they do. */
function copyBytes(bytes: Uint8Array, from: number, to: number, out: Buffer, at: number): void {
  if (to - from <= 48) for (let i = from, o = at; i < to; i++) out[o++] = bytes[i] as number;
  else if (bytes instanceof Buffer) bytes.copy(out, at, from, to);
  else out.set(bytes.subarray(from, to), at);
}
