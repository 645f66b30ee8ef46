// Owns: requests that ask rather than store: a join token (TokenRequest), what the caller may do, and who the caller is.
// Never keeps anything, and never logs a token.

import type { Violation } from "../../api/meta.ts";
import { isRecord, readData } from "./body.ts";
import type { Call, Core } from "./core.ts";
import type { Access, Verb } from "./deps.ts";
import { json } from "./negotiate.ts";
import type { ReviewTarget } from "./paths.ts";
import { badRequest, forbidden, invalid, methodNotAllowed } from "./status.ts";

const minSeconds = 600;
const maxSeconds = 86_400;
const defaultSeconds = 3600;
const audience = "weft";

export async function answerReview(core: Core, call: Call, target: ReviewTarget): Promise<Response> {
  if (call.request.method !== "POST") throw methodNotAllowed(`${call.request.method} is not possible here; only POST is`);
  switch (target.review) {
    case "token":
      return issueToken(core, call, target.namespace, target.serviceAccount);
    case "access":
      return reviewAccess(core, call);
    case "self": {
      await readReview(call, "authentication.k8s.io/v1", "SelfSubjectReview");
      const groups =
        call.caller.kind === "admin" ? ["system:masters", "system:authenticated"] : ["system:serviceaccounts", "system:authenticated"];
      const status = { userInfo: { username: call.caller.user, groups } };
      return json(call.request, { kind: "SelfSubjectReview", apiVersion: "authentication.k8s.io/v1", metadata: {}, status }, 201);
    }
  }
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

async function issueToken(core: Core, call: Call, namespace: string, serviceAccount: string): Promise<Response> {
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
  if (typeof seconds !== "number" || !Number.isInteger(seconds) || seconds < minSeconds || seconds > maxSeconds) {
    problems.push({
      path: "spec.expirationSeconds",
      message: `must be a whole number from ${minSeconds} to ${maxSeconds}, got ${JSON.stringify(seconds)}`,
    });
  }
  const audiences = spec.audiences ?? [];
  if (!Array.isArray(audiences) || audiences.some((each) => each !== audience)) {
    problems.push({
      path: "spec.audiences",
      message: `join tokens are for ${JSON.stringify(audience)} alone, got ${JSON.stringify(audiences)}; leave it out`,
    });
  }
  if (spec.boundObjectRef !== undefined && spec.boundObjectRef !== null) {
    problems.push({ path: "spec.boundObjectRef", message: "tokens bound to an object are not implemented; leave it out" });
  }
  for (const name of Object.keys(spec)) {
    if (!["expirationSeconds", "audiences", "boundObjectRef"].includes(name))
      problems.push({ path: `spec.${name}`, message: "unknown field" });
  }
  if (problems.length > 0) throw invalid("TokenRequest", "authentication.k8s.io", serviceAccount, problems);
  const expirationSeconds = Number(seconds);
  const status = await core.deps.issueToken({ namespace, serviceAccount, expirationSeconds });
  const body = {
    kind: "TokenRequest",
    apiVersion: "authentication.k8s.io/v1",
    metadata: { name: serviceAccount, namespace },
    spec: { audiences: [audience], expirationSeconds },
    status: { token: status.token, expirationTimestamp: status.expirationTimestamp },
  };
  return json(call.request, body, 201);
}

const verbs: readonly Verb[] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

async function reviewAccess(core: Core, call: Call): Promise<Response> {
  const spec = await readReview(call, "authorization.k8s.io/v1", "SelfSubjectAccessReview");
  const status = verdict(core, call, spec);
  return json(call.request, { kind: "SelfSubjectAccessReview", apiVersion: "authorization.k8s.io/v1", metadata: {}, spec, status }, 201);
}

function verdict(core: Core, call: Call, spec: Record<string, unknown>): { allowed: boolean; reason?: string } {
  const about = (attributes: Record<string, unknown>, name: string) => (typeof attributes[name] === "string" ? attributes[name] : "");
  const decide = (access: Access) => {
    const decision = core.deps.authorize(call.caller, access);
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
  const known = asked === "*" ? verbs : verbs.filter((verb) => verb === asked);
  if (known.length === 0) return { allowed: false, reason: `${JSON.stringify(asked)} is no verb of this server` };
  const answers = known.map((verb) =>
    decide({
      type: "resource",
      verb,
      resource: group === "" || group === "*" ? plural : `${plural}.${group}`,
      subresource: about(attributes, "subresource"),
      namespace: about(attributes, "namespace"),
      name: about(attributes, "name"),
    }),
  );
  return answers.find((answer) => !answer.allowed) ?? answers[0]!;
}
