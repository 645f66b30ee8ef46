// Owns: the one table of what can go wrong with a request and what each party is told (rule 5). Nobody else writes a status code.

import type { ResponseFlag } from "../telemetry/record.ts";

/**
 * The four facts of a failure, and their rendering. `retry`: `safe` = the request certainly reached no application, any method may be repeated;
 * `idempotent` = it may have been acted on; `never`. `flag` null: Envoy has none (local answers that are no failure).
 */
export interface Failure {
  readonly kind: string;
  readonly side: "downstream" | "upstream" | "self";
  readonly retry: "safe" | "idempotent" | "never";
  readonly flag: ResponseFlag | null;
  readonly status: number;
  /** As Envoy writes `%RESPONSE_CODE_DETAILS%`. */
  readonly details: string;
  /** Default sentence; the caller may know a better one. */
  readonly sentence: string;
  /** The downstream connection cannot be used after this. */
  readonly close: boolean;
  /** What a gRPC call is told (the gRPC project's statuscodes.md; where HTTP has a status, its http-grpc-status-mapping.md). */
  readonly grpc: number;
  /** Header lines of the answer, each with its CRLF; absent = none. */
  readonly lines?: Uint8Array;
}

/** gRPC codes by HTTP status, for failures that name none of their own. */
const grpcByStatus: Readonly<Record<number, number>> = { 400: 13, 401: 16, 403: 7, 404: 12, 405: 12, 429: 14, 502: 14, 503: 14, 504: 14 };
const unknown = 2;
const deadlineExceeded = 4;

function failure(
  kind: string,
  side: Failure["side"],
  retry: Failure["retry"],
  flag: ResponseFlag | null,
  status: number,
  details: string,
  sentence: string,
  close = false,
  grpc = grpcByStatus[status] ?? unknown,
): Failure {
  return { kind, side, retry, flag, status, details, sentence, close, grpc };
}

