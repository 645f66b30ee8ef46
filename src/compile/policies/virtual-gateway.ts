// Owns: what VirtualServices say at a Gateway's listeners: hosts with their routes, names in handshakes, opaque connections; and why one says nothing
// there. Routes of Gateway API go before them: who calls this leaves out what those have.

import { parseSubnet } from "../../api/kinds/subnet.ts";
import { type ConnectionMatch, type VirtualMatch, type VirtualServiceObject, virtualHosts } from "../../api/kinds/virtualservice-spec.ts";
import type { SubnetPlan } from "../plan/gateways.ts";
import type { BackendPlan, RoutePlan } from "../plan/routes.ts";
import { virtualServiceSource } from "../sources.ts";
import { byAge, derived, equal, keyOf, namespaceOf, type World } from "../world.ts";
import { type GatewayModel, gatewayModel, isUsable, type ListenerModel, takesFrom } from "./gateway.ts";
import { bestCovering, covers, intersect } from "./gateway-hosts.ts";
import { connectionBackends, foldConnections } from "./virtualservice.ts";
import { wholeRoutes } from "./virtualservice-delegate.ts";
import { planWhole } from "./virtualservice-plan.ts";

interface KeyedSubnet {
  /** Of the VirtualService. */
  readonly key: string;
  readonly plan: SubnetPlan;
}

/** One VirtualService at one listener. */
export interface VirtualAtListener {
  readonly key: string;
  /** Names that both have, sorted; `*` = any. */
  readonly hosts: readonly string[];
  /** Empty = it has none for requests. */
  readonly routes: readonly RoutePlan[];
}

/** Whether a match is for a Gateway, of `NS/NAME`; callers there are nobody's sidecars. */
function fitsGateway(object: VirtualServiceObject, gateway: string, port: number) {
  return (match: Pick<VirtualMatch, "gateways" | "sourceLabels" | "sourceNamespace" | "port"> & ConnectionMatch): boolean =>
    !hasSubnets(match) &&
    (match.gateways === undefined ||
      match.gateways.length === 0 ||
      match.gateways.some((name) => (name.includes("/") ? name : `${namespaceOf(object)}/${name}`) === gateway)) &&
    match.sourceNamespace === undefined &&
    Object.keys(match.sourceLabels ?? {}).length === 0 &&
    (match.port === undefined || match.port === port);
}

function hasSubnets({ sourceSubnet, destinationSubnets }: ConnectionMatch): boolean {
  return sourceSubnet !== undefined || destinationSubnets !== undefined;
}

/** What a TCP listener does with connections of some networks, in the order of the objects and their routes; what is said first of two networks holds. */
export function virtualSubnetsAt(world: World, gateway: string, namespace: string, listener: ListenerModel): readonly KeyedSubnet[] {
  if (listener.protocol !== "TCP") return [];
  const taken = new Set<string>();
  const out: KeyedSubnet[] = [];
  for (const object of bound(world, gateway)) {
    if (!hears(world, namespace, listener, object)) continue;
    const fits = fitsGateway(object, gateway, listener.port);
    for (const [at, route] of (object.spec?.tcp ?? []).entries()) {
      const backends = connectionBackends(world, namespaceOf(object), route);
      for (const match of route.match ?? []) {
        const { sourceSubnet, destinationSubnets, ...rest } = match;
        if (!hasSubnets(match) || !fits(rest) || backends.length === 0) continue;
        const source = sourceSubnet === undefined ? undefined : parseSubnet(sourceSubnet);
        for (const destination of destinationSubnets?.map(parseSubnet) ?? [undefined]) {
          const pair = JSON.stringify([source, destination]);
          if (taken.has(pair)) continue;
          taken.add(pair);
          const name = `${keyOf(object)}/tcp/${at}/${out.length}`;
          out.push({
            key: keyOf(object),
            plan: { name, ...(source === undefined ? {} : { source }), ...(destination === undefined ? {} : { destination }), backends },
          });
        }
      }
    }
  }
  return out;
}

/** VirtualServices bound to a Gateway, oldest first. */
function bound(world: World, gateway: string): readonly VirtualServiceObject[] {
  return [...world.objects(virtualServiceSource).by("gateway", gateway)].sort(byAge);
}

/** Like routes that are attached to the Gateway itself, one that is bound to it says nothing at listeners of others (GEP-1713). */
function hears(world: World, namespace: string, listener: ListenerModel, object: VirtualServiceObject): boolean {
  return listener.set === undefined && takesFrom(world, namespace, listener, namespaceOf(object));
}

/** Names that both have and that no listener of the port, a set's included, has more precisely: only there do requests for them come. */
function heardHosts({ listeners }: GatewayModel, listener: ListenerModel, hosts: readonly string[]): string[] {
  const names = listeners.filter((each) => isUsable(each) && each.port === listener.port).map((each) => each.hostname);
  return intersect(listener.hostname, hosts).filter((name) => bestCovering(names, name) === listener.hostname);
}

/** Those of its hosts that it speaks for at the own listeners of a Gateway. */
function hostsHeard(world: World, model: GatewayModel, object: VirtualServiceObject): readonly string[] {
  const open = model.listeners.filter((each) => isUsable(each) && hears(world, model.namespace, each, object));
  return virtualHosts(object).filter((host) => open.some((each) => heardHosts(model, each, [host]).some((name) => covers(host, name))));
}

/** Hosts of a VirtualService that a Gateway has, by `NS/NAME` of both with a blank between. */
export const hostsAtGateway = derived<readonly string[]>((world, text) => {
  const [key = "", gateway = ""] = text.split(" ");
  const object = world.objects(virtualServiceSource).get(key);
  const model = gatewayModel(world, gateway);
  return object === undefined || model === undefined ? [] : hostsHeard(world, model, object);
}, equal);

