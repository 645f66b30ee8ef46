// Owns: holding figures against budgets. Pure. A budget whose peer was not measured is "not measured", never "met"; one whose own subject
// tried and could not run is "missed", with the subject's own words.
import type { Budget } from "./budgets.ts";
import { median, pairedRatio, type Spread } from "./stats.ts";

export interface Verdict {
  readonly budget: string;
  readonly case: string;
  readonly limit: number;
  readonly unit: Budget["unit"];
  /** "least": the value must not be below the limit. */
  readonly bound: "most" | "least";
  readonly source: string;
  /** The peer a ratio was taken against. */
  readonly against: string | null;
  /** null when it was not measured; then `why` says what is missing. */
  readonly value: Spread | null;
  readonly verdict: "met" | "missed" | "not measured";
  readonly why: string | null;
}

/** What a case gave, reduced to what budgets look at. */
export interface Measured {
  readonly subject: string;
  readonly load?: string | null;
  readonly cpuUs?: Spread;
  readonly fixedRate?: { readonly p99Us: Spread } | null;
  readonly rssAnonMb?: Spread;
  readonly readyMs?: Spread;
  readonly tookMs?: Spread;
  readonly eachKb?: Spread;
  readonly grownMb?: Spread;
  readonly timesBest?: Spread;
  readonly failed?: Spread;
  readonly lostPercent?: Spread;
  readonly timesIdle?: Spread;
}

/** A subject that could not run, as far as verdicts care. */
export interface Unable {
  readonly subject: string;
  readonly load: string | null;
  readonly reason: string;
}

/** A subject's own words on one line: the first of them where a heading stands before, without the bench's temporary folder. */
export function brief(reason: string): string {
  const lines = reason
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  const line = (lines.length > 1 && lines[0]!.endsWith(":") ? lines[1]! : (lines[0] ?? "")).replace(/\/\S*\/(?=[\w-]+\.json)/, "");
  return line.length > 240 ? `${line.slice(0, 237)}...` : line;
}

/** Judges one budget by the medians of the figures of its case. */
export function judge(budget: Budget, figures: readonly Measured[], unable: readonly Unable[] = []): Verdict {
  const { rule } = budget;
  const bound = rule.kind === "yield-ratio" ? "least" : "most";
  const base = { budget: budget.name, case: budget.case, limit: budget.limit, unit: budget.unit, bound, source: budget.source } as const;
  const missing = (why: string): Verdict => ({ ...base, against: null, value: null, verdict: "not measured", why });
  const load = rule.load ?? null;
  const find = (name: string): Measured | undefined => figures.find((one) => one.subject === name && (one.load ?? null) === load);
  const absent = (subjects: readonly string[]): Verdict => {
    const failed = unable.find((one) => subjects.includes(one.subject) && (one.load === null || one.load === load));
    if (failed === undefined) return missing(`no figures of ${subjects.join(", ")}`);
    return { ...base, against: null, value: null, verdict: "missed", why: `${failed.subject} could not run: ${brief(failed.reason)}` };
  };
  const verdict = (value: Spread, against: string | null): Verdict => {
    const holds = bound === "least" ? value.median >= budget.limit : value.median <= budget.limit;
    return { ...base, against, value, verdict: holds ? "met" : "missed", why: null };
  };
  if (rule.kind === "figure") {
    const own = find(rule.subject);
    if (own === undefined) return absent([rule.subject]);
    const value = own[rule.figure];
    return value === undefined ? missing(`${rule.subject} has no ${rule.figure}`) : verdict(value, null);
  }
  const read = (name: string): Spread | undefined => {
    const one = find(name);
    return rule.kind === "p99-ratio" ? one?.fixedRate?.p99Us : one?.cpuUs;
  };
  const own = best(rule.subjects, read);
  if (own === null) return absent(rule.subjects);
  // The faster of two ways can only be named when both were measured.
  const gone = rule.peers.filter((name) => read(name) === undefined);
  if (gone.length > 0) return missing(`no ${rule.kind === "p99-ratio" ? "p99" : "CPU"} figures of ${gone.join(", ")}`);
  const peer = best(rule.peers, read)!;
  // CPU time per unit is the reciprocal of units per CPU second.
  const value =
    rule.kind === "yield-ratio" ? pairedRatio(peer.spread.rounds, own.spread.rounds) : pairedRatio(own.spread.rounds, peer.spread.rounds);
  return verdict(value, peer.name);
}

/** The one with the least median; null when none was measured. */
function best(
  names: readonly string[],
  read: (name: string) => Spread | undefined,
): { readonly name: string; readonly spread: Spread } | null {
  let found: { name: string; spread: Spread } | null = null;
  for (const name of names) {
    const spread = read(name);
    if (spread !== undefined && (found === null || median(spread.rounds) < median(found.spread.rounds))) found = { name, spread };
  }
  return found;
}
