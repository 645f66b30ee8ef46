// Owns: a half that stands before the protocol's own for one request, for those who change what is written (gRPC-Web, throttling): what they do not say
// goes on to the client's half as it is.

import type { Head } from "../http1/head.ts";
import type { CompiledEdits } from "../route/edit.ts";
import type { Failure } from "./failure.ts";
import type { AnswerPlan, DownstreamConnection, DownstreamHalf } from "./halves.ts";

/** What is done otherwise than by the client's half. */
export type Moves = Pick<DownstreamHalf, "sendAnswer" | "sendBody" | "sendTrailers"> &
  Partial<Pick<DownstreamHalf, "sendReply" | "exchangeDone" | "cut">>;

export class StandIn implements DownstreamHalf {
  readonly version: 1 | 2;
  readonly #client: DownstreamHalf;
  readonly #moves: Moves;

  /** `version`: what it is to the exchange. */
  constructor(client: DownstreamHalf, version: 1 | 2, moves: Moves) {
    this.#client = client;
    this.version = version;
    this.#moves = moves;
  }

  get connection(): DownstreamConnection {
    return this.#client.connection;
  }

  get closing(): boolean {
    return this.#client.closing;
  }

  get requestBytes(): number {
    return this.#client.requestBytes;
  }

  get inputEnded(): boolean {
    return this.#client.inputEnded;
  }

  sendInterim(bytes: Uint8Array, head: Head): void {
    this.#client.sendInterim(bytes, head);
  }

  sendAnswer(bytes: Uint8Array, head: Head, how: AnswerPlan, from: number, to: number, end: boolean): boolean {
    return this.#moves.sendAnswer(bytes, head, how, from, to, end);
  }

  sendBody(bytes: Uint8Array, from: number, to: number, end: boolean): boolean {
    return this.#moves.sendBody(bytes, from, to, end);
  }

  sendTrailers(bytes: Uint8Array, from: number, to: number): void {
    this.#moves.sendTrailers(bytes, from, to);
  }

  sendReply(size: number): void {
    if (this.#moves.sendReply === undefined) this.#client.sendReply(size);
    else this.#moves.sendReply(size);
  }

  sendSwitch(bytes: Uint8Array | null, head: Head | null, edits: CompiledEdits | null): void {
    this.#client.sendSwitch(bytes, head, edits);
  }

  sendRaw(bytes: Uint8Array, from: number, to: number): boolean {
    return this.#client.sendRaw(bytes, from, to);
  }

  finishRaw(): void {
    this.#client.finishRaw();
  }

  pauseReading(): void {
    this.#client.pauseReading();
  }

  resumeReading(): void {
    this.#client.resumeReading();
  }

  arm(): void {
    this.#client.arm();
  }

  becomeTunnel(): void {
    this.#client.becomeTunnel();
  }

  exchangeDone(close: boolean, complete: boolean): void {
    if (this.#moves.exchangeDone === undefined) this.#client.exchangeDone(close, complete);
    else this.#moves.exchangeDone(close, complete);
  }

  tunnelDone(): void {
    this.#client.tunnelDone();
  }

  cut(failure: Failure): void {
    if (this.#moves.cut === undefined) this.#client.cut(failure);
    else this.#moves.cut(failure);
  }
}
