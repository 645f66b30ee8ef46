// Owns: the plan of one workload: which ports its sidecar opens, and what folds into them.

import { type PortProtocol, portProtocol } from "../../api/kinds/service.ts";
import { parseInbound, parseUpstreams } from "../../api/kinds/workloadentry.ts";
import { portNumber } from "../../api/port.ts";
import { annotations, outboundCluster, serviceHost, upstreamListener } from "../../wire/names.ts";
import { foldAuthorization } from "../policies/authorizationpolicy.ts";
import { mutualTlsMode } from "../policies/peerauthentication.ts";
import { foldAccessLog } from "../policies/telemetry.ts";
import { compareText, resolvePort, type ServiceModel, type WorkloadModel, type World } from "../world.ts";
import type { InboundPlan, PortPlan, UpstreamPlan, WorkloadPlan } from "./plan.ts";

export function planWorkload(world: World, ports: ReadonlyMap<string, PortPlan>, workload: WorkloadModel): WorkloadPlan {
  const given = workload.entry.metadata.annotations ?? {};
  const proxyPort = given[annotations.httpProxyPort];
  return {
    workload,
    inbound: planInbound(world, workload),
    httpProxyPort: proxyPort === undefined ? undefined : portNumber(proxyPort),
    upstreams: planUpstreams(world, ports, workload),
    accessLog: foldAccessLog(world, workload),
  };
}

function planInbound(world: World, workload: WorkloadModel): InboundPlan[] {
  const { address, ports } = workload.entry.spec;
  const parsed = parseInbound(workload.entry.metadata.annotations?.[annotations.inbound] ?? "");
  if (typeof parsed === "string" || address === undefined) return [];
  const out: InboundPlan[] = [];
  for (const { name, appPort } of [...parsed].sort((a, b) => compareText(a.name, b.name))) {
    const port = ports?.[name];
    if (port === undefined) continue;
    const { protocol, services } = inboundProtocol(world, workload, name);
    const mutualTls = mutualTlsMode(world, workload, appPort);
    const authz = foldAuthorization(world, workload, { protocol, appPort });
    out.push({ name, address, port, appPort, protocol, mutualTls, services, authz });
  }
  return out;
}

/** What the services that lead to a workload's port say it speaks; admission keeps them from contradicting each other. Without any, its name decides. */
export function inboundProtocol(
  world: World,
  workload: WorkloadModel,
  name: string,
): { readonly protocol: PortProtocol; readonly services: readonly ServiceModel[] } {
  const services: ServiceModel[] = [];
  let protocol: PortProtocol | undefined;
  for (const service of world.servicesOf.get(workload.key) ?? []) {
    for (const port of service.ports) {
      // Datagrams go past the sidecar of their destination.
      if (port.protocol === "udp") continue;
      if (resolvePort(workload, port).name !== name) continue;
      if (!services.includes(service)) services.push(service);
      // tcp carries anything; should a contradiction have slipped through, opaque bytes still arrive.
      protocol = protocol === "tcp" ? "tcp" : port.protocol;
    }
  }
  return { protocol: protocol ?? portProtocol({ name }), services };
}

function planUpstreams(world: World, ports: ReadonlyMap<string, PortPlan>, workload: WorkloadModel): UpstreamPlan[] {
  const parsed = parseUpstreams(workload.entry.metadata.annotations?.[annotations.upstreams] ?? "");
  if (typeof parsed === "string") return [];
  const out: UpstreamPlan[] = [];
  const names = new Set<string>();
  for (const upstream of [...parsed].sort((a, b) => a.localPort - b.localPort)) {
    const namespace = upstream.namespace ?? workload.namespace;
    const service = world.services.get(`${namespace}/${upstream.service}`);
    const { transport } = upstream;
    const number = upstream.port ?? (transport === "udp" ? service?.defaultUdpPort : service?.defaultPort)?.port;
    const host = serviceHost(upstream.service, namespace);
    const target = number === undefined ? undefined : ports.get(outboundCluster(number, host, transport));
    // No such service yet: the local port stays closed, and opens with the service.
    if (target === undefined) continue;
    const base = upstreamListener(host, target.port.port, transport);
    const name = names.has(base) ? `${base}|${upstream.localPort}` : base;
    names.add(name);
    out.push({ name, localPort: upstream.localPort, target });
  }
  return out;
}
