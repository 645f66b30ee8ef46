// Owns: how AuthorizationPolicies fold into the plan of one inbound port. Istio's semantics: DENY before ALLOW; once any ALLOW policy
// applies, what none of them matches is refused. On ports that carry opaque bytes a rule about requests can be no fair test: in an ALLOW
// policy it allows nothing, in a DENY policy its request conditions fall away and the rest still denies (both err on the side of refusing).

import {
  type AuthorizationPolicyObject,
  conditionKeys,
  httpOnlyFields,
  type PolicyOperation,
  type PolicyRule,
  type PolicySource,
  parseCidr,
  rootNamespace,
  tokenCondition,
} from "../../api/kinds/authorizationpolicy.ts";
import { type PortProtocol, speaksHttp } from "../../api/kinds/service.ts";
import { formatIdentity } from "../../wire/spiffe.ts";
import type { AuthzPlan, AuthzRulePlan, OperationCondition, SourceCondition, TextMatch } from "../plan/plan.ts";
import { namespaceOf, type Selectable, type World } from "../world.ts";
import { appliesTo } from "./reach.ts";
import { foldTokens } from "./requestauthentication.ts";

export interface GuardedPort {
  readonly protocol: PortProtocol;
  /** What `ports` in a policy means: where the application listens. */
  readonly appPort: number;
}

export function foldAuthorization(world: World, workload: Selectable, port: GuardedPort): AuthzPlan {
  const plan = foldPolicies(world, policiesOf(world, workload), port);
  const tokens = speaksHttp(port.protocol) ? foldTokens(world, workload) : [];
  return tokens.length === 0 ? plan : { ...plan, tokens };
}

/** The same, of the policies given. */
export function foldPolicies(world: World, policies: readonly AuthorizationPolicyObject[], port: GuardedPort): AuthzPlan {
  const deny: AuthzRulePlan[] = [];
  let allow: AuthzRulePlan[] | null = null;
  for (const policy of policies) {
    const action = policy.spec?.action ?? "ALLOW";
    if (action === "ALLOW") allow ??= [];
    const into = action === "DENY" ? deny : allow!;
    for (const [at, rule] of (policy.spec?.rules ?? []).entries()) {
      const plan = foldRule(world, policy, rule, at, action, port);
      if (plan !== undefined) into.push(plan);
    }
  }
  const byName = (a: AuthzRulePlan, b: AuthzRulePlan) => (a.name < b.name ? -1 : 1);
  return { deny: deny.sort(byName), allow: allow === null ? null : allow.sort(byName) };
}

/** The policies in force at a workload: of its namespace and of the root namespace, those without selector or whose selector fits. */
export function policiesOf(world: World, workload: Selectable): readonly AuthorizationPolicyObject[] {
  const own = world.policies.get(workload.namespace) ?? [];
  const root = workload.namespace === rootNamespace ? [] : (world.policies.get(rootNamespace) ?? []);
  return [...root, ...own].filter((policy) => appliesTo(policy, workload));
}

/** A rule that says something about requests. */
export function needsHttp(rule: PolicyRule): boolean {
  return (rule.to ?? []).some(({ operation }) => httpOnlyFields.some((field) => operation[field] !== undefined)) || needsToken(rule);
}

/** A rule that says something about the tokens of requests. */
export function needsToken({ from, when }: PolicyRule): boolean {
  return (
    (from ?? []).some(({ source }) => source.requestPrincipals !== undefined || source.notRequestPrincipals !== undefined) ||
    (when ?? []).some(({ key }) => tokenCondition(key) !== undefined)
  );
}

/** A rule on the client's address from which anybody may come: away from Gateways its caller writes what is judged. */
export function takesAnyonesWord({ from, when }: PolicyRule): boolean {
  const always = (when ?? []).some(({ key }) => conditionKeys[key] === "client");
  return (from ?? [{ source: {} as PolicySource }]).some(
    ({ source }) =>
      (always || source.remoteIpBlocks !== undefined || source.notRemoteIpBlocks !== undefined) &&
      source.principals === undefined &&
      source.namespaces === undefined &&
      source.serviceAccounts === undefined,
  );
}

