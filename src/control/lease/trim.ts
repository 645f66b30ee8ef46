// Owns: how much history a shared store keeps: one control plane trims for all, under its lease. Never trims what was written a moment ago.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Store } from "../store/store.ts";

/** As the SQLite store keeps. */
export const keepRevisions = 10_000;
/** Trimmed when so many more have come. */
const slackRevisions = 1_000;
const everyMs = 10_000;
/** Control planes that are a little behind, and watches that begin, read what is not older. */
const graceMs = 60_000;

export function startTrimming(store: Store, clock: Clock, log: Logger, keep = keepRevisions, slack = slackRevisions): Timer {
  let busy = false;
  const trim = async () => {
    const revision = await store.revision();
    const oldest = await store.oldest();
    let before = revision - keep + 1;
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
