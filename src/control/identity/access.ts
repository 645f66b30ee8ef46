// Owns: who is calling, and what that caller may do. One place for both, for the API server and the dashboard.
// Default is no. What a join token may do is written here; everything else comes from roles and bindings (`access-index.ts`).

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import type { KubeObject } from "../../api/meta.ts";
import type { Access, Authentication, Caller, Decision, Verb } from "../apiserver/deps.ts";
import { createFileOnce, privateMode, readPrivate } from "./files.ts";
import { splitResource } from "./rbac.ts";
import { Secret } from "./secret.ts";
import type { TokenAuthority } from "./token.ts";
import { isUserToken, type UserTokens } from "./usertoken.ts";

/** The one administrator, as messages name it. */
export const adminCaller: Caller = { kind: "admin", user: "admin" };

/** Reads `admin.token`, making it on first start. */
export function openAdminToken(dir: string): Secret {
  const path = join(dir, "admin.token");
  let text = readPrivate(path);
  if (text === undefined) {
    createFileOnce(path, `weft-admin-${randomBytes(32).toString("base64url")}\n`, privateMode);
    text = readPrivate(path) as string;
  }
  return new Secret(text.trim());
}

/** The user name of a service account, as Kubernetes writes it. */
export function accountUser(namespace: string, serviceAccount: string): string {
  return `system:serviceaccount:${namespace}:${serviceAccount}`;
}

/** Ours have some hundred; what is longer is not looked into. */
const longestToken = 8_192;

/** Tells who presents an `Authorization` header. Never throws; a refusal says what is wrong and never quotes the credential. */
export async function authenticate(
  header: string | null | undefined,
  admin: Secret,
  tokens: TokenAuthority,
  users?: UserTokens,
): Promise<Authentication> {
  if (header === null || header === undefined || header === "") {
    return { ok: false, reason: "no credentials; send `Authorization: Bearer TOKEN` (`weft kubeconfig` prints a file that has it)" };
  }
  const token = /^bearer +(\S+)$/i.exec(header.trim())?.[1];
  if (token === undefined) return { ok: false, reason: "the Authorization header is not of the form `Bearer TOKEN`" };
  if (token.length > longestToken)
    return {
      ok: false,
      reason: `the bearer credential has ${token.length} characters; no token of this mesh has more than ${longestToken}`,
    };
  if (admin.equals(token)) return { ok: true, caller: adminCaller };
  if (users !== undefined && isUserToken(token)) return users.verify(token);
  const verdict = await tokens.verify(token);
  if (!verdict.ok) return verdict;
  const { namespace, serviceAccount } = verdict.account;
  const caller: Caller = { kind: "workload", user: accountUser(namespace, serviceAccount), namespace, serviceAccount };
  return { ok: true, caller, whyNoMore: verdict.whyNoMore };
}

const entries = "workloadentries.networking.istio.io";
const groups = "workloadgroups.networking.istio.io";
const configs = "proxyconfigs.networking.istio.io";
const entryVerbs: ReadonlySet<Verb> = new Set<Verb>(["get", "list", "create", "update", "patch", "delete"]);

/** What roles and bindings say. */
export interface Grants {
  allows(caller: Caller, access: Access): boolean;
}

/**
 * What a caller may do: the admin everything; a workload what `weft run` needs to register itself, in its own namespace; both users and
 * workloads what is bound to them.
 */
export function authorize(caller: Caller, access: Access, grants?: Grants): Decision {
  if (caller.kind === "admin" || grants?.allows(caller, access) === true) return { allowed: true };
  if (caller.kind === "user") return { allowed: false, reason: forbiddenWords(caller.user, access) };
  if (access.type === "path") return no(caller, `${access.verb} ${access.path}`);
  const { verb, resource, subresource, namespace } = access;
  const what = `${verb} ${resource}${subresource === "" ? "" : `/${subresource}`}`;

  if (resource === "meshes.weft.dev" && verb === "get" && subresource === "") return { allowed: true };
  if (resource === configs && verb === "list" && subresource === "" && (namespace === caller.namespace || namespace === rootNamespace))
    return { allowed: true };
  if (namespace !== caller.namespace) return no(caller, `${what} in ${namespace === "" ? "all namespaces" : `namespace ${namespace}`}`);
  if (resource === entries && entryVerbs.has(verb) && (subresource === "" || subresource === "status")) {
    return {
      allowed: true,
      owns: (object) => serviceAccountOf(object) === caller.serviceAccount,
      ownsWhat: `spec.serviceAccount must be ${JSON.stringify(caller.serviceAccount)}`,
    };
  }
  if (resource === "services" && subresource === "" && (verb === "get" || verb === "create")) return { allowed: true };
  if (resource === groups && verb === "get" && subresource === "") return { allowed: true };
  return no(caller, what);
}

/** In Kubernetes' words, which people search for. */
function forbiddenWords(user: string, access: Access): string {
  if (access.type === "path") return `User ${JSON.stringify(user)} cannot ${access.verb} path ${JSON.stringify(access.path)}`;
  const { plural, group } = splitResource(access.resource);
  const resource = access.subresource === "" ? plural : `${plural}/${access.subresource}`;
  const where = access.namespace === "" ? "at the cluster scope" : `in the namespace ${JSON.stringify(access.namespace)}`;
  return `User ${JSON.stringify(user)} cannot ${access.verb} resource ${JSON.stringify(resource)} in API group ${JSON.stringify(group)} ${where}`;
}

/** The caller behind a name, as far as the name tells. `groups` = those claimed beside what everybody has. */
export function callerNamed(user: string, groups: readonly string[]): Caller | undefined {
  if (user === "") return undefined;
  if (user === "admin" || groups.includes("system:masters")) return { kind: "admin", user };
  const [, namespace, serviceAccount] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(user) ?? [];
  if (namespace !== undefined && serviceAccount !== undefined) return { kind: "workload", user, namespace, serviceAccount };
  return { kind: "user", user, groups };
}

/** Kubernetes's name for the account of a workload that names none. */
export const defaultServiceAccount = "default";

/** `spec.serviceAccount` of a WorkloadEntry. */
export function serviceAccountOf(entry: KubeObject): string {
  const spec = entry.spec as { serviceAccount?: unknown } | undefined;
  return typeof spec?.serviceAccount === "string" && spec.serviceAccount !== "" ? spec.serviceAccount : defaultServiceAccount;
}

function no(caller: Caller, what: string): Decision {
  const account = caller.kind === "workload" ? ` ${caller.serviceAccount}` : "";
  return {
    allowed: false,
    reason: `${caller.user} may not ${what}; a join token may only manage WorkloadEntries of its service account${account} and get or create Services, get WorkloadGroups and list ProxyConfigs in its own namespace`,
  };
}
