// Owns: the table of kinds. A new kind is one file in kinds/ and one line here; nothing else in the server, the CLI or the documentation names kinds.

import type { DefinedKind } from "./define.ts";
import { authorizationPolicyKind } from "./kinds/authorizationpolicy.ts";
import { backendTlsPolicyKind } from "./kinds/backendtlspolicy.ts";
import { configMapKind } from "./kinds/configmap.ts";
import { destinationRuleKind } from "./kinds/destinationrule.ts";
import { endpointSliceKind } from "./kinds/endpointslice.ts";
import { eventKind } from "./kinds/event.ts";
import { gatewayKind } from "./kinds/gateway.ts";
import { secretKind } from "./kinds/gateway-secret.ts";
import { gatewayClassKind } from "./kinds/gatewayclass.ts";
import { grpcRouteKind } from "./kinds/grpcroute.ts";
import { hedgingPolicyKind } from "./kinds/hedgingpolicy.ts";
import { httpRouteKind } from "./kinds/httproute.ts";
import { istioGatewayKind } from "./kinds/istiogateway.ts";
import { joinTokenKind } from "./kinds/jointoken.ts";
import { leaseKind } from "./kinds/lease.ts";
import { listenerSetKind, xListenerSetKind } from "./kinds/listenerset.ts";
import { edgeKind, meshKind, proxyKind } from "./kinds/live.ts";
import { namespaceKind } from "./kinds/namespace.ts";
import { overloadPolicyKind } from "./kinds/overloadpolicy.ts";
import { peerAuthenticationKind } from "./kinds/peerauthentication.ts";
import { proxyConfigKind } from "./kinds/proxyconfig.ts";
import { rateLimitPolicyKind } from "./kinds/ratelimitpolicy.ts";
import { clusterRoleBindingKind, clusterRoleKind, roleBindingKind, roleKind } from "./kinds/rbac.ts";
import { referenceGrantKind } from "./kinds/referencegrant.ts";
import { refusedKinds } from "./kinds/refused.ts";
import { requestAuthenticationKind } from "./kinds/requestauthentication.ts";
import { revocationKind } from "./kinds/revocation.ts";
import { serviceKind } from "./kinds/service.ts";
import { serviceEntryKind } from "./kinds/serviceentry.ts";
import { sidecarKind } from "./kinds/sidecar.ts";
import { tcpRouteKind } from "./kinds/tcproute.ts";
import { telemetryKind } from "./kinds/telemetry.ts";
import { tlsRouteKind } from "./kinds/tlsroute.ts";
import { trafficShiftKind } from "./kinds/trafficshift.ts";
import { udpRouteKind } from "./kinds/udproute.ts";
import { userKind } from "./kinds/user.ts";
import { virtualServiceKind } from "./kinds/virtualservice.ts";
import { workloadEntryKind } from "./kinds/workloadentry.ts";
import { workloadGroupKind } from "./kinds/workloadgroup.ts";
import { type KubeObject, resourceOf } from "./meta.ts";

/** Every kind served. Their columns come after NAME (and NAMESPACE), which every table begins with. */
export const kinds: readonly DefinedKind[] = [
  namespaceKind,
  serviceKind,
  endpointSliceKind,
  // Before Istio's group: of two kinds of one name the first group's is meant where no group is said, by kubectl too.
  gatewayClassKind,
  gatewayKind,
  listenerSetKind,
  xListenerSetKind,
  workloadEntryKind,
  workloadGroupKind,
  serviceEntryKind,
  referenceGrantKind,
  secretKind,
  configMapKind,
  httpRouteKind,
  grpcRouteKind,
  tlsRouteKind,
  tcpRouteKind,
  udpRouteKind,
  backendTlsPolicyKind,
  destinationRuleKind,
  virtualServiceKind,
  sidecarKind,
  istioGatewayKind,
  authorizationPolicyKind,
  requestAuthenticationKind,
  peerAuthenticationKind,
  telemetryKind,
  proxyConfigKind,
  ...refusedKinds,
  trafficShiftKind,
  rateLimitPolicyKind,
  overloadPolicyKind,
  hedgingPolicyKind,
  eventKind,
  leaseKind,
  joinTokenKind,
  revocationKind,
  userKind,
  roleKind,
  clusterRoleKind,
  roleBindingKind,
  clusterRoleBindingKind,
  meshKind,
  proxyKind,
  edgeKind,
];

/** The kind served at an API path: its group, one of its versions, and its plural name. */
export function kindByPath(group: string, version: string, plural: string): DefinedKind | undefined {
  return kinds.find((kind) => kind.group === group && kind.plural === plural && kind.versions.includes(version));
}

/** The kind of an object as its `apiVersion` and `kind` say; undefined if it is not served. */
export function kindOf(object: Pick<KubeObject, "apiVersion" | "kind">): DefinedKind | undefined {
  const slash = object.apiVersion.indexOf("/");
  const group = slash < 0 ? "" : object.apiVersion.slice(0, slash);
  const version = object.apiVersion.slice(slash + 1);
  return kinds.find((kind) => kind.kind === object.kind && kind.group === group && kind.versions.includes(version));
}

/** The kind behind a store key such as `httproutes.gateway.networking.k8s.io`. */
export function kindByResource(resource: string): DefinedKind | undefined {
  return kinds.find((kind) => resourceOf(kind) === resource);
}

/** What a user may type: plural, singular, short name or kind in any case, with or without `.GROUP`. */
export function kindByName(typed: string): DefinedKind | undefined {
  const wanted = typed.toLowerCase();
  return kinds.find((kind) =>
    [kind.plural, kind.singular, ...kind.shortNames].some((name) => name === wanted || `${name}.${kind.group}` === wanted),
  );
}
