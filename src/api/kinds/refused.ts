// Owns: kinds of Istio and of the Gateway API's experiments that Weft does not build. They are served, so that whoever applies one is told at once what to use instead; every object is
// refused, and none is ever stored. Never accepts anything: a policy that is not enforced must not be believed in.

import { ageColumn, type DefinedKind, defineKind } from "../define.ts";
import { notImplemented } from "../schema.ts";

interface Refused {
  readonly group: string;
  readonly versions: readonly string[];
  readonly kind: string;
  readonly plural: string;
  readonly shortNames?: readonly string[];
  /** Default: Istio's. */
  readonly categories?: readonly string[];
  /** Default true. */
  readonly namespaced?: boolean;
  /** What it would do, and what to use in its place. */
  readonly instead: string;
}

function refused({ instead, ...names }: Refused): DefinedKind {
  return defineKind({
    categories: ["istio-io"],
    namespaced: true,
    ...names,
    hasStatus: false,
    columns: [ageColumn],
    // Whatever it says is refused as a whole.
    fields: { spec: { type: "any" } },
    notes: [`Refused, whatever it says: ${instead}.`],
    rules: () => [{ path: "kind", message: notImplemented(names.kind, instead) }],
  });
}

export const refusedKinds: readonly DefinedKind[] = [
  refused({
    group: "networking.istio.io",
    versions: ["v1alpha3"],
    kind: "EnvoyFilter",
    plural: "envoyfilters",
    instead:
      "say it with routes (HTTPRoute, VirtualService), DestinationRule, RateLimitPolicy, OverloadPolicy or Telemetry; configuration of proxies cannot be patched",
  }),
  refused({
    group: "extensions.istio.io",
    versions: ["v1alpha1"],
    kind: "WasmPlugin",
    plural: "wasmplugins",
    instead:
      "use a route's filters (headers, rewrites, mirrors, CORS, ExternalAuth, which asks a service of yours), or a service of your own on the way; proxies run no foreign code",
  }),
  refused({
    group: "gateway.networking.x-k8s.io",
    versions: ["v1alpha1"],
    kind: "XBackendTrafficPolicy",
    plural: "xbackendtrafficpolicies",
    shortNames: ["xbtrafficpolicy"],
    categories: ["gateway-api"],
    instead:
      "sessions are kept by sessionPersistence in rules of an HTTPRoute or a GRPCRoute; retries have a budget without being told: they add at most a fifth to a caller's requests",
  }),
  refused({
    group: "gateway.networking.x-k8s.io",
    versions: ["v1alpha1"],
    kind: "XMesh",
    plural: "xmeshes",
    categories: ["gateway-api"],
    namespaced: false,
    instead:
      "there is nothing to choose: routes whose parents are Services are this mesh's, and what is served stands in the GatewayClass's supportedFeatures",
  }),
];
