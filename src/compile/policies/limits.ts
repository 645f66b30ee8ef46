// Owns: how RateLimitPolicies and OverloadPolicies fold into the plan of a port: which of several decides, and what it says. Never writes a status
// (../status-limits.ts does).

import { durationMs } from "../../api/kinds/gateway-refs.ts";
import type { OverloadPolicyObject } from "../../api/kinds/overloadpolicy-spec.ts";
import { type RateLimitPolicyObject, ruleName } from "../../api/kinds/ratelimitpolicy-spec.ts";
import { overloadSource, rateLimitSource } from "../limit-sources.ts";
import { type LimitsPlan, type OverloadPlan, type RateRulePlan, type RatesPlan, routeEntry } from "../plan/limits.ts";
import { grpcRouteSource } from "../route-sources.ts";
import { httpRouteSource } from "../sources.ts";
import { derived, equal, keyOf, namespaceOf, resolvePort, type WorkloadModel, type World } from "../world.ts";
import { type Resolved, resolveGrpc } from "./backends.ts";
import { requestRoutes } from "./gateway-requests.ts";
import type { RequestRouteKind } from "./httproute.ts";
import { deciding } from "./limit-targets.ts";

/** What policies say of a port of a service (by its key, blank, name of the port). */
const ofServicePort = derived<{ readonly rates?: Said; readonly overload?: OverloadPlan }>((world, text) => {
  const [service = "", port = ""] = text.split(" ");
  const rate = deciding(world, rateLimitSource, "Service", service, port);
  const overload = deciding(world, overloadSource, "Service", service, port);
  return {
    ...(rate === undefined ? {} : { rates: saidBy(world, rate) }),
    ...(overload === undefined ? {} : { overload: overloadOf(overload) }),
  };
}, equal);

/** What one policy says. */
interface Said {
  readonly policy: string;
  readonly rates: RatesPlan;
}

/** What policies say of one place together: a request is held against the rules of all of them. */
export interface JoinedRates {
  readonly rates?: RatesPlan;
  /** Policies that are not heard there, since a port asks one rate limit service; each with the one that is. Both as `NS/NAME`. */
  readonly unheard: Readonly<Record<string, string>>;
}

function joined(all: readonly Said[]): JoinedRates {
  const asks = ({ rates }: Said) => rates.rules.some(({ scope }) => scope === "Global");
  const speaker = all.find(asks);
  const heard = all.filter((each) => !asks(each) || equal(each.rates.service, speaker?.rates.service));
  const unheard = Object.fromEntries(all.flatMap((each) => (heard.includes(each) ? [] : [[each.policy, speaker?.policy ?? ""]])));
  const [first] = heard;
  if (first === undefined) return { unheard };
  const rules = new Map<string, RateRulePlan>();
  // One that is for all requests is for those of a route too.
  for (const { rates } of heard) for (const rule of rates.rules) if (!rules.has(rule.id)) rules.set(rule.id, rule);
  const asking = heard.filter(asks).map(({ rates }) => rates);
  const service = speaker?.rates.service;
  const rates = {
    ...(service === undefined ? {} : { service }),
    rules: [...rules.values()],
    status: first.rates.status,
    tellClients: heard.some((each) => each.rates.tellClients),
    // Nobody's stance is loosened by another's.
    denyOnFailure: asking.some(({ denyOnFailure }) => denyOnFailure),
    timeoutMs: Math.max(...(asking.length === 0 ? [first.rates] : asking).map(({ timeoutMs }) => timeoutMs)),
  };
  return { rates, unheard };
}

/** The policies that decide at routes of a Gateway, once each, by the age of their routes. */
function atRoutes(world: World, gateway: string): RateLimitPolicyObject[] {
  const found = new Set<RateLimitPolicyObject>();
  for (const { kind, key } of requestRoutes(world, gateway))
    for (const section of routeSections(world, kind, key)) {
      const policy = deciding(world, rateLimitSource, kind, key, section);
      if (policy !== undefined && !asksFromAfar(policy, gateway)) found.add(policy);
    }
  return [...found];
}

/** A policy for routes would have the control plane count for processes of another namespace, which may not use up its limits. */
export function asksFromAfar(policy: RateLimitPolicyObject, gateway: string): boolean {
  const { service, rules } = policy.spec;
  return service === undefined && rules.some(({ scope }) => scope === "Global") && !gateway.startsWith(`${namespaceOf(policy)}/`);
}

