// Owns: what the control plane says of each object after compiling: conditions as the object's community knows them.
// Returns whole statuses; never writes. Times of transition are the publisher's, who knows the old status.

import { type AuthorizationPolicyObject, authorizationPolicyKind, rootNamespace } from "../api/kinds/authorizationpolicy.ts";
import { backendTlsPolicyKind } from "../api/kinds/backendtlspolicy.ts";
import { destinationRuleKind } from "../api/kinds/destinationrule.ts";
import { givesKey } from "../api/kinds/destinationrule-spec.ts";
import { gatewayKind } from "../api/kinds/gateway.ts";
import { gatewayClassKind } from "../api/kinds/gatewayclass.ts";
import { grpcRouteKind } from "../api/kinds/grpcroute.ts";
import { hedgingPolicyKind } from "../api/kinds/hedgingpolicy.ts";
import { httpRouteKind } from "../api/kinds/httproute.ts";
import { istioGatewayKind } from "../api/kinds/istiogateway.ts";
import { listenerSetKind, xListenerSetKind } from "../api/kinds/listenerset.ts";
import { overloadPolicyKind } from "../api/kinds/overloadpolicy.ts";
import { rateLimitPolicyKind } from "../api/kinds/ratelimitpolicy.ts";
import { requestAuthenticationKind } from "../api/kinds/requestauthentication.ts";
import { serviceKind, speaksHttp } from "../api/kinds/service.ts";
import { serviceEntryKind } from "../api/kinds/serviceentry.ts";
import { sidecarKind } from "../api/kinds/sidecar.ts";
import { tcpRouteKind } from "../api/kinds/tcproute.ts";
import { tlsRouteKind } from "../api/kinds/tlsroute.ts";
import { udpRouteKind } from "../api/kinds/udproute.ts";
import { virtualServiceKind } from "../api/kinds/virtualservice.ts";
import { faultSwitch } from "../api/kinds/virtualservice-spec.ts";
import { type Condition, type KubeObject, resourceOf } from "../api/meta.ts";
import { annotations } from "../wire/names.ts";
import { condition } from "./condition.ts";
import { hedgingSource, overloadSource, rateLimitSource } from "./limit-sources.ts";
import { type Source, sourceId } from "./objects.ts";
import { clustersOf, portPlan } from "./plan/mesh.ts";
import type { PortPlan, WithheldPlan } from "./plan/plan.ts";
import { type OpenPort, openPorts } from "./plan/workload.ts";
import { needsHttp, takesAnyonesWord } from "./policies/authorizationpolicy.ts";
import { ruleVerdict } from "./policies/destinationrule.ts";
import { routeVerdicts } from "./policies/gateway-requests.ts";
import type { ParentVerdict } from "./policies/httproute.ts";
import { layer4Verdicts } from "./policies/layer4route.ts";
import { selectedBy } from "./policies/reach.ts";
import { virtualVerdict } from "./policies/virtualservice-verdict.ts";
import {
  backendTlsSource,
  gatewayClassSource,
  gatewaySource,
  grpcRouteSource,
  istioGatewaySource,
  listenerSetSources,
  serviceEntrySource,
  sidecarSource,
  tcpRouteSource,
  tlsRouteSource,
  udpRouteSource,
} from "./route-sources.ts";
import {
  destinationRuleSource,
  httpRouteSource,
  policySource,
  requestAuthenticationSource,
  serviceSource,
  virtualServiceSource,
  workloadSource,
} from "./sources.ts";
import { backendTlsStatus } from "./status-backendtls.ts";
import { serviceEntryStatus, sidecarStatus } from "./status-egress.ts";
import { gatewayClassStatus, gatewayStatus, istioGatewayStatus, listenerSetStatus } from "./status-gateway.ts";
import { hedgingStatus, overloadStatus, rateLimitStatus } from "./status-limits.ts";
import { requestAuthenticationStatus, tokensUnchecked } from "./status-tokens.ts";
import { compareText, derived, equal, keyOf, namespaceOf, type World } from "./world.ts";

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

/** What a kind's objects are told. Each object's status is made alone, from what it reads; undefined = nothing is to be said. */
interface StatusMaker {
  readonly source: Source<never, never>;
  readonly make: (world: World, key: string) => Record<string, unknown> | undefined;
}

