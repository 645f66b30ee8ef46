// Owns: holding figures against budgets. Pure. A budget whose subject or peer was not measured is "not measured", never "met".
import type { Budget } from "./budgets.ts";
import { median, pairedRatio, type Spread } from "./stats.ts";

export interface Verdict {
  readonly budget: string;
  readonly case: string;
  readonly limit: number;
  readonly unit: Budget["unit"];
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
  readonly cpuUs?: Spread;
  readonly rssAnonMb?: Spread;
  readonly readyMs?: Spread;
  readonly tookMs?: Spread;
}

/** Judges one budget by the medians of the figures of its case. */
export function judge(budget: Budget, figures: readonly Measured[]): Verdict {
  const base = { budget: budget.name, case: budget.case, limit: budget.limit, unit: budget.unit, source: budget.source };
  const missing = (why: string): Verdict => ({ ...base, against: null, value: null, verdict: "not measured", why });
  const { rule } = budget;
  const own = figures.find((one) => one.subject === rule.subject);
  if (own === undefined) return missing(`no figures of ${rule.subject}`);
  if (rule.kind === "figure") {
    const value = own[rule.figure];
    if (value === undefined) return missing(`${rule.subject} has no ${rule.figure}`);
    return { ...base, against: null, value, verdict: value.median <= budget.limit ? "met" : "missed", why: null };
  }
  const peers = rule.peers.map((name) => figures.find((one) => one.subject === name)?.cpuUs);
  const absent = rule.peers.filter((_, i) => peers[i] === undefined);
  // The faster of two ways can only be named when both were measured.
  if (absent.length > 0 || own.cpuUs === undefined)
    return missing(`no CPU figures of ${own.cpuUs === undefined ? rule.subject : absent.join(", ")}`);
  const medians = peers.map((cpu) => median(cpu!.rounds));
  const best = medians.indexOf(Math.min(...medians));
  const value = pairedRatio(own.cpuUs.rounds, peers[best]!.rounds);
  return { ...base, against: rule.peers[best]!, value, verdict: value.median <= budget.limit ? "met" : "missed", why: null };
}
