// Owns: how listeners and the routes attached to them fold into what a gateway's process opens (GatewayPlan), and how many routes each listener has.
// A request belongs to the listener with the most specific hostname on its port, whether that has routes for it or not.

import { gatewayRoutes } from "../../wire/names.ts";
import type { GatewayChainPlan, GatewayHostPlan, GatewayPlan, GatewayPortPlan, GatewayTablePlan } from "../plan/gateways.ts";
import { type BackendPlan, matchesEverything, type RoutePlan } from "../plan/routes.ts";
import { compareText, derived, equal, type World } from "../world.ts";
import { type GatewayModel, gatewayModel, isUsable, type ListenerModel } from "./gateway.ts";
import { bestCovering, covers, specificity } from "./gateway-hosts.ts";
import { type AtListener, requestRoutes } from "./gateway-requests.ts";
import { inOrder, type Layer4Kind, live } from "./layer4route.ts";
import { routeLimits, routeSections } from "./limits.ts";
import type { AttachedListener } from "./parents.ts";
import { byPrecedence, type RankedRoute } from "./route-rules.ts";
import { virtualConnectionsAt, virtualCounts, virtualSubnetsAt, virtualsAt } from "./virtual-gateway.ts";

/** By `NS/NAME`; undefined = there is no such Gateway, or it is not Weft's. */
export const gatewayPlan = derived<GatewayPlan | undefined>((world, key) => {
  const model = gatewayModel(world, key);
  if (model === undefined) return undefined;
  const ports: GatewayPortPlan[] = [];
  const tables: GatewayTablePlan[] = [];
  const usable = model.listeners.filter(isUsable);
  const forGrpc = requestRoutes(world, key).filter(({ kind }) => kind === "GRPCRoute");
  /** Envoy Gateway's rule: gRPC-Web is translated where a GRPCRoute is; elsewhere a server may speak it itself, over HTTP/1.1. */
  const grpcWebAt = (names: readonly ListenerModel[]): { grpcWeb?: true } =>
    forGrpc.some((each) => each.listeners.some((at) => names.some(({ name }) => name === at.name))) ? { grpcWeb: true } : {};
  const byPort = Map.groupBy(usable, (each) => `${each.protocol === "UDP" ? "udp" : "tcp"} ${each.port}`);
  for (const listeners of byPort.values()) {
    const [first] = listeners;
    if (first === undefined) continue;
    const { port, protocol } = first;
    if (protocol === "HTTP") {
      const table = gatewayRoutes(port);
      tables.push({ name: table, hosts: hostsOf(world, model, listeners) });
      ports.push({ kind: "http", port, table, ...grpcWebAt(listeners) });
    } else if (protocol === "TCP") {
      const backends = opaqueAt(world, model, first);
      // A TCPRoute has all connections.
      const routed = backendsAt(world, model.key, "TCPRoute", first.name).length > 0;
      const subnets = routed ? [] : virtualSubnetsAt(world, model.key, model.namespace, first).map(({ plan }) => plan);
      if (backends.length > 0 || subnets.length > 0)
        ports.push({ kind: "tcp", port, backends, ...(subnets.length === 0 ? {} : { subnets }) });
    } else if (protocol === "UDP") {
      const cluster = backendsAt(world, model.key, "UDPRoute", first.name).find((each) => !each.missing)?.cluster;
      if (cluster !== undefined) ports.push({ kind: "udp", port, cluster });
    } else {
      const chains: GatewayChainPlan[] = [];
      for (const listener of listeners) {
        if (listener.protocol === "HTTPS") {
          const table = gatewayRoutes(port, listener.name);
          tables.push({ name: table, hosts: hostsOf(world, model, [listener], listeners) });
          const names = hostnamesOf(listeners);
          for (const { hosts, certificate, name } of byCertificate(listener, [listener.hostname], names))
            chains.push({ name, serverNames: serverNames(hosts), certificate, to: { kind: "http", table, ...grpcWebAt([listener]) } });
        } else chains.push(...tlsChains(world, model, listener, listeners));
      }
      if (chains.length > 0) ports.push({ kind: "tls", port, chains });
    }
  }
  const believed = model.trustedProxies === 0 ? {} : { trustedProxies: model.trustedProxies };
  const byPlace = (a: GatewayPortPlan, b: GatewayPortPlan) => a.port - b.port || compareText(a.kind, b.kind);
  return { key, ports: ports.sort(byPlace), tables: tables.sort((a, b) => compareText(a.name, b.name)), ...believed };
}, equal);

function serverNames(hosts: readonly string[]): string[] {
  return hosts.includes("*") ? [] : [...hosts];
}

