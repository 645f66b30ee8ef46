// Owns: which HTTPRoutes and GRPCRoutes speak at the listeners of a Gateway. Where a host has routes of both kinds at one listener, Gateway API takes
// exactly one: the oldest, then the first by name (GRPCRouteSpec); the other does not speak there, and is told. Never orders rules.

import type { AnyRouteObject } from "../../api/kinds/gateway-refs.ts";
import type { Source } from "../objects.ts";
import { grpcRouteSource, type ParentIndex } from "../route-sources.ts";
import { httpRouteSource } from "../sources.ts";
import { byAge, derived, equal, keyOf, type World } from "../world.ts";
import { attachedTo } from "./gateway.ts";
import { covers } from "./gateway-hosts.ts";
import { type ParentVerdict, type RequestRouteKind, type RouteReading, readRoute, verdictsAtServices } from "./httproute.ts";
import type { Attached, AttachedListener } from "./parents.ts";

export interface AtListener {
  readonly kind: RequestRouteKind;
  readonly key: string;
  readonly reading: RouteReading;
  /** Those where it speaks. */
  readonly listeners: readonly AttachedListener[];
}

interface Standing extends AtListener {
  /** Who speaks in its place, by the listener's name: `HTTPRoute NS/NAME`. */
  readonly silencedBy: Readonly<Record<string, string>>;
}

/** Routes of both kinds attached to a Gateway, oldest first. */
function standing(world: World, gateway: string): Standing[] {
  const of = (kind: RequestRouteKind, from: Source<AnyRouteObject, ParentIndex>) =>
    attachedTo(world, from, gateway).map((route) => ({ kind, route }));
  const all = [
    ...of("HTTPRoute", httpRouteSource as Source<AnyRouteObject, ParentIndex>),
    ...of("GRPCRoute", grpcRouteSource as Source<AnyRouteObject, ParentIndex>),
  ];
  const out: Standing[] = [];
  for (const { kind, route } of all.sort((a, b) => byAge(a.route, b.route))) {
    const key = keyOf(route);
    const reading = readRoute(world, `${kind} ${key}`);
    const attached = (reading?.attached ?? []).filter((each) => each.gateway === gateway).flatMap((each) => each.listeners);
    if (reading === undefined || attached.length === 0) continue;
    const silencedBy: Record<string, string> = {};
    for (const listener of attached) {
      const before = out.find(
        (each) => each.kind !== kind && each.listeners.some((other) => other.name === listener.name && meet(other.hosts, listener.hosts)),
      );
      if (before !== undefined) silencedBy[listener.name] ??= `${before.kind} ${before.key}`;
    }
    out.push({ kind, key, reading, listeners: attached.filter(({ name }) => silencedBy[name] === undefined), silencedBy });
  }
  return out;
}

/** Some host is one of both. */
function meet(a: readonly string[], b: readonly string[]): boolean {
  return a.some((one) => b.some((other) => covers(one, other) || covers(other, one)));
}

/** Those that speak somewhere, oldest first. */
export function requestRoutes(world: World, gateway: string): AtListener[] {
  return standing(world, gateway).filter(({ listeners }) => listeners.length > 0);
}

/** Who speaks in a route's place. By `NS/NAME` of the Gateway; by kind, blank, `NS/NAME` of the route, then the listener's name. */
const silenced = derived<Readonly<Record<string, Readonly<Record<string, string>>>>>(
  (world, gateway) =>
    Object.fromEntries(
      standing(world, gateway).flatMap(({ kind, key, silencedBy }) =>
        Object.keys(silencedBy).length === 0 ? [] : [[`${kind} ${key}`, silencedBy] as const],
      ),
    ),
  equal,
);

/** What became of each parent reference of a route that is for Weft, by its kind, blank, `NS/NAME`. */
export const routeVerdicts = derived<readonly ParentVerdict[]>((world, text) => {
  const attached = (readRoute(world, text)?.attached ?? []).filter(({ verdict }) => verdict !== undefined);
  return verdictsAtServices(world, text).map((verdict, at) => {
    const place = attached[at];
    return place?.gateway === undefined || !verdict.accepted
      ? verdict
      : atGateway(verdict, place, silenced(world, place.gateway)[text] ?? {});
  });
}, equal);

function atGateway(verdict: ParentVerdict, { gateway, listeners }: Attached, by: Readonly<Record<string, string>>): ParentVerdict {
  const lost = listeners.filter(({ name }) => by[name] !== undefined);
  const [first] = lost;
  if (first === undefined) return verdict;
  const words = `${by[first.name]} is attached to listener ${lost.map(({ name }) => name).join(", ")} of Gateway ${gateway} for the same host, and is older or the first by name; a host has routes of one kind`;
  if (lost.length < listeners.length) return { ...verdict, acceptedMessage: `${verdict.acceptedMessage}; but ${words}` };
  return {
    ...verdict,
    accepted: false,
    acceptedReason: "Conflicted",
    acceptedMessage: `${words}: give one of the two a hostname or a listener of its own`,
  };
}
