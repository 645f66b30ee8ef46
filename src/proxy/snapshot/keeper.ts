// Owns: when the snapshot is written and when it is read, and what is told of both. Writing is off the serving thread, at most once a second, and
// never of what has not changed. Never decides what is kept: `collect` does.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Family, MetricRegistry, Series } from "../../base/metric.ts";
import type { SnapshotFolder } from "./folder.ts";
import { contentOf, decodeSnapshot, encodeSnapshot, type Kept, mostBytes, type Owner, type Snapshot } from "./format.ts";

export interface KeeperOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: MetricRegistry;
  readonly folder: SnapshotFolder;
  readonly owner: Owner;
  /** Version of this program. */
  readonly program: string;
}

/** What a burst of changes takes to arrive: one write for all of it. */
const settleMs = 100;
/** Between the beginnings of two writes. */
const leastMs = 1_000;
/** A slow disk is asked less: it writes for a twentieth of the time at most. */
const restFactor = 20;
/** After a write that failed: a full disk is not better in a second, and each try costs it. */
const againMs = 10_000;
/** While a predecessor still has the folder, or nothing whole can be collected. */
const lookMs = 1_000;
/** What an ending proxy waits for its last write. */
const lastWriteMs = 2_000;

export class SnapshotKeeper {
  readonly #options: KeeperOptions;
  readonly #writes: Series;
  readonly #failures: Family<Series>;
  #collect: () => Kept | null = () => null;
  #timer: Timer | undefined;
  #writing: Promise<void> | undefined;
  #due = false;
  #stopped = false;
  #notBeforeMs = 0;
  #fingerprint = "";
  #writtenAtMs: number | undefined;
  #lastProblem = "";

  constructor(options: KeeperOptions) {
    this.#options = options;
    const { metrics, clock } = options;
    this.#writes = metrics.counter("weft_snapshot_writes_total", "Snapshots of the configuration written to disk.").with([]);
    this.#failures = metrics.counter("weft_snapshot_failures_total", "Snapshots that could not be written, or were there and not used.", [
      "reason",
    ]);
    const age = metrics.gauge("weft_snapshot_age_seconds", "Since when the snapshot on disk is as it is.");
    metrics.beforeExport(() => {
      if (this.#writtenAtMs !== undefined) age.with([]).value = Math.max(0, clock.now() - this.#writtenAtMs) / 1000;
    });
  }

  get folder(): string {
    return this.#options.folder.path;
  }

  /** When what is on disk was written; undefined: there is nothing. */
  get writtenAtMs(): number | undefined {
    return this.#writtenAtMs;
  }

  /** What is on disk, if it may be believed. Anything else is told once and left alone until the next write replaces it. */
  load(): Snapshot | null {
    const { folder, owner } = this.#options;
    let bytes: Uint8Array | undefined;
    try {
      bytes = folder.read();
    } catch (error) {
      this.refuse("read", error instanceof Error ? error.message : String(error));
      return null;
    }
    if (bytes === undefined) return null;
    const read = decodeSnapshot(bytes, owner);
    if ("message" in read) {
      this.refuse(read.reason, read.message);
      return null;
    }
    this.#writtenAtMs = read.writtenAtMs;
    return read;
  }

  /** What was loaded, or was about to be, is not used. */
  refuse(reason: "read" | "corrupt" | "format" | "foreign" | "rejected", problem: string): void {
    this.#failures.with([reason]).value++;
    this.#options.log.warn({ folder: this.folder, reason, problem }, "The snapshot is not used; waiting for the control plane.");
    this.#writtenAtMs = undefined;
  }

  /** `collect` answers what is whole now, or null; called when a write is due. */
  keep(collect: () => Kept | null): void {
    this.#collect = collect;
  }

  /** Something worth keeping has changed. Cheap. */
  touch(): void {
    if (this.#stopped) return;
    this.#due = true;
    this.#arm(settleMs);
  }

  /** Writes what is not written yet and gives the folder back. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#timer?.cancel();
    const late = Promise.withResolvers<void>();
    const timer = this.#options.clock.after(lastWriteMs, late.resolve);
    const last = (async () => {
      await this.#writing;
      if (this.#due && this.#options.folder.held) await this.#write();
    })();
    await Promise.race([last, late.promise]);
    timer.cancel();
    this.#options.folder.release();
  }

  #arm(afterMs: number): void {
    if (this.#timer !== undefined || this.#writing !== undefined || this.#stopped) return;
    const { clock } = this.#options;
    this.#timer = clock.after(Math.max(afterMs, this.#notBeforeMs - clock.mono()), () => {
      this.#timer = undefined;
      this.#begin();
    });
  }

  #begin(): void {
    if (!this.#mayWrite()) return this.#arm(lookMs);
    this.#writing = this.#write().finally(() => {
      this.#writing = undefined;
      if (this.#due) this.#arm(settleMs);
    });
  }

  #mayWrite(): boolean {
    try {
      return this.#options.folder.lock() === undefined;
    } catch {
      return false;
    }
  }

  /** Never throws. */
  async #write(): Promise<void> {
    const { clock, folder, owner, program, log } = this.#options;
    const began = clock.mono();
    this.#notBeforeMs = began + leastMs;
    const kept = this.#collect();
    // Something is still on its way; what is on disk stays the newest whole.
    if (kept === null) return;
    this.#due = false;
    try {
      const content = contentOf(kept, owner, program);
      if (content.fingerprint === this.#fingerprint) return;
      if (content.size > mostBytes)
        throw Object.assign(new Error(`it would have ${content.size} bytes; at most ${mostBytes} are kept`), { code: "too_large" });
      const writtenAtMs = clock.now();
      await folder.write(encodeSnapshot(content, writtenAtMs));
      this.#fingerprint = content.fingerprint;
      this.#writtenAtMs = writtenAtMs;
      this.#writes.value++;
      this.#notBeforeMs = Math.max(this.#notBeforeMs, clock.mono() + (clock.mono() - began) * restFactor);
      if (this.#lastProblem !== "") log.info({ folder: this.folder }, "The snapshot can be written again.");
      this.#lastProblem = "";
      log.debug({ folder: this.folder, bytes: content.size, ms: Math.round(clock.mono() - began) }, "Wrote a snapshot.");
    } catch (error) {
      this.#due = true;
      this.#notBeforeMs = clock.mono() + againMs;
      const { code = "", message } = error as { readonly code?: string; readonly message: string };
      this.#failures.with([code === "ENOSPC" || code === "EDQUOT" ? "disk_full" : code === "too_large" ? code : "write"]).value++;
      if (message !== this.#lastProblem)
        log.error(
          { folder: this.folder, problem: message },
          "The snapshot cannot be written; traffic is served on. A restart without the control plane would begin with the one before.",
        );
      this.#lastProblem = message;
    }
  }
}
