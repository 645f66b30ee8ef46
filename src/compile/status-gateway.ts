// Owns: what Gateways and GatewayClasses are told: conditions of the whole and of each listener, addresses, how many routes are attached.

import type { ListenerSetKind } from "../api/kinds/gateway-refs.ts";
import type { GatewayClassObject, GatewayObject } from "../api/kinds/gateway-spec.ts";
import { gatewayController, routeKindsOf } from "../api/kinds/gateway-spec.ts";
import { isHealthy } from "../api/kinds/workloadentry.ts";
import type { Condition, KubeObject } from "../api/meta.ts";
import { condition } from "./condition.ts";
import { processesOf, type Standing, standings } from "./gateway-ports.ts";
import { type GatewayModel, gatewayModel, isUsable, type ListenerModel } from "./policies/gateway.ts";
import { attachedRoutes } from "./policies/gateway-plan.ts";
import { gatewayClassSource, gatewayOfSet, gatewaySource, istioGatewaySource, listenerSetSources } from "./route-sources.ts";
import { workloadSource } from "./sources.ts";
import { namespaceOf, type World } from "./world.ts";

/** Gateway API, GatewayStatusAddress: at most 16. */
const mostAddresses = 16;

export function gatewayStatus(world: World, key: string): Record<string, unknown> | undefined {
  return statusOf(world, key, world.objects(gatewaySource).get(key));
}

/** The same of Istio's kind, which has no words of its own for this. */
export function istioGatewayStatus(world: World, key: string): Record<string, unknown> | undefined {
  const gateway = world.objects(istioGatewaySource).get(key);
  if (gateway === undefined || world.objects(gatewaySource).get(key) === undefined) return statusOf(world, key, gateway);
  const words = `Gateway ${key} of Gateway API has this name too, and is opened in its place`;
  return { conditions: [condition(gateway, "Accepted", false, "Conflicted", words)] };
}

function statusOf(world: World, key: string, gateway: KubeObject | undefined): Record<string, unknown> | undefined {
  const model = gatewayModel(world, key);
  if (gateway === undefined || model === undefined) return undefined;
  const processes = world.objects(workloadSource).by("gateway", key).filter(isHealthy);
  const addresses = [...new Set(processes.flatMap(({ spec }) => spec.address ?? []))].sort().slice(0, mostAddresses);
  const open = processesOf(world, key).length > 0;
  const own = model.listeners.filter(({ set }) => set === undefined);
  const bad = own.filter((each) => !isUsable(each) || each.unresolved !== undefined).map(({ name }) => name);
  const allowed = (gateway as Partial<GatewayObject>).spec?.allowedListeners;
  const accepted =
    bad.length === 0
      ? condition(gateway, "Accepted", true, "Accepted", "every listener is understood")
      : condition(gateway, "Accepted", own.some(isUsable), "ListenersNotValid", `listener ${bad.join(", ")}: see its own conditions`);
  return {
    addresses: addresses.map((value) => ({ type: "IPAddress", value })),
    conditions: [accepted, programmed(gateway, open, own.filter(isUsable).map(standings(world, key)))],
    ...(allowed === undefined ? {} : { attachedListenerSets: model.sets.filter((set) => isOpened(model, set)).length }),
    listeners: listenerStatuses(world, key, gateway, own),
  };
}

function listenerStatuses(world: World, key: string, owner: KubeObject, listeners: readonly ListenerModel[]): Record<string, unknown>[] {
  const counts = attachedRoutes(world, key);
  const standingOf = standings(world, key);
  return listeners.map((listener) => ({
    name: listener.section,
    ...(listener.set === undefined ? {} : { port: listener.port }),
    supportedKinds: listener.kinds.map((kind) => ({ group: "gateway.networking.k8s.io", kind })),
    attachedRoutes: counts[listener.name] ?? 0,
    conditions: listenerConditions(owner, listener, standingOf),
  }));
}

/** Some listener of the set can be opened: it counts as attached (GEP-1713, GatewayStatus.AttachedListenerSets). */
function isOpened(model: GatewayModel, set: string): boolean {
  return model.listeners.some((each) => each.set === set && isUsable(each));
}

/** Of a ListenerSet of either kind; nothing where its Gateway is somebody else's. */
export function listenerSetStatus(kind: ListenerSetKind): (world: World, key: string) => Record<string, unknown> | undefined {
  return (world, key) => {
    const set = world.objects(listenerSetSources[kind]).get(key);
    if (set === undefined) return undefined;
    const gateway = gatewayOfSet(set);
    const model = gatewayModel(world, gateway);
    const both = (fine: boolean, reason: string, message: string) =>
      ["Accepted", "Programmed"].map((type) => condition(set, type, fine, reason, message));
    if (model === undefined) {
      if (world.objects(gatewaySource).get(gateway) !== undefined) return undefined;
      return { conditions: both(false, "ParentNotAccepted", `there is no Gateway ${gateway}; its listeners are opened when there is one`) };
    }
    const name = `${kind} ${key}`;
    if (!model.sets.includes(name)) {
      const words = `Gateway ${gateway} takes no ListenerSets of namespace ${namespaceOf(set)}: its allowedListeners must name it`;
      return { conditions: both(false, "NotAllowed", words) };
    }
    const own = model.listeners.filter((each) => each.set === name);
    const bad = own.filter((each) => !isUsable(each) || each.unresolved !== undefined).map(({ section }) => section);
    const words = bad.length === 0 ? "every listener is understood" : `listener ${bad.join(", ")}: see its own conditions`;
    const conditions = !isOpened(model, name)
      ? both(false, "ListenersNotValid", words)
      : [
          condition(set, "Accepted", true, "Accepted", words),
          programmedBy(set, own.filter(isUsable).map(standings(world, gateway)), "the Gateway's processes have the listeners"),
        ];
    return { conditions, listeners: listenerStatuses(world, gateway, set, own) };
  };
}

