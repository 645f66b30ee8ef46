// Owns: what RateLimitPolicies and OverloadPolicies are told, for each target (GEP-713's PolicyStatus): whether the policy decides there, and whether every proxy
// that serves there can do all that it says. Never decides which policy speaks.

import type { HedgingPolicyObject } from "../api/kinds/hedgingpolicy-spec.ts";
import type { OverloadPolicyObject } from "../api/kinds/overloadpolicy-spec.ts";
import { isRouteTarget, type TargetRef } from "../api/kinds/policy-targets.ts";
import type { RateLimitPolicyObject } from "../api/kinds/ratelimitpolicy-spec.ts";
import { speaksHttp } from "../api/kinds/service.ts";
import type { Condition, KubeObject } from "../api/meta.ts";
import { condition } from "./condition.ts";
import { hedgingSource, overloadSource, rateLimitSource } from "./limit-sources.ts";
import type { Source } from "./objects.ts";
import { openPorts } from "./plan/workload.ts";
import { gatewayModel } from "./policies/gateway.ts";
import { type RequestRouteKind, readRoute } from "./policies/httproute.ts";
import { attachedTo, type TargetKind } from "./policies/limit-targets.ts";
import { asksFromAfar, beyondEnvoy, gatewayRates, limitServiceOf, routeSections, workloadRates } from "./policies/limits.ts";
import { byAge, keyOf, namespaceOf, type World } from "./world.ts";

type Policy = KubeObject & { spec: { readonly targetRefs: readonly TargetRef[] } };

export function rateLimitStatus(world: World, key: string): Record<string, unknown> | undefined {
  const policy = world.objects(rateLimitSource).get(key);
  return policy === undefined ? undefined : statusOf(world, rateLimitSource, policy, [], resolvedRefs(world, policy));
}

export function overloadStatus(world: World, key: string): Record<string, unknown> | undefined {
  const policy = world.objects(overloadSource).get(key);
  return policy === undefined ? undefined : statusOf(world, overloadSource, policy, beyondEnvoy(policy));
}

export function hedgingStatus(world: World, key: string): Record<string, unknown> | undefined {
  const policy = world.objects(hedgingSource).get(key);
  return policy === undefined ? undefined : statusOf(world, hedgingSource, policy, undefined);
}

/** What is to be said of a policy that is being written, target by target, with the world as it was before; empty = it will do what it says. */
export function targetProblems(world: World, policy: KubeObject): string[] {
  const source = { RateLimitPolicy: rateLimitSource, OverloadPolicy: overloadSource, HedgingPolicy: hedgingSource }[policy.kind];
  if (source === undefined) return [];
  const written = policy as Policy;
  const refs = policy.kind === "RateLimitPolicy" ? resolvedRefs(world, policy as RateLimitPolicyObject) : [];
  const unresolved = refs.flatMap(({ status, message }) => (status === "True" ? [] : [message]));
  const targets = written.spec.targetRefs.flatMap((ref, at) => {
    const { status, reason, message } = acceptedAt(world, source as unknown as Source<Policy, "target">, written, ref, false);
    const speaker = attachedTo(
      world,
      source as unknown as Source<Policy, "target">,
      ref.kind as TargetKind,
      `${namespaceOf(policy)}/${ref.name}`,
      ref.sectionName ?? "",
    )[0];
    // One that was there before all others still is.
    const first = reason === "Conflicted" && speaker !== undefined && byAge(written, speaker) < 0;
    return status === "True" || first ? [] : [`spec.targetRefs[${at}]: ${message}`];
  });
  return [...targets, ...unresolved];
}

/** Whether the rate limit service that a policy names is there; nothing where it names none. */
function resolvedRefs(world: World, policy: RateLimitPolicyObject): Condition[] {
  const found = limitServiceOf(world, policy);
  if (found === undefined) return [];
  const { problem } = found;
  const stance = policy.spec.whenServiceFails === "Deny" ? "refused" : "let pass uncounted";
  return [
    problem === undefined
      ? condition(policy, "ResolvedRefs", true, "ResolvedRefs", "the rate limit service is there")
      : condition(
          policy,
          "ResolvedRefs",
          false,
          problem.reason,
          `${problem.message}; until then requests of rules of scope Global are ${stance}`,
        ),
  ];
}

