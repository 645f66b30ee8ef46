// Owns: the budgets of the fleet's figures, and the table. Pure. A figure that was not taken is "not measured", never "met".
import type { Figures } from "./cases.ts";

export interface FleetBudget {
  readonly figure: string;
  readonly what: string;
  readonly unit: "ms" | "s" | "MB" | "/s" | "x" | "%" | "";
  readonly limit?: number;
  /** "least": the figure must not be below the limit. */
  readonly bound?: "most" | "least";
}

/** In the order of the table; without a limit a row only tells. */
export const fleetBudgets: readonly FleetBudget[] = [
  { figure: "endpoint-p99", what: "one endpoint changes: accepted by every proxy that uses it, 99th percentile", unit: "ms", limit: 1000 },
  { figure: "endpoint-cpu", what: "  CPU of the control plane for it, the API's write included", unit: "ms", limit: 50 },
  { figure: "endpoint-affected", what: "  proxies that use it", unit: "" },
  { figure: "route-p99", what: "one route changes: accepted by every proxy that uses it, 99th percentile", unit: "ms", limit: 1000 },
  { figure: "route-cpu", what: "  CPU of the control plane for it", unit: "ms", limit: 50 },
  { figure: "narrow-cpu", what: "a change that touches ten proxies: CPU", unit: "ms" },
  { figure: "narrow-half", what: "  the same in half the fleet", unit: "ms" },
  { figure: "narrow-growth", what: "  whole fleet over half the fleet", unit: "x", limit: 1.3 },
  { figure: "connect-wall", what: "all proxies connect for the first time, until all are configured", unit: "s" },
  { figure: "connect-cpu", what: "  CPU of the control plane for it", unit: "s" },
  { figure: "reconnect", what: "control plane killed and started again, until all are configured anew", unit: "s", limit: 20 },
  { figure: "reconnect-wall", what: "  by the clock, waiting for the machine's other load included", unit: "s" },
  { figure: "reconnect-cpu", what: "  CPU of the control plane for it, its start included", unit: "s" },
  { figure: "peak", what: "  its peak memory (resident)", unit: "MB", limit: 1024 },
  { figure: "peak-first", what: "peak memory of the run before that", unit: "MB", limit: 1024 },
  { figure: "idle-cpu", what: "all connected, nothing changes: share of its core", unit: "%" },
  { figure: "load-wall", what: "10 000 services and 100 000 endpoints: start until ready", unit: "s", limit: 20 },
  { figure: "load-cpu", what: "  CPU", unit: "s" },
  { figure: "load-peak", what: "  peak memory (resident)", unit: "MB" },
  {
    figure: "api-reads",
    what: "API reads of one object for each second of the control plane's CPU",
    unit: "/s",
    limit: 2000,
    bound: "least",
  },
  { figure: "api-reads-wall", what: "  of the clock, the readers' own CPU included", unit: "/s" },
  { figure: "api-writes", what: "durable API writes (SQLite) for each second of its CPU", unit: "/s", limit: 300, bound: "least" },
  { figure: "api-writes-wall", what: "  of the clock", unit: "/s" },
];

export type FleetVerdict = "met" | "missed" | "not measured" | "";

export function judgeFleet({ limit, bound = "most" }: FleetBudget, value: number | undefined): FleetVerdict {
  if (limit === undefined) return "";
  if (value === undefined || Number.isNaN(value)) return "not measured";
  return (bound === "most" ? value <= limit : value >= limit) ? "met" : "missed";
}

function shown(value: number, unit: string): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(unit === "" ? 0 : digits)}${unit === "" ? "" : ` ${unit}`}`;
}

export function fleetTable(figures: Figures): string {
  const rows = fleetBudgets.map((budget) => {
    const value = figures.get(budget.figure);
    const limit = budget.limit === undefined ? "" : `${budget.bound === "least" ? ">=" : "<="} ${shown(budget.limit, budget.unit)}`;
    return [budget.what, value === undefined ? "-" : shown(value, budget.unit), limit, judgeFleet(budget, value)] as const;
  });
  const width = (at: 0 | 1 | 2) => Math.max(...rows.map((row) => row[at].length));
  const [first, second, third] = [width(0), width(1), width(2)];
  return rows
    .map(([what, value, limit, verdict]) =>
      `${what.padEnd(first)}  ${value.padStart(second)}  ${limit.padEnd(third)}  ${verdict}`.trimEnd(),
    )
    .join("\n");
}
