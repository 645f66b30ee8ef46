// Owns: the plan of one workload: which ports its sidecar opens, and what folds into them.

import { type PortProtocol, portProtocol, speaksHttp } from "../../api/kinds/service.ts";
import { parseInbound, parseUpstreams, parseUses } from "../../api/kinds/workloadentry.ts";
import { portNumber } from "../../api/port.ts";
import { annotations, outboundCluster, serviceHost, upstreamListener, usesOthers } from "../../wire/names.ts";
import { foldAuthorization } from "../policies/authorizationpolicy.ts";
import { forCaller, ruleCaller, trafficPlan } from "../policies/destinationrule.ts";
import { gatewayPlan } from "../policies/gateway-plan.ts";
import { connectionsFor } from "../policies/layer4route.ts";
import { workloadLimits } from "../policies/limits.ts";
import { mutualTlsMode } from "../policies/peerauthentication.ts";
import { mayKnow } from "../policies/sidecar.ts";
import { foldAccessLog } from "../policies/telemetry.ts";
import { compareText, derived, equal, resolvePort, type ServiceRef, serviceRef, type WorkloadModel, type World } from "../world.ts";
import { callerOf } from "./caller.ts";
import type { AuthzPlan, InboundPlan, TargetPlan, UpstreamPlan, WorkloadPlan } from "./plan.ts";

export function planWorkload(world: World, targets: ReadonlyMap<string, TargetPlan>, workload: WorkloadModel): WorkloadPlan {
  const given = workload.entry.metadata.annotations ?? {};
  const proxyPort = given[annotations.httpProxyPort];
  const { key, name, namespace, labels } = workload;
  return {
    workload: { key, name, namespace, labels },
    inbound: planInbound(world, workload),
    httpProxyPort: proxyPort === undefined ? undefined : portNumber(proxyPort),
    ...declaredUses(given[annotations.uses]),
    upstreams: planUpstreams(world, targets, workload),
    accessLog: foldAccessLog(world, workload),
    ...serves(world, workload),
  };
}

/** The Gateway whose ports the process opens, with what policies demand there: they see the listener's port. */
function serves(world: World, workload: WorkloadModel): Pick<WorkloadPlan, "gateway"> {
  const name = workload.entry.metadata.annotations?.[annotations.gateway];
  const { address } = workload.entry.spec;
  if (name === undefined || address === undefined) return {};
  const gateway = `${workload.namespace}/${name}`;
  const authz: Record<number, AuthzPlan> = {};
  for (const port of gatewayPlan(world, gateway)?.ports ?? []) {
    if (port.kind === "udp") continue;
    const http = port.kind === "http" || (port.kind === "tls" && port.chains.every(({ to }) => to.kind === "http"));
    authz[port.port] = foldAuthorization(world, workload, { protocol: http ? "http" : "tcp", appPort: port.port });
  }
  return { gateway: { gateway, address, authz } };
}

function declaredUses(text: string | undefined): Pick<WorkloadPlan, "uses" | "usesOthers"> {
  const parsed = text === undefined ? undefined : parseUses(text);
  if (parsed === undefined || typeof parsed === "string") return { uses: undefined };
  const uses = parsed.filter((each) => each !== usesOthers);
  return uses.length === parsed.length ? { uses } : { uses, usesOthers: true };
}

/** A port that peers dial, as far as policies ask about it. */
export interface OpenPort {
  readonly name: string;
  readonly appPort: number;
  readonly protocol: PortProtocol;
}

/** Of a workload by its `NS/NAME`, sorted by name. */
export const openPorts = derived<readonly OpenPort[]>((world, key) => {
  const workload = world.workloads.get(key);
  const parsed = parseInbound(workload?.entry.metadata.annotations?.[annotations.inbound] ?? "");
  if (workload?.entry.spec.address === undefined || typeof parsed === "string") return [];
  return [...parsed]
    .sort((a, b) => compareText(a.name, b.name))
    .filter(({ name }) => workload.entry.spec.ports?.[name] !== undefined)
    .map(({ name, appPort }) => ({ name, appPort, protocol: inboundProtocol(world, workload, name).protocol }));
}, equal);

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
    const limits = speaksHttp(protocol) ? workloadLimits(world, workload, name) : undefined;
    out.push({ name, address, port, appPort, protocol, mutualTls, services, authz, ...(limits === undefined ? {} : { limits }) });
  }
  return out;
}

/** What the services that lead to a workload's port say it speaks; admission keeps them from contradicting each other. Without any, its name decides. */
export function inboundProtocol(
  world: World,
  workload: WorkloadModel,
  name: string,
): { readonly protocol: PortProtocol; readonly services: readonly ServiceRef[] } {
  const services: ServiceRef[] = [];
  let protocol: PortProtocol | undefined;
  for (const service of world.servicesOf.get(workload.key) ?? []) {
    for (const port of service.ports) {
      // Datagrams go past the sidecar of their destination.
      if (port.protocol === "udp") continue;
      if (resolvePort(workload, port).name !== name) continue;
      if (!services.some(({ key }) => key === service.key)) services.push(serviceRef(service));
      // tcp carries anything; should a contradiction have slipped through, opaque bytes still arrive.
      protocol = protocol === "tcp" ? "tcp" : port.protocol;
    }
  }
  return { protocol: protocol ?? portProtocol({ name }), services };
}

/** What this caller's connections are hashed by and how long they last, which may be otherwise than everybody's. */
function withKey(world: World, target: TargetPlan, workload: string): TargetPlan {
  const { service, port, cluster } = target;
  const caller = ruleCaller(world, callerOf(world, workload));
  if (port.protocol !== "tcp" || forCaller(world, caller, service.host, cluster) === cluster) return target;
  const { hash: _key, connectionMs: _time, ...rest } = target;
  const { hash, connections } = trafficPlan(world, forCaller(world, caller, service.host, service.host), port.port, "");
  const connectionMs = connections?.maxAgeMs;
  return { ...rest, ...(hash === undefined ? {} : { hash }), ...(connectionMs === undefined ? {} : { connectionMs }) };
}

/** Clusters of the upstreams that a workload declares, whether it may know them or not. By the workload's key. */
export const declaredUpstreams = derived<readonly string[]>((world, key) => {
  const workload = world.workloads.get(key);
  const parsed = parseUpstreams(workload?.entry.metadata.annotations?.[annotations.upstreams] ?? "");
  if (workload === undefined || typeof parsed === "string") return [];
  return parsed.flatMap(({ service, namespace = workload.namespace, port, transport }) => {
    const found = world.services.get(`${namespace}/${service}`);
    const number = port ?? (transport === "udp" ? found?.defaultUdpPort : found?.defaultPort)?.port;
    return number === undefined ? [] : [outboundCluster(number, serviceHost(service, namespace), transport)];
  });
}, equal);

function planUpstreams(world: World, targets: ReadonlyMap<string, TargetPlan>, workload: WorkloadModel): UpstreamPlan[] {
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
    const found = number === undefined ? undefined : targets.get(outboundCluster(number, host, transport));
    // No such service yet: the local port stays closed, and opens with the service.
    if (found === undefined || !mayKnow(world, workload.key, found.cluster)) continue;
    const base = upstreamListener(host, found.port.port, transport);
    const name = names.has(base) ? `${base}|${upstream.localPort}` : base;
    names.add(name);
    const target = withKey(world, found, workload.key);
    const connections = speaksHttp(target.port.protocol) ? undefined : connectionsFor(world, target.cluster, callerOf(world, workload.key));
    out.push({ name, localPort: upstream.localPort, target, ...(connections === undefined ? {} : { connections }) });
  }
  return out;
}
