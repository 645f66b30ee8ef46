// Owns: what a route's reference to a parent leads to: ports of a Service, or listeners of a Gateway; and the Accepted condition that says so, in the
// standard's reasons. Never looks at other routes.

import { type AnyRouteObject, isServiceParent, type ParentRef } from "../../api/kinds/gateway-refs.ts";
import type { PortProtocol } from "../../api/kinds/service.ts";
import { outboundCluster } from "../../wire/names.ts";
import { gatewaySource } from "../route-sources.ts";
import { namespaceOf, type ServicePortModel, type World } from "../world.ts";
import { nameOf } from "./backends.ts";
import { gatewayModel, isUsable, takesFrom } from "./gateway.ts";
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

function attachToGateway(world: World, route: AnyRouteObject, ref: ParentRef): Attached {
  const key = `${ref.namespace ?? namespaceOf(route)}/${ref.name}`;
  const model = gatewayModel(world, key);
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
  const meant = model.listeners.filter(
    (each) => (ref.sectionName === undefined || each.name === ref.sectionName) && (ref.port === undefined || each.port === ref.port),
  );
  if (meant.length === 0)
    return to(
      [],
      refused(
        "NoMatchingParent",
        `Gateway ${key} has no listener ${ref.sectionName ?? ""}${ref.port === undefined ? "" : ` on port ${ref.port}`}; it has ${model.listeners.map((each) => `${each.name}:${each.port}`).join(", ")}`,
      ),
    );
  const namespace = namespaceOf(route);
  const allowed = meant.filter((each) => each.kinds.includes(route.kind) && takesFrom(world, model.namespace, each, namespace));
  if (allowed.length === 0) {
    const kinds = meant.some((each) => each.kinds.includes(route.kind));
    const words = kinds
      ? `does not take routes from namespace ${namespace} (allowedRoutes.namespaces)`
      : `takes no ${route.kind} (protocol ${meant.map((each) => each.protocol).join(", ")})`;
    return to([], refused("NotAllowedByListeners", `listener ${meant.map((each) => each.name).join(", ")} of Gateway ${key} ${words}`));
  }
  const common = allowed
    .map((each) => ({ name: each.name, hosts: named(each.protocol) ? intersect(each.hostname, route.spec.hostnames ?? []) : ["*"] }))
    .filter(({ hosts }) => hosts.length > 0);
  if (common.length === 0)
    return to(
      [],
      refused(
        "NoMatchingListenerHostname",
        `${nameOf(route)} is for ${(route.spec.hostnames ?? []).join(", ")}, listener ${allowed.map((each) => `${each.name} for ${each.hostname}`).join(", ")}`,
      ),
    );
  const closed = allowed.filter((each) => !isUsable(each)).map((each) => each.name);
  return to(
    common,
    accepted(
      `attached to Gateway ${key}, listener ${common.map((each) => each.name).join(", ")}${closed.length === 0 ? "" : ` (${closed.join(", ")} cannot be opened: see the Gateway's status)`}`,
    ),
  );
}

/** Whether requests or handshakes there say a host's name. */
function named(protocol: string): boolean {
  return protocol !== "TCP" && protocol !== "UDP";
}
