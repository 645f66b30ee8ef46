// Owns: what became of a VirtualService, for its status: who decides in its place, destinations that are not there, delegations that cannot be
// followed, gateways that do not take it, routes that no request reaches, faults that the mesh does not allow.

import {
  boundGateways,
  type Destination,
  speaksToMesh,
  type VirtualMatch,
  type VirtualServiceObject,
  virtualHosts,
  wholeHost,
} from "../../api/kinds/virtualservice-spec.ts";
import { externalService } from "../plan/external.ts";
import { matchesEverything } from "../plan/routes.ts";
import { serviceSource, virtualServiceSource } from "../sources.ts";
import { derived, equal, keyOf, namespaceOf, type World } from "../world.ts";
import { emptySubset } from "./destinationrule.ts";
import { gatewayPlan } from "./gateway-plan.ts";
import { heldBySets, hostsAtGateway, unboundReason } from "./virtual-gateway.ts";
import { speaker, spokenTo } from "./virtualservice.ts";
import { type WholeRoute, wholeRoutes } from "./virtualservice-delegate.ts";
import { faultsAllowed, meantHost, planWhole, resolveFully } from "./virtualservice-plan.ts";

export interface VirtualVerdict {
  readonly accepted: boolean;
  readonly acceptedReason: "Accepted" | "Conflicted" | "NoService" | "NotDelegatedTo";
  readonly acceptedMessage: string;
  /** Empty = every destination is there. */
  readonly unresolved: readonly string[];
  /** Destinations whose subset has no instances, in words; undefined = no destination names a subset. */
  readonly subsets: readonly string[] | undefined;
  /** Empty = every delegation is followed; undefined = there is none. */
  readonly delegation: readonly string[] | undefined;
  /** Gateways where it says nothing, in words; undefined = it names none. */
  readonly gateways: readonly string[] | undefined;
  /** Routes that no request reaches, in words. */
  readonly shadowed: readonly string[];
  /** undefined = it asks for no fault. */
  readonly faults: boolean | undefined;
}

/** By `NS/NAME`. */
export const virtualVerdict = derived<VirtualVerdict | undefined>((world, key) => {
  const object = world.objects(virtualServiceSource).get(key);
  if (object === undefined) return undefined;
  const whole = wholeRoutes(world, key);
  const wantsFaults = whole.routes.some(({ route, fault }) => route.fault !== undefined || fault !== undefined);
  return {
    ...accepted(world, object),
    subsets: subsetsOf(world, object, whole.routes),
    unresolved: [...whole.routes.flatMap((route) => lostOf(world, route)), ...lostConnections(world, object)],
    delegation: (object.spec?.http ?? []).some(({ delegate }) => delegate !== undefined) ? whole.problems : undefined,
    gateways:
      boundGateways(object).length === 0
        ? undefined
        : boundGateways(object).flatMap((gateway) => [
            ...[unboundReason(world, `${key} ${gateway}`) ?? displacedAt(world, object, gateway)].flat(),
            ...heldBySets(world, `${key} ${gateway}`),
          ]),
    shadowed: shadowedOf(world, whole.routes),
    faults: wantsFaults ? faultsAllowed(world, "") : undefined,
  };
}, equal);

/** What of it others leave no room for at a Gateway: hosts that have a route of Gateway API, and routes behind those of older VirtualServices. */
function displacedAt(world: World, object: VirtualServiceObject, gateway: string): string[] {
  if ((object.spec?.http ?? []).length === 0) return [];
  const own = `${keyOf(object)}/`;
  const hosts = virtualHosts(object);
  const found = new Set<string>();
  for (const { hosts: domains } of gatewayPlan(world, gateway)?.tables ?? [])
    for (const { domain, routes } of domains) {
      if (!hosts.includes(domain)) continue;
      const [first] = routes;
      if (first !== undefined && !routes.some(({ name }) => name.startsWith(own)) && !isVirtual(world, whose(first.name)))
        found.add(`${domain} at Gateway ${gateway} follows the routes of ${whose(first.name)}, which is a route of Gateway API`);
      const before = new Map<string, string>();
      let all: string | undefined;
      for (const { name, match } of routes) {
        const by = all ?? before.get(JSON.stringify(match));
        if (!name.startsWith(own)) {
          before.set(JSON.stringify(match), whose(name));
          if (matchesEverything(match)) all ??= whose(name);
        } else if (by !== undefined)
          found.add(
            `${name.slice(own.length)} is never reached for ${domain} at Gateway ${gateway}: VirtualService ${by}, which is older, takes the same requests`,
          );
      }
    }
  return [...found];
}

/** `NS/NAME` of the object that a route is of. */
function whose(route: string): string {
  return route.split("/").slice(0, 2).join("/");
}

function isVirtual(world: World, key: string): boolean {
  return world.objects(virtualServiceSource).get(key) !== undefined;
}

type Accepted = Pick<VirtualVerdict, "accepted" | "acceptedReason" | "acceptedMessage">;

