// Owns: the shape of one access log record and of the sinks that take it. Never formats or ships anything: sinks do.
// A record is built only when a sink's filter wants it, so its strings cost nothing on requests nobody logs.

import type { AccessLogConfig, HostPort } from "../config.ts";

/** Envoy's response flags, as far as this proxy sets them. */
export type ResponseFlag =
  | "UF" // upstream connection failure
  | "UC" // upstream connection termination
  | "UH" // no healthy upstream
  | "UO" // upstream overflow (a limit of the cluster)
  | "UT" // upstream request timeout
  | "UR" // upstream remote reset
  | "UPE" // upstream protocol error
  | "URX" // upstream retry limit exceeded
  | "NR" // no route
  | "NC" // no cluster
  | "DC" // downstream connection termination
  | "DPE" // downstream protocol error
  | "DT" // duration timeout
  | "SI" // stream idle timeout
  | "LR" // local reset
  | "UAEX" // an authorization service refused it, or could not be asked
  | "RLSE" // the rate limit service could not be asked
  | "RL" // over a rate limit
  | "DI" // delayed by an injected fault
  | "FI" // answered or reset by an injected fault
  | "RBAC"; // denied by a policy (Envoy has no flag for it and writes the detail; ALS has none either)

/** One finished request, one finished TCP connection, or one finished UDP session (fields as for TCP; `details` says how it ended). */
export interface AccessRecord {
  readonly kind: "http" | "tcp" | "udp";
  /** Wall time, ms since the epoch. */
  readonly startTimeMs: number;
  readonly durationMs: number;
  readonly protocol: "HTTP/1.0" | "HTTP/1.1" | "HTTP/2" | "TCP" | "UDP";
  /** Empty strings for TCP. `path` is as it came, with its query. */
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  readonly path: string;
  readonly userAgent: string;
  readonly requestId: string;
  /** 0 = no answer was sent (TCP, or the peer went away). */
  readonly status: number;
  readonly flags: readonly ResponseFlag[];
  /** Envoy-like detail words, for example `via_upstream`, `route_not_found`, `rbac_access_denied_matched_policy[NAME]`. */
  readonly details: string;
  /** The sentence of a local reply; empty otherwise. */
  readonly reason: string;
  /** Body bytes (HTTP), or payload bytes from the downstream peer (TCP). */
  readonly requestBytes: number;
  /** Body bytes (HTTP), or payload bytes to the downstream peer (TCP). */
  readonly responseBytes: number;
  readonly routeName: string;
  /** Empty when none was chosen. */
  readonly upstreamCluster: string;
  readonly upstreamAddress: HostPort | null;
  readonly attempts: number;
  readonly downstreamRemote: HostPort;
  readonly downstreamLocal: HostPort;
  /** SPIFFE ID of the verified downstream peer; null without mutual TLS. */
  readonly downstreamPeer: string | null;
  /** SPIFFE ID of the upstream peer; null when the upstream is plain or was not reached. */
  readonly upstreamPeer: string | null;
  /** `TLSv1.3` and so on; null: the downstream connection is plain. */
  readonly tlsVersion: string | null;
  /** Which side of a call this proxy is: `source` on outbound listeners, `destination` on inbound ones. */
  readonly reporter: "source" | "destination";
  /** Workload names, `unknown` where not known. */
  readonly source: string;
  readonly destination: string;
}

/** Takes records. `write` must not block and must not throw; a full sink drops and counts. */
export interface AccessSink {
  write(record: AccessRecord): void;
}

/** Makes (or finds) the sink of a configured access log. Called at configuration time; the same configuration object gives the same sink. */
export type AccessLogFactory = (config: AccessLogConfig) => AccessSink;
