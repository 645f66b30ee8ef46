// Owns: the decoded, trusted form of everything a proxy is configured with. `proxy/xds/decode` makes it from protobuf,
// `proxy/runtime` compiles it into what the hot path uses. Plain frozen records; nothing here knows protobuf or sockets.
// A decoded resource keeps its object identity for as long as its bytes do not change, so that a rebuild can tell what changed by `===`.

import type { HttpLimits } from "./http1/limits.ts";
import type { BucketConfig } from "./resilience/bucket.ts";
import type { Denied } from "./tls/denied.ts";

export interface HostPort {
  /** IPv4 or IPv6 literal; a DNS name only in `strict_dns` clusters. */
  readonly host: string;
  readonly port: number;
}

// ---- listeners -------------------------------------------------------------------------------------------------------

export type Direction = "inbound" | "outbound" | "unspecified";

export interface ListenerConfig {
  readonly name: string;
  readonly address: HostPort;
  readonly direction: Direction;
  /** In order; the first whose `match` fits takes the connection. At least one. */
  readonly chains: readonly FilterChainConfig[];
  /** A `tls_inspector` listener filter is present: chains may match on `transport`, `alpn`, `serverNames`. */
  readonly inspectTls: boolean;
  /** What else happens to a connection before its chain is chosen; absent = nothing, with the defaults of `listenerFilterDefaults`. */
  readonly before?: ListenerFilters;
  /** The address is a UDP one: `chains` is empty and datagrams are forwarded in sessions. */
  readonly udp?: UdpProxyConfig;
}

/** Listener filters, in the order in which they run. */
export interface ListenerFilters {
  /** A PROXY protocol header comes first. `allowAbsent`: a connection without one is taken as it is. `versions`: those that are read. */
  readonly proxyProtocol: { readonly allowAbsent: boolean; readonly versions: readonly (1 | 2)[] } | null;
  /** The connection was redirected: its local address is where it was meant to go (`original_dst`). */
  readonly originalDestination: boolean;
  /** An `http_inspector`: plain HTTP matches `alpn` as `http/1.0`, `http/1.1` or `h2c`. */
  readonly inspectHttp: boolean;
  /** How long all of this may wait for bytes; 0 = for ever. Envoy's default is 15 000. */
  readonly timeoutMs: number;
  /** After the wait: on with what is known (plain text), or the end of the connection (Envoy's default). */
  readonly continueOnTimeout: boolean;
}

/** A range of addresses. */
export interface AddressPrefix {
  readonly prefix: string;
  readonly length: number;
}

export interface FilterChainConfig {
  readonly name: string;
  /** Every condition must hold; an empty or absent one always does. Which chain wins is Envoy's order: see `chain/select.ts`. */
  readonly match: {
    readonly transport: "tls" | "raw_buffer" | null;
    readonly alpn: readonly string[];
    /** Lower case; `*.example.com` is any name below it. */
    readonly serverNames: readonly string[];
    readonly destinationPort?: number;
    readonly destinationPrefixes?: readonly AddressPrefix[];
    readonly sourceType?: "local" | "external";
    readonly sourcePrefixes?: readonly AddressPrefix[];
    readonly sourcePorts?: readonly number[];
  };
  /** Takes what no other chain does, whatever its own conditions (Envoy's `default_filter_chain`). */
  readonly fallback?: true;
  /** null: plain text. */
  readonly tls: DownstreamTlsConfig | null;
  /** `envoy.filters.network.rbac` filters, in order, checked before the terminal filter. */
  readonly networkRbac: readonly RbacConfig[];
  readonly terminal: HttpManagerConfig | TcpProxyConfig;
}

export interface HttpManagerConfig {
  readonly kind: "http";
  readonly statPrefix: string;
  readonly routes: { readonly rds: string } | { readonly inline: RouteTableConfig };
  /** `envoy.filters.http.rbac` filters, in order. */
  readonly rbac: readonly RbacConfig[];
  /** `envoy.filters.http.jwt_authn`, which stands before them; absent = nobody's token is looked at. */
  readonly jwt?: JwtConfig;
  readonly accessLogs: readonly AccessLogConfig[];
  /** Add `x-request-id` where the request has none (Envoy `generate_request_id`, default true). */
  readonly generateRequestId: boolean;
  /** Upgrade tokens allowed besides CONNECT, lower case, for example `websocket`. `CONNECT` allows the method. */
  readonly upgrades: readonly string[];
  readonly limits: HttpLimits;
  /** Added to Via of requests and answers, without the version; a request that has passed here before is a loop. null = Via is left as it is. */
  readonly via: string | null;
  /** Which versions a client may speak. `auto`: what ALPN agreed on; without TLS its first bytes decide. */
  readonly codec: "auto" | "http1" | "http2";
  readonly http2: Http2Config;
  /** gRPC-Web is translated to gRPC here (Envoy's filter `grpc_web`). */
  readonly grpcWeb: boolean;
  /** An edge: requests go on with the client's address in `x-forwarded-for` and its scheme in `x-forwarded-proto` (Envoy's `use_remote_address`); absent = no. */
  readonly forwards?: true;
  /** So many proxies before this one are believed: the client is whom the first of them says it met (Envoy's `xff_num_trusted_hops`); absent = 0. */
  readonly trustedHops?: number;
  /** An edge adds no address to `x-forwarded-for` (Envoy's `skip_xff_append`); absent = it does. */
  readonly appends?: false;
  /** Paths are routed, judged and forwarded in their normal form; policies that read paths have that effect by themselves. */
  readonly normalForm?: true;
  /** A request whose host the table does not have waits until it was asked for (Envoy's filter `on_demand`); absent = no. */
  readonly onDemand?: true;
  /** Requests with a deadline say what is left of it (`x-envoy-expected-rq-timeout-ms`); absent = yes. */
  readonly tellsDeadline?: false;
  /** The other HTTP filters; absent = none. */
  readonly stages?: Partial<StageConfigs>;
}

