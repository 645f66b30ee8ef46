// Owns: counting what a peer does that costs it less than us, and saying when it is too much. One per connection; allocates with the first count.

import { floods, limits } from "./limits.ts";
import type { DefenceReason } from "./metrics.ts";

export type Flood = keyof typeof floods;
const names = Object.keys(floods) as Flood[];
/** The number of each kind of count. */
export const flood = Object.fromEntries(names.map((name, i) => [name, i])) as Readonly<Record<Flood, number>>;
const bounds = Object.values(floods);

export class Guard {
  #counts: Uint32Array | null = null;
  #sinceMs = 0;
  /** DATA frames sent and streams opened within the window: what WINDOW_UPDATE, RST_STREAM and what is ignored are measured by. */
  dataSent = 0;
  opened = 0;

  /** One more of `kind`. The reason to close the connection, or null. */
  count(kind: number, nowMs: number): DefenceReason | null {
    let counts = this.#counts;
    if (counts === null) {
      counts = new Uint32Array(names.length);
      this.#counts = counts;
      this.#sinceMs = nowMs;
      // What was before is no measure for the window that begins.
      this.dataSent = 0;
      this.opened = 1;
    } else if (nowMs - this.#sinceMs > limits.floodWindowMs) {
      counts.fill(0);
      this.#sinceMs = nowMs;
      this.dataSent = 0;
      this.opened = 0;
    }
    const count = (counts[kind] as number) + 1;
    counts[kind] = count;
    if (count <= (bounds[kind] as number)) return null;
    if (kind === flood.window_update && count <= (bounds[kind] as number) + 10 * this.dataSent) return null;
    // A peer that answers before it has read may reset each stream a moment after it was over.
    if (kind === flood.ignored && count <= (bounds[kind] as number) + 4 * this.opened) return null;
    // The rest of a window is often small; a slow reader's frames all are.
    if (kind === flood.tiny_window && count * 2 <= this.dataSent) return null;
    // As Envoy: only when most of what it opens is reset.
    if (kind === flood.rapid_reset && count * 2 <= this.opened) return null;
    return names[kind] as Flood;
  }
}
