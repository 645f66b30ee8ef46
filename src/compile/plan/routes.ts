// Owns: the intermediate form of HTTP routes: what HTTPRoute, GRPCRoute and VirtualService fold into, in the mesh's words, and what
// `../emit/route.ts` turns into Envoy's. Optional fields are left out where nothing asks for them, so that equal meaning is equal data.
// Never holds protobuf, and never the name of a kind's field.

/** One route of a virtual host: in order, the first whose match fits decides. */
export interface RoutePlan {
  /** Shown in logs and statistics: `NS/ROUTE/RULE`. */
  readonly name: string;
  readonly match: MatchPlan;
  readonly action: ForwardPlan | RedirectPlan | DirectPlan;
  readonly requestHeaders: HeaderEditsPlan;
  readonly responseHeaders: HeaderEditsPlan;
  readonly cors?: CorsPlan;
  readonly fault?: FaultPlan;
  readonly auth?: ExternalAuthPlan;
  /** With `forward` only. */
  readonly session?: SessionPlan;
  /** What rules of rate limits know it by, by their ids; absent = it is in none. */
  readonly limits?: Readonly<Record<string, string>>;
}

// ---- matches ----------------------------------------------------------------------------------------------------------------

export interface MatchPlan {
  readonly path: {
    /** `separated-prefix` is by path elements and must not end with a slash; `regex` is RE2 over the whole path. */
    readonly kind: "exact" | "prefix" | "separated-prefix" | "regex";
    readonly value: string;
    /** Of `exact` and `prefix`s. */
    readonly ignoreCase?: true;
  };
  readonly method: string | undefined;
  /** Sorted by name, which is in lower case; pseudo-headers (`:authority`, `:scheme`, `:method`) are allowed. All must hold. */
  readonly headers: readonly ValueMatchPlan[];
  readonly query: readonly ValueMatchPlan[];
  /** A request has one draw for all routes, from 0 to a million: it fits where that is below. Absent = always. */
  readonly belowMillionth?: number;
}

export interface ValueMatchPlan {
  readonly name: string;
  /** `present`: any value, `value` is empty. */
  readonly kind: "exact" | "prefix" | "suffix" | "contains" | "regex" | "present";
  readonly value: string;
  readonly ignoreCase?: true;
  /** It must not fit; an absent header does not fit. Of headers only. */
  readonly invert?: true;
}

// ---- actions ----------------------------------------------------------------------------------------------------------------

export interface ForwardPlan {
  readonly kind: "forward";
  /** At least one has a weight above 0. */
  readonly backends: readonly BackendPlan[];
  /** Of the whole request; 0 = none. */
  readonly timeoutMs: number;
  readonly retry: RetryPlan;
  /** A read that has no answer by then goes to another instance too; absent = never. */
  readonly hedgeAfterMs?: number;
  /** Replaces what the match's path (exact or prefix) fitted. */
  readonly prefixRewrite?: string;
  /** Instead of `prefixRewrite`: the first group of `regex` and so on as `\1`. */
  readonly regexRewrite?: RegexRewritePlan;
  readonly hostRewrite?: string;
  readonly mirrors?: readonly MirrorPlan[];
  /** Where a request goes by what it carries, in order; the balancing policy of the cluster must be one that hashes. */
  readonly hash?: readonly HashPlan[];
}

export interface BackendPlan {
  readonly cluster: string;
  readonly weight: number;
  /** The cluster does not exist: this share of the traffic is answered with 500, as Gateway API has it. */
  readonly missing: boolean;
  readonly requestHeaders?: HeaderEditsPlan;
  readonly responseHeaders?: HeaderEditsPlan;
  /** Of opaque bytes: the client's address is the key, where the cluster hashes. */
  readonly hashesSource?: true;
  /** Of opaque bytes: how long a connection may last. */
  readonly connectionMs?: number;
  /** Only where there are several backends; of a single one it is the route's. */
  readonly hostRewrite?: string;
}

export interface RegexRewritePlan {
  readonly regex: string;
  readonly substitution: string;
}

export interface MirrorPlan {
  readonly cluster: string;
  readonly perMillion: number;
}

export interface RetryPlan {
  /** After the first; 0 = never. */
  readonly attempts: number;
  /** Envoy's words beside the default ones (see `defaultRetryOn`); absent = the default alone. Replaces the default where `onlyOn` is. */
  readonly on?: readonly string[];
  /** `on` says all of it. */
  readonly onlyOn?: true;
  /** Answers that are tried again, sorted. */
  readonly codes: readonly number[];
  /** 0 = none. */
  readonly perTryTimeoutMs: number;
  /** Between attempts; absent = at once, to another instance. */
  readonly backoff?: { readonly baseMs: number; readonly maxMs?: number };
  /** Instances that failed this request are passed over. */
  readonly avoidTried?: true;
}