/** Hosts that only ListenerSets of a Gateway have, where what is bound to the Gateway says nothing, in words. By VirtualService, blank, Gateway. */
export const heldBySets = derived<readonly string[]>((world, text) => {
  const [key = "", gateway = ""] = text.split(" ");
  const object = world.objects(virtualServiceSource).get(key);
  const model = gatewayModel(world, gateway);
  if (object === undefined || model === undefined) return [];
  const heard = hostsHeard(world, model, object);
  return virtualHosts(object).flatMap((host) => {
    if (heard.includes(host)) return [];
    const at = model.listeners.find((each) => each.set !== undefined && isUsable(each) && intersect(each.hostname, [host]).length > 0);
    return at === undefined
      ? []
      : [
          `${host} is at listener ${at.section} of ${at.set} there: what is bound to the Gateway speaks at the Gateway's own listeners (GEP-1713); attach a route of Gateway API to the set`,
        ];
  });
}, equal);

/** Those that a listener takes requests' routes from, oldest first. */
export function virtualsAt(world: World, gateway: string, namespace: string, listener: ListenerModel): readonly VirtualAtListener[] {
  return bound(world, gateway).flatMap((object) => {
    if (!hears(world, namespace, listener, object)) return [];
    const hosts = intersect(listener.hostname, virtualHosts(object));
    const routes = requestRoutes(world, `${gateway} ${listener.port} ${keyOf(object)}`);
    return hosts.length === 0 || routes.length === 0 ? [] : [{ key: keyOf(object), hosts, routes }];
  });
}

/** By Gateway, blank, port, blank, `NS/NAME`. */
const requestRoutes = derived<readonly RoutePlan[]>((world, text) => {
  const [gateway = "", port = "", key = ""] = text.split(" ");
  const object = world.objects(virtualServiceSource).get(key);
  if (object === undefined) return [];
  const fits = fitsGateway(object, gateway, Number(port));
  return wholeRoutes(world, key).routes.flatMap((route) => planWhole(world, route, fits));
}, equal);

/** What becomes of connections at a listener. */
export interface VirtualConnections {
  readonly key: string;
  /** By name in the handshake. */
  readonly byName: readonly { readonly route: string; readonly hosts: readonly string[]; readonly backends: readonly BackendPlan[] }[];
  /** Of `tcp`; empty = nothing is said. */
  readonly backends: readonly BackendPlan[];
}

export function virtualConnectionsAt(
  world: World,
  gateway: string,
  namespace: string,
  listener: ListenerModel,
): readonly VirtualConnections[] {
  return bound(world, gateway).flatMap((object) => {
    if (!hears(world, namespace, listener, object)) return [];
    const plan = foldConnections(world, object, fitsGateway(object, gateway, listener.port));
    if (plan === undefined) return [];
    // Nobody looks for a name where bytes are opaque.
    const byName = (listener.protocol === "TCP" ? [] : (plan.byName ?? [])).flatMap((each) => {
      const hosts = intersect(listener.hostname, each.hosts);
      return hosts.length === 0 ? [] : [{ ...each, hosts }];
    });
    return byName.length === 0 && plan.backends.length === 0 ? [] : [{ key: keyOf(object), byName, backends: plan.backends }];
  });
}

/** How many VirtualServices each listener of a Gateway has, by its name. */
export function virtualCounts(world: World, gateway: string): Readonly<Record<string, number>> {
  const model = gatewayModel(world, gateway);
  const out: Record<string, number> = {};
  for (const listener of model?.listeners ?? []) {
    const count = forRequests(listener)
      ? virtualsAt(world, gateway, model?.namespace ?? "", listener).length
      : new Set(
          [
            ...virtualConnectionsAt(world, gateway, model?.namespace ?? "", listener),
            ...virtualSubnetsAt(world, gateway, model?.namespace ?? "", listener),
          ].map((each) => each.key),
        ).size;
    if (count > 0) out[listener.name] = count;
  }
  return out;
}

export function forRequests({ protocol }: ListenerModel): boolean {
  return protocol === "HTTP" || protocol === "HTTPS";
}

/** Why a VirtualService says nothing at a Gateway that it names, in words; undefined = it does. By VirtualService, blank, Gateway. */
export const unboundReason = derived<string | undefined>((world, text) => {
  const [key = "", gateway = ""] = text.split(" ");
  const object = world.objects(virtualServiceSource).get(key);
  const model = gatewayModel(world, gateway);
  if (object === undefined) return undefined;
  if (model === undefined) return `there is no Gateway ${gateway} that Weft serves; the object takes effect there when it is created`;
  const open = model.listeners.filter((each) => hears(world, model.namespace, each, object));
  if (open.length === 0)
    return `no listener of Gateway ${gateway} takes routes from namespace ${namespaceOf(object)} (allowedRoutes.namespaces)`;
  const common = open.filter((each) => intersect(each.hostname, virtualHosts(object)).length > 0);
  if (common.length === 0)
    return `the listeners of Gateway ${gateway} are for ${open.map((each) => each.hostname).join(", ")}, which has nothing in common with ${virtualHosts(object).join(", ")}`;
  const says = common.some((each) =>
    forRequests(each)
      ? virtualsAt(world, gateway, model.namespace, each).some((one) => one.key === key)
      : [...virtualConnectionsAt(world, gateway, model.namespace, each), ...virtualSubnetsAt(world, gateway, model.namespace, each)].some(
          (one) => one.key === key,
        ),
  );
  return says
    ? undefined
    : `none of its routes fits the listeners of Gateway ${gateway} (${common.map((each) => `${each.name}, ${each.protocol}, port ${each.port}`).join("; ")})`;
});