function foldRule(
  world: World,
  policy: AuthorizationPolicyObject,
  rule: PolicyRule,
  at: number,
  action: "ALLOW" | "DENY",
  port: GuardedPort,
): AuthzRulePlan | undefined {
  const operations: OperationCondition[][] = [];
  for (const { operation } of rule.to ?? []) {
    if (!portFits(operation, port.appPort)) continue;
    const conditions = operationConditions(operation);
    if (!speaksHttp(port.protocol) && conditions.length > 0) {
      if (action === "DENY") operations.push([]);
      continue;
    }
    operations.push(conditions);
  }
  // Every operation fell away: the rule is about other ports.
  if (rule.to !== undefined && operations.length === 0) return undefined;
  const sources = sourcesFor(port, action, sourcesOf(world, namespaceOf(policy), rule));
  if (sources === undefined) return undefined;
  return {
    name: `ns[${namespaceOf(policy)}]-policy[${policy.metadata.name}]-rule[${at}]`,
    sources,
    operations: operations.some((conditions) => conditions.length === 0) ? [] : operations,
  };
}

/** As with operations: opaque bytes have no token, so that what asks for one allows nothing, and denies whatever else fits. undefined: nobody is meant. */
function sourcesFor(port: GuardedPort, action: "ALLOW" | "DENY", sources: SourceCondition[][]): SourceCondition[][] | undefined {
  if (speaksHttp(port.protocol) || !sources.some((each) => each.some(asksForToken))) return sources;
  if (action === "ALLOW") {
    const left = sources.filter((each) => !each.some(asksForToken));
    return left.length === 0 ? undefined : left;
  }
  const left = sources.map((each) => each.filter((condition) => !asksForToken(condition)));
  return left.some((each) => each.length === 0) ? [] : left;
}

function asksForToken({ field }: SourceCondition): boolean {
  return field === "token" || field === "claim";
}

/** Ports are known when compiling, one listener being one port: the condition is decided here and costs nothing per request. */
function portFits(operation: PolicyOperation, appPort: number): boolean {
  const port = String(appPort);
  const same = (text: string) => Number(text) === appPort;
  if (operation.ports !== undefined && !operation.ports.some(same)) return false;
  return operation.notPorts === undefined || !operation.notPorts.some((text) => text === port || same(text));
}

function operationConditions(operation: PolicyOperation): OperationCondition[] {
  const out: OperationCondition[] = [];
  const add = (field: OperationCondition["field"], values: readonly string[] | undefined, negate: boolean) => {
    if (values !== undefined) out.push({ field, negate, values: values.map((value) => textMatch(value)) });
  };
  add("host", operation.hosts, false);
  add("host", operation.notHosts, true);
  add("method", operation.methods, false);
  add("method", operation.notMethods, true);
  add("path", operation.paths, false);
  add("path", operation.notPaths, true);
  return out;
}

/** What `when` asks must hold beside each source. */
function sourcesOf(world: World, namespace: string, { from, when }: PolicyRule): SourceCondition[][] {
  const always = (when ?? []).flatMap(({ key, values, notValues }) => {
    const token = tokenCondition(key);
    if (token !== undefined) return tokenConditions(token, values, notValues);
    const field = conditionKeys[key];
    if (field === undefined) throw new Error(`the condition ${key} is not implemented`);
    return addressConditions(field, values, notValues);
  });
  const sources = (from ?? []).map(({ source }) => [...sourceConditions(world, namespace, source), ...always]);
  return from === undefined && always.length > 0 ? [always] : sources;
}

