// Owns: what a route's reference to a parent leads to: ports of a Service, or listeners of a Gateway; and the Accepted condition that says so, in the
// standard's reasons. Never looks at other routes.

import { type AnyRouteObject, isListenerSetKind, isServiceParent, type ParentRef } from "../../api/kinds/gateway-refs.ts";
import type { PortProtocol } from "../../api/kinds/service.ts";
import { outboundCluster } from "../../wire/names.ts";
import { gatewayOfSet, gatewaySource, listenerSetSources } from "../route-sources.ts";
import { namespaceOf, type ServicePortModel, type World } from "../world.ts";
import { nameOf } from "./backends.ts";
import { gatewayModel, isUsable, type ListenerModel, takesFrom } from "./gateway.ts";
import { intersect } from "./gateway-hosts.ts";

export type AcceptedReason =
  | "Accepted"
  | "NoMatchingParent"
  | "NotAllowedByListeners"
  | "NoMatchingListenerHostname"
  | "UnsupportedValue"
  | "Conflicted";

export interface AcceptedVerdict {
  readonly accepted: boolean;
  readonly acceptedReason: AcceptedReason;
  readonly acceptedMessage: string;
}

export interface Attached {
  /** Of a Service: empty = all callers, else callers of that namespace. */
  readonly audience: string;
  /** Of a Service. */
  readonly clusters: readonly string[];
  /** `NS/NAME` of a Gateway of Weft's; undefined = the parent is none. */
  readonly gateway: string | undefined;
  readonly listeners: readonly AttachedListener[];
  /** undefined = it is somebody else's Gateway, about which nothing is said. */
  readonly verdict: AcceptedVerdict | undefined;
}

export interface AttachedListener {
  readonly name: string;
  /** Names that route and listener have in common, sorted; `*` = any. */
  readonly hosts: readonly string[];
}

const accepted = (acceptedMessage: string): AcceptedVerdict => ({ accepted: true, acceptedReason: "Accepted", acceptedMessage });
const refused = (acceptedReason: AcceptedReason, acceptedMessage: string): AcceptedVerdict => ({
  accepted: false,
  acceptedReason,
  acceptedMessage,
});

/** `fits`: protocols of Service ports that the kind of route is for; `remedy`: what to do about others. */
export function attach(
  world: World,
  route: AnyRouteObject,
  ref: ParentRef,
  fits: (protocol: PortProtocol) => boolean,
  remedy: string,
): Attached {
  return isServiceParent(ref) ? attachToService(world, route, ref, fits, remedy) : attachToGateway(world, route, ref);
}

/** The ports of the parent Service that a reference means: those named by `port` and `sectionName`, of a protocol that fits. */
function attachToService(
  world: World,
  route: AnyRouteObject,
  ref: ParentRef,
  fits: (protocol: PortProtocol) => boolean,
  remedy: string,
): Attached {
  const namespace = ref.namespace ?? namespaceOf(route);
  const audience = namespace === namespaceOf(route) ? "" : namespaceOf(route);
  const to = (clusters: readonly string[], verdict: AcceptedVerdict): Attached => ({
    audience,
    clusters,
    gateway: undefined,
    listeners: [],
    verdict,
  });
  const service = world.services.get(`${namespace}/${ref.name}`);
  if (service === undefined)
    return to([], refused("NoMatchingParent", `there is no Service ${namespace}/${ref.name}; the route takes effect when it is created`));
  const meant = service.ports.filter(
    (port) => (ref.port === undefined || port.port === ref.port) && (ref.sectionName === undefined || port.name === ref.sectionName),
  );
  if (meant.length === 0)
    return to(
      [],
      refused(
        "NoMatchingParent",
        `Service ${service.key} has no port ${ref.sectionName ?? ref.port ?? ""}; it has ${describePorts(service.ports)}`,
      ),
    );
  const fitting = meant.filter((port) => fits(port.protocol));
  if (fitting.length === 0)
    return to([], refused("NoMatchingParent", `Service ${service.key} ${remedy.replace("%", describePorts(meant))}`));
  return to(
    fitting.map((port) => outboundCluster(port.port, service.host, port.protocol === "udp" ? "udp" : "tcp")),
    accepted(`attached to Service ${service.key}, port ${fitting.map((port) => port.port).join(", ")}`),
  );
}

