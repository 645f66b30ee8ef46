// Owns: what a world makes the proxies do, told as short facts, and what differs between two worlds: the routes, clusters and permissions
// that appear or vanish, proxy by proxy. Pure. For people: proxies get resources, not these.

import { speaksHttp } from "../api/kinds/service.ts";
import { reachOf, workloadPlan } from "./layout.ts";
import { callerOf } from "./plan/caller.ts";
import { planTargets, portPlan, targetPlan } from "./plan/mesh.ts";
import type { AuthzRulePlan, InboundPlan, TargetPlan, TextMatch } from "./plan/plan.ts";
import type { ForwardPlan, MatchPlan, RoutePlan, ValueMatchPlan } from "./plan/routes.ts";
import { audienceOf, routesFor } from "./policies/httproute.ts";
import { compareText, type World } from "./world.ts";

export type EffectKind = "cluster" | "endpoint" | "route" | "permission" | "listener";

/** One thing that some proxies do only before or only after. */
export interface Effect {
  readonly change: "appears" | "vanishes";
  readonly kind: EffectKind;
  /** `shop/reviews:80 path PathPrefix / -> reviews-v1:80 90%, reviews-v2:80 10%` */
  readonly what: string;
  /** `NS/WORKLOAD`, sorted. */
  readonly proxies: readonly string[];
  /** Every proxy there is. */
  readonly all: boolean;
}

type Facts = Set<string>;

/**
 * What a world tells of its proxies. Facts come in groups, each made once and shared by all proxies it is true of: `mesh` (every port),
 * `routes CALLER` (of every port), `port CLUSTER`, `route CALLER CLUSTER`, `own NS/WORKLOAD`.
 */
interface Told {
  facts(group: string): Facts;
  readonly groups: ReadonlyMap<string, readonly string[]>;
}

/** What the proxies would do otherwise; nothing for a workload that is in one of the worlds only, but that it comes or goes. */
export function effects(before: World, after: World): readonly Effect[] {
  const [old, now] = [tell(before), tell(after)];
  const found = new Map<string, string[]>();
  const proxies = [...now.groups.keys()].filter((key) => old.groups.has(key)).sort(compareText);
  // What several proxies have in common is compared once, however many they are.
  const known = new Map<string, readonly Change[]>();
  const differences = (group: string, was: boolean, is: boolean): readonly Change[] => {
    const id = `${was} ${is} ${group}`;
    const changes = known.get(id) ?? compared(was ? old.facts(group) : new Set(), is ? now.facts(group) : new Set());
    known.set(id, changes);
    return changes;
  };
  for (const proxy of proxies) {
    const [was, is] = [new Set(old.groups.get(proxy)), new Set(now.groups.get(proxy))];
    for (const group of new Set([...was, ...is])) {
      for (const [change, fact] of differences(group, was.has(group), is.has(group))) {
        const id = `${change}\u0000${fact}`;
        const list = found.get(id);
        if (list === undefined) found.set(id, [proxy]);
        else list.push(proxy);
      }
    }
  }
  return [...found]
    .map(([id, list]): Effect => {
      const [change = "", kind = "", what = ""] = id.split("\u0000");
      return { change: change as Effect["change"], kind: kind as EffectKind, what, proxies: list, all: list.length === proxies.length };
    })
    .sort((a, b) => compareText(a.kind, b.kind) || compareText(a.what, b.what) || compareText(b.change, a.change));
}

type Change = readonly [change: Effect["change"], fact: string];

function compared(before: Facts, after: Facts): readonly Change[] {
  const appears = [...after].filter((fact) => !before.has(fact)).map((fact): Change => ["appears", fact]);
  return [...appears, ...[...before].filter((fact) => !after.has(fact)).map((fact): Change => ["vanishes", fact])];
}

function fact(kind: EffectKind, what: string): string {
  return `${kind}\u0000${what}`;
}

function tell(world: World): Told {
  const made = new Map<string, Facts>();
  const groups = new Map<string, readonly string[]>();
  for (const { key } of world.workloads.values()) {
    const reach = reachOf(world, key);
    const caller = callerOf(world, key);
    const shared =
      reach === null
        ? ["mesh", `routes ${caller}`]
        : [...reach.holds.map((cluster) => `port ${cluster}`), ...reach.routes.map((cluster) => `route ${caller} ${cluster}`)];
    groups.set(key, [...shared, `own ${key}`]);
  }
  const facts = (group: string): Facts => {
    let found = made.get(group);
    if (found === undefined) {
      found = factsOf(world, group);
      made.set(group, found);
    }
    return found;
  };
  return { facts, groups };
}

