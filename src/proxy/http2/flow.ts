// Owns: how large the receive windows are. They follow the bandwidth-delay product: a PING goes out when a window's worth of data is under way, and what
// arrives until its answer is what the path holds in one round trip. When that fills the windows, they are too small and double. Never sends frames itself.

import { limits } from "./limits.ts";

export class ReceiveFlow {
  /** What new streams may receive, and what every stream's window is filled up to. */
  streamWindow: number;
  connectionWindow: number;
  /** What the peer may still send on the connection. */
  window: number;
  /** Received and not given back yet. */
  unacknowledged = 0;
  /** Handed to sinks that do not keep up, over all streams, beyond the first window of each. */
  held = 0;
  /** Data since the probe went out; -1: no probe is out. */
  #probed = -1;
  #sentAtMs = 0;
  #fastest = 0;

  constructor(streamWindow: number, connectionWindow: number) {
    this.streamWindow = streamWindow;
    this.connectionWindow = connectionWindow;
    this.window = connectionWindow;
  }

  /** Payload came. */
  arrived(size: number): void {
    if (this.#probed >= 0) this.#probed += size;
  }

  /** True: send a probe now. Call when a window is about to be given back, so that small messages never cause one. */
  probe(nowMs: number): boolean {
    if (this.#probed >= 0 || this.streamWindow >= limits.largestStreamWindow) return false;
    this.#probed = 0;
    this.#sentAtMs = nowMs;
    return true;
  }

  /**
   * The probe was answered, with `streams` open. True: the windows have grown, by `streamGrowth` and `connectionGrowth`. What many streams may hold
   * together stays below `limits.heldBytes`, so that readers who stop do not use up the connection's window, which the others need.
   */
  answered(nowMs: number, streams: number, mayGrow: boolean): boolean {
    const sample = this.#probed;
    this.#probed = -1;
    if (sample < 0 || !mayGrow) return false;
    const rtt = nowMs - this.#sentAtMs;
    const bandwidth = sample / (rtt > 0.05 ? rtt : 0.05);
    // As long as the windows are filled to two thirds and the path still gets faster with them (gRPC's rule).
    if (sample < (this.streamWindow * 2) / 3 || bandwidth < this.#fastest) return false;
    this.#fastest = bandwidth;
    const wanted = Math.max(sample * 2, this.streamWindow * 2);
    const most = Math.min(limits.largestStreamWindow, streams > 0 ? limits.heldBytes / streams : limits.largestStreamWindow);
    const stream = Math.max(this.streamWindow, Math.floor(Math.min(wanted, most)));
    const connection = Math.min(Math.max(stream * 2, this.connectionWindow), limits.largestConnectionWindow);
    this.streamGrowth = stream - this.streamWindow;
    this.connectionGrowth = connection - this.connectionWindow;
    this.streamWindow = stream;
    this.connectionWindow = connection;
    return this.streamGrowth > 0 || this.connectionGrowth > 0;
  }

  streamGrowth = 0;
  connectionGrowth = 0;
}
