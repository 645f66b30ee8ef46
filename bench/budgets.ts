// Owns: the limits the bench holds Weft to, each with where it is written. Must never be relaxed to make a run pass: a budget
// changes only together with its source.

/** How a budget's value is found in the figures of one run. `load` names one of a case's loads; without it the case has one. */
export type BudgetRule =
  /**
   * CPU time per unit, or p99 at the fixed rate, of the best of `subjects` over that of the best of `peers`, paired by round, then the median.
   * Every peer must be there; of the subjects one is enough.
   */
  | {
      readonly kind: "cpu-ratio" | "p99-ratio";
      readonly subjects: readonly string[];
      readonly peers: readonly string[];
      readonly load?: string;
    }
  /** Units per CPU second of the best of `subjects` over that of the best of `peers`. The value must not be below the limit. */
  | { readonly kind: "yield-ratio"; readonly subjects: readonly string[]; readonly peers: readonly string[]; readonly load?: string }
  /** One figure of one subject. */
  | {
      readonly kind: "figure";
      readonly subject: string;
      readonly figure: "rssAnonMb" | "readyMs" | "tookMs" | "eachKb" | "grownMb" | "timesBest" | "failed" | "lostPercent" | "timesIdle";
      readonly load?: string;
    };

export interface Budget {
  readonly name: string;
  readonly case: string;
  readonly rule: BudgetRule;
  /** The value must not be above, or for a `yield-ratio` not below. */
  readonly limit: number;
  /** `x` for ratios. */
  readonly unit: "x" | "MB" | "KB" | "ms" | "%" | "requests";
  /** The requirement, in its own words. */
  readonly source: string;
}

const OWN = ["weft"];
const PAIR = ["weft-http1", "weft-http2"];
const ENVOY_PAIR = ["envoy-http1", "envoy-http2"];

const bodies = (["http1", "http2"] as const).flatMap((protocol) =>
  (["plain", "tls"] as const).flatMap((security) =>
    (["64k", "1m"] as const).map(
      (size): Budget => ({
        name: `${protocol}-${security}-${size}`,
        case: `bodies-${protocol}`,
        rule: { kind: "yield-ratio", subjects: OWN, peers: ["envoy"], load: `${size} ${security}` },
        limit: 1,
        unit: "x",
        source:
          "protocol engine, Numbers: 64 KiB and 1 MiB bodies over HTTP/1.1 and HTTP/2, plain and TLS: bytes per CPU second at least Envoy x 1.0",
      }),
    ),
  ),
);

