// Owns: the table of kinds that the compiler reads, and what each can be looked up by. A kind that is not here does not reach the compiler.
// A new kind is one constant and one line in `sources`; then `world.objects(thatConstant)` reads it, and whoever reads is told of changes.
// An index is for whoever would otherwise go through all objects of a kind: such a reader is computed anew with each of them that changes.

import type { AuthorizationPolicyObject } from "../api/kinds/authorizationpolicy.ts";
import { closedListeners } from "../api/kinds/closed-listeners.ts";
import {
  type DestinationRuleObject,
  failoverLabels,
  givesKey,
  mayTellApart,
  ruleHost,
  tlsPlaces,
} from "../api/kinds/destinationrule-spec.ts";
import { type EndpointSliceObject, sliceServiceLabel } from "../api/kinds/endpointslice.ts";
import type { HTTPRouteObject } from "../api/kinds/httproute-spec.ts";
import type { PeerAuthenticationObject } from "../api/kinds/peerauthentication.ts";
import type { RequestAuthenticationObject } from "../api/kinds/requestauthentication-spec.ts";
import { portProtocol, type ServiceObject } from "../api/kinds/service.ts";
import type { TelemetryObject } from "../api/kinds/telemetry.ts";
import {
  asksForLabels,
  boundGateways,
  delegates,
  speaksToMesh,
  type VirtualServiceObject,
  virtualHosts,
} from "../api/kinds/virtualservice-spec.ts";
import { isEndpoint, isHealthy, labelsOf, type WorkloadEntryObject } from "../api/kinds/workloadentry.ts";
import type { KubeObject } from "../api/meta.ts";
import { annotations, serviceHost } from "../wire/names.ts";
import { limitSources } from "./limit-sources.ts";
import { namespaceOf, type Source, source } from "./objects.ts";
import { byParent, type ParentIndex, routeSources } from "./route-sources.ts";

/** `NS/KEY=VALUE` for each label: a selector is answered by looking at one of its labels and filtering. */
function labelTexts(namespace: string, labels: Readonly<Record<string, string>>): string[] {
  return Object.entries(labels).map(([key, value]) => `${namespace}/${key}=${value}`);
}

export const serviceSource = source<ServiceObject, "host" | "selector" | "udp">("", "Service", {
  host: (service) => [serviceHost(service.metadata.name, namespaceOf(service))],
  /** Under every pair of its selector. */
  selector: (service) => labelTexts(namespaceOf(service), service.spec.selector ?? {}),
  /** Under "" where it has a port that carries datagrams. */
  udp: (service) => ((service.spec.ports ?? []).some((port) => portProtocol(port) === "udp") ? [""] : []),
});

export const workloadSource = source<WorkloadEntryObject, "label" | "address" | "gateway">(
  "networking.istio.io",
  "WorkloadEntry",
  {
    label: (entry) => labelTexts(namespaceOf(entry), labelsOf(entry)),
    address: (entry) => (entry.spec.address === undefined ? [] : [entry.spec.address]),
    /** `NS/NAME` of the Gateway whose ports it opens. */
    gateway: (entry) => {
      const name = entry.metadata.annotations?.[annotations.gateway];
      return name === undefined ? [] : [`${namespaceOf(entry)}/${name}`];
    },
  },
  (entry) => [isEndpoint(entry), isHealthy(entry), closedListeners(entry)],
);

export const sliceSource = source<EndpointSliceObject, "service">("discovery.k8s.io", "EndpointSlice", {
  /** `NS/NAME` of the Service it belongs to. */
  service: (slice) => [`${namespaceOf(slice)}/${slice.metadata.labels?.[sliceServiceLabel] ?? ""}`],
});

export const httpRouteSource = source<HTTPRouteObject, ParentIndex>("gateway.networking.k8s.io", "HTTPRoute", byParent);

export const destinationRuleSource = source<DestinationRuleObject, "host" | "wildcard" | "labels" | "apart" | "credential">(
  "networking.istio.io",
  "DestinationRule",
  {
    /** The whole name of the service it is about. */
    host: (rule) => [ruleHost(rule)],
    /** Under "" where that has a wildcard: while nobody does, nobody looks for them. */
    wildcard: (rule) => (ruleHost(rule).startsWith("*") ? [""] : []),
    /** Under "" where it asks for labels of the caller. */
    labels: (rule) => (rule.spec?.workloadSelector === undefined && failoverLabels(rule).length === 0 ? [] : [""]),
    /** Under "" where it may not speak to everybody who calls the host, or not tell them the same. */
    apart: (rule) => (mayTellApart(rule) || givesKey(rule) || failoverLabels(rule).length > 0 ? [""] : []),
    /** `NS/NAME` of each Secret that it refers to. */
    credential: (rule) => [
      ...new Set(
        tlsPlaces(rule).flatMap(({ tls }) => (tls.credentialName === undefined ? [] : [`${namespaceOf(rule)}/${tls.credentialName}`])),
      ),
    ],
  },
);

export const virtualServiceSource = source<VirtualServiceObject, "host" | "wildcard" | "gateway" | "delegate" | "labels">(
  "networking.istio.io",
  "VirtualService",
  {
    /** The whole name of each host that it speaks about to sidecars; a wildcard as it is written. */
    host: (service) => (speaksToMesh(service) ? virtualHosts(service) : []),
    /** Under "" where one of these has a wildcard. */
    wildcard: (service) => (speaksToMesh(service) && virtualHosts(service).some((host) => host.startsWith("*")) ? [""] : []),
    /** `NS/NAME` of each Gateway that it is bound to. */
    gateway: (service) => boundGateways(service),
    /** `NS/NAME` of each VirtualService that it delegates to. */
    delegate: (service) => delegates(service),
    /** Under "" where it asks for labels of the caller. */
    labels: (service) => (asksForLabels(service) ? [""] : []),
  },
);

export const policySource = source<AuthorizationPolicyObject>("security.istio.io", "AuthorizationPolicy", {});
export const requestAuthenticationSource = source<RequestAuthenticationObject>("security.istio.io", "RequestAuthentication", {});
export const peerAuthenticationSource = source<PeerAuthenticationObject>("security.istio.io", "PeerAuthentication", {});
export const telemetrySource = source<TelemetryObject>("telemetry.istio.io", "Telemetry", {});

export const sources = [
  serviceSource,
  workloadSource,
  sliceSource,
  httpRouteSource,
  destinationRuleSource,
  virtualServiceSource,
  policySource,
  requestAuthenticationSource,
  peerAuthenticationSource,
  telemetrySource,
  ...routeSources,
  ...limitSources,
] as unknown as readonly Source<KubeObject, string>[];
