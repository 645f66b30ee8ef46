// Owns: a stream that should always be there: opened with each connection, reopened after a pause when the server ends it. Never knows what it carries.

import type { Clock, Timer } from "../../base/clock.ts";
import { Backoff } from "./backoff.ts";
import type { ControlChannel } from "./channel.ts";
import { type GrpcCall, type GrpcStatus, grpcInternal, grpcUnauthenticated } from "./grpc.ts";

/** gRPC's UNAVAILABLE: the control plane stops, or takes no more streams just now. */
const unavailable = 14;

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

  /** No more streams; the present one ends after what has been sent. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#call?.finish();
  }

  #open(): void {
    if (this.#stopped || this.#call !== undefined) return;
    let heard = false;
    const call = this.#options.channel.call(this.#options.path, {
      message: (bytes) => {
        try {
          this.#options.message(bytes);
        } catch (error) {
          // A message that cannot be read, or a bug of ours: the stream starts over, the process goes on.
          call?.cancel();
          this.#ended({ code: grpcInternal, message: error instanceof Error ? error.message : String(error) });
          return;
        }
        if (!heard) this.#backoff.reset();
        heard = true;
      },
      ended: (status) => this.#ended(status),
      writable: () => this.#options.writable?.(),
    });
    if (call === undefined) return;
    this.#call = call;
    this.#options.opened(call);
  }

  #ended(status: GrpcStatus): void {
    this.#call = undefined;
    if (this.#stopped) return;
    this.#options.ended(status);
    if (status.code === grpcUnauthenticated) this.#options.channel.refused();
    else if (status.code === unavailable) this.#options.channel.moveOn();
    if (this.#options.channel.connected) this.#timer = this.#options.clock.after(this.#backoff.nextMs(), () => this.#open());
  }
}