/** What each stage (chain/stages.ts) is configured with, by its name. */
export interface StageConfigs {
  /** null: stands ready for routes that have a policy. */
  readonly cors: CorsConfig | null;
  readonly fault: FaultConfig | null;
  readonly extAuthz: ExtAuthzConfig;
  readonly session: SessionConfig | null;
  readonly rateLimit: LocalRateLimitConfig | null;
  readonly globalRateLimit: GlobalRateLimitConfig;
  readonly admission: AdmissionConfig | null;
}

/** What makes an entry of a rate limit's descriptor. A header that is absent makes no descriptor, unless it is skipped. */
export type RateAction =
  | { readonly kind: "header"; readonly key: string; readonly name: string; readonly skipIfAbsent: boolean }
  | { readonly kind: "remote" }
  /** The SPIFFE ID of the verified client. */
  | { readonly kind: "peer"; readonly key: string; readonly skipIfAbsent: boolean }
  | { readonly kind: "generic"; readonly key: string; readonly value: string }
  /** What the request's route says in its metadata at `path`, if that is a text; else `value`, of which an empty one is none. */
  | {
      readonly kind: "route";
      readonly key: string;
      readonly path: readonly string[];
      readonly value: string;
      readonly skipIfAbsent: boolean;
    }
  /** What this proxy calls itself, and the cluster that the request goes to. */
  | { readonly kind: "source" | "destination" }
  | {
      readonly kind: "match";
      readonly key: string;
      readonly value: string;
      readonly expect: boolean;
      readonly headers: readonly HeaderMatch[];
    };

export interface LocalRateLimitConfig {
  /** Of all requests; null = none. */
  readonly bucket: BucketConfig | null;
  /** The first that fits a descriptor; an empty value fits any, and each has its own bucket. */
  readonly descriptors: readonly {
    readonly entries: readonly { readonly key: string; readonly value: string }[];
    readonly bucket: BucketConfig;
  }[];
  /** A descriptor each. */
  readonly limits: readonly (readonly RateAction[])[];
  /** Of the refusal; default 429. */
  readonly status: number;
  /** gRPC calls are told RESOURCE_EXHAUSTED in place of UNAVAILABLE. */
  readonly resourceExhausted: boolean;
  /** `x-ratelimit-limit`, `-remaining` and `-reset` in answers. */
  readonly tellHeaders: boolean;
  /** `bucket` counts requests that a descriptor has counted too; default true. */
  readonly alwaysDefault: boolean;
  /** Share of requests, 0 to 1, that are counted, and of those over the limit that are refused. */
  readonly enabled: number;
  readonly enforced: number;
  /** Buckets kept for descriptors; the one unused for longest goes. */
  readonly maxDynamic: number;
}

/** Envoy's `ratelimit` filter: a service is asked whether a request is over a limit. */
export interface GlobalRateLimitConfig {
  /** null in what a route says for itself. */
  readonly filter: {
    readonly domain: string;
    /** Where the service is, and what it is called by. */
    readonly cluster: string;
    readonly authority: string;
    readonly metadata: readonly { readonly name: string; readonly value: string }[];
    readonly timeoutMs: number;
    /** Requests are refused while the service cannot be asked; otherwise they pass. */
    readonly denyOnFailure: boolean;
    /** Of the refusal, and of the refusal for want of the service. */
    readonly status: number;
    readonly failureStatus: number;
    readonly resourceExhausted: boolean;
    readonly tellHeaders: boolean;
    /** `x-ratelimited: true` in Envoy's spelling on refusals. */
    readonly tellLimited: boolean;
    /** Of refusals, lines with their CRLF. */
    readonly refusalLines: string;
    readonly stage: number;
    readonly enabled: number;
    readonly enforced: number;
  } | null;
  readonly route: RouteRateLimits | null;
  /** Of the filter itself: routes and hosts are not asked then. */
  readonly limits: readonly (readonly RateAction[])[];
}

/** What a route and its virtual host ask for. */
export interface RouteRateLimits {
  readonly limits: readonly { readonly stage: number; readonly actions: readonly RateAction[] }[];
  readonly host: readonly { readonly stage: number; readonly actions: readonly RateAction[] }[];
  /** Of RateLimitPerRoute: takes the place of all others, also the filter's. */
  readonly instead: readonly { readonly stage: number; readonly actions: readonly RateAction[] }[] | null;
  readonly hostMode: "override" | "include" | "ignore";
  /** null = the filter's. */
  readonly domain: string | null;
}

export interface AdmissionConfig {
  /** Requests that the service is given at once; 0 = found by measuring. */
  readonly concurrency: number;
  readonly maxConcurrency: number;
  /** Requests that may wait; 0 = as many as the service is given. */
  readonly maxQueue: number;
  /** How long one may wait while the queue stands; 0 = a quarter of what the idle service takes. */
  readonly targetMs: number;
  /** null: all requests matter alike. */
  readonly criticalityHeader: string | null;
  readonly shareBy: { readonly kind: "nobody" } | { readonly kind: "peer" } | { readonly kind: "header"; readonly name: string };
  /** Of the refusal; default 503. */
  readonly status: number;
}