/** `neighbours`: every listener of the port, whose hostnames take requests away from less specific ones. */
function hostsOf(
  world: World,
  model: GatewayModel,
  listeners: readonly ListenerModel[],
  neighbours: readonly ListenerModel[] = listeners,
): GatewayHostPlan[] {
  const routes = requestRoutes(world, model.key);
  const out = new Map<string, GatewayHostPlan>();
  for (const listener of listeners) {
    const here = routes.flatMap((each) => {
      const hosts = each.listeners.filter(({ name }) => name === listener.name).flatMap((at) => at.hosts);
      return hosts.length === 0 ? [] : [{ hosts, rules: limited(world, each) }];
    });
    const domains = new Set([listener.hostname, ...here.flatMap(({ hosts }) => hosts)]);
    for (const domain of domains) {
      if (
        bestCovering(
          neighbours.map((each) => each.hostname),
          domain,
        ) !== listener.hostname
      )
        continue;
      out.set(domain, { domain, routes: routesOf(domain, here).map((route) => redirectedFrom(listener, route)) });
    }
    // VirtualServices have what no route of Gateway API names. As in Istio those for one host are one there, the oldest first.
    const named = new Set(here.flatMap(({ hosts }) => hosts));
    const said = new Map<string, (readonly RoutePlan[])[]>();
    for (const { hosts, routes } of virtualsAt(world, model.key, model.namespace, listener))
      for (const domain of hosts) {
        const best = bestCovering(
          neighbours.map((each) => each.hostname),
          domain,
        );
        if (best !== listener.hostname || named.has(domain)) continue;
        said.set(domain, [...(said.get(domain) ?? []), routes]);
      }
    for (const [domain, each] of said) out.set(domain, { domain, routes: together(each) });
  }
  return [...out.values()].sort((a, b) => compareText(a.domain, b.domain));
}

/** With what rules of rate limits know them by. */
function limited(world: World, { kind, key, reading }: AtListener): readonly RankedRoute[] {
  const names = routeSections(world, kind, key);
  const found = new Map(names.map((name) => [name, routeLimits(world, `${kind} ${key} ${name}`)]));
  if ([...found.values()].every((each) => Object.keys(each).length === 0)) return reading.rules;
  return reading.rules.map((rule) => ({
    ...rule,
    plans: rule.plans.map((plan) => {
      // A rule without a name is called by its number, which no section is.
      const limits = found.get(plan.name.slice(key.length + 1)) ?? found.get("") ?? {};
      return Object.keys(limits).length === 0 ? plan : { ...plan, limits };
    }),
  }));
}

/** Routes of several objects, each in its own order; what takes every request goes behind what asks for something. */
function together(each: readonly (readonly RoutePlan[])[]): readonly RoutePlan[] {
  const all = each.flat();
  if (each.length === 1) return all;
  return [...all.filter(({ match }) => !matchesEverything(match)), ...all.filter(({ match }) => matchesEverything(match))];
}

/**
 * Gateway API, HTTPRequestRedirectFilter.port: where neither scheme nor port are given the port is the listener's, and not spelled out where it is the
 * scheme's own. A proxy keeps the port of the request, but not beside another host.
 */
function redirectedFrom({ port, protocol }: ListenerModel, route: RoutePlan): RoutePlan {
  const { action } = route;
  if (action.kind !== "redirect" || action.host === undefined || action.scheme !== undefined || action.port !== undefined) return route;
  return port === (protocol === "HTTPS" ? 443 : 80) ? route : { ...route, action: { ...action, port } };
}

/** Gateway API: the most specific hostname first, then as everywhere. */
function routesOf(domain: string, here: readonly { hosts: readonly string[]; rules: readonly RankedRoute[] }[]): RoutePlan[] {
  const ranked = here.flatMap(({ hosts, rules }) => {
    const best = bestCovering(hosts, domain);
    return best === undefined ? [] : rules.map((rule) => ({ ...rule, rank: [specificity(best), ...rule.rank] }));
  });
  return ranked.sort(byPrecedence).flatMap((each) => each.plans);
}

function layer4At(world: World, gateway: string, kind: Layer4Kind, listener: string) {
  return inOrder(
    world,
    kind,
    "gateway",
    gateway,
    (each) => each.gateway === gateway && each.listeners.some(({ name }) => name === listener),
  );
}

function backendsAt(world: World, gateway: string, kind: Layer4Kind, listener: string) {
  return live(layer4At(world, gateway, kind, listener)[0]?.reading.backends ?? []);
}

/** Where the bytes of a listener go: by its TCPRoute, else by a VirtualService. */
function opaqueAt(world: World, model: GatewayModel, listener: ListenerModel): readonly BackendPlan[] {
  const own = backendsAt(world, model.key, "TCPRoute", listener.name);
  if (own.length > 0) return own;
  const said = virtualConnectionsAt(world, model.key, model.namespace, listener).find(({ backends }) => backends.length > 0);
  return said?.backends ?? [];
}

