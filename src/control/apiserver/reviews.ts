// Owns: requests that ask rather than store: a join token (TokenRequest), what the caller or somebody else may do, and who the caller
// or a token's holder is.
// Never keeps anything, and never logs a token.

import { type JoinTokenObject, joinTokenKind, longestJoinTokenSeconds } from "../../api/kinds/jointoken.ts";
import { longestUserTokenSeconds } from "../../api/kinds/user.ts";
import { resourceOf, type Violation } from "../../api/meta.ts";
import { callerNamed } from "../identity/access.ts";
import { groupsOf } from "../identity/access-index.ts";
import { isRecord, readData } from "./body.ts";
import type { Call, Core } from "./core.ts";
import type { Access, Caller, TokenRequest, Verb } from "./deps.ts";
import { json } from "./negotiate.ts";
import type { ReviewTarget } from "./paths.ts";
import { verbsOf } from "./registry.ts";
import { badRequest, forbidden, invalid, methodNotAllowed, notFound } from "./status.ts";

const minSeconds = 600;
const maxSeconds = 86_400;
const defaultSeconds = 3600;
const defaultUserSeconds = 30 * 86_400;
const audience = "weft";

export async function answerReview(core: Core, call: Call, target: ReviewTarget): Promise<Response> {
  if (call.request.method !== "POST") throw methodNotAllowed(`${call.request.method} is not possible here; only POST is`);
  if (target.review !== "token" && target.review !== "user-token") call.trail.asksOnly = true;
  switch (target.review) {
    case "user-token":
      return issueUserToken(core, call, target.name);
    case "token":
      return issueToken(core, call, target.namespace, target.serviceAccount);
    case "access":
      return reviewAccess(core, call);
    case "self": {
      await readReview(call, "authentication.k8s.io/v1", "SelfSubjectReview");
      const status = { userInfo: userOf(core, call.caller) };
      return json(call.request, { kind: "SelfSubjectReview", apiVersion: "authentication.k8s.io/v1", metadata: {}, status }, 201);
    }
    case "rules":
      return reviewRules(core, call);
    case "token-review":
      return reviewToken(core, call);
    case "subject":
      return reviewSubject(core, call, target.namespace);
  }
}

function userOf(core: Core, caller: Caller): { readonly username: string; readonly groups: readonly string[] } {
  return { username: caller.user, groups: (core.deps.groupsOf ?? groupsOf)(caller) };
}

function permitReview(core: Core, call: Call, plural: string, group: string): void {
  const access: Access = { type: "resource", verb: "create", resource: `${plural}.${group}`, subresource: "", namespace: "", name: "" };
  const decision = core.deps.authorize(call.caller, access);
  if (!decision.allowed) throw forbidden({ plural, group, name: "" }, decision.reason);
}

/** What may be asked here and is no kind. */
const questions = [
  ["selfsubjectreviews", "authentication.k8s.io"],
  ["tokenreviews", "authentication.k8s.io"],
  ["selfsubjectaccessreviews", "authorization.k8s.io"],
  ["selfsubjectrulesreviews", "authorization.k8s.io"],
  ["subjectaccessreviews", "authorization.k8s.io"],
] as const;