/** Where a client carries the address of its endpoint. `ttlMs` 0 = until the browser closes. */
export type SessionConfig =
  | { readonly kind: "cookie"; readonly name: string; readonly ttlMs: number; readonly path: string }
  | { readonly kind: "header"; readonly name: string };

export interface CorsConfig {
  readonly origins: readonly StringMatch[];
  /** Header values as they are sent; empty = the header is left out. */
  readonly methods: string;
  readonly headers: string;
  readonly expose: string;
  readonly maxAge: string;
  readonly credentials: boolean;
  readonly privateNetwork: boolean;
  /** A preflight from another origin goes to the application (Envoy's default); else it is answered without headers. */
  readonly forwardUnmatched: boolean;
}

/** Shares are 0 to 1. All of `headers`, and any of `clients` (principals; empty = anybody), must fit. */
export interface FaultConfig {
  /** `ms` null: as the header `x-envoy-fault-delay-request` asks. */
  readonly delay: { readonly ms: number | null; readonly fraction: number } | null;
  /** `header`: as `x-envoy-fault-abort-request` or `x-envoy-fault-abort-grpc-request` asks; `status` is unused then. */
  readonly abort: { readonly kind: "http" | "grpc" | "header"; readonly status: number; readonly fraction: number } | null;
  /** Share of the requests whose connection (HTTP/2: stream) is reset. */
  readonly reset: number;
  /** Of an answer's body; null: as `x-envoy-fault-throughput-response` asks. 1 = 1 024 bytes a second. */
  readonly rate: { readonly kilobytesPerSecond: number | null; readonly fraction: number } | null;
  readonly headers: readonly HeaderMatch[];
  readonly clients: readonly StringMatch[];
  /** Requests with a fault at one time; Infinity = no limit. */
  readonly maxActive: number;
}

/** Who is asked whether a request may pass (Envoy `ext_authz`). Of a chain `filter` is there; of a route only `route`, which goes before it. */
export interface ExtAuthzConfig {
  readonly filter: ExtAuthzFilter | null;
  /** It asks only for routes that say so. */
  readonly off: boolean;
  readonly route: ExtAuthzRoute | null;
}

export interface ExtAuthzFilter {
  readonly service: AuthService;
  /** Header fields that are told; null = all of gRPC, the necessary ones of HTTP. */
  readonly allowed: readonly StringMatch[] | null;
  readonly disallowed: readonly StringMatch[];
  readonly body: AuthBody | null;
  /** What cannot be asked passes. */
  readonly failureAllow: boolean;
  /** Such a request says so: `x-envoy-auth-failure-mode-allowed`. */
  readonly failureHeader: boolean;
  readonly statusOnError: number;
  /** Share of the requests that are asked about, 0 to 1. */
  readonly enabled: number;
}

export interface ExtAuthzRoute {
  readonly context: Readonly<Record<string, string>>;
  /** undefined = as the filter. */
  readonly body: AuthBody | null | undefined;
  readonly service: AuthService | null;
}

export interface AuthBody {
  readonly maxBytes: number;
  /** A longer one is told in part; else the request is refused with 413. */
  readonly partial: boolean;
  /** gRPC: in `raw_body` in the place of `body`. */
  readonly asBytes: boolean;
}

export type AuthService =
  | {
      readonly kind: "grpc";
      readonly cluster: string;
      readonly authority: string;
      readonly metadata: readonly HeaderValue[];
      readonly timeoutMs: number;
    }
  | {
      readonly kind: "http";
      readonly cluster: string;
      readonly timeoutMs: number;
      readonly pathPrefix: string;
      readonly addHeaders: readonly HeaderValue[];
      /** As `ExtAuthzFilter.allowed`, for those who are asked here. */
      readonly allowed: readonly StringMatch[];
      /** Of the answer, onto the request: in the place of what is there, or beside it. */
      readonly upstreamSet: readonly StringMatch[];
      readonly upstreamAppend: readonly StringMatch[];
      /** Of a refusal, to the client; null = all. */
      readonly client: readonly StringMatch[] | null;
      /** Of a yes, onto the answer to the client. */
      readonly clientOnSuccess: readonly StringMatch[];
    };

export type StageName = keyof StageConfigs;

/** A route's own configuration of stages: Envoy's `typed_per_filter_config`. Without effect where the chain does not have the stage; but `extAuthz` then refuses. */
export type RouteStages = { readonly [Name in StageName]?: StageConfigs[Name] | "off" };

/** Of the connections of one listener or cluster (Envoy `Http2ProtocolOptions`); absent = our default, in `http2/limits.ts`. */
export interface Http2Config {
  readonly maxConcurrentStreams?: number;
  /** Bytes. Where windows start; they grow with what the connection can carry. */
  readonly initialStreamWindow?: number;
  readonly initialConnectionWindow?: number;
  /** Absent = no PING of ours asks whether the peer is there. */
  readonly keepalive?: Http2Keepalive;
}

/** PINGs that find dead connections (Envoy `connection_keepalive`). Any byte of the peer's proves it alive as well as an answer does. */
export interface Http2Keepalive {
  /** A PING after this long without a byte; 0 = none. */
  readonly intervalMs: number;
  /** The connection is given up after this long without a byte from the PING on. */
  readonly timeoutMs: number;
  /** Up to this share (0 to 1) of the interval is added by chance, so that connections made at once do not ask at once. */
  readonly jitter: number;
  /** Upstream: a PING goes ahead of a new stream when the connection was silent for this long; 0 = none. */
  readonly idleMs: number;
}