export type HashPlan =
  | { readonly kind: "header" | "query"; readonly name: string; readonly terminal?: true }
  /** Without `ttlMs` the cookie is only read; 0 = for the browser's session. */
  | { readonly kind: "cookie"; readonly name: string; readonly ttlMs?: number; readonly path?: string; readonly terminal?: true }
  | { readonly kind: "source"; readonly terminal?: true };

/** Every request of a client goes to the instance that answered its first. */
export type SessionPlan =
  /** `ttlMs` 0 = for the browser's session. */
  | { readonly kind: "cookie"; readonly name: string; readonly path: string; readonly ttlMs: number }
  | { readonly kind: "header"; readonly name: string };

export interface RedirectPlan {
  readonly kind: "redirect";
  readonly status: 301 | 302 | 303 | 307 | 308;
  readonly scheme: string | undefined;
  readonly host: string | undefined;
  readonly port: number | undefined;
  readonly path: { readonly kind: "full" | "prefix"; readonly value: string } | undefined;
}

export interface DirectPlan {
  readonly kind: "direct";
  readonly status: number;
  readonly body: string;
}

// ---- what happens on the way ------------------------------------------------------------------------------------------------

export interface HeaderEditsPlan {
  readonly set: readonly { readonly name: string; readonly value: string }[];
  readonly add: readonly { readonly name: string; readonly value: string }[];
  readonly remove: readonly string[];
}

export const noEdits: HeaderEditsPlan = { set: [], add: [], remove: [] };

export interface CorsPlan {
  readonly origins: readonly { readonly kind: "exact" | "prefix" | "regex"; readonly value: string }[];
  /** Each list as the answer's header has it, joined by commas; empty = the header is left out. */
  readonly methods: string;
  readonly headers: string;
  readonly expose: string;
  /** Seconds; undefined = the browser's default. */
  readonly maxAgeSeconds: number | undefined;
  readonly credentials: boolean;
  /** A preflight from an origin that is not allowed goes to the application. Envoy's default. */
  readonly forwardUnmatched: boolean;
}

export interface FaultPlan {
  readonly delay?: { readonly ms: number; readonly perMillion: number };
  readonly abort?: { readonly status: { readonly kind: "http" | "grpc"; readonly value: number }; readonly perMillion: number };
  /** Of the answer's body. */
  readonly bandwidth?: { readonly kibPerSecond: number; readonly perMillion: number };
  /** Only requests that carry these. */
  readonly headers?: readonly ValueMatchPlan[];
  /** Our own proxy's, and unknown to Envoy: requests whose connection is reset. */
  readonly resetPerMillion?: number;
  /** Likewise: SPIFFE IDs of the callers that are meant, sorted; absent = all. */
  readonly clients?: readonly { readonly kind: "exact" | "prefix"; readonly value: string }[];
}

/** Who is asked whether a request may pass; what cannot be asked is refused. */
export interface ExternalAuthPlan {
  readonly kind: "grpc" | "http";
  /** Exists. */
  readonly cluster: string;
  /** Of the service, as a name. */
  readonly host: string;
  /** In front of the request's own; of `http`. */
  readonly pathPrefix: string;
  /** Sorted, in lower case; of `http`: what is told beside the necessary, and what its answer may put into the request. */
  readonly tellHeaders: readonly string[];
  readonly takeHeaders: readonly string[];
  /** 0 = nothing of the body is told. */
  readonly bodyBytes: number;
}

// ---- defaults ---------------------------------------------------------------------------------------------------------------

/** Every route retries what certainly did no harm; more only where a route asks. */
export const defaultRetries = 2;

/** Retried unasked: what certainly reached no application, and what an idempotent request may repeat. */
export const defaultRetryOn = ["connect-failure", "reset", "refused-stream"] as const;

export const defaultRetry: RetryPlan = { attempts: defaultRetries, codes: [], perTryTimeoutMs: 0 };

export function matchesEverything(match: MatchPlan): boolean {
  return (
    match.path.kind === "prefix" &&
    match.path.value === "/" &&
    match.method === undefined &&
    match.headers.length === 0 &&
    match.query.length === 0 &&
    match.belowMillionth === undefined
  );
}
