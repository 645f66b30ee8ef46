// Owns: how the compiler looks up the kinds of Gateway API, ServiceEntries and what they refer to. Entries of the table in ./sources.ts.

import type { BackendTlsPolicyObject } from "../api/kinds/backendtlspolicy-spec.ts";
import type { ConfigMapObject } from "../api/kinds/configmap.ts";
import type { Layer4RouteObject } from "../api/kinds/gateway-layer4.ts";
import type { AnyRouteObject, ParentRef } from "../api/kinds/gateway-refs.ts";
import { gatewayGroup, isListenerSetKind, isServiceParent, listenerSetGroups } from "../api/kinds/gateway-refs.ts";
import type { SecretObject } from "../api/kinds/gateway-secret.ts";
import type { GatewayClassObject, GatewayObject, ReferenceGrantObject } from "../api/kinds/gateway-spec.ts";
import type { GRPCRouteObject } from "../api/kinds/grpcroute-spec.ts";
import type { IstioGatewayObject } from "../api/kinds/istiogateway-spec.ts";
import type { ListenerSetObject } from "../api/kinds/listenerset-spec.ts";
import type { ServiceEntryObject } from "../api/kinds/serviceentry-spec.ts";
import type { SidecarObject } from "../api/kinds/sidecar-spec.ts";
import type { KubeObject } from "../api/meta.ts";
import { namespaceOf, source } from "./objects.ts";

/** `NS/NAME` of each parent of a sort, once. */
function parents(route: AnyRouteObject, wanted: (ref: ParentRef) => boolean): string[] {
  return [...new Set((route.spec.parentRefs ?? []).filter(wanted).map((ref) => `${ref.namespace ?? namespaceOf(route)}/${ref.name}`))];
}

/** How routes of every kind are looked up. */
export const byParent = {
  /** `NS/NAME` of each Service it is attached to. */
  parent: (route: AnyRouteObject) => parents(route, isServiceParent),
  /** `NS/NAME` of each Gateway. */
  gateway: (route: AnyRouteObject) => parents(route, (ref) => (ref.kind ?? "Gateway") === "Gateway"),
  /** `KIND NS/NAME` of each ListenerSet. */
  set: (route: AnyRouteObject) => [
    ...new Set(
      (route.spec.parentRefs ?? [])
        .filter((ref) => isListenerSetKind(ref.kind))
        .map((ref) => `${ref.kind} ${ref.namespace ?? namespaceOf(route)}/${ref.name}`),
    ),
  ],
};

export type ParentIndex = keyof typeof byParent;

export const grpcRouteSource = source<GRPCRouteObject, ParentIndex>(gatewayGroup, "GRPCRoute", byParent);
export const tlsRouteSource = source<Layer4RouteObject, ParentIndex>(gatewayGroup, "TLSRoute", byParent);
export const tcpRouteSource = source<Layer4RouteObject, ParentIndex>(gatewayGroup, "TCPRoute", byParent);
export const udpRouteSource = source<Layer4RouteObject, ParentIndex>(gatewayGroup, "UDPRoute", byParent);

const ofGateway = {
  /** `NS/NAME` of the Gateway. */
  gateway: (set: ListenerSetObject) => [gatewayOfSet(set)],
};

export const listenerSetSources = {
  ListenerSet: source<ListenerSetObject, "gateway">(listenerSetGroups.ListenerSet, "ListenerSet", ofGateway),
  XListenerSet: source<ListenerSetObject, "gateway">(listenerSetGroups.XListenerSet, "XListenerSet", ofGateway),
} as const;

/** `NS/NAME` */
export function gatewayOfSet(set: ListenerSetObject): string {
  return `${set.spec.parentRef.namespace ?? namespaceOf(set)}/${set.spec.parentRef.name}`;
}

export const gatewaySource = source<GatewayObject>(gatewayGroup, "Gateway", {});
export const istioGatewaySource = source<IstioGatewayObject>("networking.istio.io", "Gateway", {});
export const gatewayClassSource = source<GatewayClassObject>(gatewayGroup, "GatewayClass", {});
export const grantSource = source<ReferenceGrantObject>(gatewayGroup, "ReferenceGrant", {});
export const backendTlsSource = source<BackendTlsPolicyObject, "target">(gatewayGroup, "BackendTLSPolicy", {
  /** `NS/NAME` of each Service it is for. */
  target: (policy) => [...new Set(policy.spec.targetRefs.map((ref) => `${namespaceOf(policy)}/${ref.name}`))],
});
export const configMapSource = source<ConfigMapObject>("", "ConfigMap", {});
export const secretSource = source<SecretObject>("", "Secret", {});
export const namespaceSource = source<KubeObject>("", "Namespace", {});

export const serviceEntrySource = source<ServiceEntryObject, "host">("networking.istio.io", "ServiceEntry", {
  host: (entry) => entry.spec.hosts,
});

export const sidecarSource = source<SidecarObject>("networking.istio.io", "Sidecar", {});

/** All of them. */
export const routeSources = [
  grpcRouteSource,
  tlsRouteSource,
  tcpRouteSource,
  udpRouteSource,
  gatewaySource,
  listenerSetSources.ListenerSet,
  listenerSetSources.XListenerSet,
  istioGatewaySource,
  gatewayClassSource,
  grantSource,
  backendTlsSource,
  configMapSource,
  secretSource,
  namespaceSource,
  serviceEntrySource,
  sidecarSource,
] as const;