/** By the kind's key in the store. A kind with statuses is one line here. */
const makers: Readonly<Record<string, StatusMaker>> = {
  [resourceOf(httpRouteKind)]: { source: httpRouteSource, make: routeStatus(httpRouteSource, "HTTPRoute", routeVerdicts) },
  [resourceOf(grpcRouteKind)]: { source: grpcRouteSource, make: routeStatus(grpcRouteSource, "GRPCRoute", routeVerdicts) },
  [resourceOf(tlsRouteKind)]: { source: tlsRouteSource, make: routeStatus(tlsRouteSource, "TLSRoute", layer4Verdicts) },
  [resourceOf(tcpRouteKind)]: { source: tcpRouteSource, make: routeStatus(tcpRouteSource, "TCPRoute", layer4Verdicts) },
  [resourceOf(udpRouteKind)]: { source: udpRouteSource, make: routeStatus(udpRouteSource, "UDPRoute", layer4Verdicts) },
  [resourceOf(gatewayKind)]: { source: gatewaySource, make: gatewayStatus },
  [resourceOf(listenerSetKind)]: { source: listenerSetSources.ListenerSet, make: listenerSetStatus("ListenerSet") },
  [resourceOf(xListenerSetKind)]: { source: listenerSetSources.XListenerSet, make: listenerSetStatus("XListenerSet") },
  [resourceOf(backendTlsPolicyKind)]: { source: backendTlsSource, make: backendTlsStatus },
  [resourceOf(istioGatewayKind)]: { source: istioGatewaySource, make: istioGatewayStatus },
  [resourceOf(gatewayClassKind)]: { source: gatewayClassSource, make: gatewayClassStatus },
  [resourceOf(virtualServiceKind)]: { source: virtualServiceSource, make: virtualServiceStatus },
  [resourceOf(sidecarKind)]: { source: sidecarSource, make: sidecarStatus },
  [resourceOf(serviceEntryKind)]: { source: serviceEntrySource, make: serviceEntryStatus },
  [resourceOf(serviceKind)]: { source: serviceSource, make: serviceStatus },
  [resourceOf(destinationRuleKind)]: { source: destinationRuleSource, make: destinationRuleStatus },
  [resourceOf(authorizationPolicyKind)]: { source: policySource, make: policyStatus },
  [resourceOf(requestAuthenticationKind)]: { source: requestAuthenticationSource, make: requestAuthenticationStatus },
  [resourceOf(rateLimitPolicyKind)]: { source: rateLimitSource, make: rateLimitStatus },
  [resourceOf(overloadPolicyKind)]: { source: overloadSource, make: overloadStatus },
  [resourceOf(hedgingPolicyKind)]: { source: hedgingSource, make: hedgingStatus },
};

/** The status of one object, by its kind's key in the store, a blank, and its `NS/NAME`; undefined = nothing is to be said. */
export const statusOf = derived<StatusPatch | undefined>((world, text) => {
  const [resource = "", key = ""] = text.split(" ");
  const status = makers[resource]?.make(world, key);
  if (status === undefined) return undefined;
  const slash = key.indexOf("/");
  return { resource, namespace: key.slice(0, slash), name: key.slice(slash + 1), status };
}, equal);

const resourceBySource: ReadonlyMap<string, string> = new Map(
  Object.entries(makers).map(([resource, { source }]) => [source.id, resource]),
);

/** The key of `statusOf` for an object; undefined = objects of its kind are told nothing. */
export function statusKey(object: KubeObject): string | undefined {
  const resource = resourceBySource.get(sourceId(object));
  return resource === undefined ? undefined : `${resource} ${keyOf(object)}`;
}