export const budgets: readonly Budget[] = [
  {
    name: "hop-envoy",
    case: "http1-hop",
    rule: { kind: "cpu-ratio", subjects: OWN, peers: ["envoy"] },
    limit: 0.35,
    unit: "x",
    source: "protocol engine, Numbers: HTTP/1.1 hop with routing, an authorization policy and statistics on, Envoy x 0.35 or better",
  },
  {
    name: "hop-haproxy",
    case: "http1-hop",
    rule: { kind: "cpu-ratio", subjects: OWN, peers: ["haproxy"] },
    limit: 1,
    unit: "x",
    source: "protocol engine, Numbers: HTTP/1.1 hop, HAProxy x 1.0 or better",
  },
  {
    name: "hop-p99",
    case: "http1-hop",
    rule: { kind: "p99-ratio", subjects: OWN, peers: ["envoy"] },
    limit: 1,
    unit: "x",
    source: "protocol engine, Numbers: p99 at half of Envoy's saturation rate at most Envoy's",
  },
  {
    name: "mtls-envoy",
    case: "mtls-pair",
    rule: { kind: "cpu-ratio", subjects: PAIR, peers: ENVOY_PAIR },
    limit: 0.45,
    unit: "x",
    source: "protocol engine, Numbers: mutual-TLS pair with requests arriving as HTTP/1.1, a side, the faster of Envoy's two ways x 0.45",
  },
  {
    name: "mtls-haproxy",
    case: "mtls-pair",
    rule: { kind: "cpu-ratio", subjects: PAIR, peers: ["haproxy"] },
    limit: 0.85,
    unit: "x",
    source: "protocol engine, Numbers: mutual-TLS pair with requests arriving as HTTP/1.1, a side, HAProxy x 0.85",
  },
  {
    name: "mtls-p99",
    case: "mtls-pair",
    rule: { kind: "p99-ratio", subjects: PAIR, peers: ENVOY_PAIR },
    limit: 1,
    unit: "x",
    source: "protocol engine, Numbers: p99 at half of Envoy's saturation rate at most Envoy's",
  },
  ...["h2-h2", "h2-http1", "tls-h2"].map(
    (load): Budget => ({
      name: `http2-${load}`,
      case: "http2-hop",
      rule: { kind: "cpu-ratio", subjects: OWN, peers: ["envoy"], load },
      limit: 0.5,
      unit: "x",
      source: "protocol engine, Numbers: HTTP/2 hop with small answers over 8 connections x 16 streams, Envoy x 0.50",
    }),
  ),
  {
    name: "grpc-unary",
    case: "grpc-unary",
    rule: { kind: "cpu-ratio", subjects: OWN, peers: ["envoy"] },
    limit: 0.5,
    unit: "x",
    source: "protocol engine, Numbers: gRPC unary, Envoy x 0.50",
  },
  ...bodies,
  {
    name: "tcp",
    case: "tcp",
    rule: { kind: "yield-ratio", subjects: OWN, peers: ["haproxy"] },
    limit: 0.9,
    unit: "x",
    source: "protocol engine, Numbers: opaque TCP, bytes per CPU second, HAProxy x 0.9",
  },
  {
    name: "handshakes",
    case: "handshakes",
    rule: { kind: "yield-ratio", subjects: OWN, peers: ["envoy"] },
    limit: 0.9,
    unit: "x",
    source: "protocol engine, Numbers: full TLS handshakes per CPU second, Envoy x 0.9",
  },
  {
    name: "idle-plain",
    case: "idle-connections",
    rule: { kind: "figure", subject: "weft", figure: "eachKb", load: "plain" },
    limit: 2,
    unit: "KB",
    source: "protocol engine, Numbers: 10 000 idle keep-alive downstream connections at most 2 KB private memory each",
  },
  ...["tls", "mutual-tls"].map(
    (load): Budget => ({
      name: `idle-${load}`,
      case: "idle-connections",
      rule: { kind: "figure", subject: "weft", figure: "eachKb", load },
      limit: 12,
      unit: "KB",
      source: "protocol engine, Numbers: 10 000 idle keep-alive downstream connections at most 12 KB private memory each with TLS",
    }),
  ),
  {
    name: "slow-one",
    case: "slow-readers",
    rule: { kind: "figure", subject: "weft", figure: "grownMb", load: "one" },
    limit: 8.5,
    unit: "MB",
    source:
      "protocol engine, Numbers: one slow reader of a 1 GiB answer, memory bounded by the configured watermarks (256 KiB, as much again for a piece that was read before the watermark was seen, and 8 MB for what the process allocates besides)",
  },
  {
    name: "slow-many",
    case: "slow-readers",
    rule: { kind: "figure", subject: "weft", figure: "grownMb", load: "many" },
    limit: 508,
    unit: "MB",
    source:
      "protocol engine, Numbers: 1 000 slow readers of a 1 GiB answer at once, memory bounded by the configured watermarks (twice 256 KiB each, and 8 MB)",
  },
  {
    name: "soak",
    case: "soak",
    rule: { kind: "figure", subject: "weft", figure: "grownMb" },
    limit: 1,
    unit: "MB",
    source: "protocol engine, Numbers: no growth over a 10-minute soak at 50 % load (1 MB is what the reading itself wavers by)",
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
    name: "start-snapshot",
    case: "start",
    rule: { kind: "figure", subject: "weft-sidecar-snapshot", figure: "readyMs" },
    limit: 40,
    unit: "ms",
    source: "DESIGN.md section 7: ready to serve from a local snapshot 40 ms after exec, the control plane gone",
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
  {
    name: "skewed-p99",
    case: "skewed-backends",
    rule: { kind: "figure", subject: "weft", figure: "timesBest" },
    limit: 1.1,
    unit: "x",
    source:
      "traffic management, Numbers: one of ten back ends ten times slower: p99 at 60 % load at most 1.1 x the best of Envoy's policies in the same run",
  },
  {
    name: "kill-failed",
    case: "kill",
    rule: { kind: "figure", subject: "weft", figure: "failed" },
    limit: 0,
    unit: "requests",
    source:
      "traffic management, Numbers: killing one of three instances with SIGKILL under 2 000 requests/s of idempotent calls: zero failed requests at the client",
  },
  {
    name: "brown-out-errors",
    case: "brown-out",
    rule: { kind: "figure", subject: "weft", figure: "lostPercent" },
    limit: 1,
    unit: "%",
    source: "traffic management, Numbers: a brown-out (one instance answers 50 % errors): error rate at the client under 1 % within 2 s",
  },
  {
    name: "overload-goodput-lost",
    case: "overload",
    rule: { kind: "figure", subject: "weft", figure: "lostPercent" },
    limit: 10,
    unit: "%",
    source: "traffic management, Overload: with an open-loop load at twice the capacity goodput stays at or above 90 % of capacity",
  },
  {
    name: "overload-p99",
    case: "overload",
    rule: { kind: "figure", subject: "weft", figure: "timesIdle" },
    limit: 2,
    unit: "x",
    source: "traffic management, Numbers: adaptive concurrency holds p99 within 2 x of unloaded p99 at twice the capacity",
  },
];
