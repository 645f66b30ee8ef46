// Owns: how RateLimitPolicies and OverloadPolicies fold into the plan of a port: which of several decides, and what it says. Never writes a status
// (../status-limits.ts does).

import { durationMs } from "../../api/kinds/gateway-refs.ts";
import type { OverloadPolicyObject } from "../../api/kinds/overloadpolicy-spec.ts";
import type { TargetRef } from "../../api/kinds/policy-targets.ts";
import { type RateLimitPolicyObject, ruleName } from "../../api/kinds/ratelimitpolicy-spec.ts";
import type { KubeObject } from "../../api/meta.ts";
import { overloadSource, rateLimitSource } from "../limit-sources.ts";
import type { Source } from "../objects.ts";
import type { LimitsPlan, OverloadPlan, RateRulePlan, RatesPlan } from "../plan/limits.ts";
import { byAge, derived, equal, namespaceOf, resolvePort, type WorkloadModel, type World } from "../world.ts";

interface Attached extends KubeObject {
  spec: { readonly targetRefs: readonly TargetRef[] };
}

/** Policies of a kind that name a target (and a port of it, or empty = the whole), in the order in which they decide. */
export function attachedTo<T extends Attached>(
  world: World,
  source: Source<T, "target">,
  kind: "Service" | "Gateway",
  key: string,
  section: string,
): readonly T[] {
  const [, name = ""] = key.split("/");
  return [...world.objects(source).by("target", `${kind} ${key}`)]
    .sort(byAge)
    .filter(({ spec }) => spec.targetRefs.some((ref) => ref.kind === kind && ref.name === name && (ref.sectionName ?? "") === section));
}

/** The policy that decides at a target. */
export function deciding<T extends Attached>(
  world: World,
  source: Source<T, "target">,
  kind: "Service" | "Gateway",
  key: string,
  port: string,
) {
  const ofPort = port === "" ? undefined : attachedTo(world, source, kind, key, port)[0];
  return ofPort ?? attachedTo(world, source, kind, key, "")[0];
}

/** What policies say of a port of a service (by its key, blank, name of the port). */
const ofServicePort = derived<LimitsPlan>((world, text) => {
  const [service = "", port = ""] = text.split(" ");
  return planOf(deciding(world, rateLimitSource, "Service", service, port), deciding(world, overloadSource, "Service", service, port));
}, equal);

/** What policies say of a Gateway, by `NS/NAME`. */
export const gatewayLimits = derived<LimitsPlan>(
  (world, key) => planOf(deciding(world, rateLimitSource, "Gateway", key, ""), undefined),
  equal,
);

/** What policies say of a port of a workload, by the services that lead there: rules of all of them, and the rest of the first that says it. */
export function workloadLimits(world: World, workload: WorkloadModel, portName: string): LimitsPlan | undefined {
  let rates: RatesPlan | undefined;
  let overload: OverloadPlan | undefined;
  const rules = new Map<string, RateRulePlan>();
  for (const service of world.servicesOf.get(workload.key) ?? [])
    for (const port of service.ports) {
      if (port.protocol === "udp" || resolvePort(workload, port).name !== portName) continue;
      const plan = ofServicePort(world, `${service.key} ${port.name}`);
      rates ??= plan.rates;
      overload ??= plan.overload;
      for (const rule of plan.rates?.rules ?? []) rules.set(rule.id, rule);
    }
  if (rates === undefined && overload === undefined) return undefined;
  return {
    ...(rates === undefined ? {} : { rates: { ...rates, rules: [...rules.values()] } }),
    ...(overload === undefined ? {} : { overload }),
  };
}

function planOf(rate: RateLimitPolicyObject | undefined, overload: OverloadPolicyObject | undefined): LimitsPlan {
  return {
    ...(rate === undefined ? {} : { rates: ratesOf(rate) }),
    ...(overload === undefined ? {} : { overload: overloadOf(overload) }),
  };
}

function ratesOf(policy: RateLimitPolicyObject): RatesPlan {
  const { spec } = policy;
  return {
    rules: spec.rules.map((rule, at) => ({
      id: `${namespaceOf(policy)}/${policy.metadata.name}/${ruleName(rule, at)}`,
      scope: rule.scope,
      ...(rule.match === undefined ? {} : { match: rule.match }),
      by: rule.by ?? [],
      requests: rule.requests,
      perMs: durationMs(rule.per),
      burst: rule.burst ?? rule.requests,
    })),
    status: spec.status,
    tellClients: spec.tellClients,
    denyOnFailure: spec.whenServiceFails === "Deny",
    timeoutMs: durationMs(spec.timeout),
  };
}

function overloadOf({ spec }: OverloadPolicyObject): OverloadPlan {
  const { concurrency, maxConcurrency, queue, criticalityHeader, shareBy, status } = spec;
  return {
    concurrency: concurrency ?? 0,
    ...(maxConcurrency === undefined ? {} : { maxConcurrency }),
    ...(queue?.max === undefined ? {} : { maxQueue: queue.max }),
    ...(queue?.targetDelay === undefined ? {} : { targetDelayMs: durationMs(queue.targetDelay) }),
    ...(criticalityHeader === undefined ? {} : { criticalityHeader }),
    ...(shareBy === undefined ? {} : { shareBy }),
    status,
  };
}

/** What Envoy has no filter for; empty = it does all of it. */
export function beyondEnvoy({ spec }: OverloadPolicyObject): string[] {
  return [
    ...(spec.concurrency === undefined ? [] : ["concurrency (it takes it for the most that it may find)"]),
    ...(spec.queue === undefined ? [] : ["queue"]),
    ...(spec.criticalityHeader === undefined ? [] : ["criticalityHeader"]),
    ...(spec.shareBy === undefined ? [] : ["shareBy"]),
  ];
}