/** `beyond`: fields that an Envoy does not enforce; undefined = callers follow it, and not the instances. */
function statusOf<T extends RateLimitPolicyObject | OverloadPolicyObject | HedgingPolicyObject>(
  world: World,
  source: Source<T, "target">,
  policy: T,
  beyond: readonly string[] | undefined,
  refs: readonly Condition[] = [],
): Record<string, unknown> {
  const namespace = namespaceOf(policy);
  const ancestors = policy.spec.targetRefs.map((ref) => {
    const accepted = acceptedAt(world, source as unknown as Source<Policy, "target">, policy, ref, beyond === undefined);
    const enforced =
      beyond !== undefined && accepted.status === "True" && ref.kind === "Service" ? enforcedAt(world, policy, ref, beyond) : [];
    return {
      ancestorRef: {
        group: ref.group,
        kind: ref.kind,
        name: ref.name,
        namespace,
        ...(ref.sectionName === undefined ? {} : { sectionName: ref.sectionName }),
      },
      controllerName: "weft.dev/mesh",
      conditions: [accepted, ...refs, ...enforced],
    };
  });
  return { ancestors };
}

function acceptedAt(world: World, source: Source<Policy, "target">, policy: Policy, ref: TargetRef, ofCallers: boolean): Condition {
  const say = (holds: boolean, reason: string, message: string) => condition(policy, "Accepted", holds, reason, message);
  const key = `${namespaceOf(policy)}/${ref.name}`;
  const wrong = ref.kind === "Service" ? wrongService(world, key, ref) : wrongAtGateway(world, key, ref);
  if (wrong !== undefined) return say(false, ...wrong);
  const [speaker] = attachedTo(world, source, ref.kind as TargetKind, key, ref.sectionName ?? "");
  if (speaker !== undefined && keyOf(speaker) !== keyOf(policy))
    return say(
      false,
      "Conflicted",
      `${policy.kind} ${keyOf(speaker)} is for the same ${ref.sectionName === undefined ? ref.kind : isRouteTarget(ref) ? "rule" : "port"} and goes before, as the older or the first by name; delete one of the two`,
    );
  const far = policy.kind === "RateLimitPolicy" && isRouteTarget(ref) ? placesOf(world, ref, key).gateways : [];
  const from = far.find((gateway) => asksFromAfar(policy as unknown as RateLimitPolicyObject, gateway));
  if (from !== undefined)
    return say(
      false,
      "Invalid",
      `processes of Gateway ${from} may not use up limits of namespace ${namespaceOf(policy)}, which the control plane counts; use scope Local, name a rate limit service of your own (spec.service), or put a policy for the Gateway beside it`,
    );
  const heard = policy.kind === "RateLimitPolicy" ? heardInstead(world, ref, key, keyOf(policy)) : undefined;
  if (heard !== undefined)
    return say(
      false,
      "Conflicted",
      `RateLimitPolicy ${heard} asks another rate limit service for the same requests and goes before; a port asks one service: name the same in both`,
    );
  return say(true, "Accepted", inForce(world, ref, key, ofCallers));
}

/** Who goes by a policy that is accepted. */
function inForce(world: World, ref: TargetRef, key: string, ofCallers: boolean): string {
  if (ofCallers) return `every caller of Service ${key} goes by it, proxies other than Weft's aside`;
  if (ref.kind === "Service") return `the sidecar of each instance of Service ${key} goes by it`;
  if (ref.kind === "Gateway") return `every process of Gateway ${key} goes by it`;
  const { gateways, services } = placesOf(world, ref, key);
  return `every process of Gateway ${gateways.join(", ")} goes by it, for requests by ${ref.kind} ${key}${services ? "; requests of the mesh's own clients are not held to it, since each follows the route itself" : ""}`;
}

type Wrong = readonly [reason: string, message: string];

function wrongService(world: World, key: string, ref: TargetRef): Wrong | undefined {
  const service = world.services.get(key);
  if (service === undefined) return ["TargetNotFound", `there is no Service ${key}; the policy takes effect when it is created`];
  const ports = ref.sectionName === undefined ? service.ports : service.ports.filter(({ name }) => name === ref.sectionName);
  if (ports.length === 0)
    return [
      "TargetNotFound",
      `Service ${key} has no port named ${ref.sectionName}; it has ${service.ports.map(({ name, port }) => name || port).join(", ")}`,
    ];
  if (ports.some(({ protocol }) => speaksHttp(protocol))) return undefined;
  return [
    "Invalid",
    `no port of Service ${key}${ref.sectionName === undefined ? "" : ` named ${ref.sectionName}`} speaks HTTP: there are no requests to count`,
  ];
}