/** `kubectl auth can-i --list`: asks of every kind and verb what it would answer. */
async function reviewRules(core: Core, call: Call): Promise<Response> {
  const spec = await readReview(call, "authorization.k8s.io/v1", "SelfSubjectRulesReview");
  const namespace = typeof spec.namespace === "string" ? spec.namespace : "";
  if (namespace === "") throw badRequest("no namespace on request: spec.namespace is required");
  const resourceRules: Record<string, unknown>[] = [];
  // Who may do anything with what is not even here is told that, as Kubernetes does.
  const nothing = { type: "resource", verb: "*" as Verb, resource: "none.invalid", subresource: "", namespace, name: "" } as const;
  const everything = core.deps.authorize(call.caller, nothing).allowed;
  if (everything) resourceRules.push({ verbs: ["*"], apiGroups: ["*"], resources: ["*"] });
  for (const kind of everything ? [] : core.registry.kinds) {
    for (const subresource of kind.hasStatus && !kind.virtual ? ["", "status"] : [""]) {
      const possible = subresource === "" ? verbsOf(kind) : ["get", "patch", "update"];
      const allowed = possible.filter(
        (verb) =>
          core.deps.authorize(call.caller, {
            type: "resource",
            verb: verb as Verb,
            resource: resourceOf(kind),
            subresource,
            namespace: kind.namespaced ? namespace : "",
            name: "",
          }).allowed,
      );
      const resources = [subresource === "" ? kind.plural : `${kind.plural}/${subresource}`];
      if (allowed.length > 0) resourceRules.push({ verbs: allowed, apiGroups: [kind.group], resources });
    }
  }
  for (const [plural, group] of everything ? [] : questions) {
    const ask = { type: "resource", verb: "create", resource: `${plural}.${group}`, subresource: "", namespace: "", name: "" } as const;
    if (core.deps.authorize(call.caller, ask).allowed) resourceRules.push({ verbs: ["create"], apiGroups: [group], resources: [plural] });
  }
  const anyPath = core.deps.authorize(call.caller, { type: "path", verb: "get", path: "/" }).allowed;
  const paths = ["/api", "/apis", "/openapi/v3", "/metrics", "/insight/v1alpha1/graph", "/weft/v1alpha1/history"];
  const nonResourceRules = anyPath
    ? [{ verbs: ["*"], nonResourceURLs: ["*"] }]
    : paths
        .filter((path) => core.deps.authorize(call.caller, { type: "path", verb: "get", path }).allowed)
        .map((path) => ({ verbs: ["get"], nonResourceURLs: [path] }));
  const status = { resourceRules, nonResourceRules, incomplete: false };
  return json(call.request, { kind: "SelfSubjectRulesReview", apiVersion: "authorization.k8s.io/v1", metadata: {}, spec, status }, 201);
}

/** Whose token this is; for programs that are called with our tokens. */
async function reviewToken(core: Core, call: Call): Promise<Response> {
  permitReview(core, call, "tokenreviews", "authentication.k8s.io");
  const spec = await readReview(call, "authentication.k8s.io/v1", "TokenReview");
  const token = typeof spec.token === "string" ? spec.token : "";
  const audiences = Array.isArray(spec.audiences) ? spec.audiences : [];
  let status: Record<string, unknown>;
  if (audiences.length > 0 && !audiences.includes(audience)) {
    status = {
      authenticated: false,
      error: `tokens of this mesh are for ${JSON.stringify(audience)}, not for ${JSON.stringify(audiences)}`,
    };
  } else {
    const verdict = await core.deps.authenticate(new Request(call.request.url, { headers: { authorization: `Bearer ${token}` } }));
    status = verdict.ok
      ? { authenticated: true, user: userOf(core, verdict.caller), audiences: [audience] }
      : { authenticated: false, error: verdict.reason };
  }
  // The token does not go back.
  return json(
    call.request,
    { kind: "TokenReview", apiVersion: "authentication.k8s.io/v1", metadata: {}, spec: { audiences }, status },
    201,
  );
}

/** What somebody else may do. */
async function reviewSubject(core: Core, call: Call, namespace: string): Promise<Response> {
  const kind = namespace === "" ? "SubjectAccessReview" : "LocalSubjectAccessReview";
  permitReview(core, call, namespace === "" ? "subjectaccessreviews" : "localsubjectaccessreviews", "authorization.k8s.io");
  const spec = await readReview(call, "authorization.k8s.io/v1", kind);
  const user = typeof spec.user === "string" ? spec.user : "";
  const about = isRecord(spec.resourceAttributes) ? spec.resourceAttributes : undefined;
  if (namespace !== "" && about?.namespace !== namespace)
    throw badRequest(`spec.resourceAttributes.namespace must be the path's, ${JSON.stringify(namespace)}`);
  const claimed = Array.isArray(spec.groups) ? spec.groups.filter((each) => typeof each === "string") : [];
  const subject = (core.deps.callerNamed ?? callerNamed)(user, claimed);
  const status = subject === undefined ? { allowed: false, reason: `${JSON.stringify(user)} is nobody` } : verdict(core, subject, spec);
  return json(call.request, { kind, apiVersion: "authorization.k8s.io/v1", metadata: {}, spec, status }, 201);
}

async function readReview(call: Call, apiVersion: string, kind: string): Promise<Record<string, unknown>> {
  const data = await readData(call.request);
  if (data === undefined) return {};
  if (!isRecord(data)) throw badRequest("the body is not an object");
  if ((data.kind ?? kind) !== kind || (data.apiVersion ?? apiVersion) !== apiVersion) {
    throw badRequest(`the body must be a ${kind} of ${apiVersion}, got ${JSON.stringify(data.kind)} of ${JSON.stringify(data.apiVersion)}`);
  }
  return isRecord(data.spec) ? data.spec : {};
}

