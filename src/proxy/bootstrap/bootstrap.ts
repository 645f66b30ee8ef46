// Owns: an Envoy bootstrap file to what the proxy starts from. Everything in the file is either understood or refused with its path.
// Never opens sockets.

import { readFileSync } from "node:fs";
import type { Bootstrap } from "../../wire/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts";
import type { Node } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import type { Secret } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts";
import { clusterDomain, controlPlaneCluster, nodeMetadata } from "../../wire/names.ts";
import type { ClusterConfig, HostPort, ListenerConfig, LocalWorkload } from "../config.ts";
import { decodeCluster } from "../xds/decode/cluster.ts";
import { choose, decodeExtension, type Extension, extension, Gate, hostPort, millis, type Violation } from "../xds/decode/gate.ts";
import { isHarmlessName } from "../xds/decode/harmless.ts";
import { decodeListener } from "../xds/decode/listener.ts";
import { clustersOf } from "../xds/decode/references.ts";
import { adsSource, apiVersion, envoyGrpc, type GrpcTarget } from "../xds/decode/sources.ts";
import { decodeJson } from "../xds/proto/json.ts";
import { Bootstrap as BootstrapType, MetricsServiceConfig } from "../xds/proto/types.ts";
import { BootstrapError, readDocument, reason } from "./read.ts";

/** What a proxy starts from. */
export interface BootstrapConfig {
  /** As it goes to the control plane. */
  readonly node: Node | undefined;
  readonly local: LocalWorkload;
  /** null: no admin server. */
  readonly admin: HostPort | null;
  readonly listeners: ReadonlyMap<string, ListenerConfig>;
  readonly clusters: ReadonlyMap<string, ClusterConfig>;
  /** null: everything is in this file. */
  readonly ads: { readonly delta: boolean; readonly target: GrpcTarget; readonly listeners: boolean; readonly clusters: boolean } | null;
  readonly metricsService: GrpcTarget | null;
  /** How often metrics go to the metrics service; default 1 000 (Envoy's is 5 000). */
  readonly flushIntervalMs: number;
}

/** Reads and decodes a bootstrap file. Throws BootstrapError with a line for every problem. */
export async function loadBootstrap(path: string): Promise<BootstrapConfig> {
  const document = await readDocument(path);
  // Relative file names start at the working directory, as in Envoy.
  const found = decodeBootstrap(document, (file) => readFileSync(file));
  if ("config" in found) return found.config;
  throw new BootstrapError(found.violations.map((v) => `${path}: ${v.path === "" ? "the file" : v.path}: ${v.message}`));
}

/** `readFile` reads what DataSources name; relative names are its business. */
export function decodeBootstrap(
  json: unknown,
  readFile: (path: string) => Uint8Array,
): { readonly config: BootstrapConfig } | { readonly violations: readonly Violation[] } {
  const early: Violation[] = [];
  const bootstrap = decodeJson(BootstrapType, json, "", (path, message) => early.push({ path, message }), isHarmlessName);
  const gate = new Gate({
    readFile(path) {
      try {
        return readFile(path);
      } catch (error) {
        throw new Error(reason(error));
      }
    },
    staticSecrets: staticSecrets(bootstrap, early),
    controlClusters: controlClusters(bootstrap),
  });
  gate.violations.push(...early);
  const config = decode(gate, bootstrap);
  return gate.clean ? { config } : { violations: once(gate.violations) };
}