function accepted(world: World, object: VirtualServiceObject): Accepted {
  const key = keyOf(object);
  const hosts = virtualHosts(object);
  if (hosts.length === 0) {
    const roots = world.objects(virtualServiceSource).keys("delegate", key);
    return roots.length > 0
      ? { accepted: true, acceptedReason: "Accepted", acceptedMessage: `VirtualService ${roots.join(", ")} delegates to it` }
      : {
          accepted: false,
          acceptedReason: "NotDelegatedTo",
          acceptedMessage: "it has no hosts, and no VirtualService delegates to it; it takes effect when one does",
        };
  }
  if (!speaksToMesh(object)) return { accepted: true, acceptedReason: "Accepted", acceptedMessage: "every route is understood" };
  for (const host of hosts.filter((each) => !each.startsWith("*"))) {
    const to = spokenTo(world, object, host);
    const by = speaker(world, host, to.includes("*") ? "" : (to[0] ?? ""));
    if (by !== undefined && keyOf(by) !== key)
      return {
        accepted: false,
        acceptedReason: "Conflicted",
        acceptedMessage: `VirtualService ${keyOf(by)} is older and speaks about ${host}`,
      };
  }
  const served = new Set(boundGateways(object).flatMap((gateway) => hostsAtGateway(world, `${key} ${gateway}`)));
  const lost = hosts.filter(
    (host) =>
      !host.startsWith("*") &&
      !served.has(host) &&
      world.objects(serviceSource).keys("host", host).length === 0 &&
      externalService(world, host) === undefined,
  );
  if (lost.length > 0)
    return {
      accepted: true,
      acceptedReason: "NoService",
      acceptedMessage: `there is no Service ${lost.map((host) => `${host}${meantHost(world, host)}`).join(", ")}${boundGateways(object).length === 0 ? "" : ", and none of its Gateways serves that name"}; it takes effect when one appears`,
    };
  return { accepted: true, acceptedReason: "Accepted", acceptedMessage: "every route is understood" };
}

type Placed = readonly [place: string, to: Destination | undefined];

function destinationsOf({ route, where }: WholeRoute): readonly Placed[] {
  return [
    ...(route.route ?? []).map((one, at): Placed => [`${where}.route[${at}].destination`, one.destination]),
    ...(route.mirror === undefined ? [] : [[`${where}.mirror`, route.mirror] as const]),
    ...(route.mirrors ?? []).map((one, at): Placed => [`${where}.mirrors[${at}].destination`, one.destination]),
  ];
}

/** Subsets that routes lead to and that mean nobody. */
function subsetsOf(world: World, object: VirtualServiceObject, routes: readonly WholeRoute[]): readonly string[] | undefined {
  const own = namespaceOf(object);
  const all = [
    ...routes.flatMap((route) => destinationsOf(route).map(([place, to]) => ({ place, to, namespace: route.namespace }))),
    ...(["tls", "tcp"] as const).flatMap((layer) =>
      (object.spec?.[layer] ?? []).flatMap(({ route = [] }, n) =>
        route.map(({ destination }, at) => ({ place: `spec.${layer}[${n}].route[${at}].destination`, to: destination, namespace: own })),
      ),
    ),
  ].filter(({ to }) => to?.subset !== undefined);
  if (all.length === 0) return undefined;
  return all.flatMap(({ place, to, namespace }) => {
    const host = wholeHost(to?.host ?? "", namespace);
    const rule = emptySubset(world, host, to?.subset ?? "");
    return rule === undefined
      ? []
      : [`${place}: no instance of ${host} fits subset ${JSON.stringify(to?.subset)} of DestinationRule ${rule}`];
  });
}

function lostOf(world: World, whole: WholeRoute): string[] {
  const { namespace } = whole;
  return destinationsOf(whole).flatMap(([place, to]) => {
    const problem = to === undefined ? "" : resolveFully(world, namespace, to).problem;
    return problem === "" ? [] : [`${place}: ${problem}`];
  });
}

function lostConnections(world: World, object: VirtualServiceObject): string[] {
  return (["tls", "tcp"] as const).flatMap((layer) =>
    (object.spec?.[layer] ?? []).flatMap(({ route = [] }, n) =>
      route.flatMap(({ destination }, at) => {
        const problem = destination === undefined ? "" : resolveFully(world, namespaceOf(object), destination).problem;
        return problem === "" ? [] : [`spec.${layer}[${n}].route[${at}].destination: ${problem}`];
      }),
    ),
  );
}

/** For all callers and ports alike: matches that ask for less than everything shadow nobody. */
function forAll({ sourceNamespace, sourceLabels, port, gateways }: VirtualMatch): boolean {
  return sourceNamespace === undefined && port === undefined && gateways === undefined && Object.keys(sourceLabels ?? {}).length === 0;
}

/** A route behind one that takes everything, or that asks the same as one before it. */
function shadowedOf(world: World, routes: readonly WholeRoute[]): string[] {
  const out: string[] = [];
  const seen = new Map<string, string>();
  let all: string | undefined;
  for (const each of routes) {
    const plans = planWhole(world, each, forAll);
    const asks = each.route.match ?? [];
    const whole = plans.length === Math.max(asks.length, 1);
    const before = plans.map(({ match }) => all ?? seen.get(JSON.stringify(match)));
    if (whole && plans.length > 0 && !before.includes(undefined))
      out.push(
        `${each.where} is never reached: ${[...new Set(before)].join(", ")} before it ${all === undefined ? "asks the same" : "takes every request"}`,
      );
    for (const { match } of plans) {
      if (!seen.has(JSON.stringify(match))) seen.set(JSON.stringify(match), each.where);
      if (matchesEverything(match)) all ??= each.where;
    }
  }
  return out;
}