function tokenConditions(
  of: NonNullable<ReturnType<typeof tokenCondition>>,
  values: readonly string[] | undefined,
  notValues: readonly string[] | undefined,
): SourceCondition[] {
  const texts = (list: readonly string[], negate: boolean): SourceCondition => {
    const matches = list.map(textMatch);
    return of.kind === "principal"
      ? { field: "token", negate, values: matches }
      : { field: "claim", path: of.path, negate, values: matches };
  };
  return [...(values === undefined ? [] : [texts(values, false)]), ...(notValues === undefined ? [] : [texts(notValues, true)])];
}

function addressConditions(
  field: "ip" | "client",
  values: readonly string[] | undefined,
  notValues: readonly string[] | undefined,
): SourceCondition[] {
  const blocks = (texts: readonly string[], negate: boolean): SourceCondition => ({
    field,
    negate,
    values: texts.map((text) => parseCidr(text)!),
  });
  return [...(values === undefined ? [] : [blocks(values, false)]), ...(notValues === undefined ? [] : [blocks(notValues, true)])];
}

function sourceConditions(world: World, policyNamespace: string, source: PolicySource): SourceCondition[] {
  const out: SourceCondition[] = [];
  const principals = (values: readonly string[] | undefined, negate: boolean, match: (value: string) => TextMatch) => {
    if (values !== undefined) out.push({ field: "principal", negate, values: values.map(match) });
  };
  const { trustDomain } = world;
  principals(source.principals, false, (value) => principalMatch(value, trustDomain));
  principals(source.notPrincipals, true, (value) => principalMatch(value, trustDomain));
  principals(source.namespaces, false, (value) => namespaceMatch(value, trustDomain));
  principals(source.notNamespaces, true, (value) => namespaceMatch(value, trustDomain));
  principals(source.serviceAccounts, false, (value) => accountMatch(value, policyNamespace, trustDomain));
  principals(source.notServiceAccounts, true, (value) => accountMatch(value, policyNamespace, trustDomain));
  return [
    ...out,
    ...tokenConditions({ kind: "principal" }, source.requestPrincipals, source.notRequestPrincipals),
    ...addressConditions("ip", source.ipBlocks, source.notIpBlocks),
    ...addressConditions("client", source.remoteIpBlocks, source.notRemoteIpBlocks),
  ];
}

/** Istio's forms: exact, `prefix*`, `*suffix`, `*`. */
function textMatch(value: string): TextMatch {
  if (value === "*") return { kind: "present" };
  if (value.startsWith("*")) return { kind: "suffix", value: value.slice(1) };
  if (value.endsWith("*")) return { kind: "prefix", value: value.slice(0, -1) };
  return { kind: "exact", value };
}

/** `cluster.local` stands for the mesh's own trust domain, whatever its name, as in Istio: policies move between meshes unchanged. */
const localTrustDomain = "cluster.local/";

function principalMatch(value: string, trustDomain: string): TextMatch {
  const local = value.startsWith(localTrustDomain) ? `${trustDomain}/${value.slice(localTrustDomain.length)}` : value;
  const match = textMatch(local);
  if (match.kind === "exact" || match.kind === "prefix") return { kind: match.kind, value: `spiffe://${match.value}` };
  return match;
}

function namespaceMatch(value: string, trustDomain: string): TextMatch {
  const match = textMatch(value);
  switch (match.kind) {
    case "exact":
      return { kind: "prefix", value: `spiffe://${trustDomain}/ns/${match.value}/` };
    case "prefix":
      return { kind: "prefix", value: `spiffe://${trustDomain}/ns/${match.value}` };
    case "suffix":
      return { kind: "regex", value: `spiffe://[^/]+/ns/[^/]*${match.value.replace(/[.]/g, "\\.")}/.*` };
    default:
      return { kind: "present" };
  }
}

function accountMatch(value: string, policyNamespace: string, trustDomain: string): TextMatch {
  const [first = "", second] = value.split("/");
  const [namespace, serviceAccount] = second === undefined ? [policyNamespace, first] : [first, second];
  return { kind: "exact", value: formatIdentity({ trustDomain, namespace, serviceAccount }) };
}
