// Owns: what Gateways and GatewayClasses are told: conditions of the whole and of each listener, addresses, how many routes are attached.

import type { GatewayClassObject } from "../api/kinds/gateway-spec.ts";
import { gatewayController, routeKindsOf } from "../api/kinds/gateway-spec.ts";
import { isHealthy } from "../api/kinds/workloadentry.ts";
import type { Condition, KubeObject } from "../api/meta.ts";
import { condition } from "./condition.ts";
import { gatewayModel, isUsable, type ListenerModel } from "./policies/gateway.ts";
import { attachedRoutes } from "./policies/gateway-plan.ts";
import { gatewayClassSource, gatewaySource, istioGatewaySource } from "./route-sources.ts";
import { workloadSource } from "./sources.ts";
import type { World } from "./world.ts";

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
  const open = addresses.length > 0;
  const bad = model.listeners.filter((each) => !isUsable(each) || each.unresolved !== undefined).map(({ name }) => name);
  const counts = attachedRoutes(world, key);
  const accepted =
    bad.length === 0
      ? condition(gateway, "Accepted", true, "Accepted", "every listener is understood")
      : condition(
          gateway,
          "Accepted",
          model.listeners.some(isUsable),
          "ListenersNotValid",
          `listener ${bad.join(", ")}: see its own conditions`,
        );
  return {
    addresses: addresses.map((value) => ({ type: "IPAddress", value })),
    conditions: [accepted, programmed(gateway, open, model.listeners.some(isUsable))],
    listeners: model.listeners.map((listener) => ({
      name: listener.name,
      supportedKinds: listener.kinds.map((kind) => ({ group: "gateway.networking.k8s.io", kind })),
      attachedRoutes: counts[listener.name] ?? 0,
      conditions: listenerConditions(gateway, listener, open),
    })),
  };
}

function programmed(gateway: KubeObject, open: boolean, usable: boolean): Condition {
  if (!open)
    return condition(
      gateway,
      "Programmed",
      false,
      "AddressNotAssigned",
      `no process serves it; start one: weft gateway ${gateway.metadata.name} --namespace ${gateway.metadata.namespace ?? "default"}`,
    );
  return usable
    ? condition(gateway, "Programmed", true, "Programmed", "its processes have the listeners")
    : condition(gateway, "Programmed", false, "Invalid", "no listener can be opened");
}

function listenerConditions(gateway: KubeObject, listener: ListenerModel, open: boolean): Condition[] {
  const { conflict, unresolved } = listener;
  const usable = isUsable(listener);
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
    usable && open
      ? condition(gateway, "Programmed", true, "Programmed", "in the configuration of the Gateway's processes")
      : condition(
          gateway,
          "Programmed",
          false,
          usable ? "Pending" : "Invalid",
          usable ? "no process serves the Gateway" : "it cannot be opened",
        ),
  ];
}

/** GEP-2162: what of the standard is there, in its names, sorted. */
const features = [
  "BackendTLSPolicy",
  "BackendTLSPolicySANValidation",
  "GRPCRoute",
  "Gateway",
  "GatewayPort8080",
  "HTTPRoute",
  "HTTPRoute303RedirectStatusCode",
  "HTTPRoute307RedirectStatusCode",
  "HTTPRoute308RedirectStatusCode",
  "HTTPRouteBackendRequestHeaderModification",
  "HTTPRouteBackendTimeout",
  "HTTPRouteCORS",
  "HTTPRouteDestinationPortMatching",
  "HTTPRouteHostRewrite",
  "HTTPRouteMethodMatching",
  "HTTPRouteNamedRouteRule",
  "HTTPRoutePathRedirect",
  "HTTPRoutePathRewrite",
  "HTTPRouteParentRefPort",
  "HTTPRoutePortRedirect",
  "HTTPRouteQueryParamMatching",
  "HTTPRouteRequestMirror",
  "HTTPRouteRequestMultipleMirrors",
  "HTTPRouteRequestPercentageMirror",
  "HTTPRouteRequestTimeout",
  "HTTPRouteResponseHeaderModification",
  "HTTPRouteSchemeRedirect",
  "Mesh",
  "MeshConsumerRoute",
  "ReferenceGrant",
  "TCPRoute",
  "TLSRoute",
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