export interface TcpProxyConfig {
  readonly kind: "tcp";
  readonly statPrefix: string;
  readonly clusters: readonly WeightedCluster[];
  readonly accessLogs: readonly AccessLogConfig[];
  /** 0 = off; default 3 600 000. */
  readonly idleTimeoutMs: number;
  /** Endpoints tried before the connection is given up (Envoy `max_connect_attempts`); absent = 3. */
  readonly maxConnectAttempts?: number;
  /** 0 or absent = none (Envoy `max_downstream_connection_duration`). */
  readonly maxDurationMs?: number;
  /** Where the cluster hashes, the client's address is the key (Envoy `hash_policy`). */
  readonly hashesSource?: true;
}

/** Envoy's `udp_proxy`: a session for each client address and port, which keeps its endpoint. */
export interface UdpProxyConfig {
  readonly statPrefix: string;
  readonly cluster: string;
  /** `envoy.filters.network.rbac` among the listener filters, in order; judged for each new session. Rules on ports and addresses only. */
  readonly rbac: readonly RbacConfig[];
  /** One record for each session. */
  readonly accessLogs: readonly AccessLogConfig[];
  /** Without a datagram either way. Above 0; default 60 000. */
  readonly idleTimeoutMs: number;
  /** Larger datagrams from clients are dropped (`max_rx_datagram_size`); default 65 507. */
  readonly maxRequestBytes: number;
  /** The same for datagrams from upstream. */
  readonly maxAnswerBytes: number;
}

export interface WeightedCluster {
  readonly cluster: string;
  /** Relative to the sum of its siblings; 0 = never. */
  readonly weight: number;
}

// ---- TLS ---------------------------------------------------------------------------------------------------------------

export type CertificateSource =
  /** `name`: the file or static secret it came from, for metrics; absent: inline. */
  | { readonly kind: "pem"; readonly certificatePem: string; readonly privateKeyPem: string; readonly name?: string }
  /** Looked up in `SecretSource` each time a connection is made, so that rotation needs no rebuild. */
  | { readonly kind: "secret"; readonly name: string };

export type RootsSource =
  | { readonly kind: "pem"; readonly pem: string; readonly name?: string }
  | { readonly kind: "secret"; readonly name: string };

export interface SanMatcher {
  readonly type: "uri" | "dns";
  readonly match: StringMatch;
}

export type TlsVersion = "TLSv1.2" | "TLSv1.3";

export interface DownstreamTlsConfig {
  readonly certificate: CertificateSource;
  /** null: client certificates are not verified (and then must not be required). */
  readonly roots: RootsSource | null;
  readonly requireClientCertificate: boolean;
  /** Empty = any name under the roots. */
  readonly peerNames: readonly SanMatcher[];
  readonly alpn: readonly string[];
  readonly minVersion: TlsVersion;
  /** Absent = TLSv1.3. */
  readonly maxVersion?: TlsVersion;
}

export interface UpstreamTlsConfig {
  /** null: no client certificate is presented. */
  readonly certificate: CertificateSource | null;
  /** null: the peer is not verified (Envoy's behaviour without a validation context). */
  readonly roots: RootsSource | null;
  readonly peerNames: readonly SanMatcher[];
  readonly alpn: readonly string[];
  readonly sni: string;
  readonly minVersion: TlsVersion;
  /** Absent = TLSv1.3. */
  readonly maxVersion?: TlsVersion;
}

// ---- routes ------------------------------------------------------------------------------------------------------------

export interface RouteTableConfig {
  readonly name: string;
  /** Match virtual hosts on the host without its port. */
  readonly ignorePort: boolean;
  readonly virtualHosts: readonly VirtualHostConfig[];
  /** Hosts that it does not have are asked for when a request first needs them (Envoy's `vhds`). `absent`: were asked for, and there are none. */
  readonly onDemand?: { readonly absent: readonly string[] };
}

export interface VirtualHostConfig {
  readonly name: string;
  /** Exact (`cart.shop`, `cart.shop:80`), suffix (`*.shop`), prefix (`cart.*`) or `*`. */
  readonly domains: readonly string[];
  /** In order; first match wins. */
  readonly routes: readonly RouteConfig[];
  /** Given because it was asked for. */
  readonly demanded?: true;
}

export interface RouteConfig {
  readonly name: string;
  readonly match: RouteMatchConfig;
  readonly action: ForwardAction | RedirectAction | DirectAction;
  readonly requestHeaders: HeaderEdits;
  readonly responseHeaders: HeaderEdits;
  /** Absent = as the chain has them. Its virtual host's are folded in. */
  readonly stages?: RouteStages;
  /** Envoy's `metadata.filter_metadata`; absent = none. */
  readonly metadata?: Readonly<Record<string, unknown>>;
}

export interface RouteMatchConfig {
  /** `separated-prefix` matches `/a` and `/a/b` but not `/ab` (Gateway API PathPrefix). `connect` matches the CONNECT method only. */
  readonly path:
    | {
        readonly kind: "prefix" | "exact" | "separated-prefix" | "regex";
        readonly value: string;
        /** Never of a regular expression, which says `(?i)` itself. */
        readonly ignoreCase?: true;
      }
    | { readonly kind: "connect" };
  readonly headers: readonly HeaderMatch[];
  readonly query: readonly QueryMatch[];
  /** Share of the requests that fit otherwise, 0 to 1; absent = all. */
  readonly fraction?: number;
  /** gRPC requests only. */
  readonly grpc?: true;
}

export type StringMatch =
  | { readonly kind: "exact" | "prefix" | "suffix" | "contains"; readonly value: string; readonly ignoreCase: boolean }
  /** RE2 syntax, whole-value match. */
  | { readonly kind: "regex"; readonly value: string; readonly ignoreCase: boolean };

