// Owns: references to where configuration and telemetry go: config sources and gRPC services.

import type { ConfigSource } from "../../../wire/gen/envoy/config/core/v3/config_source_pb.ts";
import type { GrpcService } from "../../../wire/gen/envoy/config/core/v3/grpc_service_pb.ts";
import { at, choose, type Gate, present } from "./gate.ts";

/** A gRPC service behind a cluster, with the metadata to send on every call. */
export interface GrpcTarget {
  readonly cluster: string;
  /** `:authority`; empty = the cluster's name, as Envoy has it. */
  readonly authority: string;
  readonly metadata: readonly { readonly name: string; readonly value: string }[];
}

/** AUTO means version 3 since version 2 is gone. */
export function apiVersion(gate: Gate, path: string, version: number): void {
  choose(gate, path, "envoy.config.core.v3.ApiVersion", version, { V3: true, AUTO: true }, true);
}

/** A config source that must be the aggregated stream. `initial_fetch_timeout` is taken and not used: how long start-up waits is our own bound. */
export function adsSource(gate: Gate, source: ConfigSource | undefined, path: string): void {
  if (source === undefined || source.configSourceSpecifier.case === undefined) {
    gate.add(path, "needs ads: {} (the aggregated stream is the only source here)");
    return;
  }
  if (source.configSourceSpecifier.case !== "ads") gate.add(at(path, "api_config_source"), "is not supported; use ads: {}");
  apiVersion(gate, at(path, "resource_api_version"), source.resourceApiVersion);
}

export function envoyGrpc(gate: Gate, service: GrpcService | undefined, path: string): GrpcTarget {
  if (service?.targetSpecifier.case === undefined) {
    gate.add(at(path, "envoy_grpc"), "is missing");
    return { cluster: "", authority: "", metadata: [] };
  }
  const grpc = service.targetSpecifier.value;
  if (service.timeout !== undefined) gate.add(at(path, "timeout"), "is not supported on a stream that never ends");
  return {
    cluster: present(gate, at(path, "envoy_grpc.cluster_name"), grpc.clusterName),
    authority: grpc.authority,
    metadata: service.initialMetadata.map((header, n) => {
      const name = header.key.toLowerCase();
      if (!/^[0-9a-z_.-]+$/.test(name) || name.startsWith("grpc-"))
        gate.add(`${path}.initial_metadata[${n}].key`, `"${header.key}" is not a metadata key`);
      return { name, value: header.value };
    }),
  };
}