function factsOf(world: World, group: string): Facts {
  const [kind, first = "", second = ""] = group.split(" ");
  switch (kind) {
    case "mesh":
      return new Set([...planTargets(world).keys()].flatMap((cluster) => portFacts(world, cluster)));
    case "routes":
      return new Set([...planTargets(world).keys()].flatMap((cluster) => routeFacts(world, first, cluster)));
    case "port":
      return new Set(portFacts(world, first));
    case "route":
      return new Set(routeFacts(world, first, second));
    default:
      return new Set(ownFacts(world, first));
  }
}

function portFacts(world: World, cluster: string): string[] {
  const port = portPlan(world, cluster);
  if (port === undefined) return [];
  return [
    fact("cluster", `${nameOf(port)} (${port.port.protocol})`),
    ...port.endpoints.map((each) =>
      fact("endpoint", `${nameOf(port)} at ${each.address}:${each.port}${each.mutualTls ? "" : ", plain text"}`),
    ),
    ...port.withheld.map(({ name, appPort, refusal }) =>
      fact("endpoint", `${nameOf(port)} at port ${appPort} of ${name} gets no datagrams (${refusal.reason})`),
    ),
  ];
}

function routeFacts(world: World, caller: string, cluster: string): string[] {
  const port = targetPlan(world, cluster);
  if (port === undefined || !speaksHttp(port.port.protocol)) return [];
  const routes = routesFor(world, cluster, audienceOf(world, cluster, caller));
  if (routes === undefined) return [fact("route", `${nameOf(port)} everything -> ${nameOf(port)}`)];
  return routes.map((route) => fact("route", `${nameOf(port)} ${matchWords(route.match)} -> ${actionWords(route)}`));
}

function ownFacts(world: World, key: string): string[] {
  const plan = workloadPlan(world, key);
  if (plan === undefined) return [];
  const out: string[] = [];
  for (const inbound of plan.inbound) {
    if (inbound.mutualTls !== "STRICT") out.push(fact("permission", `port ${inbound.name}: plain text is taken (${inbound.mutualTls})`));
    out.push(fact("listener", `inbound ${inbound.name} on ${inbound.address}:${inbound.port} (${inbound.protocol})`));
    for (const words of permissions(inbound)) out.push(fact("permission", `port ${inbound.name}: ${words}`));
  }
  for (const upstream of plan.upstreams) out.push(fact("listener", `127.0.0.1:${upstream.localPort} leads to ${nameOf(upstream.target)}`));
  return out;
}

function nameOf({ service, port }: TargetPlan): string {
  return `${service.key}:${port.port}${port.protocol === "udp" ? "/udp" : ""}`;
}

function matchWords({ path, method, headers, query, belowMillionth }: MatchPlan): string {
  const parts = [
    ...(path.value === "/" && path.kind === "prefix"
      ? []
      : [`path ${path.kind === "separated-prefix" ? "prefix" : path.kind} ${path.value}${path.ignoreCase ? " (any case)" : ""}`]),
    ...(method === undefined ? [] : [`method ${method}`]),
    ...headers.map((each) => `header ${valueWords(each)}`),
    ...query.map((each) => `query ${valueWords(each)}`),
    ...(belowMillionth === undefined ? [] : [`the first ${belowMillionth / 10_000}%`]),
  ];
  return parts.length === 0 ? "everything" : parts.join(", ");
}

const signs = { exact: "=", regex: "~", prefix: "^=", suffix: "$=", contains: "*=", present: "" } as const;

function valueWords({ name, kind, value, invert, ignoreCase }: ValueMatchPlan): string {
  return `${invert ? "not " : ""}${name}${signs[kind]}${value}${ignoreCase ? " (any case)" : ""}`;
}

/** What a forward does beside choosing a backend. */
function forwardWords({ timeoutMs, retry, prefixRewrite, regexRewrite, hostRewrite, mirrors = [], hash = [] }: ForwardPlan): string[] {
  return [
    ...(timeoutMs === 0 ? [] : [`timeout ${timeoutMs}ms`]),
    ...(retry.perTryTimeoutMs === 0 ? [] : [`per try ${retry.perTryTimeoutMs}ms`]),
    ...(retry.codes.length === 0 && retry.on === undefined
      ? []
      : [`retries ${retry.attempts} on ${[...(retry.on ?? []), ...retry.codes].join(",")}`]),
    ...(retry.backoff === undefined ? [] : [`back-off ${retry.backoff.baseMs}ms`]),
    ...(prefixRewrite === undefined ? [] : [`path rewritten to ${prefixRewrite}`]),
    ...(regexRewrite === undefined ? [] : [`path rewritten from ${regexRewrite.regex} to ${regexRewrite.substitution}`]),
    ...(hostRewrite === undefined ? [] : [`host rewritten to ${hostRewrite}`]),
    ...mirrors.map(({ cluster, perMillion }) => `mirrored to ${clusterWords(cluster)} ${perMillion / 10_000}%`),
    ...(hash.length === 0
      ? []
      : [`hashed by ${hash.map((each) => (each.kind === "source" ? "source" : `${each.kind} ${each.name}`)).join(", ")}`]),
  ];
}