export interface HeaderMatch {
  /** Lower case; may be a pseudo-header: `:method`, `:path`, `:authority`. */
  readonly name: string;
  /** null: the header is present. */
  readonly match: StringMatch | null;
  readonly invert: boolean;
  /** A whole number from `start` to below `end`, in decimal; `match` is null then. */
  readonly range?: { readonly start: number; readonly end: number };
  /** A header that is not there counts as an empty one. */
  readonly missingIsEmpty?: true;
}

export interface QueryMatch {
  readonly name: string;
  readonly match: StringMatch | null;
}

/** RE2 syntax, replaced wherever it matches; `\\1` in the substitution is the first group. */
export interface Substitution {
  readonly pattern: string;
  readonly substitution: string;
}

/** A cluster that a route leads to, with what is special about the requests that go there; the route's own edits are folded in already. */
export interface RouteCluster extends WeightedCluster {
  readonly requestHeaders?: HeaderEdits;
  readonly responseHeaders?: HeaderEdits;
  readonly hostRewrite?: string;
}

export interface MirrorConfig {
  readonly cluster: string;
  /** Share of the requests that are mirrored, 0 to 1. */
  readonly fraction: number;
  /** The host of a mirrored request gets `-shadow` at its end. */
  readonly shadowHost: boolean;
}

export interface ForwardAction {
  readonly kind: "forward";
  readonly clusters: readonly RouteCluster[];
  /** 0 = none. Envoy's default is 15 000. */
  readonly timeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly retry: RetryConfig | null;
  /** null = unchanged. */
  readonly prefixRewrite: string | null;
  readonly hostRewrite: string | null;
  /** Of the path without its query. */
  readonly regexRewrite?: Substitution;
  /** The host becomes: the endpoint's own name; the value of a header, where the request has it; what is made of the path. */
  readonly hostFrom?:
    | { readonly kind: "endpoint" }
    | { readonly kind: "header"; readonly name: string }
    | ({ readonly kind: "path" } & Substitution);
  readonly mirrors?: readonly MirrorConfig[];
  /** The key for clusters that hash, of what these say in their order; absent = none. */
  readonly hash?: readonly HashConfig[];
  /** A CONNECT request is terminated here and its payload forwarded as TCP (Envoy `connect_config`). */
  readonly terminateConnect: boolean;
  /** Upgrade tokens allowed on this route, lower case. */
  readonly upgrades: readonly string[];
  /** Status of the answer where the chosen cluster is not there (Envoy `cluster_not_found_response_code`); absent = 503. */
  readonly missingClusterStatus?: 404 | 500 | 503;
}

/** `terminal`: what follows is not asked once there is a key. */
export type HashConfig =
  | { readonly kind: "header" | "query"; readonly name: string; readonly terminal: boolean }
  | { readonly kind: "source"; readonly terminal: boolean }
  /** `ttlMs` null: a missing cookie is not made; 0: made for as long as the browser is open. */
  | { readonly kind: "cookie"; readonly name: string; readonly ttlMs: number | null; readonly path: string; readonly terminal: boolean };

export interface RedirectAction {
  readonly kind: "redirect";
  readonly status: 301 | 302 | 303 | 307 | 308;
  readonly scheme: string | null;
  readonly host: string | null;
  readonly port: number | null;
  readonly path: { readonly kind: "full" | "prefix"; readonly value: string } | ({ readonly kind: "regex" } & Substitution) | null;
  readonly stripQuery?: true;
}

export interface DirectAction {
  readonly kind: "direct";
  readonly status: number;
  readonly body: string;
}

/** Removals come first. Values are formats: `%COMMANDS%` of route/commands.ts, `%%` a percent sign. */
export interface HeaderEdits {
  readonly remove: readonly string[];
  readonly set: readonly HeaderValue[];
  readonly add: readonly HeaderValue[];
  /** Only where the message has no such header. */
  readonly addIfAbsent?: readonly HeaderValue[];
  /** Only where it has one. */
  readonly setIfPresent?: readonly HeaderValue[];
}

export interface HeaderValue {
  readonly name: string;
  readonly value: string;
}

/** Envoy's words. `connect-failure`: no byte was sent to an application. `reset`: the connection ended before any answer byte (idempotent methods only). */
export type RetryCondition =
  | "connect-failure"
  | "reset"
  | "reset-before-request"
  | "refused-stream"
  | "gateway-error"
  | "5xx"
  | "retriable-4xx"
  | "retriable-status-codes"
  | "retriable-headers"
  | "envoy-ratelimited"
  | "cancelled"
  | "deadline-exceeded"
  | "internal"
  | "resource-exhausted"
  | "unavailable";

export interface RetryConfig {
  readonly attempts: number;
  readonly on: readonly RetryCondition[];
  readonly statusCodes: readonly number[];
  readonly perTryTimeoutMs: number;
  /** Absent = 25 and 250. */
  readonly backOff?: { readonly baseMs: number; readonly maxMs: number };
  /** Headers of an answer that say when to come back, in seconds or as seconds since 1970; absent = Retry-After. */
  readonly resetHeaders?: readonly { readonly name: string; readonly unix: boolean }[];
  /** Waits above this are not believed; absent = 300 000. */
  readonly resetMaxMs?: number;
  /** With `retriable-headers`: answers that have any of them. */
  readonly answerHeaders?: readonly HeaderMatch[];
  /** Requests that may be retried: any of them; absent = all. One on `:method` decides in place of the method's idempotence. */
  readonly requestHeaders?: readonly HeaderMatch[];
  /** Largest body kept for another attempt; absent = 65 536. */
  readonly bodyBytes?: number;
  /** After `perTryTimeoutMs` another attempt starts beside the first (reads only). */
  readonly hedge?: true;
}