function describePorts(ports: readonly ServicePortModel[]): string {
  return ports.map((port) => `${port.name === "" ? "" : `${port.name}:`}${port.port}/${port.protocol}`).join(", ");
}

/** Of a Gateway its own listeners, of a ListenerSet those of the set. */
function attachToGateway(world: World, route: AnyRouteObject, ref: ParentRef): Attached {
  const place = `${ref.namespace ?? namespaceOf(route)}/${ref.name}`;
  const source = isListenerSetKind(ref.kind) ? listenerSetSources[ref.kind] : undefined;
  const object = source === undefined ? undefined : world.objects(source).get(place);
  const set = source === undefined ? undefined : `${ref.kind} ${place}`;
  if (set !== undefined && object === undefined) {
    const verdict = refused("NoMatchingParent", `there is no ${set}; the route takes effect when it is created`);
    return { audience: "", clusters: [], gateway: undefined, listeners: [], verdict };
  }
  const key = object === undefined ? place : gatewayOfSet(object);
  const model = gatewayModel(world, key);
  const what = set ?? `Gateway ${key}`;
  const to = (listeners: readonly AttachedListener[], verdict: AcceptedVerdict | undefined): Attached => ({
    audience: "",
    clusters: [],
    gateway: model === undefined ? undefined : key,
    listeners,
    verdict,
  });
  if (model === undefined) {
    const words = `there is no Gateway ${key} that Weft serves; the route takes effect when it is created`;
    return to([], world.objects(gatewaySource).get(key) !== undefined ? undefined : refused("NoMatchingParent", words));
  }
  if (set !== undefined && !model.sets.includes(set))
    return to([], refused("NoMatchingParent", `Gateway ${key} does not take ${set} (allowedListeners): see its status`));
  const own = model.listeners.filter((each) => each.set === set);
  const meant = own.filter(
    (each) => (ref.sectionName === undefined || each.section === ref.sectionName) && (ref.port === undefined || each.port === ref.port),
  );
  if (meant.length === 0)
    return to(
      [],
      refused(
        "NoMatchingParent",
        `${what} has no listener ${ref.sectionName ?? ""}${ref.port === undefined ? "" : ` on port ${ref.port}`}; it has ${own.map((each) => `${each.section}:${each.port}`).join(", ")}`,
      ),
    );
  const namespace = namespaceOf(route);
  const home = object === undefined ? model.namespace : namespaceOf(object);
  const allowed = meant.filter((each) => each.kinds.includes(route.kind) && takesFrom(world, home, each, namespace));
  if (allowed.length === 0) {
    const kinds = meant.some((each) => each.kinds.includes(route.kind));
    const words = kinds
      ? `does not take routes from namespace ${namespace} (allowedRoutes.namespaces)`
      : `takes no ${route.kind} (protocol ${meant.map((each) => each.protocol).join(", ")})`;
    return to([], refused("NotAllowedByListeners", `listener ${sections(meant)} of ${what} ${words}`));
  }
  const common = allowed
    .map((each) => ({ name: each.name, hosts: named(each.protocol) ? intersect(each.hostname, route.spec.hostnames ?? []) : ["*"] }))
    .filter(({ hosts }) => hosts.length > 0);
  if (common.length === 0)
    return to(
      [],
      refused(
        "NoMatchingListenerHostname",
        `${nameOf(route)} is for ${(route.spec.hostnames ?? []).join(", ")}, listener ${allowed.map((each) => `${each.section} for ${each.hostname}`).join(", ")}`,
      ),
    );
  const names = new Set(common.map(({ name }) => name));
  const open = allowed.filter(({ name }) => names.has(name));
  const closed = allowed.filter((each) => !isUsable(each));
  return to(
    common,
    accepted(
      `attached to ${what}, listener ${sections(open)}${closed.length === 0 ? "" : ` (${sections(closed)} cannot be opened: see the ${set === undefined ? "Gateway" : "set"}'s status)`}`,
    ),
  );
}

function sections(listeners: readonly ListenerModel[]): string {
  return listeners.map(({ section }) => section).join(", ");
}

/** Whether requests or handshakes there say a host's name. */
function named(protocol: string): boolean {
  return protocol !== "TCP" && protocol !== "UDP";
}