/** Of all objects, sorted. */
export function statuses(world: World): StatusPatch[] {
  const out: StatusPatch[] = [];
  for (const [resource, { source }] of Object.entries(makers).sort(([a], [b]) => compareText(a, b)))
    for (const key of world.objects(source as Source<KubeObject>).keys("all", "")) {
      const patch = statusOf(world, `${resource} ${key}`);
      if (patch !== undefined) out.push(patch);
    }
  return out;
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

/** Of a route of any kind: what became of each parent that is for Weft; nothing where all belong to others. */
function routeStatus(
  of: Source<never, never>,
  kind: string,
  verdictsOf: (world: World, text: string) => readonly ParentVerdict[],
): StatusMaker["make"] {
  return (world, key) => {
    const route = world.objects(of as Source<KubeObject>).get(key);
    const verdicts = verdictsOf(world, `${kind} ${key}`);
    if (route === undefined || verdicts.length === 0) return undefined;
    return { parents: verdicts.map((verdict) => parentStatus(route, verdict)) };
  };
}

function destinationRuleStatus(world: World, key: string): Record<string, unknown> | undefined {
  const verdict = ruleVerdict(world, key);
  if (verdict === undefined) return undefined;
  const { rule, host, service, callers, overruled, empty, credentials } = verdict;
  const reason = !service ? "NoSuchService" : overruled ? "Overruled" : "Accepted";
  const words = {
    NoSuchService: `there is no Service ${host}; the rule takes effect when it is created`,
    Overruled: `a rule in the namespace of ${host} decides in its place`,
    Accepted: `${callers} of ${host} goes by it`,
  }[reason];
  const conditions = [condition(rule, "Accepted", service && !overruled, reason, words)];
  if (service && (rule.spec?.subsets ?? []).length > 0)
    conditions.push(
      empty.length === 0
        ? condition(rule, "SubsetsResolved", true, "SubsetsResolved", "every subset has instances")
        : condition(
            rule,
            "SubsetsResolved",
            false,
            "NoInstances",
            `no instance has the labels of ${empty.length === 1 ? "subset" : "subsets"} ${empty.join(", ")}: requests that routes lead there are answered with 503`,
          ),
    );
  if (credentials !== undefined)
    conditions.push(
      credentials.length > 0
        ? condition(rule, "ResolvedRefs", false, "InvalidCertificateRef", `${credentials.join("; ")}: calls are answered with 503`)
        : condition(
            rule,
            "ResolvedRefs",
            true,
            "ResolvedRefs",
            givesKey(rule)
              ? `every Secret is there; MUTUAL is for callers of namespace ${namespaceOf(rule)} alone, others are answered with 503`
              : "every Secret is there",
          ),
    );
  return { conditions };
}

function virtualServiceStatus(world: World, key: string): Record<string, unknown> | undefined {
  const object = world.objects(virtualServiceSource).get(key);
  const verdict = virtualVerdict(world, key);
  if (object === undefined || verdict === undefined) return undefined;
  const conditions = [
    condition(object, "Accepted", verdict.accepted, verdict.acceptedReason, verdict.acceptedMessage),
    verdict.unresolved.length === 0
      ? condition(object, "ResolvedRefs", true, "ResolvedRefs", "every destination is there")
      : condition(
          object,
          "ResolvedRefs",
          false,
          "BackendNotFound",
          `${verdict.unresolved.join("; ")}; its share of the traffic is answered with 500, and nothing is mirrored there`,
        ),
  ];
  if (verdict.subsets !== undefined)
    conditions.push(
      verdict.subsets.length === 0
        ? condition(object, "SubsetsResolved", true, "SubsetsResolved", "every subset has instances")
        : condition(object, "SubsetsResolved", false, "NoInstances", `${verdict.subsets.join("; ")}: requests that are led there get 503`),
    );
  if (verdict.delegation !== undefined)
    conditions.push(
      verdict.delegation.length === 0
        ? condition(object, "DelegatesResolved", true, "DelegatesResolved", "every delegation is followed")
        : condition(
            object,
            "DelegatesResolved",
            false,
            "DelegateNotFollowed",
            `${verdict.delegation.join("; ")}; what cannot be followed is left out`,
          ),
    );
  if (verdict.gateways !== undefined)
    conditions.push(
      verdict.gateways.length === 0
        ? condition(object, "GatewaysBound", true, "GatewaysBound", "it speaks at every Gateway that it names")
        : condition(object, "GatewaysBound", false, "NotBound", verdict.gateways.join("; ")),
    );
  if (verdict.shadowed.length > 0) conditions.push(condition(object, "Shadowed", true, "NeverReached", verdict.shadowed.join("; ")));
  if (verdict.faults !== undefined)
    conditions.push(
      verdict.faults
        ? condition(object, "FaultInjection", true, "Allowed", "faults are injected")
        : condition(
            object,
            "FaultInjection",
            false,
            "SwitchedOff",
            `faults are left out: the namespace ${rootNamespace} does not have the label ${faultSwitch}: enabled`,
          ),
    );
  return { observedGeneration: object.metadata.generation ?? 1, conditions };
}

function serviceStatus(world: World, key: string): Record<string, unknown> | undefined {
  const service = world.services.get(key);
  if (service === undefined) return undefined;
  // A Service that had a UDP port once keeps no word about it.
  if (service.defaultUdpPort === undefined) return saysUdpCarried(service.object) ? { conditions: [] } : undefined;
  const withheld = datagramPorts(world, key).flatMap((plan) => plan.withheld.map((each) => ({ plan, each })));
  const [first] = withheld;
  if (first === undefined) {
    const words = "datagrams go to every instance, in plain text: UDP has no mutual TLS";
    return { conditions: [condition(service.object, udpCarried, true, "Carried", words)] };
  }
  const words = withheld.slice(0, mostWithheld).map(({ plan, each }) => withheldWords(plan, each));
  const more = withheld.length > mostWithheld ? [`and ${withheld.length - mostWithheld} more`] : [];
  return { conditions: [condition(service.object, udpCarried, false, first.each.refusal.reason, [...words, ...more].join("; "))] };
}

function datagramPorts(world: World, service: string): PortPlan[] {
  const plans = clustersOf(world, service).map((cluster) => portPlan(world, cluster));
  return plans.filter((plan) => plan?.port.protocol === "udp") as PortPlan[];
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

function policyStatus(world: World, key: string): Record<string, unknown> | undefined {
  const policy = world.objects(policySource).get(key);
  if (policy === undefined) return undefined;
  const selected = selectedBy(world, policy);
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
  const datagrams = world
    .objects(serviceSource)
    .keys("udp", "")
    .flatMap((service) => datagramPorts(world, service));
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
  const blind = (policy.spec?.rules ?? []).flatMap((rule, at) => (needsHttp(rule) ? [`rules[${at}]`] : []));
  const example = blind.length === 0 ? undefined : opaquePort(world, policy, selected);
  if (example !== undefined) {
    const effect =
      policy.spec?.action === "DENY"
        ? "hosts, methods, paths and tokens are left out of the test there, so that the rules deny more"
        : "the rules allow nothing there";
    conditions.push(
      condition(
        policy,
        "FullyApplicable",
        false,
        "HttpFieldsOnTcpPort",
        `${blind.join(", ")} test HTTP requests, but port ${example.port.name} of ${example.workload} carries opaque TCP: ${effect}`,
      ),
    );
  }
  const trusting = (policy.spec?.rules ?? []).flatMap((rule, at) => (takesAnyonesWord(rule) ? [`rules[${at}]`] : []));
  const told = trusting.length === 0 ? undefined : selected.find((workload) => takesRequests(world, workload));
  if (told !== undefined)
    conditions.push(
      condition(
        policy,
        "ClientVouchedFor",
        false,
        "AnybodyMaySay",
        `${trusting.join(", ")} judge the client's address, which at ${told} is the last entry of x-forwarded-for: whoever calls writes it. Select the Gateway instead, or name its principal in the same source`,
      ),
    );
  conditions.push(...tokensUnchecked(world, policy, selected));
  return { observedGeneration: policy.metadata.generation ?? 1, conditions };
}

/** A sidecar with ports of HTTP; Gateways know their clients. */
function takesRequests(world: World, workload: string): boolean {
  if (world.objects(workloadSource).get(workload)?.metadata.annotations?.[annotations.gateway] !== undefined) return false;
  return openPorts(world, workload).some((port) => speaksHttp(port.protocol));
}

/** The first port of opaque bytes that rules about requests are meant for. */
function opaquePort(
  world: World,
  policy: AuthorizationPolicyObject,
  workloads: readonly string[],
): { readonly workload: string; readonly port: OpenPort } | undefined {
  for (const workload of workloads) {
    const port = openPorts(world, workload).find((each) => !speaksHttp(each.protocol) && touches(policy, each));
    if (port !== undefined) return { workload, port };
  }
  return undefined;
}

/** Some rule about requests is not ruled out by `ports` on this port. */
function touches(policy: AuthorizationPolicyObject, port: OpenPort): boolean {
  return (policy.spec?.rules ?? []).some(
    (rule) =>
      needsHttp(rule) &&
      (rule.to ?? []).some(
        ({ operation }) => operation.ports === undefined || operation.ports.some((text) => Number(text) === port.appPort),
      ),
  );
}