// ---- clusters and endpoints ----------------------------------------------------------------------------------------------

/** `ipv4-first`: addresses of IPv6 only where there are no others. */
export type AddressFamilies = "ipv4" | "ipv6" | "ipv4-first";

export interface ClusterConfig {
  readonly name: string;
  /** Default 5 000 (Envoy). */
  readonly connectTimeoutMs: number;
  readonly balance: BalanceConfig;
  readonly source: /** `dynamic`: to wherever a request says, and without endpoints. */
    | {
        readonly kind: "static" | "strict_dns" | "dynamic";
        readonly endpoints: readonly EndpointConfig[];
        /** `strict_dns`: which addresses of a name are taken. Absent: all. */
        readonly families?: AddressFamilies;
      }
    | { readonly kind: "eds"; readonly serviceName: string };
  /** First whose `match` is a subset of the endpoint's `transportMatch` wins; an entry with `tls: null` is plain text. */
  readonly transports: readonly {
    readonly name: string;
    readonly match: Readonly<Record<string, string>>;
    readonly tls: UpstreamTlsConfig | null;
  }[];
  /** When no entry of `transports` fits. null = plain text. */
  readonly tls: UpstreamTlsConfig | null;
  /** Envoy's defaults are 1024, 1024, 1024, 3. */
  readonly limits: {
    readonly maxConnections: number;
    readonly maxPending: number;
    readonly maxRequests: number;
    readonly maxRetries: number;
    /** Envoy's `retry_budget`: retries may be this share of requests (default 20 %), and always `minConcurrency` at once (default 3). Absent = the share alone. */
    readonly retryBudget?: { readonly percent: number; readonly minConcurrency: number };
  };
  /** Of each endpoint; absent = only the cluster's. */
  readonly endpointLimits?: EndpointLimits;
  /** Absent = new endpoints get their whole share at once. */
  readonly slowStart?: SlowStartConfig;
  /** Absent = endpoints are not judged by their answers, but for connections that cannot be made. */
  readonly outliers?: OutlierConfig;
  /** All of them must hold; absent = endpoints are not asked. */
  readonly healthChecks?: readonly HealthCheckConfig[];
  /** Below this share of available endpoints (0 to 100) health is not believed and all are used; absent = 50, 0 = never. */
  readonly panicPercent?: number;
  /** `weighted`: by the weights that come with localities. `own`: this proxy's locality first, the rest where it lacks endpoints. Absent = localities do not matter within a priority. */
  readonly localities?:
    | "weighted"
    | "own"
    /** Priorities by nearness: sub-zone, zone, region, the region that `failover` names for ours, the rest. */
    | { readonly kind: "near"; readonly failover: Readonly<Record<string, string>> }
    /** Shares of localities by our own; both `region/zone/sub-zone`, whose rest may be `*` or left out. The first that fits; none = as if not there. */
    | { readonly kind: "shares"; readonly from: Readonly<Record<string, Readonly<Record<string, number>>>> };
  /** Answers 429 and RESOURCE_EXHAUSTED lower an endpoint's share, and Retry-After is waited for. Absent = no. */
  readonly heedsRateLimits?: true;
  /** What its endpoints speak. `downstream`: the version the request came by; `auto`: what ALPN agrees on, without TLS HTTP/1.1. */
  readonly protocol: UpstreamProtocol;
  /** Of its HTTP/2 connections; absent = our defaults. `maxConcurrentStreams` bounds what we open on one. */
  readonly http2?: Http2Config;
  /** How long its connections are kept; absent = our defaults. */
  readonly connections?: ConnectionConfig;
  /** It carries our own streams to the control plane and is no business of the data path. */
  readonly control: boolean;
  /** Connections begin with a PROXY protocol header of this version: opaque TCP only, as a pooled connection carries requests of many clients. */
  readonly proxyProtocol?: 1 | 2;
  /** From Istio's cluster metadata; names the destination service in metrics. */
  readonly service: { readonly host: string; readonly name: string; readonly namespace: string } | null;
}

/** What becomes of a cluster's connections. Envoy's `common_http_protocol_options` of a cluster, and its `upstream_connection_options`. */
export interface ConnectionConfig {
  /** One without a request is closed after this; 0 = never; absent = 60 000 of HTTP/1.1, 300 000 of HTTP/2. */
  readonly idleMs?: number;
  /** It takes no more than so many requests, and closes when the last has its answer; absent = any number. */
  readonly maxRequests?: number;
  /** It takes no requests when it is older, and closes when the last has its answer; absent = for ever. */
  readonly maxAgeMs?: number;
  /** A connection of opaque bytes ends after so long, a tunnel too; absent = for ever. */
  readonly opaqueMs?: number;
  /** Absent = the kernel does not ask whether the other end is there. */
  readonly keepalive?: TcpKeepaliveConfig;
}

/** TCP keep-alive (RFC 9293 3.8.4). Absent = what the kernel is set to. */
export interface TcpKeepaliveConfig {
  /** Probes without an answer until the connection is given up. */
  readonly probes?: number;
  /** Silence before the first. */
  readonly timeSeconds?: number;
  readonly intervalSeconds?: number;
}