function decode(gate: Gate, bootstrap: Bootstrap): BootstrapConfig {
  const resources = bootstrap.staticResources;
  const clusters = new Map<string, ClusterConfig>();
  (resources?.clusters ?? []).forEach((one, n) => {
    const path = `static_resources.clusters[${n}]`;
    const cluster = decodeCluster(gate, one, path);
    if (clusters.has(cluster.name)) gate.add(`${path}.name`, `"${cluster.name}" is used twice`);
    clusters.set(cluster.name, cluster);
  });
  const listeners = new Map<string, ListenerConfig>();
  (resources?.listeners ?? []).forEach((one, n) => {
    const path = `static_resources.listeners[${n}]`;
    const listener = decodeListener(gate, one, path);
    if (listeners.has(listener.name)) gate.add(`${path}.name`, `"${listener.name}" is used twice`);
    listeners.set(listener.name, listener);
  });
  const ads = adsConfig(gate, bootstrap, clusters);
  if (ads === null) checkStaticReferences(gate, listeners, clusters);
  const metricsService = metricsSink(gate, bootstrap);
  if (metricsService !== null && !clusters.has(metricsService.cluster)) {
    gate.add(
      "stats_sinks[0].typed_config.grpc_service.envoy_grpc.cluster_name",
      `"${metricsService.cluster}" is no cluster of static_resources`,
    );
  }
  const flushIntervalMs = millis(gate, "stats_flush_interval", bootstrap.statsFlushInterval, 1_000);
  if (flushIntervalMs < 1) gate.add("stats_flush_interval", "must be at least 0.001s");
  if ((bootstrap.admin?.accessLog.length ?? 0) > 0) gate.add("admin.access_log", "is not supported: the admin server keeps no log");
  if (ads !== null && (bootstrap.node?.id ?? "") === "") gate.add("node.id", "is missing; the control plane knows a proxy by it");
  return {
    node: bootstrap.node,
    local: localWorkload(gate, bootstrap.node),
    admin: bootstrap.admin?.address === undefined ? null : hostPort(gate, "admin.address", bootstrap.admin.address, true),
    listeners,
    clusters,
    ads,
    metricsService,
    flushIntervalMs,
  };
}

function staticSecrets(bootstrap: Bootstrap, violations: Violation[]): ReadonlyMap<string, Secret> {
  const found = new Map<string, Secret>();
  (bootstrap.staticResources?.secrets ?? []).forEach((secret, n) => {
    const path = `static_resources.secrets[${n}]`;
    if (secret.name === "") violations.push({ path: `${path}.name`, message: "must not be empty" });
    if (secret.type.case === undefined || secret.type.case === "genericSecret")
      violations.push({ path, message: "needs one of tls_certificate, validation_context" });
    if (found.has(secret.name)) violations.push({ path: `${path}.name`, message: `"${secret.name}" is used twice` });
    found.set(secret.name, secret);
  });
  return found;
}

/** The clusters that carry our own gRPC streams. */
function controlClusters(bootstrap: Bootstrap): ReadonlySet<string> {
  const names = new Set([controlPlaneCluster]);
  for (const service of bootstrap.dynamicResources?.adsConfig?.grpcServices ?? []) {
    if (service.targetSpecifier.case === "envoyGrpc") names.add(service.targetSpecifier.value.clusterName);
  }
  for (const sink of bootstrap.statsSinks) {
    const service = (
      sink.configType.value as { parsed?: { grpcService?: { targetSpecifier?: { value?: { clusterName?: string } } } } } | undefined
    )?.parsed;
    const name = service?.grpcService?.targetSpecifier?.value?.clusterName;
    if (name) names.add(name);
  }
  // Istio's name for the way to certificates; we serve them ourselves, the cluster may still be in the file.
  names.add("sds-grpc");
  return names;
}

function adsConfig(gate: Gate, bootstrap: Bootstrap, clusters: ReadonlyMap<string, ClusterConfig>): BootstrapConfig["ads"] {
  const dynamic = bootstrap.dynamicResources;
  if (dynamic === undefined) return null;
  if (dynamic.ldsConfig !== undefined) adsSource(gate, dynamic.ldsConfig, "dynamic_resources.lds_config");
  if (dynamic.cdsConfig !== undefined) adsSource(gate, dynamic.cdsConfig, "dynamic_resources.cds_config");
  const ads = dynamic.adsConfig;
  if (ads === undefined) {
    if (dynamic.ldsConfig !== undefined || dynamic.cdsConfig !== undefined) gate.add("dynamic_resources.ads_config", "is missing");
    return null;
  }
  const path = "dynamic_resources.ads_config";
  const delta = choose<boolean>(
    gate,
    `${path}.api_type`,
    "envoy.config.core.v3.ApiConfigSource.ApiType",
    ads.apiType,
    { GRPC: false, DELTA_GRPC: true },
    true,
  );
  apiVersion(gate, `${path}.transport_api_version`, ads.transportApiVersion);
  // set_node_on_first_message_only: we send the node on the first message of a stream, which the protocol asks of servers to accept.
  if (ads.grpcServices.length !== 1) gate.add(`${path}.grpc_services`, `needs exactly one, has ${ads.grpcServices.length}`);
  const target = envoyGrpc(gate, ads.grpcServices[0], `${path}.grpc_services[0]`);
  const where = `${path}.grpc_services[0].envoy_grpc.cluster_name`;
  const cluster = clusters.get(target.cluster);
  if (target.cluster !== "" && cluster === undefined) gate.add(where, `"${target.cluster}" is no cluster of static_resources`);
  else if (cluster !== undefined && cluster.source.kind === "eds")
    gate.add(where, `"${target.cluster}" cannot be of type EDS: it is the way to the control plane`);
  else if (cluster !== undefined && cluster.protocol !== "http2") {
    gate.add(where, `"${target.cluster}" must speak HTTP/2: give it typed_extension_protocol_options with http2_protocol_options: {}`);
  }
  return { delta, target, listeners: dynamic.ldsConfig !== undefined, clusters: dynamic.cdsConfig !== undefined };
}

