// Owns: how much history a store keeps. What a program renews every few seconds (leases) does not count: it would use up what `weft rollback` can go back to.
// Pure. Never knows kinds.

/** Revisions kept for watches, chunked lists and rollback; those of transient resources between them are kept beside them. */
const keepRevisions = 10_000;
/** So many times as many are kept at most, whatever they are of: some 60 MB of renewed leases, an hour and a half of 20 renewals a second. */
const atMostTimes = 10;

export interface Keep {
  /** Default 10 000. */
  readonly revisions?: number;
  /** Default ten times `revisions`. */
  readonly all?: number;
  /** Resources whose revisions do not count; default none. */
  readonly transient?: ReadonlySet<string>;
}

export function withDefaults({
  revisions = keepRevisions,
  all = atMostTimes * revisions,
  transient = new Set(),
}: Keep = {}): Required<Keep> {
  return { revisions, all, transient };
}
