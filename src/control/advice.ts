// Owns: what a writer is told about an object that is accepted: it has no effect now, or one that may surprise. Goes out as Warning headers,
// which kubectl and weft print. Pure. Never a reason to refuse: what is not there yet may come.

import { type AuthorizationPolicyObject, rootNamespace } from "../api/kinds/authorizationpolicy.ts";
import type { BackendTlsPolicyObject } from "../api/kinds/backendtlspolicy-spec.ts";
import type { DestinationRuleObject } from "../api/kinds/destinationrule-spec.ts";
import { type AnyRouteObject, type BackendRef, isService, type ParentRef } from "../api/kinds/gateway-refs.ts";
import type { HTTPRouteObject } from "../api/kinds/httproute-spec.ts";
import { type PeerAuthenticationObject, stated } from "../api/kinds/peerauthentication.ts";
import type { VirtualServiceObject } from "../api/kinds/virtualservice-spec.ts";
import type { EdgeObject } from "../api/live.ts";
import type { KubeObject } from "../api/meta.ts";
import { matchesLabels } from "../api/selector.ts";
import { attach } from "../compile/policies/parents.ts";
import { targetProblems } from "../compile/status-limits.ts";
import { namespaceOf, type WorkloadModel, type World } from "../compile/world.ts";
import { destinationRuleAdvice, plainRules, virtualServiceAdvice } from "./advice-istio.ts";

/** Names listed in one warning; headers are short. */
const mostNames = 3;

/** `edges`: traffic of the last seconds; asked only where it matters. */
export function advise(world: World, candidate: KubeObject, edges: () => readonly EdgeObject[]): string[] {
  switch (candidate.kind) {
    case "AuthorizationPolicy":
    case "RequestAuthentication":
    case "Telemetry":
      return selectsNobody(world, candidate as AuthorizationPolicyObject);
    case "PeerAuthentication":
      return [
        ...selectsNobody(world, candidate as AuthorizationPolicyObject),
        ...plainCallers(world, candidate as PeerAuthenticationObject, edges),
      ];
    case "VirtualService":
      return few(virtualServiceAdvice(world, candidate as VirtualServiceObject));
    case "DestinationRule":
      return few(destinationRuleAdvice(world, candidate as DestinationRuleObject));
    case "HTTPRoute":
      return [...few(missing(world, candidate as AnyRouteObject)), ...unserved(world, candidate as HTTPRouteObject)];
    case "GRPCRoute":
    case "TLSRoute":
    case "TCPRoute":
    case "UDPRoute":
      return few(missing(world, candidate as AnyRouteObject));
    case "BackendTLSPolicy":
      return few(missingTargets(world, candidate as BackendTlsPolicyObject));
    case "RateLimitPolicy":
    case "OverloadPolicy":
    case "HedgingPolicy":
      return targetProblems(world, candidate);
    default:
      return [];
  }
}

function selected(world: World, object: KubeObject): WorkloadModel[] {
  const { selector } = (object.spec ?? {}) as { selector?: { matchLabels?: Record<string, string> } };
  const namespace = namespaceOf(object);
  return [...world.workloads.values()].filter(
    (each) => (namespace === rootNamespace || each.namespace === namespace) && matchesLabels(selector?.matchLabels ?? {}, each.labels),
  );
}

function selectsNobody(world: World, object: KubeObject): string[] {
  const { selector } = (object.spec ?? {}) as { selector?: { matchLabels?: Record<string, string> } };
  const labels = Object.entries(selector?.matchLabels ?? {});
  // Without a selector it is meant for whoever comes.
  if (labels.length === 0 || selected(world, object).length > 0) return [];
  const where = namespaceOf(object) === rootNamespace ? "" : ` of namespace ${namespaceOf(object)}`;
  return [
    `spec.selector: no workload${where} has the labels ${labels.map((pair) => pair.join("=")).join(",")}: nobody enforces this until one does`,
  ];
}