function wrongAtGateway(world: World, key: string, ref: TargetRef): Wrong | undefined {
  if (ref.kind === "Gateway")
    return gatewayModel(world, key) === undefined
      ? ["TargetNotFound", `there is no Gateway ${key} of Weft's; the policy takes effect when it is created`]
      : undefined;
  if (readRoute(world, `${ref.kind} ${key}`) === undefined)
    return ["TargetNotFound", `there is no ${ref.kind} ${key}; the policy takes effect when it is created`];
  const names = routeSections(world, ref.kind as RequestRouteKind, key).filter((name) => name !== "");
  if (ref.sectionName !== undefined && !names.includes(ref.sectionName))
    return [
      "TargetNotFound",
      `${ref.kind} ${key} has no rule named ${ref.sectionName}; ${names.length === 0 ? "none of its rules has a name" : `it has ${names.join(", ")}`}`,
    ];
  const { gateways, services } = placesOf(world, ref, key);
  if (gateways.length > 0) return undefined;
  return services
    ? [
        "Invalid",
        `${ref.kind} ${key} is attached to Services, whose callers follow it themselves, so that nothing would hold them to a limit; name the Service, and tell its requests apart by rules[].match`,
      ]
    : ["TargetNotFound", `${ref.kind} ${key} is attached to no Gateway of Weft's; the policy takes effect when it is`];
}

/** Where a route is followed: by the processes of Gateways, and by callers of Services. */
function placesOf(world: World, ref: TargetRef, key: string): { readonly gateways: readonly string[]; readonly services: boolean } {
  const attached = readRoute(world, `${ref.kind} ${key}`)?.attached ?? [];
  const gateways = attached.flatMap((each) => (each.gateway !== undefined && each.listeners.length > 0 ? [each.gateway] : []));
  return { gateways: [...new Set(gateways)].sort(), services: attached.some((each) => each.clusters.length > 0) };
}

/** The policy that is heard in the place of one whose rate limit service is another; undefined = it is heard itself. */
function heardInstead(world: World, ref: TargetRef, key: string, policy: string): string | undefined {
  if (ref.kind !== "Service") {
    const gateways = ref.kind === "Gateway" ? [key] : placesOf(world, ref, key).gateways;
    return gateways.map((each) => gatewayRates(world, each).unheard[policy]).find((each) => each !== undefined);
  }
  for (const workload of world.services.get(key)?.workloads ?? [])
    for (const { name } of openPorts(world, workload.key)) {
      const found = workloadRates(world, workload, name).unheard[policy];
      if (found !== undefined) return found;
    }
  return undefined;
}

/** A status is read by people: the first few say what there is to do for the others too. */
const mostNamed = 3;

function enforcedAt(world: World, policy: Policy, ref: TargetRef, beyond: readonly string[]): Condition[] {
  const service = world.services.get(`${namespaceOf(policy)}/${ref.name}`);
  const workloads = service?.workloads ?? [];
  const bare = workloads.filter(({ mutualTls }) => !mutualTls).map(({ key }) => key);
  const foreign = workloads.filter(({ key }) => lacks(world.foreign(key), beyond).length > 0).map(({ key }) => key);
  const say = (holds: boolean, reason: string, message: string) => [condition(policy, "Enforced", holds, reason, message)];
  if (workloads.length === 0)
    return (service?.slices.length ?? 0) > 0
      ? say(
          false,
          "NoSidecar",
          "the instances in the Service's EndpointSlices have no sidecar of Weft's: nothing holds requests to them to the policy",
        )
      : say(false, "NoInstance", "the Service selects no instance yet");
  if (bare.length > 0)
    return say(
      false,
      "NoSidecar",
      `${named(bare)} ${bare.length === 1 ? "has" : "have"} no sidecar: nothing holds requests to ${bare.length === 1 ? "it" : "them"} to the policy`,
    );
  if (foreign.length > 0)
    return say(
      false,
      "ForeignProxy",
      `${named(foreign)} ${foreign.length === 1 ? "is" : "are"} served by a proxy that is not Weft's (${world.foreign(foreign[0] as string)}), which does not enforce ${lacks(world.foreign(foreign[0] as string), beyond).join(", ")}`,
    );
  return say(true, "Enforced", "every instance has a sidecar that does all of it");
}

/** What a proxy leaves out. An Envoy has filters for the rest; a gRPC program that is its own proxy has none of them. */
function lacks(agent: string | undefined, beyond: readonly string[]): readonly string[] {
  if (agent === undefined) return [];
  return agent.startsWith("envoy") ? beyond : ["any of it"];
}

function named(keys: readonly string[]): string {
  return keys.length <= mostNamed ? keys.join(", ") : `${keys.slice(0, mostNamed).join(", ")} and ${keys.length - mostNamed} more`;
}
