// Owns: the label sets of Istio's standard metrics: names, order, and how a side of a call fills them.

import type { Cluster } from "../balance/cluster.ts";
import type { EndpointConfig, LocalWorkload } from "../config.ts";
import type { Peer } from "../tls/peer.ts";

const common = [
  "reporter",
  "source_workload",
  "source_workload_namespace",
  "source_principal",
  "source_app",
  "source_version",
  "source_cluster",
  "destination_workload",
  "destination_workload_namespace",
  "destination_principal",
  "destination_app",
  "destination_version",
  "destination_cluster",
  "destination_service",
  "destination_service_name",
  "destination_service_namespace",
  "request_protocol",
] as const;

/** In Istio's order, as the families are registered. */
export const requestLabelNames: readonly string[] = [
  ...common,
  "response_code",
  "grpc_response_status",
  "response_flags",
  "connection_security_policy",
];
export const tcpLabelNames: readonly string[] = [...common, "response_flags", "connection_security_policy"];

/** The name of our "cluster" in Istio's sense (its default is "Kubernetes"). */
const meshCluster = "weft";

/** Everything but status and flags. */
export interface Parties {
  /** In the order of `common` without request_protocol. */
  readonly labels: readonly string[];
  readonly security: "mutual_tls" | "none";
}

/** A call from here to an endpoint (null: none was reached). */
export function outboundParties(local: LocalWorkload, cluster: Cluster | null, endpoint: EndpointConfig | null, secure: boolean): Parties {
  const service = cluster?.config.service ?? null;
  const workload = endpoint?.workload ?? null;
  return {
    labels: [
      "source",
      known(local.workload),
      known(local.namespace),
      secure ? principalOf(local) : "unknown",
      known(local.app),
      known(local.version),
      meshCluster,
      known(workload?.workload),
      known(workload?.namespace),
      secure ? known(endpoint?.identity) : "unknown",
      known(workload?.app),
      known(workload?.version),
      workload === null ? "unknown" : meshCluster,
      known(service?.host),
      known(service?.name),
      known(service?.namespace),
    ],
    security: secure ? "mutual_tls" : "none",
  };
}

/** A call that came in from `peer`. What its certificate says is all we know of it: workload and app are its service account. */
export function inboundParties(
  local: LocalWorkload,
  peer: Peer | null,
  service: { readonly host: string; readonly name: string; readonly namespace: string } | null,
): Parties {
  const secure = peer !== null && peer.principal !== null;
  return {
    labels: [
      "destination",
      known(peer?.serviceAccount),
      known(peer?.namespace),
      secure ? (peer.principal as string) : "unknown",
      known(peer?.serviceAccount),
      "unknown",
      secure ? meshCluster : "unknown",
      known(local.workload),
      known(local.namespace),
      secure ? principalOf(local) : "unknown",
      known(local.app),
      known(local.version),
      meshCluster,
      known(service?.host),
      known(service?.name ?? local.app),
      known(service?.namespace ?? local.namespace),
    ],
    security: secure ? "mutual_tls" : "none",
  };
}

function principalOf(local: LocalWorkload): string {
  if (local.trustDomain === "" || local.namespace === "" || local.serviceAccount === "") return "unknown";
  return `spiffe://${local.trustDomain}/ns/${local.namespace}/sa/${local.serviceAccount}`;
}

function known(value: string | null | undefined): string {
  return value === undefined || value === null || value === "" ? "unknown" : value;
}
