// Owns: what the control plane says of each object after compiling: conditions as the object's community knows them.
// Returns whole statuses; never writes. Times of transition are the publisher's, who knows the old status.

import { type AuthorizationPolicyObject, authorizationPolicyKind, rootNamespace } from "../api/kinds/authorizationpolicy.ts";
import { httpRouteKind } from "../api/kinds/httproute.ts";
import { serviceKind, speaksHttp } from "../api/kinds/service.ts";
import { type Condition, type KubeObject, resourceOf } from "../api/meta.ts";
import type { InboundPlan, PortPlan, WithheldPlan, WorkloadPlan } from "./plan/plan.ts";
import { appliesTo, needsHttp } from "./policies/authorizationpolicy.ts";
import type { ParentVerdict, RouteFold } from "./policies/httproute.ts";
import { keyOf, namespaceOf, type World } from "./world.ts";

/** The status an object should have; to be written only where it differs, times of transition aside. */
export interface StatusPatch {
  /** Key of the kind, as `resourceOf` says it. */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly status: Record<string, unknown>;
}

/** Name under which HTTPRoute statuses speak. */
export const controllerName = "weft.dev/mesh";

export function statuses(
  world: World,
  ports: ReadonlyMap<string, PortPlan>,
  routes: RouteFold,
  plans: readonly WorkloadPlan[],
): StatusPatch[] {
  const out: StatusPatch[] = [];
  for (const route of world.routes)
    out.push(
      patch(resourceOf(httpRouteKind), route, {
        parents: (routes.verdicts.get(route) ?? []).map((verdict) => parentStatus(route, verdict)),
      }),
    );
  const datagrams = [...ports.values()].filter(({ port }) => port.protocol === "udp");
  for (const [service, udpPorts] of Map.groupBy(datagrams, (plan) => plan.service))
    out.push(patch(resourceOf(serviceKind), service.object, serviceStatus(service.object, udpPorts)));
  // A Service that had a UDP port once keeps no word about it.
  for (const service of world.services.values())
    if (service.defaultUdpPort === undefined && saysUdpCarried(service.object))
      out.push(patch(resourceOf(serviceKind), service.object, { conditions: [] }));
  const byNamespace = Map.groupBy(plans, (plan) => plan.workload.namespace);
  for (const [namespace, policies] of world.policies) {
    const reached = namespace === rootNamespace ? plans : (byNamespace.get(namespace) ?? []);
    for (const policy of policies) out.push(patch(resourceOf(authorizationPolicyKind), policy, policyStatus(policy, reached, datagrams)));
  }
  return out.sort((a, b) => (patchKey(a) < patchKey(b) ? -1 : 1));
}

function patchKey(each: StatusPatch): string {
  return `${each.resource}/${each.namespace}/${each.name}`;
}

function patch(resource: string, object: KubeObject, status: Record<string, unknown>): StatusPatch {
  return { resource, namespace: namespaceOf(object), name: object.metadata.name, status };
}

function condition(object: KubeObject, type: string, holds: boolean, reason: string, message: string): Condition {
  return { type, status: holds ? "True" : "False", reason, message, observedGeneration: object.metadata.generation ?? 1 };
}

function parentStatus(route: KubeObject, verdict: ParentVerdict): Record<string, unknown> {
  return {
    parentRef: verdict.parentRef,
    controllerName,
    conditions: [
      condition(route, "Accepted", verdict.accepted, verdict.acceptedReason, verdict.acceptedMessage),
      condition(route, "ResolvedRefs", verdict.resolved, verdict.resolvedReason, verdict.resolvedMessage),
    ],
  };
}

/** Of a Service with UDP ports: whether datagrams go to everybody behind them. */
export const udpCarried = "UDPCarried";

function saysUdpCarried({ status }: KubeObject): boolean {
  return ((status as { conditions?: Condition[] } | undefined)?.conditions ?? []).some(({ type }) => type === udpCarried);
}

/** A status is read by people: the first few say what there is to do for the others too. */
const mostWithheld = 3;