function checkStaticReferences(
  gate: Gate,
  listeners: ReadonlyMap<string, ListenerConfig>,
  clusters: ReadonlyMap<string, ClusterConfig>,
): void {
  let n = 0;
  for (const listener of listeners.values()) {
    const path = `static_resources.listeners[${n++}]`;
    for (const name of clustersOf(listener)) {
      if (name !== "" && !clusters.has(name)) gate.add(path, `refers to cluster "${name}", which is not in static_resources.clusters`);
    }
    for (const chain of listener.chains) {
      if (chain.terminal.kind === "http" && "rds" in chain.terminal.routes)
        gate.add(path, "uses rds, but the file has no dynamic_resources.ads_config");
    }
  }
  n = 0;
  for (const cluster of clusters.values()) {
    const path = `static_resources.clusters[${n++}]`;
    if (cluster.source.kind === "eds") gate.add(path, "is of type EDS, but the file has no dynamic_resources.ads_config");
  }
}

const statsSinks: readonly Extension<GrpcTarget>[] = [
  extension(MetricsServiceConfig, (gate, config, path): GrpcTarget => {
    apiVersion(gate, `${path}.transport_api_version`, config.transportApiVersion);
    if (config.reportCountersAsDeltas) gate.add(`${path}.report_counters_as_deltas`, "true is not supported: values are cumulative");
    // emit_tags_as_labels: our families have labels in any case.
    return envoyGrpc(gate, config.grpcService, `${path}.grpc_service`);
  }),
];

function metricsSink(gate: Gate, bootstrap: Bootstrap): GrpcTarget | null {
  const made = bootstrap.statsSinks.map((sink, n) =>
    decodeExtension(gate, statsSinks, "stats sink", sink.name, sink.configType, `stats_sinks[${n}]`),
  );
  if (made.length > 1) gate.add("stats_sinks", "more than one is not supported");
  return made[0] ?? null;
}

function localWorkload(gate: Gate, node: Node | undefined): LocalWorkload {
  const metadata: Readonly<Record<string, unknown>> = node?.metadata ?? {};
  const text = (key: string): string => {
    const value = metadata[key];
    if (value === undefined || typeof value === "string") return value ?? "";
    gate.add(`node.metadata.${key}`, "must be a string");
    return "";
  };
  const labels = metadata[nodeMetadata.labels];
  const label = (key: string): string => {
    const value: unknown = typeof labels === "object" && labels !== null ? (labels as Record<string, unknown>)[key] : undefined;
    return typeof value === "string" ? value : "";
  };
  return {
    nodeId: node?.id ?? "",
    workload: text(nodeMetadata.workload),
    namespace: text(nodeMetadata.namespace),
    serviceAccount: text(nodeMetadata.serviceAccount),
    app: label("app"),
    version: label("version"),
    // Istio's rule: the mesh is named after its trust domain.
    trustDomain: text(nodeMetadata.meshId) || clusterDomain,
    ...(node === undefined || node.cluster === "" ? {} : { cluster: node.cluster }),
    ...(node?.locality === undefined
      ? {}
      : { locality: { region: node.locality.region, zone: node.locality.zone, subZone: node.locality.subZone } }),
  };
}

/** A secret used by several listeners is complained of once. */
function once(violations: readonly Violation[]): readonly Violation[] {
  const seen = new Set<string>();
  return violations.filter((v) => {
    const key = `${v.path}\n${v.message}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
