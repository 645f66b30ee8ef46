// Owns: what TLSRoute, TCPRoute and UDPRoute have in common: rules that only name backends, and what must hold of them.

import { ageColumn, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { extendSchema, notImplemented, type Schema } from "../schema.ts";
import {
  type BackendRef,
  checkBackends,
  checkHostnames,
  checkParents,
  checkRuleNames,
  gather,
  hostNames,
  type ParentRef,
  parentNames,
  sectionName,
} from "./gateway-refs.ts";

export interface Layer4Rule {
  readonly name?: string;
  readonly backendRefs?: readonly BackendRef[];
}

export interface Layer4RouteObject extends KubeObject {
  spec: { parentRefs?: ParentRef[]; hostnames?: string[]; rules?: Layer4Rule[] };
}

/** Newer than the published schema: names of rules. */
export function layer4Schema(published: Schema): Schema {
  return extendSchema(published, "rules[]", { name: sectionName });
}

export const layer4Unimplemented = { "spec.useDefaultGateways": "name a Gateway or a Service in spec.parentRefs" } as const;

/** `oneBackend`: datagrams of a session cannot be shared out by weight. */
export function layer4Rules(what: string, oneBackend: boolean): (object: KubeObject) => readonly Violation[] {
  return (object) => {
    const route = object as Layer4RouteObject;
    const rules = route.spec.rules ?? [];
    return gather((add) => {
      checkParents(route, add);
      checkHostnamesOf(route, add);
      if (rules.length > 1)
        add("spec.rules", `has ${rules.length} rules, but nothing tells ${what} apart, so only the first could ever be used; keep one`);
      for (const [at, rule] of rules.entries()) {
        const backends = rule.backendRefs ?? [];
        checkBackends(backends, `spec.rules[${at}]`, add);
        if (oneBackend && backends.filter((ref) => ref.weight !== 0).length > 1)
          add(`spec.rules[${at}].backendRefs`, notImplemented("a split of datagrams by weight", "give one backend a weight above 0"));
      }
      checkRuleNames(rules, add);
    });
  };
}

/** On a Service too hostnames have a meaning here: the name in a TLS handshake. */
function checkHostnamesOf(route: Layer4RouteObject, add: (path: string, message: string) => void): void {
  checkHostnames({ ...route, spec: { ...route.spec, parentRefs: [] } }, add);
}

const parentsColumn = textColumn("Parents", "Services and Gateways the route is attached to.", parentNames, 1);

/** Of TCP and UDP. */
export const layer4Columns = [parentsColumn, ageColumn];

export const tlsColumns = [
  textColumn("Hostnames", "Names in the TLS handshake that the route is for.", hostNames),
  parentsColumn,
  ageColumn,
];