/** One listener that is served will do: each has conditions of its own. */
function programmedBy(owner: KubeObject, usable: readonly Standing[], words: string): Condition {
  const [first] = usable;
  if (first === undefined) return condition(owner, "Programmed", false, "Invalid", "no listener can be opened");
  if (usable.some((each) => each.programmed)) return condition(owner, "Programmed", true, "Programmed", words);
  return condition(owner, "Programmed", false, first.reason, first.message);
}

function programmed(gateway: KubeObject, open: boolean, usable: readonly Standing[]): Condition {
  if (!open)
    return condition(
      gateway,
      "Programmed",
      false,
      "AddressNotAssigned",
      `no process serves it; start one: weft gateway ${gateway.metadata.name} --namespace ${gateway.metadata.namespace ?? "default"}`,
    );
  return programmedBy(gateway, usable, "its processes have the listeners");
}

function listenerConditions(gateway: KubeObject, listener: ListenerModel, standingOf: (listener: ListenerModel) => Standing): Condition[] {
  const { conflict, unresolved } = listener;
  const {
    programmed: served,
    reason,
    message,
  } = isUsable(listener) ? standingOf(listener) : { programmed: false, reason: "Invalid", message: "it cannot be opened" };
  return [
    conflict === undefined
      ? condition(gateway, "Accepted", true, "Accepted", `port ${listener.port}, ${listener.protocol}`)
      : condition(gateway, "Accepted", false, "PortUnavailable", conflict.message),
    conflict === undefined
      ? condition(gateway, "Conflicted", false, "NoConflicts", "no other listener stands in its way")
      : condition(gateway, "Conflicted", true, conflict.reason, conflict.message),
    unresolved === undefined
      ? condition(gateway, "ResolvedRefs", true, "ResolvedRefs", "every reference is resolved")
      : condition(gateway, "ResolvedRefs", false, unresolved.reason, unresolved.message),
    condition(gateway, "Programmed", served, reason, message),
  ];
}

/** GEP-2162: what of the standard is there, in its names, sorted. */
const features = [
  "BackendTLSPolicy",
  "BackendTLSPolicySANValidation",
  "GRPCRoute",
  "GRPCRouteNamedRouteRule",
  "Gateway",
  "GatewayHTTPListenerIsolation",
  "GatewayPort8080",
  "HTTPRoute",
  "HTTPRoute303RedirectStatusCode",
  "HTTPRoute307RedirectStatusCode",
  "HTTPRoute308RedirectStatusCode",
  "HTTPRouteBackendProtocolH2C",
  "HTTPRouteBackendProtocolWebSocket",
  "HTTPRouteBackendRequestHeaderModification",
  "HTTPRouteBackendTimeout",
  "HTTPRouteCORS",
  "HTTPRouteDestinationPortMatching",
  "HTTPRouteHostRewrite",
  "HTTPRouteMethodMatching",
  "HTTPRouteNamedRouteRule",
  "HTTPRouteParentRefPort",
  "HTTPRoutePathRedirect",
  "HTTPRoutePathRewrite",
  "HTTPRoutePortRedirect",
  "HTTPRouteQueryParamMatching",
  "HTTPRouteRequestMirror",
  "HTTPRouteRequestMultipleMirrors",
  "HTTPRouteRequestPercentageMirror",
  "HTTPRouteRequestTimeout",
  "HTTPRouteResponseHeaderModification",
  "HTTPRouteSchemeRedirect",
  "ListenerSet",
  "Mesh",
  "MeshConsumerRoute",
  "MeshHTTPRouteBackendRequestHeaderModification",
  "MeshHTTPRouteNamedRouteRule",
  "MeshHTTPRouteQueryParamMatching",
  "MeshHTTPRouteRedirectPath",
  "MeshHTTPRouteRedirectPort",
  "MeshHTTPRouteRewritePath",
  "MeshHTTPRouteSchemeRedirect",
  "ReferenceGrant",
  "TCPRoute",
  "TLSRoute",
  "TLSRouteModeMixed",
  "TLSRouteModeTerminate",
  "UDPRoute",
].sort();

export function gatewayClassStatus(world: World, key: string): Record<string, unknown> | undefined {
  const found: GatewayClassObject | undefined = world.objects(gatewayClassSource).get(key);
  if (found === undefined || found.spec.controllerName !== gatewayController) return undefined;
  const kinds = [...new Set(Object.values(routeKindsOf).flat())].sort();
  return {
    conditions: [condition(found, "Accepted", true, "Accepted", `its Gateways take ${kinds.join(", ")}; weft gateway NAME serves one`)],
    supportedFeatures: features.map((name) => ({ name })),
  };
}