const dnsName = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const dnsLabel = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** A credential of a User. Whoever may make one may be that user. */
async function issueUserToken(core: Core, call: Call, name: string): Promise<Response> {
  Object.assign(call.trail, { verb: "create", resource: "users.weft.dev/token", name });
  const access: Access = { type: "resource", verb: "create", resource: "users.weft.dev", subresource: "token", namespace: "", name };
  const decision = core.deps.authorize(call.caller, access);
  const subject = { plural: "users", group: "weft.dev", name };
  if (!decision.allowed) throw forbidden(subject, decision.reason);
  const spec = await readReview(call, "authentication.k8s.io/v1", "TokenRequest");
  const seconds = spec.expirationSeconds ?? defaultUserSeconds;
  const problems: Violation[] = [];
  if (typeof seconds !== "number" || !Number.isInteger(seconds) || seconds < minSeconds || seconds > longestUserTokenSeconds)
    problems.push({
      path: "spec.expirationSeconds",
      message: `must be a whole number from ${minSeconds} to ${longestUserTokenSeconds}, got ${JSON.stringify(seconds)}`,
    });
  for (const field of Object.keys(spec))
    if (field !== "expirationSeconds") problems.push({ path: `spec.${field}`, message: "unknown field" });
  if (problems.length > 0) throw invalid("TokenRequest", "authentication.k8s.io", name, problems);
  const expirationSeconds = Number(seconds);
  const status = await core.deps.issueUserToken?.({ name, expirationSeconds });
  if (status === undefined) throw notFound(subject);
  const body = {
    kind: "TokenRequest",
    apiVersion: "authentication.k8s.io/v1",
    metadata: { name },
    spec: { expirationSeconds },
    status,
  };
  return json(call.request, body, 201);
}

async function issueToken(core: Core, call: Call, namespace: string, serviceAccount: string): Promise<Response> {
  Object.assign(call.trail, { verb: "create", resource: "serviceaccounts/token", namespace, name: serviceAccount });
  const access: Access = {
    type: "resource",
    verb: "create",
    resource: "serviceaccounts",
    subresource: "token",
    namespace,
    name: serviceAccount,
  };
  const decision = core.deps.authorize(call.caller, access);
  const subject = { plural: "serviceaccounts/token", group: "", name: serviceAccount };
  if (!decision.allowed) throw forbidden(subject, decision.reason);

  const spec = await readReview(call, "authentication.k8s.io/v1", "TokenRequest");
  const problems: Violation[] = [];
  if (!dnsLabel.test(namespace))
    problems.push({ path: "metadata.namespace", message: `${JSON.stringify(namespace)} is no namespace name` });
  if (!dnsName.test(serviceAccount))
    problems.push({ path: "metadata.name", message: `${JSON.stringify(serviceAccount)} is no service account name` });
  const seconds = spec.expirationSeconds ?? defaultSeconds;
  const reference = isRecord(spec.boundObjectRef) ? spec.boundObjectRef : undefined;
  const most = reference === undefined ? maxSeconds : longestJoinTokenSeconds;
  if (typeof seconds !== "number" || !Number.isInteger(seconds) || seconds < minSeconds || seconds > most) {
    problems.push({
      path: "spec.expirationSeconds",
      message: `must be a whole number from ${minSeconds} to ${most}, got ${JSON.stringify(seconds)}`,
    });
  }
  const audiences = spec.audiences ?? [];
  if (!Array.isArray(audiences) || audiences.some((each) => each !== audience)) {
    problems.push({
      path: "spec.audiences",
      message: `join tokens are for ${JSON.stringify(audience)} alone, got ${JSON.stringify(audiences)}; leave it out`,
    });
  }
  const bound = reference === undefined ? undefined : await boundTo(core, namespace, serviceAccount, reference, problems);
  for (const name of Object.keys(spec)) {
    if (!["expirationSeconds", "audiences", "boundObjectRef"].includes(name))
      problems.push({ path: `spec.${name}`, message: "unknown field" });
  }
  if (problems.length > 0) throw invalid("TokenRequest", "authentication.k8s.io", serviceAccount, problems);
  const expirationSeconds = Number(seconds);
  const status = await core.deps.issueToken({ namespace, serviceAccount, expirationSeconds, ...(bound !== undefined && { bound }) });
  const body = {
    kind: "TokenRequest",
    apiVersion: "authentication.k8s.io/v1",
    metadata: { name: serviceAccount, namespace },
    spec: { audiences: [audience], expirationSeconds },
    status: { token: status.token, expirationTimestamp: status.expirationTimestamp },
  };
  return json(call.request, body, 201);
}

