// Owns: a stream that should always be there: opened with each connection, reopened after a pause when the server ends it. Never knows what it carries.

import type { Clock, Timer } from "../../base/clock.ts";
import { Backoff } from "./backoff.ts";
import type { ControlChannel } from "./channel.ts";
import { type GrpcCall, type GrpcStatus, grpcUnauthenticated } from "./grpc.ts";

export interface LastingStreamOptions {
  readonly clock: Clock;
  readonly random: () => number;
  readonly channel: ControlChannel;
  /** `/package.Service/Method` */
  readonly path: string;
  /** A fresh stream; send its first messages here. */
  opened(call: GrpcCall): void;
  message(bytes: Uint8Array): void;
  /** The stream is gone, by the server's word or with its connection. */
  ended(status: GrpcStatus): void;
  writable?(): void;
}

/** Starts at once if the channel is connected. */
export class LastingStream {
  readonly #options: LastingStreamOptions;
  readonly #backoff: Backoff;
  #call: GrpcCall | undefined;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(options: LastingStreamOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random, 100, 10_000);
    options.channel.add({
      opened: () => this.#open(),
      closed: () => {
        this.#timer?.cancel();
        this.#timer = undefined;
      },
    });
  }

  /** The open stream, if there is one. */
  get call(): GrpcCall | undefined {
    return this.#call;
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#call?.cancel();
    this.#call = undefined;
  }

  #open(): void {
    if (this.#stopped || this.#call !== undefined) return;
    let heard = false;
    const call = this.#options.channel.call(this.#options.path, {
      message: (bytes) => {
        if (!heard) this.#backoff.reset();
        heard = true;
        this.#options.message(bytes);
      },
      ended: (status) => {
        this.#call = undefined;
        this.#options.ended(status);
        if (status.code === grpcUnauthenticated) this.#options.channel.distrustCertificate();
        if (!this.#stopped && this.#options.channel.connected) this.#timer = this.#options.clock.after(this.#backoff.nextMs(), () => this.#open());
      },
      writable: () => this.#options.writable?.(),
    });
    if (call === undefined) return;
    this.#call = call;
    this.#options.opened(call);
  }
}
