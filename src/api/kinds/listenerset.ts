// Owns: ListenerSet of gateway.networking.k8s.io, and XListenerSet, its experimental form: further listeners of a Gateway, written by somebody else.

import { ageColumn, type DefinedKind, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { type Schema, show } from "../schema.ts";
import { conditionOf, gatewaySpec, listenerRules } from "./gateway.ts";
import { gatewayGroup, gather, type ListenerSetKind, listenerSetGroups } from "./gateway-refs.ts";
import { tlsFiles } from "./gateway-spec.ts";
import type { ListenerSetObject } from "./listenerset-spec.ts";

/** GEP-1713, ParentGatewayReference. */
const parentRef: Schema = {
  type: "object",
  required: ["name"],
  properties: {
    group: { type: "string", maxLength: 253, default: gatewayGroup },
    kind: { type: "string", minLength: 1, maxLength: 63, default: "Gateway" },
    name: { type: "string", minLength: 1, maxLength: 253 },
    namespace: { type: "string", minLength: 1, maxLength: 63, pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" },
  },
};

/** A listener is what it is in a Gateway. */
const spec: Schema = {
  type: "object",
  required: ["parentRef", "listeners"],
  properties: { parentRef, listeners: gatewaySpec.properties?.listeners ?? {} },
};

function listenerSet(kind: ListenerSetKind, version: string, shortNames: readonly string[], notes: readonly string[]): DefinedKind {
  return defineKind({
    group: listenerSetGroups[kind],
    versions: [version],
    kind,
    plural: `${kind.toLowerCase()}s`,
    shortNames,
    categories: ["gateway-api"],
    namespaced: true,
    hasStatus: true,
    requiredFields: ["spec"],
    fields: { spec },
    unimplemented: {
      "spec.listeners[].tls.frontendValidation":
        "client certificates are not asked for: use an AuthorizationPolicy on addresses, or a TLS listener with Passthrough",
    },
    notes,
    rules: listenerSetRules,
    columns: [
      textColumn("Accepted", "Whether the Gateway takes them.", (object) => conditionOf(object, "Accepted")),
      textColumn("Programmed", "Whether their ports are open.", (object) => conditionOf(object, "Programmed")),
      ageColumn,
      textColumn("Gateway", "Gateway whose listeners they are.", gatewayOf, 1),
    ],
  });
}

export const listenerSetKind = listenerSet(
  "ListenerSet",
  "v1",
  ["lset"],
  [
    "The Gateway must allow it: `allowedListeners` there names the namespaces that may (none, unless it says so). Its processes open the ports.",
    "Listeners conflict as those of one Gateway do: the Gateway's own go first, then those of the oldest set, then of the first by namespace and name. The other listeners of a set stay open.",
    "Routes attach to a set by parentRefs of its kind, and then to its listeners alone; those attached to the Gateway, and VirtualServices, speak at the Gateway's own. `allowedRoutes` is seen from the set's namespace.",
    "Certificates come from Secrets of the set's namespace, or of others by a ReferenceGrant for ListenerSets; files of the Gateway's machine are the Gateway's alone.",
  ],
);

export const xListenerSetKind = listenerSet(
  "XListenerSet",
  "v1alpha1",
  [],
  ["The experimental form of ListenerSet, and the same in everything."],
);

function gatewayOf(object: KubeObject): string {
  const { parentRef: ref } = (object as ListenerSetObject).spec ?? {};
  return ref === undefined ? "" : ref.namespace === undefined ? ref.name : `${ref.namespace}/${ref.name}`;
}

function listenerSetRules(object: KubeObject): Violation[] {
  const { parentRef: ref, listeners } = (object as ListenerSetObject).spec;
  return gather((add) => {
    const { group = gatewayGroup, kind = "Gateway" } = ref;
    if (kind !== "Gateway" || group !== gatewayGroup)
      add("spec.parentRef", `listeners belong to a Gateway of group ${gatewayGroup}, not to ${show(kind)} of group ${show(group)}`);
    listenerRules(listeners, add);
    for (const [at, { tls }] of listeners.entries())
      for (const name of Object.values(tlsFiles))
        if (tls?.options?.[name] !== undefined)
          add(
            `spec.listeners[${at}].tls.options["${name}"]`,
            "files on the Gateway's machine are for its own listeners; name a Secret in certificateRefs",
          );
  });
}