/** How an endpoint is chosen. Weights are honoured by all but `least_connections` among equals. */
export type BalanceConfig =
  /** The least busy of `choices` drawn; `bias` (absent = 1) is the power of the active requests, 0 = they do not count. */
  | { readonly kind: "least_request"; readonly choices: number; readonly bias?: number }
  | { readonly kind: "least_connections"; readonly choices: number }
  /** The one of two whose latency times its active requests is smaller. `decayMs`: in which old latencies fade to a third. */
  | { readonly kind: "peak_ewma"; readonly decayMs: number }
  | { readonly kind: "round_robin" | "random" }
  /** `overloadPercent`: an endpoint with more than this share of the average active requests is passed over; absent = never. */
  | { readonly kind: "ring_hash"; readonly minSize: number; readonly maxSize: number; readonly overloadPercent?: number }
  | { readonly kind: "maglev"; readonly tableSize: number; readonly overloadPercent?: number }
  /** In turn, weighted by the load reports (ORCA) that come with answers. */
  | { readonly kind: "load_report"; readonly blackoutMs: number; readonly expirationMs: number; readonly updateMs: number };

export interface EndpointLimits {
  readonly maxConnections: number;
  readonly maxRequests: number;
  /** Of the requests under way, those that are another attempt. */
  readonly maxRetries: number;
}

export interface SlowStartConfig {
  readonly windowMs: number;
  /** The share grows with (age / window) ^ (1 / aggression). */
  readonly aggression: number;
  /** 0 to 1, of the endpoint's weight. */
  readonly minShare: number;
}

/** Thresholds of 0 are off; `…Percent` fields of enforcing are chances, 0 to 100. Defaults are Envoy's. */
export interface OutlierConfig {
  readonly consecutive5xx: number;
  readonly enforce5xx: number;
  /** 502, 503, 504 in a row. */
  readonly consecutiveGateway: number;
  readonly enforceGateway: number;
  /** Failures without an answer are counted apart, and not as 5xx. */
  readonly splitLocal: boolean;
  readonly consecutiveLocal: number;
  readonly enforceLocal: number;
  readonly intervalMs: number;
  readonly baseEjectionMs: number;
  readonly maxEjectionMs: number;
  readonly jitterMs: number;
  readonly maxEjectionPercent: number;
  /** One may always be ejected, whatever the percentage. */
  readonly alwaysOne: boolean;
  readonly successRate: {
    readonly enforce: number;
    readonly minHosts: number;
    readonly volume: number;
    readonly stdevFactor: number;
  } | null;
  readonly failurePercentage: {
    readonly enforce: number;
    readonly minHosts: number;
    readonly volume: number;
    readonly threshold: number;
  } | null;
  /** Ours: ejected when the mean latency of an interval is above `factor` times the median of all and above it by `floorMs`. */
  readonly latency: { readonly minHosts: number; readonly volume: number; readonly factor: number; readonly floorMs: number } | null;
  /** After an ejection an endpoint's share grows back over this time; 0 = at once. */
  readonly returnMs: number;
}

export interface HealthCheckConfig {
  readonly kind:
    | {
        readonly type: "http";
        readonly host: string;
        readonly path: string;
        readonly method: string;
        /** First to last, both included. */
        readonly statuses: readonly { readonly first: number; readonly last: number }[];
        readonly headers: readonly { readonly name: string; readonly value: string }[];
      }
    | { readonly type: "grpc"; readonly service: string; readonly authority: string }
    | { readonly type: "tcp"; readonly send: Uint8Array; readonly receive: readonly Uint8Array[] };
  readonly timeoutMs: number;
  readonly intervalMs: number;
  /** Of an endpoint that is down; absent = `intervalMs`. */
  readonly unhealthyIntervalMs: number;
  /** Of a cluster that has not carried a request yet. */
  readonly noTrafficIntervalMs: number;
  readonly jitterMs: number;
  readonly jitterPercent: number;
  readonly initialJitterMs: number;
  readonly unhealthyThreshold: number;
  readonly healthyThreshold: number;
}

/** Where endpoints are. One object for all endpoints of an entry in one version of a resource. */
export interface LocalityConfig {
  readonly region: string;
  readonly zone: string;
  readonly subZone: string;
  /** For `localities: "weighted"`; 0 = not told, and then it gets nothing. */
  readonly weight: number;
  /** Percent; Envoy's default is 140. */
  readonly overprovisioning: number;
}

export type UpstreamProtocol = "http1" | "http2" | "downstream" | "auto";

export interface EndpointConfig {
  readonly address: HostPort;
  /** The name that it is known by, where it has one: for routes whose host is the endpoint's. */
  readonly hostname?: string;
  readonly weight: number;
  readonly priority: number;
  readonly healthy: boolean;
  /** Metadata `envoy.transport_socket_match`. */
  readonly transportMatch: Readonly<Record<string, string>>;
  /** From Istio's endpoint metadata `istio.workload` = `workload;namespace;app;version;cluster`. */
  readonly workload: WorkloadLabels | null;
  /** Absent = not told. */
  readonly locality?: LocalityConfig;
  /** SPIFFE ID that this very endpoint must present, over and above the cluster's `peerNames`; null = not told. */
  readonly identity: string | null;
}

export interface WorkloadLabels {
  readonly workload: string;
  readonly namespace: string;
  readonly app: string;
  readonly version: string;
}

// ---- authorization -------------------------------------------------------------------------------------------------------

export interface RbacConfig {
  readonly action: "allow" | "deny" | "log";
  /** Sorted by name. */
  readonly policies: readonly {
    readonly name: string;
    readonly permissions: readonly Permission[];
    readonly principals: readonly Principal[];
  }[];
}

export type Permission =
  | { readonly kind: "any" }
  | { readonly kind: "and" | "or"; readonly rules: readonly Permission[] }
  | { readonly kind: "not"; readonly rule: Permission }
  | { readonly kind: "header"; readonly header: HeaderMatch }
  | { readonly kind: "path"; readonly match: StringMatch }
  | { readonly kind: "port"; readonly port: number };