/** A chain for each route of a TLS listener; a name goes to the oldest route that has it. */
function tlsChains(world: World, model: GatewayModel, listener: ListenerModel, neighbours: readonly ListenerModel[]): GatewayChainPlan[] {
  const gateway = model.key;
  const taken = new Set<string>();
  const out: GatewayChainPlan[] = [];
  const routes = layer4At(world, gateway, "TLSRoute", listener.name);
  for (const { key, reading } of routes) {
    const hosts = reading.attached
      .filter((each) => each.gateway === gateway)
      .flatMap((each) => each.listeners.filter(({ name }) => name === listener.name).flatMap((at) => at.hosts))
      .filter(
        (host) =>
          !taken.has(host) &&
          bestCovering(
            neighbours.map((each) => each.hostname),
            host,
          ) === listener.hostname,
      );
    for (const host of hosts) taken.add(host);
    const backends = live(reading.backends);
    if (hosts.length === 0 || backends.length === 0) continue;
    for (const chain of byCertificate(
      listener,
      [...new Set(hosts)].sort(),
      [...hostnamesOf(neighbours), ...taken],
      `${listener.name}|${key}`,
    ))
      out.push({ name: chain.name, serverNames: serverNames(chain.hosts), certificate: chain.certificate, to: { kind: "tcp", backends } });
  }
  for (const { byName } of virtualConnectionsAt(world, gateway, model.namespace, listener))
    for (const { route, hosts, backends } of byName) {
      const free = hosts.filter((host) => !taken.has(host));
      for (const host of free) taken.add(host);
      if (free.length > 0 && backends.length > 0)
        out.push({
          name: `${listener.name}|${route}`,
          serverNames: serverNames(free),
          certificate: listener.certificate,
          to: { kind: "tcp", backends },
        });
    }
  if (out.length > 0 || routes.length > 0 || listener.passthrough) return out;
  const backends = opaqueAt(world, model, listener);
  if (backends.length === 0) return [];
  return byCertificate(listener, [listener.hostname], hostnamesOf(neighbours)).map(({ name, hosts, certificate }) => ({
    name,
    serverNames: serverNames(hosts),
    certificate,
    to: { kind: "tcp", backends },
  }));
}

function hostnamesOf(listeners: readonly ListenerModel[]): string[] {
  return listeners.map((each) => each.hostname);
}

interface CertifiedHosts {
  readonly name: string;
  readonly hosts: readonly string[];
  readonly certificate: GatewayChainPlan["certificate"];
}

/**
 * Who answers for `hosts` with which certificate: the listener's first for all of them, and each further one for its own names below them that nobody
 * more specific has (`others`: all names of the port) and no certificate before it.
 */
function byCertificate(
  listener: ListenerModel,
  hosts: readonly string[],
  others: readonly string[],
  name = listener.name,
): CertifiedHosts[] {
  // A listener or a route for one name is not shown a certificate for another where there is one for it.
  const exact = hosts.every((host) => !host.includes("*")) && !hosts.every((host) => listener.names.some((each) => covers(each, host)));
  const fitting = exact ? listener.others.find(({ names }) => hosts.every((host) => names.some((each) => covers(each, host)))) : undefined;
  const out: CertifiedHosts[] = [{ name, hosts, certificate: fitting?.certificate ?? listener.certificate }];
  const taken = new Set([...hosts, ...listener.names]);
  for (const [at, { certificate, names }] of listener.others.entries()) {
    const own = names.filter((each) => {
      const host = bestCovering(hosts, each);
      return host !== undefined && !taken.has(each) && bestCovering([...others, host], each) === host;
    });
    for (const each of own) taken.add(each);
    if (own.length > 0) out.push({ name: `${name}|${at + 2}`, hosts: [...new Set(own)].sort(), certificate });
  }
  return out;
}

/** How many routes are attached, by the listener's name. By `NS/NAME` of the Gateway. */
export const attachedRoutes = derived<Readonly<Record<string, number>>>((world, key) => {
  const out: Record<string, number> = {};
  const count = (listeners: readonly AttachedListener[]) => {
    for (const name of new Set(listeners.map((each) => each.name))) out[name] = (out[name] ?? 0) + 1;
  };
  for (const { listeners } of requestRoutes(world, key)) count(listeners);
  for (const kind of ["TLSRoute", "TCPRoute", "UDPRoute"] as const)
    for (const { reading } of inOrder(world, kind, "gateway", key, (each) => each.gateway === key && each.listeners.length > 0))
      count(reading.attached.filter((each) => each.gateway === key).flatMap((each) => each.listeners));
  for (const [name, number] of Object.entries(virtualCounts(world, key))) out[name] = (out[name] ?? 0) + number;
  return out;
}, equal);
