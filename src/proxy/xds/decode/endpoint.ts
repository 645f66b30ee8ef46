// Owns: envoy.config.endpoint.v3.ClusterLoadAssignment to endpoints. Never resolves names.

import type { Metadata } from "../../../wire/gen/envoy/config/core/v3/base_pb.ts";
import type { HealthStatus } from "../../../wire/gen/envoy/config/core/v3/health_check_pb.ts";
import type { LbEndpoint, LocalityLbEndpoints } from "../../../wire/gen/envoy/config/endpoint/v3/endpoint_components_pb.ts";
import type { ClusterLoadAssignment } from "../../../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import type { EndpointConfig, LocalityConfig, WorkloadLabels } from "../../config.ts";
import { at, choose, type Gate, hostPort } from "./gate.ts";

/** `literal`: addresses must be IP addresses (everywhere but in STRICT_DNS clusters). */
export function decodeEndpoints(gate: Gate, assignment: ClusterLoadAssignment, literal: boolean, path: string): readonly EndpointConfig[] {
  const made: EndpointConfig[] = [];
  const factor = assignment.policy?.overprovisioningFactor ?? defaultOverprovisioning;
  if (factor < 1) gate.add(at(path, "policy.overprovisioning_factor"), "must be above 0");
  assignment.endpoints.forEach((locality, l) => {
    const where = `${at(path, "endpoints")}[${l}]`;
    if (locality.priority > 128) gate.add(at(where, "priority"), `${locality.priority} is above 128`);
    const place = localityOf(locality, factor);
    locality.lbEndpoints.forEach((one, n) => {
      made.push(decodeEndpoint(gate, one, locality.priority, place, literal, `${where}.lb_endpoints[${n}]`));
    });
  });
  return made;
}

/** Envoy's, in percent. */
const defaultOverprovisioning = 140;

function localityOf(locality: LocalityLbEndpoints, overprovisioning: number): LocalityConfig | undefined {
  const named = locality.locality;
  if (named === undefined && locality.loadBalancingWeight === undefined && overprovisioning === defaultOverprovisioning) return undefined;
  return {
    region: named?.region ?? "",
    zone: named?.zone ?? "",
    subZone: named?.subZone ?? "",
    weight: locality.loadBalancingWeight ?? 0,
    overprovisioning,
  };
}

const healthy: Readonly<Record<string, boolean>> = {
  UNKNOWN: true,
  HEALTHY: true,
  DEGRADED: true,
  UNHEALTHY: false,
  DRAINING: false,
  TIMEOUT: false,
};

/** One endpoint of a locality. */
export function decodeEndpoint(
  gate: Gate,
  one: LbEndpoint,
  priority: number,
  locality: LocalityConfig | undefined,
  literal: boolean,
  path: string,
): EndpointConfig {
  const inner = one.hostIdentifier.value;
  if (inner === undefined) gate.add(at(path, "endpoint"), "is missing");
  const weight = one.loadBalancingWeight ?? 1;
  if (weight < 1) gate.add(at(path, "load_balancing_weight"), "must be at least 1");
  return {
    // The listener decides what is spoken, as in Envoy: a TCP listener connects to an endpoint that says UDP all the same.
    address: hostPort(gate, at(path, "endpoint.address"), inner?.address, literal, true),
    weight,
    priority,
    healthy: choose<boolean>(
      gate,
      at(path, "health_status"),
      "envoy.config.core.v3.HealthStatus",
      one.healthStatus as HealthStatus,
      healthy,
      false,
    ),
    transportMatch: textEntries(one.metadata, "envoy.transport_socket_match"),
    workload: workloadLabels(one.metadata?.filterMetadata.istio?.workload),
    ...(locality === undefined ? {} : { locality }),
    identity: text(one.metadata?.filterMetadata["weft.dev"]?.identity),
  };
}

function textEntries(metadata: Metadata | undefined, key: string): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const [name, value] of Object.entries(metadata?.filterMetadata[key] ?? {})) if (typeof value === "string") found[name] = value;
  return found;
}

/** Istio's `workload;namespace;app;version;cluster`. */
function workloadLabels(value: unknown): WorkloadLabels | null {
  if (typeof value !== "string") return null;
  const [workload = "", namespace = "", app = "", version = ""] = value.split(";");
  return { workload, namespace, app, version };
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}
