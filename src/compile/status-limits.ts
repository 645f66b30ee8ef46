// Owns: what RateLimitPolicies and OverloadPolicies are told, for each target (GEP-713's PolicyStatus): whether the policy decides there, and whether every proxy
// that serves there can do all that it says. Never decides which policy speaks.

import type { HedgingPolicyObject } from "../api/kinds/hedgingpolicy-spec.ts";
import type { OverloadPolicyObject } from "../api/kinds/overloadpolicy-spec.ts";
import type { TargetRef } from "../api/kinds/policy-targets.ts";
import type { RateLimitPolicyObject } from "../api/kinds/ratelimitpolicy-spec.ts";
import { speaksHttp } from "../api/kinds/service.ts";
import type { Condition, KubeObject } from "../api/meta.ts";
import { condition } from "./condition.ts";
import { hedgingSource, overloadSource, rateLimitSource } from "./limit-sources.ts";
import type { Source } from "./objects.ts";
import { gatewayModel } from "./policies/gateway.ts";
import { attachedTo, beyondEnvoy } from "./policies/limits.ts";
import { byAge, keyOf, namespaceOf, type World } from "./world.ts";

type Policy = KubeObject & { spec: { readonly targetRefs: readonly TargetRef[] } };

export function rateLimitStatus(world: World, key: string): Record<string, unknown> | undefined {
  const policy = world.objects(rateLimitSource).get(key);
  return policy === undefined ? undefined : statusOf(world, rateLimitSource, policy, []);
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
  return written.spec.targetRefs.flatMap((ref, at) => {
    const { status, reason, message } = acceptedAt(world, source as unknown as Source<Policy, "target">, written, ref, false);
    const speaker = attachedTo(
      world,
      source as unknown as Source<Policy, "target">,
      ref.kind === "Gateway" ? "Gateway" : "Service",
      `${namespaceOf(policy)}/${ref.name}`,
      ref.sectionName ?? "",
    )[0];
    // One that was there before all others still is.
    const first = reason === "Conflicted" && speaker !== undefined && byAge(written, speaker) < 0;
    return status === "True" || first ? [] : [`spec.targetRefs[${at}]: ${message}`];
  });
}

/** `beyond`: fields that an Envoy does not enforce; undefined = callers follow it, and not the instances. */
function statusOf<T extends RateLimitPolicyObject | OverloadPolicyObject | HedgingPolicyObject>(
  world: World,
  source: Source<T, "target">,
  policy: T,
  beyond: readonly string[] | undefined,
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
      conditions: [accepted, ...enforced],
    };
  });
  return { ancestors };
}

function acceptedAt(world: World, source: Source<Policy, "target">, policy: Policy, ref: TargetRef, ofCallers: boolean): Condition {
  const say = (holds: boolean, reason: string, message: string) => condition(policy, "Accepted", holds, reason, message);
  const key = `${namespaceOf(policy)}/${ref.name}`;
  if (ref.kind === "Gateway") {
    if (gatewayModel(world, key) === undefined)
      return say(false, "TargetNotFound", `there is no Gateway ${key} of Weft's; the policy takes effect when it is created`);
  } else {
    const service = world.services.get(key);
    if (service === undefined)
      return say(false, "TargetNotFound", `there is no Service ${key}; the policy takes effect when it is created`);
    const ports = ref.sectionName === undefined ? service.ports : service.ports.filter(({ name }) => name === ref.sectionName);
    if (ports.length === 0)
      return say(
        false,
        "TargetNotFound",
        `Service ${key} has no port named ${ref.sectionName}; it has ${service.ports.map(({ name, port }) => name || port).join(", ")}`,
      );
    if (!ports.some(({ protocol }) => speaksHttp(protocol)))
      return say(
        false,
        "Invalid",
        `no port of Service ${key}${ref.sectionName === undefined ? "" : ` named ${ref.sectionName}`} speaks HTTP: there are no requests to count`,
      );
  }
  const [speaker] = attachedTo(world, source, ref.kind === "Gateway" ? "Gateway" : "Service", key, ref.sectionName ?? "");
  if (speaker !== undefined && keyOf(speaker) !== keyOf(policy))
    return say(
      false,
      "Conflicted",
      `${policy.kind} ${keyOf(speaker)} is for the same ${ref.sectionName === undefined ? ref.kind : "port"} and goes before, as the older or the first by name; delete one of the two`,
    );
  return say(
    true,
    "Accepted",
    ofCallers
      ? `every caller of Service ${key} goes by it, proxies other than Weft's aside`
      : ref.kind === "Gateway"
        ? `every process of Gateway ${key} goes by it`
        : `the sidecar of each instance of Service ${key} goes by it`,
  );
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