function actionWords({ action, requestHeaders, responseHeaders, cors, fault, session }: RoutePlan): string {
  const edits = (words: string, { set, add, remove }: RoutePlan["requestHeaders"]) => [
    ...set.map((each) => `${words} ${each.name}=${each.value}`),
    ...add.map((each) => `${words} +${each.name}=${each.value}`),
    ...remove.map((each) => `${words} -${each}`),
  ];
  const headers = [
    ...edits("request", requestHeaders),
    ...edits("response", responseHeaders),
    ...(cors === undefined ? [] : [`CORS ${JSON.stringify(cors)}`]),
    ...(fault === undefined ? [] : [`fault ${JSON.stringify(fault)}`]),
    ...(session === undefined ? [] : [`session by ${session.kind} ${session.name}`]),
  ];
  const suffix = headers.length === 0 ? "" : ` (${headers.join(", ")})`;
  switch (action.kind) {
    case "direct":
      return `answer ${action.status}${suffix}`;
    case "redirect": {
      const to = [action.scheme, action.host, action.port, action.path?.value].filter((part) => part !== undefined);
      return `redirect ${action.status} ${to.join(" ")}${suffix}`;
    }
    case "forward": {
      const total = action.backends.reduce((sum, { weight }) => sum + weight, 0);
      const shares = action.backends.map(({ cluster, weight, missing, requestHeaders: asked, responseHeaders: answered }) => {
        const own = [
          ...(asked === undefined ? [] : edits("request", asked)),
          ...(answered === undefined ? [] : edits("response", answered)),
        ];
        const share = weight === total ? "" : ` ${Number(((weight / total) * 100).toFixed(2))}%`;
        return `${clusterWords(cluster)}${share}${missing ? " (missing: 500)" : ""}${own.length === 0 ? "" : ` (${own.join(", ")})`}`;
      });
      const more = forwardWords(action);
      return `${shares.join(", ")}${more.length === 0 ? "" : `, ${more.join(", ")}`}${suffix}`;
    }
  }
}

/** `outbound|80||cart.shop.svc.cluster.local` -> `shop/cart:80` */
function clusterWords(cluster: string): string {
  const [, port, name, namespace] = /^outbound\|(\d+)\|\|([^.]+)\.([^.]+)\./.exec(cluster) ?? [];
  return name === undefined ? cluster : `${namespace}/${name}:${port}`;
}

function permissions({ authz }: InboundPlan): string[] {
  const out = [
    ...(authz.tokens ?? []).map(
      ({ issuer, audiences }) => `tokens of ${issuer} are checked${audiences.length === 0 ? "" : ` (for ${audiences.join(", ")})`}`,
    ),
    ...authz.deny.map((rule) => `deny ${ruleWords(rule)}`),
  ];
  if (authz.allow === null) out.push("allow everybody in the mesh");
  else if (authz.allow.length === 0) out.push("allow nobody");
  else out.push(...authz.allow.map((rule) => `allow ${ruleWords(rule)}`));
  return out;
}

function ruleWords(rule: AuthzRulePlan): string {
  const condition = (field: string, negate: boolean, values: readonly string[]) => `${field} ${negate ? "not " : ""}${values.join("|")}`;
  const sources = rule.sources.map((all) =>
    all
      .map((each) =>
        "path" in each
          ? condition(`claim ${each.path.join(".")}`, each.negate, each.values.map(textWords))
          : each.field === "principal" || each.field === "token"
            ? condition(each.field === "token" ? "token of" : "principal", each.negate, each.values.map(textWords))
            : condition(
                each.field === "ip" ? "ip" : "client ip",
                each.negate,
                each.values.map(({ prefix, length }) => `${prefix}/${length}`),
              ),
      )
      .join(" and "),
  );
  const operations = rule.operations.map((all) =>
    all.map((each) => condition(each.field, each.negate, each.values.map(textWords))).join(" and "),
  );
  const from = sources.length === 0 ? "anybody" : sources.join(" or ");
  return `${from}${operations.length === 0 ? "" : `: ${operations.join(" or ")}`} [${rule.name}]`;
}

function textWords(match: TextMatch): string {
  switch (match.kind) {
    case "present":
      return "*";
    case "prefix":
      return `${match.value}*`;
    case "suffix":
      return `*${match.value}`;
    case "regex":
      return `/${match.value}/`;
    case "exact":
      return match.value;
  }
}