/** Tokens are bound to JoinTokens alone: deleting that object revokes them. */
async function boundTo(
  core: Core,
  namespace: string,
  serviceAccount: string,
  reference: Record<string, unknown>,
  problems: Violation[],
): Promise<TokenRequest["bound"]> {
  const { kind, apiVersion, name, uid } = reference;
  const path = "spec.boundObjectRef";
  if (kind !== "JoinToken" || (apiVersion ?? "weft.dev/v1alpha1") !== "weft.dev/v1alpha1") {
    problems.push({
      path,
      message: `tokens can be bound to a JoinToken of weft.dev/v1alpha1 only, got ${JSON.stringify(kind)} of ${JSON.stringify(apiVersion)}`,
    });
    return undefined;
  }
  const found = typeof name === "string" ? await core.deps.store.get({ resource: resourceOf(joinTokenKind), namespace, name }) : undefined;
  const token = found as JoinTokenObject | undefined;
  if (token === undefined || (uid !== undefined && uid !== token.metadata.uid)) {
    problems.push({
      path: `${path}.name`,
      message: `there is no JoinToken ${JSON.stringify(name)} in namespace ${namespace}${uid === undefined ? "" : " with that uid"}`,
    });
    return undefined;
  }
  if (token.spec.serviceAccount !== serviceAccount)
    problems.push({
      path,
      message: `JoinToken ${token.metadata.name} is for service account ${token.spec.serviceAccount}, not ${serviceAccount}`,
    });
  return { namespace, name: token.metadata.name, uid: token.metadata.uid ?? "" };
}

const verbs: readonly Verb[] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
/** Verbs that no request has: they are asked about beside others (escalation, `--as`). */
const rightsVerbs: readonly Verb[] = ["bind", "escalate", "impersonate"];

async function reviewAccess(core: Core, call: Call): Promise<Response> {
  const spec = await readReview(call, "authorization.k8s.io/v1", "SelfSubjectAccessReview");
  const status = verdict(core, call.caller, spec);
  return json(call.request, { kind: "SelfSubjectAccessReview", apiVersion: "authorization.k8s.io/v1", metadata: {}, spec, status }, 201);
}

function verdict(core: Core, caller: Caller, spec: Record<string, unknown>): { allowed: boolean; reason?: string } {
  const about = (attributes: Record<string, unknown>, name: string) => (typeof attributes[name] === "string" ? attributes[name] : "");
  const decide = (access: Access) => {
    const decision = core.deps.authorize(caller, access);
    return decision.allowed
      ? { allowed: true, ...(decision.ownsWhat && { reason: `as far as ${decision.ownsWhat}` }) }
      : { allowed: false, reason: decision.reason };
  };
  const path = spec.nonResourceAttributes;
  if (isRecord(path))
    return decide({ type: "path", verb: about(path, "verb").toLowerCase() as Lowercase<string>, path: about(path, "path") });
  const attributes = spec.resourceAttributes;
  if (!isRecord(attributes)) throw badRequest("spec.resourceAttributes or spec.nonResourceAttributes is required");
  const group = about(attributes, "group");
  const plural = about(attributes, "resource");
  const asked = about(attributes, "verb");
  const known = asked === "*" ? [...verbs, ...rightsVerbs] : [...verbs, ...rightsVerbs].filter((verb) => verb === asked);
  if (known.length === 0) return { allowed: false, reason: `${JSON.stringify(asked)} is no verb of this server` };
  const answers = known.map((verb) =>
    decide({
      type: "resource",
      verb,
      resource: group === "" ? plural : `${plural}.${group}`,
      subresource: about(attributes, "subresource"),
      namespace: about(attributes, "namespace"),
      name: about(attributes, "name"),
    }),
  );
  return answers.find((answer) => !answer.allowed) ?? answers[0]!;
}
