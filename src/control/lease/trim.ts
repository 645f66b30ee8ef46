// Owns: how much history a shared store keeps: one control plane trims for all, under its lease. Never trims what was written a moment ago.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { type Keep, withDefaults } from "../store/keep.ts";
import type { Revision, Store } from "../store/store.ts";

/** Trimmed when so many more have come. */
const slackRevisions = 1_000;
const everyMs = 10_000;
/** Control planes that are a little behind, and watches that begin, read what is not older. */
const graceMs = 60_000;

/** Entries of history looked through at once. */
const page = 500;

export function startTrimming(store: Store, clock: Clock, log: Logger, keep: Keep = {}, slack = slackRevisions): Timer {
  const { revisions, all, transient } = withDefaults(keep);
  let busy = false;
  /** Revisions that count, of those up to `counted`, the newest last; no more than are kept. */
  let counting: Revision[] = [];
  let counted: Revision = 0;
  /** The oldest revision to keep. Each entry of the history is read once. */
  const boundOf = async (revision: Revision): Promise<Revision> => {
    const floor = revision - all + 1;
    const found: Revision[] = [];
    for (let before = revision + 1, more = true; more; ) {
      const entries = await store.history({ before, limit: page });
      for (const entry of entries) {
        if (entry.revision <= counted || entry.revision < floor || found.length === revisions) more = false;
        else if (!transient.has(entry.key.resource)) found.push(entry.revision);
      }
      before = entries.at(-1)?.revision ?? 0;
      more &&= entries.length === page;
    }
    counting = [...counting, ...found.reverse()].slice(-revisions);
    counted = revision;
    return Math.max(floor, counting.length < revisions ? 0 : (counting[0] ?? 0));
  };
  const trim = async () => {
    const revision = await store.revision();
    const oldest = await store.oldest();
    let before = revision - revisions + 1;
    if (before <= oldest + slack) return;
    if (transient.size > 0) before = await boundOf(revision);
    if (before <= oldest + slack) return;
    const [entry] = await store.history({ before: before + 1, limit: 1 });
    if (entry !== undefined && clock.now() - entry.atMs < graceMs) before = oldest + slack;
    await store.compact(before);
  };
  return clock.every(everyMs, () => {
    if (busy) return;
    busy = true;
    trim()
      .catch((cause: unknown) => log.warn({ cause }, "The history could not be trimmed; it is tried again"))
      .finally(() => {
        busy = false;
      });
  });
}