export type Principal =
  | { readonly kind: "any" }
  | { readonly kind: "and" | "or"; readonly rules: readonly Principal[] }
  | { readonly kind: "not"; readonly rule: Principal }
  /** null: any verified peer. Compared with the peer certificate's URI names, as Envoy does. */
  | { readonly kind: "authenticated"; readonly match: StringMatch | null }
  | { readonly kind: "header"; readonly header: HeaderMatch }
  /** `remote_ip`: who is connected (Envoy's direct_remote_ip); `client_ip`: who the client is, behind proxies that are believed (Envoy's remote_ip). */
  | { readonly kind: "remote_ip" | "client_ip"; readonly prefix: string; readonly prefixLength: number }
  /** What a token of the request says, that JwtConfig has found good: `path` begins with the name its payload is known by. */
  | { readonly kind: "claim"; readonly path: readonly string[]; readonly match: ClaimMatch; readonly invert: boolean };

/** Envoy's ValueMatcher; `list`: some entry of a list fits. */
export type ClaimMatch =
  | { readonly kind: "string"; readonly match: StringMatch }
  | { readonly kind: "present"; readonly present: boolean }
  | { readonly kind: "list"; readonly of: ClaimMatch }
  | { readonly kind: "or"; readonly of: readonly ClaimMatch[] };

/** Tokens of end users (JWT), and which of them a request must or may have. */
export interface JwtConfig {
  /** By name, which is unique. */
  readonly providers: readonly JwtProviderConfig[];
  /** Of every request; null = nothing. */
  readonly requires: JwtRequirement | null;
  /** Preflights of CORS pass as they are. */
  readonly bypassPreflights: boolean;
}

export interface JwtProviderConfig {
  readonly name: string;
  /** Empty = anybody whose key is in the set. */
  readonly issuer: string;
  /** Empty = any. */
  readonly audiences: readonly string[];
  /** A JSON Web Key Set (RFC 7517). */
  readonly keys: string;
  /** A good token stays in the request. */
  readonly forward: boolean;
  /** Names in lower case; the token stands behind `prefix`. */
  readonly fromHeaders: readonly { readonly name: string; readonly prefix: string }[];
  readonly fromParams: readonly string[];
  readonly fromCookies: readonly string[];
  /** Gets the payload as it stands in the token; empty = none. */
  readonly payloadHeader: string;
  readonly claimHeaders: readonly { readonly header: string; readonly claim: readonly string[] }[];
  /** What rules know the payload by; empty = they do not. */
  readonly payloadName: string;
  /** How far clocks may differ. */
  readonly skewS: number;
  /** Claims that rules see as lists, although they are one text. */
  readonly spaceDelimited: readonly string[];
}

/** `provider`: all tokens where it looks are its good ones, and there is one; `any`: one of them holds, or with `missing` there is no token at all. */
export type JwtRequirement =
  /** Index in `providers`. */
  | { readonly kind: "provider"; readonly provider: number }
  | { readonly kind: "any"; readonly of: readonly JwtRequirement[]; readonly missing: boolean }
  | { readonly kind: "all"; readonly of: readonly JwtRequirement[] };

// ---- access logs -----------------------------------------------------------------------------------------------------------

export interface AccessLogConfig {
  readonly sink:
    | { readonly kind: "file"; readonly path: string; readonly format: Readonly<Record<string, string>> }
    | { readonly kind: "als"; readonly logName: string; readonly cluster: string };
  /** null = everything. Otherwise one of: status at least / at most / equal, any response flag, or any of several. */
  readonly filter: AccessLogFilter | null;
}

export type AccessLogFilter =
  | { readonly kind: "status"; readonly op: "eq" | "ge" | "le"; readonly value: number }
  /** Empty = any flag. */
  | { readonly kind: "flags"; readonly flags: readonly string[] }
  | { readonly kind: "or"; readonly filters: readonly AccessLogFilter[] };

// ---- the whole -----------------------------------------------------------------------------------------------------------------

/** A consistent set: every cluster a route names is here, every EDS cluster has its endpoints here (possibly none). */
export interface ProxyConfig {
  readonly listeners: ReadonlyMap<string, ListenerConfig>;
  readonly routes: ReadonlyMap<string, RouteTableConfig>;
  readonly clusters: ReadonlyMap<string, ClusterConfig>;
  /** By EDS service name. */
  readonly endpoints: ReadonlyMap<string, readonly EndpointConfig[]>;
}

/** Who this proxy stands beside; from the bootstrap's node. Empty strings where the bootstrap is silent. */
export interface LocalWorkload extends WorkloadLabels {
  readonly nodeId: string;
  readonly serviceAccount: string;
  readonly trustDomain: string;
  /** `node.cluster`: what rate limit services know this proxy as; absent = `APP.NAMESPACE`. */
  readonly cluster?: string;
  /** From the bootstrap's node; absent = not told. */
  readonly locality?: { readonly region: string; readonly zone: string; readonly subZone: string };
}

/** Where certificates come from at run time. Reading is cheap and synchronous; `generation` grows with every change. */
export interface SecretSource {
  readonly generation: number;
  certificate(name: string): { readonly certificatePem: string; readonly privateKeyPem: string } | undefined;
  roots(name: string): string | undefined;
  /** Why there is no certificate of this name although there was one, as a sentence; undefined: it has not arrived yet. */
  lapsed?(name: string): string | undefined;
  /** Who is refused although the mesh's roots vouch for them; null: nobody. Asked only where the roots come as a secret. */
  denied?(): Denied | null;
}