export const failures = {
  malformed: failure("malformed", "downstream", "never", "DPE", 400, "http1.codec_error", "the request is malformed", true),
  headTimeout: failure(
    "head-timeout",
    "downstream",
    "never",
    "DPE",
    408,
    "request_header_timeout",
    "the request head did not arrive in time",
    true,
  ),
  noRoomForClaims: failure(
    "no-room-for-claims",
    "downstream",
    "never",
    "DPE",
    431,
    "request_headers_too_large",
    "with what its token says the header section is above the limit",
    false,
  ),
  noRoomForAddress: failure(
    "no-room-for-address",
    "downstream",
    "never",
    "DPE",
    431,
    "request_headers_too_large",
    "with the client's address the header section is above the limit",
    false,
  ),
  badPath: failure("bad-path", "downstream", "never", "DPE", 400, "path_normalization_failed", "the path cannot be normalised", false),
  noRoute: failure("no-route", "self", "never", "NR", 404, "route_not_found", "no route matches this host and path"),
  unknownHost: failure(
    "unknown-host",
    "self",
    "never",
    "NR",
    502,
    "on_demand_absent",
    "the host of this request is no service of the mesh",
  ),
  lateHost: failure(
    "late-host",
    "self",
    "safe",
    "NR",
    503,
    "on_demand_timeout",
    "the control plane has not said in time where this host leads",
  ),
  demandOverflow: failure(
    "demand-overflow",
    "self",
    "safe",
    "UO",
    503,
    "on_demand_overflow",
    "too many requests wait for hosts that are asked for",
  ),
  noCluster: failure("no-cluster", "self", "never", "NC", 503, "cluster_not_found", "the route leads to a cluster that is not configured"),
  connectNotAllowed: failure("connect-not-allowed", "self", "never", "NR", 405, "connect_not_allowed", "CONNECT is not allowed here"),
  upgradeNotAllowed: failure(
    "upgrade-not-allowed",
    "self",
    "never",
    null,
    403,
    "upgrade_failed",
    "this route takes no such upgrade (upgrade_configs)",
  ),
  denied: failure("denied", "self", "never", "RBAC", 403, "rbac_access_denied", "access denied"),
  /** Of a request's token; status, details and sentence are those of what is wrong with it. */
  badToken: failure("bad-token", "downstream", "never", "UAEX", 401, "jwt_authn_access_denied", "the token is not valid"),
  noEndpoint: failure(
    "no-endpoint",
    "self",
    "never",
    "UH",
    503,
    "no_healthy_upstream",
    "no healthy instance is known; is one running and registered?",
  ),
  /** There are instances. */
  noneTakes: failure("no-endpoint", "self", "never", "UH", 503, "no_healthy_upstream", "none of its instances takes requests now"),
  overflow: failure("overflow", "self", "safe", "UO", 503, "upstream_overflow", "too many connections or requests to this cluster"),
  connect: failure(
    "connect",
    "upstream",
    "safe",
    "UF",
    503,
    "upstream_reset_before_response_started{connection_failure}",
    "the connection to the instance failed",
  ),
  connectTimeout: failure(
    "connect-timeout",
    "upstream",
    "safe",
    "UF",
    503,
    "upstream_reset_before_response_started{connection_timeout}",
    "the instance did not accept a connection in time",
  ),
  tls: failure(
    "tls",
    "upstream",
    "safe",
    "UF",
    503,
    "upstream_reset_before_response_started{connection_failure,TLS_error}",
    "TLS with the instance failed",
  ),
  reset: failure(
    "reset",
    "upstream",
    "idempotent",
    "UC",
    503,
    "upstream_reset_before_response_started{connection_termination}",
    "the instance closed the connection before it answered",
  ),
  upstreamMalformed: failure(
    "upstream-malformed",
    "upstream",
    "never",
    "UPE",
    502,
    "upstream_reset_before_response_started{protocol_error}",
    "the instance sent a malformed answer",
  ),
  truncated: failure(
    "truncated",
    "upstream",
    "never",
    "UC",
    502,
    "upstream_reset_after_response_started{connection_termination}",
    "the instance closed the connection within its answer",
    true,
  ),
  timeout: failure(
    "timeout",
    "upstream",
    "never",
    "UT",
    504,
    "response_timeout",
    "the instance did not answer in time",
    false,
    deadlineExceeded,
  ),
  tryTimeout: failure(
    "try-timeout",
    "upstream",
    "idempotent",
    "UT",
    504,
    "upstream_per_try_timeout",
    "the instance did not answer in time",
    false,
    deadlineExceeded,
  ),
  expired: failure(
    "expired",
    "self",
    "never",
    "DT",
    504,
    "deadline_expired",
    "its deadline passed before it could be sent on",
    false,
    deadlineExceeded,
  ),
  rateLimited: failure("rate-limited", "self", "never", "RL", 429, "local_rate_limited", "over the rate limit; come back later", false, 14),
  authDenied: failure("auth-denied", "self", "never", "UAEX", 403, "ext_authz_denied", "access denied by the authorization service"),
  authUnknown: failure(
    "auth-unknown",
    "self",
    "never",
    "UAEX",
    403,
    "ext_authz_error",
    "the authorization service cannot be asked, and nothing passes without it",
  ),
  tooLargeToJudge: failure(
    "too-large-to-judge",
    "downstream",
    "never",
    null,
    413,
    "request_payload_too_large",
    "the body is larger than what the authorization service is told",
  ),
  overGlobalLimit: failure(
    "over-global-limit",
    "self",
    "never",
    "RL",
    429,
    "request_rate_limited",
    "over the rate limit; come back later",
    false,
    14,
  ),
  limitUnknown: failure(
    "limit-unknown",
    "self",
    "never",
    "RLSE",
    500,
    "rate_limiter_error",
    "the rate limit service cannot be asked, and this route lets nothing pass without it",
  ),
  shed: failure("shed", "self", "safe", "UO", 503, "reached_concurrency_limit", "the service is full"),
  idle: failure("idle", "self", "never", "SI", 504, "stream_idle_timeout", "neither side sent anything for too long", true),
  idleRequest: failure(
    "idle-request",
    "downstream",
    "never",
    "SI",
    408,
    "stream_idle_timeout",
    "the client sent nothing more of its request for too long",
    true,
  ),
  slowRequest: failure("slow-request", "downstream", "never", "DPE", 408, "request_timeout", "the request did not arrive in time", true),
  loop: failure(
    "loop",
    "downstream",
    "never",
    "DPE",
    508,
    "via_loop",
    "the request has passed this proxy before (Via): it goes in a circle",
  ),
  gone: failure("gone", "downstream", "never", "DC", 0, "downstream_remote_disconnect", "the client went away", true),
} as const;

/** `failures.noCluster` with the status that the route asks for (Envoy `cluster_not_found_response_code`). */
export function noClusterFailure(status: 404 | 500 | 503): Failure {
  return status === failures.noCluster.status ? failures.noCluster : { ...failures.noCluster, status };
}

const reasons: Readonly<Record<number, string>> = {
  100: "Continue",
  103: "Early Hints",
  200: "OK",
  201: "Created",
  202: "Accepted",
  204: "No Content",
  206: "Partial Content",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  307: "Temporary Redirect",
  304: "Not Modified",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  406: "Not Acceptable",
  408: "Request Timeout",
  409: "Conflict",
  410: "Gone",
  412: "Precondition Failed",
  413: "Content Too Large",
  414: "URI Too Long",
  415: "Unsupported Media Type",
  416: "Range Not Satisfiable",
  417: "Expectation Failed",
  421: "Misdirected Request",
  422: "Unprocessable Content",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
  508: "Loop Detected",
};

/** The reason phrase of a status; empty when there is none we know (RFC 9112 4: it may be empty). */
export function reasonPhrase(status: number): string {
  return reasons[status] ?? "";
}