function plainCallers(world: World, object: PeerAuthenticationObject, edges: () => readonly EdgeObject[]): string[] {
  const modes = [stated(object.spec?.mtls), ...Object.values(object.spec?.portLevelMtls ?? {}).map(stated)];
  if (!modes.includes("STRICT")) return [];
  const reached = selected(world, object).filter((each) => each.mutualTls);
  const names = new Set(reached.map((each) => each.key));
  const out = stated(object.spec?.mtls) === "STRICT" ? few(plainRules(world, reached)) : [];
  // Who was just seen to call in plain text will be refused.
  const seen = new Set(
    edges()
      .filter(({ status }) => status.mutualTls === false && names.has(`${status.destination.namespace}/${status.destination.workload}`))
      .map(({ status }) =>
        status.source.workload === "" ? "callers without identity" : `${status.source.namespace}/${status.source.workload}`,
      ),
  );
  if (seen.size > 0) out.push(`mtls STRICT: ${listed([...seen])} called these workloads in plain text just now and will be refused`);
  const bare = [...world.workloads.values()].filter((each) => !each.mutualTls && !seen.has(each.key));
  if (reached.length > 0 && bare.length > 0)
    out.push(
      `mtls STRICT: ${listed(bare.map((each) => each.key))} ${bare.length === 1 ? "is" : "are"} registered without a sidecar and cannot call these workloads`,
    );
  return out;
}

/** Parents and backends that are not there. A route may be written before them, so that nothing is refused; a name may be misspelt too. */
function missing(world: World, route: AnyRouteObject): string[] {
  const { parentRefs = [], rules = [] } = (route.spec ?? {}) as {
    parentRefs?: ParentRef[];
    rules?: { backendRefs?: BackendRef[] }[];
  };
  const out: string[] = [];
  for (const [at, ref] of parentRefs.entries()) {
    const { verdict } = attach(world, route, ref, () => true, "");
    if (verdict?.acceptedReason === "NoMatchingParent") out.push(`spec.parentRefs[${at}]: ${verdict.acceptedMessage}`);
  }
  const http = route.kind === "HTTPRoute" || route.kind === "GRPCRoute";
  const lost = http ? "requests that go there get 500 until there is" : "what goes there is closed until there is";
  for (const [at, { backendRefs = [] }] of rules.entries())
    for (const [n, ref] of backendRefs.entries()) {
      if (!isService(ref) || ref.weight === 0) continue;
      const key = `${ref.namespace ?? namespaceOf(route)}/${ref.name}`;
      const where = `spec.rules[${at}].backendRefs[${n}]`;
      const service = world.services.get(key);
      if (service === undefined) out.push(`${where}: there is no Service ${key}: ${lost}`);
      else if (!service.ports.some(({ port }) => port === ref.port))
        out.push(
          `${where}: Service ${key} has no port ${ref.port ?? ""}, it has ${service.ports.map(({ port }) => port).join(", ")}: ${lost}`,
        );
    }
  return out;
}

function missingTargets(world: World, policy: BackendTlsPolicyObject): string[] {
  return (policy.spec?.targetRefs ?? []).flatMap(({ name }, at) => {
    const key = `${namespaceOf(policy)}/${name}`;
    return world.services.has(key)
      ? []
      : [`spec.targetRefs[${at}]: there is no Service ${key}; the policy takes effect when it is created`];
  });
}

function unserved(world: World, route: HTTPRouteObject): string[] {
  const { rules } = (route.spec ?? {}) as {
    rules?: { backendRefs?: { kind?: string; name: string; namespace?: string; weight?: number }[] }[];
  };
  const empty = new Set<string>();
  for (const { backendRefs } of rules ?? [])
    for (const { kind, name, namespace, weight } of backendRefs ?? []) {
      const service = world.services.get(`${namespace ?? namespaceOf(route)}/${name}`);
      // Of one that is not there `missing` speaks.
      if ((kind ?? "Service") !== "Service" || service === undefined || weight === 0) continue;
      const sliced = service.slices.some((slice) => ((slice.endpoints as unknown[] | undefined) ?? []).length > 0);
      if (service.workloads.length === 0 && !sliced) empty.add(service.key);
    }
  if (empty.size === 0) return [];
  return [
    `backendRefs: ${listed([...empty])} ${empty.size === 1 ? "has" : "have"} no instance now: requests that go there get 503 until one is there`,
  ];
}

function few(warnings: readonly string[]): string[] {
  const more = warnings.length - mostNames;
  return more > 0 ? [...warnings.slice(0, mostNames), `and ${more} more of the kind: see the object's conditions`] : [...warnings];
}

function listed(names: readonly string[]): string {
  const more = names.length > mostNames ? ` and ${names.length - mostNames} more` : "";
  return `${names.slice(0, mostNames).join(", ")}${more}`;
}