/** Names of a route's rules; empty = one that has none. */
export function routeSections(world: World, kind: RequestRouteKind, key: string): string[] {
  const route = kind === "HTTPRoute" ? world.objects(httpRouteSource).get(key) : world.objects(grpcRouteSource).get(key);
  return [...new Set((route?.spec.rules ?? []).map(({ name }) => name ?? ""))];
}

/** What policies say of a Gateway and of the routes at its listeners. By `NS/NAME`. */
export const gatewayRates = derived<JoinedRates>((world, key) => {
  const own = deciding(world, rateLimitSource, "Gateway", key, "");
  return joined([
    ...(own === undefined ? [] : [saidBy(world, own)]),
    ...atRoutes(world, key).map((policy) => {
      const { rates, ...said } = saidBy(world, policy);
      return { ...said, rates: { ...rates, rules: rates.rules.map((rule) => ({ ...rule, ofRoute: true as const })) } };
    }),
  ]);
}, equal);

/** The same, as its processes go by it. */
export const gatewayLimits = derived<LimitsPlan>((world, key) => {
  const { rates } = gatewayRates(world, key);
  return rates === undefined ? {} : { rates };
}, equal);

/** What a rule of a route at a Gateway carries, so that the rules of its policy know it. By kind, blank, `NS/NAME`, blank, name of the rule. */
export const routeLimits = derived<Readonly<Record<string, string>>>((world, text) => {
  const [kind = "HTTPRoute", key = "", section = ""] = text.split(" ") as [RequestRouteKind, string, string];
  const policy = deciding(world, rateLimitSource, kind, key, section);
  return policy === undefined ? {} : Object.fromEntries(saidBy(world, policy).rates.rules.map((rule) => [rule.id, routeEntry(rule)]));
}, equal);

/** What policies say of a port of a workload, by the services that lead there. */
export function workloadRates(world: World, workload: WorkloadModel, portName: string): JoinedRates {
  return joined([
    ...new Map(servedBy(world, workload, portName).flatMap(({ rates }) => (rates === undefined ? [] : [[rates.policy, rates]]))).values(),
  ]);
}

function servedBy(world: World, workload: WorkloadModel, portName: string) {
  return (world.servicesOf.get(workload.key) ?? []).flatMap((service) =>
    service.ports.flatMap((port) =>
      port.protocol === "udp" || resolvePort(workload, port).name !== portName ? [] : [ofServicePort(world, `${service.key} ${port.name}`)],
    ),
  );
}

/** What policies say of a port of a workload, by the services that lead there: rules of all of them, and of overload the first that says something. */
export function workloadLimits(world: World, workload: WorkloadModel, portName: string): LimitsPlan | undefined {
  const { rates } = workloadRates(world, workload, portName);
  const overload = servedBy(world, workload, portName).find((each) => each.overload !== undefined)?.overload;
  if (rates === undefined && overload === undefined) return undefined;
  return { ...(rates === undefined ? {} : { rates }), ...(overload === undefined ? {} : { overload }) };
}

/** Where a policy's own rate limit service is, if it has one. */
export function limitServiceOf(world: World, policy: RateLimitPolicyObject): Resolved | undefined {
  const { service } = policy.spec;
  return service === undefined ? undefined : resolveGrpc(world, policy, service.backendRef, "spec.service.backendRef");
}

function saidBy(world: World, policy: RateLimitPolicyObject): Said {
  const { spec } = policy;
  const cluster = limitServiceOf(world, policy)?.cluster;
  const service =
    spec.service === undefined || cluster === undefined
      ? {}
      : { service: { cluster, host: cluster.split("|")[3] ?? cluster, domain: spec.service.domain } };
  const rates = {
    ...service,
    rules: spec.rules.map((rule, at) => ({
      id: `${keyOf(policy)}/${ruleName(rule, at)}`,
      scope: rule.scope,
      ...(rule.match === undefined ? {} : { match: rule.match }),
      by: rule.by ?? [],
      // A question to a service of one's own has no number.
      requests: rule.requests ?? 0,
      perMs: rule.per === undefined ? 0 : durationMs(rule.per),
      burst: rule.burst ?? rule.requests ?? 0,
      ...(rule.descriptor === undefined ? {} : { descriptor: rule.descriptor }),
    })),
    status: spec.status,
    tellClients: spec.tellClients,
    denyOnFailure: spec.whenServiceFails === "Deny",
    timeoutMs: durationMs(spec.timeout),
  };
  return { policy: keyOf(policy), rates };
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
