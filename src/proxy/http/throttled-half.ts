// Owns: an answer's body written no faster than a set rate: it stands before the protocol's own half for one request, as an injected fault asks for.
// What is waiting is copied and bounded: beyond it the instance is not read. Never used by a request without such a fault.

import type { Head } from "../http1/head.ts";
import { type Timed, tickMs } from "../resilience/ticker.ts";
import type { Exchange } from "./exchange.ts";
import type { Failure } from "./failure.ts";
import type { AnswerPlan, DownstreamHalf } from "./halves.ts";
import { type Moves, StandIn } from "./stand-in.ts";

/** Bytes that wait before the instance is no longer read; as much as one read brings. */
const mostWaiting = 64 * 1024;

/** What the exchange of this request writes to instead of `x.half`. */
export function throttledHalf(x: Exchange, bytesPerSecond: number): DownstreamHalf {
  return new StandIn(x.half, x.half.version, new Throttle(x, bytesPerSecond));
}

class Throttle implements Moves, Timed {
  readonly #client: DownstreamHalf;
  readonly #x: Exchange;
  readonly #serial: number;
  readonly #bytesPerSecond: number;
  #waiting: Uint8Array[] = [];
  #size = 0;
  #allowance: number;
  #lastMs: number;
  #full = false;
  #ended = false;
  #trailers: Uint8Array | null = null;
  #done: { readonly close: boolean; readonly complete: boolean } | null = null;
  deadlineMs = Number.POSITIVE_INFINITY;
  slot = -1;

  constructor(x: Exchange, bytesPerSecond: number) {
    this.#x = x;
    this.#serial = x.serial;
    this.#client = x.half;
    this.#bytesPerSecond = bytesPerSecond;
    // What a tick lets through, at once.
    this.#allowance = (bytesPerSecond * tickMs) / 1_000;
    this.#lastMs = x.down.core.ticker.now();
  }

  sendAnswer(bytes: Uint8Array, head: Head, how: AnswerPlan, from: number, to: number, end: boolean): boolean {
    if (end && to === from) return this.#client.sendAnswer(bytes, head, how, from, to, true);
    this.#client.sendAnswer(bytes, head, how, from, from, false);
    return this.sendBody(bytes, from, to, end);
  }

  sendBody(bytes: Uint8Array, from: number, to: number, end: boolean): boolean {
    this.#full = false;
    if (to > from) {
      this.#waiting.push(Buffer.from(bytes.subarray(from, to)));
      this.#size += to - from;
    }
    if (end) this.#ended = true;
    this.#flush();
    if (this.#size > 0 && this.slot < 0) this.#watch();
    return this.#size < mostWaiting && !this.#full;
  }

  sendTrailers(bytes: Uint8Array, from: number, to: number): void {
    if (this.#size === 0) this.#client.sendTrailers(bytes, from, to);
    else this.#trailers = Buffer.from(bytes.subarray(from, to));
  }

  /** The exchange is over when the instance is; the client's side only when everything has gone out. */
  exchangeDone(close: boolean, complete: boolean): void {
    if (this.#size === 0) this.#client.exchangeDone(close, complete);
    else this.#done = { close, complete };
  }

  cut(failure: Failure): void {
    this.#drop();
    this.#client.cut(failure);
  }

  onDeadline(): void {
    if (this.#client.connection.wire === null) {
      this.#drop();
      return;
    }
    this.#flush();
    if (this.#size > 0) {
      this.deadlineMs = this.#lastMs + tickMs;
      return;
    }
    this.#x.down.core.ticker.remove(this);
    this.deadlineMs = Number.POSITIVE_INFINITY;
    const trailers = this.#trailers;
    if (trailers !== null) {
      this.#trailers = null;
      this.#client.sendTrailers(trailers, 0, trailers.length);
    }
    const done = this.#done;
    if (done !== null) {
      this.#done = null;
      this.#client.exchangeDone(done.close, done.complete);
    } else if (this.#x.serial === this.#serial && !this.#full) this.#x.downDrained();
  }

  /** Nothing more is written: the client is gone. */
  #drop(): void {
    this.#x.down.core.ticker.remove(this);
    this.deadlineMs = Number.POSITIVE_INFINITY;
    this.#waiting = [];
    this.#size = 0;
    const done = this.#done;
    this.#done = null;
    if (done !== null) this.#client.exchangeDone(true, done.complete);
  }

  #watch(): void {
    const ticker = this.#x.down.core.ticker;
    this.deadlineMs = ticker.nowMs + tickMs;
    ticker.add(this);
  }

  #flush(): void {
    const now = this.#x.down.core.ticker.now();
    const most = this.#bytesPerSecond;
    this.#allowance = Math.min(most, this.#allowance + ((now - this.#lastMs) * this.#bytesPerSecond) / 1_000);
    this.#lastMs = now;
    while (this.#size > 0 && this.#allowance >= 1) {
      const first = this.#waiting[0] as Uint8Array;
      const take = Math.min(first.length, Math.floor(this.#allowance));
      this.#allowance -= take;
      this.#size -= take;
      if (take === first.length) this.#waiting.shift();
      else this.#waiting[0] = first.subarray(take);
      if (!this.#client.sendBody(first, 0, take, this.#ended && this.#size === 0 && this.#trailers === null)) this.#full = true;
    }
    if (this.#ended && this.#size === 0 && this.#waiting.length === 0 && this.#trailers === null) this.#ended = false;
  }
}