function serviceStatus(service: KubeObject, ports: readonly PortPlan[]): Record<string, unknown> {
  const withheld = ports.flatMap((plan) => plan.withheld.map((each) => ({ plan, each })));
  const [first] = withheld;
  if (first === undefined) {
    const words = "datagrams go to every instance, in plain text: UDP has no mutual TLS";
    return { conditions: [condition(service, udpCarried, true, "Carried", words)] };
  }
  const words = withheld.slice(0, mostWithheld).map(({ plan, each }) => withheldWords(plan, each));
  const more = withheld.length > mostWithheld ? [`and ${withheld.length - mostWithheld} more`] : [];
  return { conditions: [condition(service, udpCarried, false, first.each.refusal.reason, [...words, ...more].join("; "))] };
}

function withheldWords({ port }: PortPlan, { name, appPort, refusal }: WithheldPlan): string {
  const where = `port ${port.port}/UDP: no datagrams are sent to ${name} (port ${appPort})`;
  if (refusal.reason === "StrictMutualTLS") {
    const remedy = name.startsWith("EndpointSlice ")
      ? "with mtls.mode PERMISSIVE for the namespace"
      : `that selects it, with portLevelMtls {"${appPort}": {mode: PERMISSIVE}}`;
    return `${where}, since mutual TLS is STRICT there and UDP has none; to have them sent in plain text, apply a PeerAuthentication ${remedy}`;
  }
  const names = refusal.policies.map((each) => `AuthorizationPolicy ${each}`).join(", ");
  return `${where}, since ${names} would have to judge them and nothing can judge a datagram; let the policy select other workloads, or allow the port to everybody: to [{operation: {ports: ["${appPort}"]}}] without from`;
}

function policyStatus(
  policy: AuthorizationPolicyObject,
  plans: readonly WorkloadPlan[],
  datagrams: readonly PortPlan[],
): Record<string, unknown> {
  const selected = plans.filter((plan) => appliesTo(policy, plan.workload));
  const conditions = [
    condition(policy, "Accepted", true, "Accepted", "every rule is understood"),
    selected.length > 0
      ? condition(policy, "Enforced", true, "Enforced", "in the configuration of every workload it selects")
      : condition(
          policy,
          "Enforced",
          false,
          "NoWorkload",
          `selects no workload${namespaceOf(policy) === rootNamespace ? "" : ` of namespace ${namespaceOf(policy)}`}; it takes effect when one appears`,
        ),
  ];
  const silenced = datagrams.flatMap(({ withheld }) =>
    withheld.filter(({ refusal }) => refusal.reason === "AuthorizationPolicy" && refusal.policies.includes(keyOf(policy))),
  );
  const [silent] = silenced;
  if (silent !== undefined)
    conditions.push(
      condition(
        policy,
        "DatagramsWithheld",
        true,
        "NoDatagrams",
        `a datagram has no caller that could be judged: none are sent to ${silent.name} (port ${silent.appPort})${silenced.length > 1 ? ` and ${silenced.length - 1} more` : ""}`,
      ),
    );
  const opaque = selected.flatMap((plan) => plan.inbound.filter((port) => !speaksHttp(port.protocol)).map((port) => ({ plan, port })));
  const blind = (policy.spec?.rules ?? []).flatMap((rule, at) => (needsHttp(rule) ? [`rules[${at}]`] : []));
  const [example] = opaque.filter(({ port }) => touches(policy, port));
  if (example !== undefined && blind.length > 0) {
    const effect =
      policy.spec?.action === "DENY"
        ? "hosts, methods and paths are left out of the test there, so that the rules deny more"
        : "the rules allow nothing there";
    conditions.push(
      condition(
        policy,
        "FullyApplicable",
        false,
        "HttpFieldsOnTcpPort",
        `${blind.join(", ")} test HTTP requests, but port ${example.port.name} of ${keyOf(example.plan.workload.entry)} carries opaque TCP: ${effect}`,
      ),
    );
  }
  return { observedGeneration: policy.metadata.generation ?? 1, conditions };
}

/** Some rule about requests is not ruled out by `ports` on this port. */
function touches(policy: AuthorizationPolicyObject, port: InboundPlan): boolean {
  return (policy.spec?.rules ?? []).some(
    (rule) =>
      needsHttp(rule) &&
      (rule.to ?? []).some(
        ({ operation }) => operation.ports === undefined || operation.ports.some((text) => Number(text) === port.appPort),
      ),
  );
}
