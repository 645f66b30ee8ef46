// Owns: the limits the bench holds Weft to, each with where it is written. Must never be relaxed to make a run pass: a budget
// changes only together with its source.

/** How a budget's value is found in the figures of one run. */
export type BudgetRule =
  /** CPU time per request of `subject` over that of the cheapest present of `peers`, paired by round, then the median. */
  | { readonly kind: "cpu-ratio"; readonly subject: string; readonly peers: readonly string[] }
  /** One figure of one subject. */
  | { readonly kind: "figure"; readonly subject: string; readonly figure: "rssAnonMb" | "readyMs" | "tookMs" };

export interface Budget {
  readonly name: string;
  readonly case: string;
  readonly rule: BudgetRule;
  /** The value must not be above. */
  readonly limit: number;
  /** `x` for ratios. */
  readonly unit: "x" | "MB" | "ms";
  /** The requirement, in its own words. */
  readonly source: string;
}

export const budgets: readonly Budget[] = [
  {
    name: "hop-envoy",
    case: "http1-hop",
    rule: { kind: "cpu-ratio", subject: "weft", peers: ["envoy"] },
    limit: 0.4,
    unit: "x",
    source: "first slice, Numbers: HTTP/1.1 hop with routing, authorization and statistics on, Envoy x 0.40 or better",
  },
  {
    name: "hop-haproxy",
    case: "http1-hop",
    rule: { kind: "cpu-ratio", subject: "weft", peers: ["haproxy"] },
    limit: 1.2,
    unit: "x",
    source: "first slice, Numbers: HTTP/1.1 hop no worse than HAProxy x 1.2",
  },
  {
    name: "mtls-envoy",
    case: "mtls-pair",
    rule: { kind: "cpu-ratio", subject: "weft", peers: ["envoy-http1", "envoy-http2"] },
    limit: 0.55,
    unit: "x",
    source: "first slice, Numbers: mutual-TLS pair, a side, the faster of Envoy's two ways x 0.55",
  },
  {
    name: "idle-memory",
    case: "idle-memory",
    rule: { kind: "figure", subject: "weft-sidecar", figure: "rssAnonMb" },
    limit: 12,
    unit: "MB",
    source: "first slice, Numbers: idle sidecar at most 12 MB private",
  },
  {
    name: "start-control-plane",
    case: "start",
    rule: { kind: "figure", subject: "weft-up", figure: "readyMs" },
    limit: 300,
    unit: "ms",
    source: "first slice, Numbers: `weft up` answers within 300 ms of exec",
  },
  {
    name: "start-sidecar",
    case: "start",
    rule: { kind: "figure", subject: "weft-sidecar", figure: "readyMs" },
    limit: 100,
    unit: "ms",
    source: "first slice, Numbers: a sidecar is ready within 100 ms of exec once the control plane answers",
  },
  {
    name: "route-change",
    case: "change",
    rule: { kind: "figure", subject: "route-change", figure: "tookMs" },
    limit: 200,
    unit: "ms",
    source: "first slice, Numbers: a route change is in force at every sidecar of the demo within 200 ms of `weft apply` returning",
  },
  {
    name: "first-traffic",
    case: "first-traffic",
    rule: { kind: "figure", subject: "first-traffic", figure: "tookMs" },
    limit: 60_000,
    unit: "ms",
    source: "first slice, Numbers: `npm ci` and first traffic in the demo within 60 s on two cores with a warm package cache",
  },
];
