// Owns: the part of the plan that all workloads share: every port of every service with its endpoints.

import { accountsOfSlice } from "../../api/kinds/endpointslice.ts";
import { parseInbound } from "../../api/kinds/workloadentry.ts";
import { annotations, outboundCluster, tlsModeLabel, tlsModeMutual } from "../../wire/names.ts";
import { formatIdentity } from "../../wire/spiffe.ts";
import { mutualTlsMode } from "../policies/peerauthentication.ts";
import { compareText, resolvePort, type ServiceModel, type ServicePortModel, type WorkloadModel, type World } from "../world.ts";
import type { EndpointPlan, PortPlan } from "./plan.ts";

/** Cluster id in metrics and endpoint metadata. */
export const clusterId = "weft";

/** By cluster name, sorted by service, then by port. */
export function planPorts(world: World): ReadonlyMap<string, PortPlan> {
  const out = new Map<string, PortPlan>();
  for (const service of world.services.values()) {
    for (const port of [...service.ports].sort((a, b) => a.port - b.port)) {
      const plan = planPort(world, service, port);
      out.set(plan.cluster, plan);
    }
  }
  return out;
}

function planPort(world: World, service: ServiceModel, port: ServicePortModel): PortPlan {
  const endpoints: EndpointPlan[] = [];
  const identities = new Set<string>();
  for (const workload of service.workloads) {
    if (workload.mutualTls) identities.add(workload.identity);
    const endpoint = workloadEndpoint(world, workload, port);
    if (endpoint !== undefined) endpoints.push(endpoint);
  }
  for (const slice of service.slices) {
    const mutualTls = slice.metadata.labels?.[tlsModeLabel] === tlsModeMutual;
    if (mutualTls)
      for (const serviceAccount of accountsOfSlice(slice))
        identities.add(formatIdentity({ trustDomain: world.trustDomain, namespace: service.namespace, serviceAccount }));
    // A service port without name goes with a slice port without name, as in Kubernetes.
    const number = slice.ports?.find((each) => (each.name ?? "") === port.name)?.port;
    if (number === undefined) continue;
    for (const endpoint of slice.endpoints ?? []) {
      if (endpoint.conditions?.ready === false) continue;
      for (const address of endpoint.addresses)
        endpoints.push({
          address,
          port: number,
          weight: 1,
          mutualTls,
          identity: "",
          workload: `;${service.namespace};${service.name};;${clusterId}`,
        });
    }
  }
  return {
    service,
    port,
    cluster: outboundCluster(port.port, service.host),
    endpoints: distinct(endpoints),
    identities: [...identities].sort(),
  };
}

function workloadEndpoint(world: World, workload: WorkloadModel, port: ServicePortModel): EndpointPlan | undefined {
  const { address, weight } = workload.entry.spec;
  if (!workload.healthy || address === undefined || workload.entry.metadata.deletionTimestamp !== undefined) return undefined;
  const { labels, name, namespace } = workload;
  const resolved = resolvePort(workload, port);
  const mutualTls = workload.mutualTls && mutualTlsMode(world, workload, appPortOf(workload, resolved.name)) !== "DISABLE";
  return {
    address,
    port: resolved.number,
    // 0 is how protobuf spells "not set" (Istio: default 1).
    weight: weight === undefined || weight === 0 ? 1 : weight,
    mutualTls,
    identity: mutualTls ? workload.identity : "",
    workload: `${name};${namespace};${labels.app ?? labels["app.kubernetes.io/name"] ?? ""};${labels.version ?? labels["app.kubernetes.io/version"] ?? ""};${clusterId}`,
  };
}

/** Where the application listens behind a port of its sidecar. */
function appPortOf(workload: WorkloadModel, name: string | undefined): number | undefined {
  const parsed = parseInbound(workload.entry.metadata.annotations?.[annotations.inbound] ?? "");
  return typeof parsed === "string" ? undefined : parsed.find((each) => each.name === name)?.appPort;
}

/** Sorted by address and port; Envoy takes an address twice, but then counts it twice. The first by workload stays. */
function distinct(endpoints: EndpointPlan[]): EndpointPlan[] {
  const byAddress = new Map<string, EndpointPlan>();
  for (const endpoint of endpoints) {
    const key = `${endpoint.address} ${endpoint.port}`;
    if (!byAddress.has(key)) byAddress.set(key, endpoint);
  }
  return [...byAddress.entries()].sort(([a], [b]) => compareText(a, b)).map(([, endpoint]) => endpoint);
}
