// Owns: security.istio.io AuthorizationPolicy: who may call what. Whatever cannot be enforced is refused here: a policy is never half in force.

import { isIP } from "node:net";
import { ageColumn, defineKind, dnsSubdomain, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { portNumber } from "../port.ts";
import { extendSchema, notImplemented, type Schema, show } from "../schema.ts";
import authorizationSchema from "../schemas/authorizationpolicy.json" with { type: "json" };

export interface PolicySource {
  readonly principals?: readonly string[];
  readonly notPrincipals?: readonly string[];
  readonly namespaces?: readonly string[];
  readonly notNamespaces?: readonly string[];
  readonly serviceAccounts?: readonly string[];
  readonly notServiceAccounts?: readonly string[];
  readonly requestPrincipals?: readonly string[];
  readonly notRequestPrincipals?: readonly string[];
  readonly ipBlocks?: readonly string[];
  readonly notIpBlocks?: readonly string[];
  readonly remoteIpBlocks?: readonly string[];
  readonly notRemoteIpBlocks?: readonly string[];
}

export interface PolicyOperation {
  readonly hosts?: readonly string[];
  readonly notHosts?: readonly string[];
  readonly ports?: readonly string[];
  readonly notPorts?: readonly string[];
  readonly methods?: readonly string[];
  readonly notMethods?: readonly string[];
  readonly paths?: readonly string[];
  readonly notPaths?: readonly string[];
}

/** All must hold, whatever the source. */
export interface PolicyCondition {
  readonly key: string;
  readonly values?: readonly string[];
  readonly notValues?: readonly string[];
}

export interface PolicyRule {
  readonly from?: readonly { readonly source: PolicySource }[];
  readonly to?: readonly { readonly operation: PolicyOperation }[];
  readonly when?: readonly PolicyCondition[];
}

export interface AuthorizationPolicyObject extends KubeObject {
  /** Absent = `{}`: an ALLOW policy without rules, that is, nothing is allowed. */
  spec?: {
    selector?: { matchLabels?: Record<string, string> };
    action?: "ALLOW" | "DENY";
    rules?: PolicyRule[];
  };
}

/** Policies of this namespace apply to the whole mesh, as in Istio's root namespace. */
export const rootNamespace = "weft-system";

/** Operation fields that say something about a request, not about a connection. */
export const httpOnlyFields = ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"] as const;

/** Keys of `when` that are implemented: who is connected, and who the client is. */
export const conditionKeys: Readonly<Record<string, "ip" | "client">> = { "source.ip": "ip", "remote.ip": "client" };

/** What a condition asks of a request's token: its principal (ISSUER/SUBJECT), or a claim by its path. undefined = it asks for something else. */
export function tokenCondition(
  key: string,
): { readonly kind: "principal" } | { readonly kind: "claim"; readonly path: readonly string[] } | undefined {
  switch (key) {
    case "request.auth.principal":
      return { kind: "principal" };
    case "request.auth.audiences":
      return { kind: "claim", path: ["aud"] };
    case "request.auth.presenter":
      return { kind: "claim", path: ["azp"] };
  }
  const names = /^request\.auth\.claims((?:\[[^[\]]+\])+)$/.exec(key)?.[1];
  return names === undefined ? undefined : { kind: "claim", path: names.slice(1, -1).split("][") };
}

/** Newer than the schema that the package publishes (Istio 1.26). */
const stringList: Schema = { type: "array", items: { type: "string" }, maxItems: 16 };
const schema = extendSchema(authorizationSchema as Schema, "rules[].from[].source", {
  serviceAccounts: stringList,
  notServiceAccounts: stringList,
});

export const authorizationPolicyKind = defineKind({
  group: "security.istio.io",
  versions: ["v1", "v1beta1"],
  kind: "AuthorizationPolicy",
  plural: "authorizationpolicies",
  shortNames: ["ap"],
  categories: ["istio-io", "security-istio-io"],
  namespaced: true,
  hasStatus: true,
  strictOnly: true,
  fields: { spec: schema },
  unimplemented: {
    "spec.action=CUSTOM": "there are no external authorizers; use ALLOW or DENY",
    "spec.action=AUDIT": "use ALLOW or DENY",
    "spec.provider": "it belongs to action CUSTOM",
    "spec.targetRef": "use selector",
    "spec.targetRefs": "use selector",
  },
  notes: [
    "Reach: workloads that `selector` fits, in the policy's namespace; in namespace `weft-system`, of the whole mesh. Without selector all of them.",
    "DENY rules are tried first. Once any ALLOW policy applies to a workload, what no ALLOW rule matches is refused; `spec: {}` allows nothing.",
    "`principals` are TRUSTDOMAIN/ns/NAMESPACE/sa/NAME, where cluster.local stands for the mesh's own trust domain. `namespaces` are those of the mesh's own trust domain. Values may begin or end with `*`, or be `*` (any verified identity).",
    "`remoteIpBlocks` and the condition `remote.ip` are the client's address: at a Gateway whom its trusted proxies name in `x-forwarded-for`, or who is connected; at a sidecar the last entry of `x-forwarded-for`, as in Istio, which is only as true as the caller: the same rule should name who may call (`principals` of the Gateway). Of opaque TCP it is who is connected.",
    "`ports` are the ports where the application listens, `ipBlocks` (the condition `source.ip`) the address of the connection, `hosts` what the caller wrote, without regard to case (`cart`, `cart.shop` and `cart.shop:80` are three).",
    "`requestPrincipals` are ISSUER/SUBJECT of the request's token (JWT), which a RequestAuthentication has checked; `*` is any good token. Conditions on it: `request.auth.principal`, `request.auth.audiences` (aud), `request.auth.presenter` (azp), `request.auth.claims[NAME]`, nested `[NAME][NAME]`; a claim that is a list fits when one of its entries does, `scope` and `permission` are lists by their blanks. Values may begin or end with `*`.",
    "On ports that carry opaque TCP, rules with hosts, methods, paths or tokens allow nothing; in a DENY policy those conditions are left out, so that the rule denies more. The policy's status says so.",
    "Refused: a DENY that covers all of a rule of an ALLOW policy with the same selector, and the reverse. A DENY of everything (`rules: [{}]`) is taken.",
  ],
  rules: policyRules,
  columns: [textColumn("Action", "ALLOW or DENY.", (object) => (object as AuthorizationPolicyObject).spec?.action ?? "ALLOW"), ageColumn],
});

type Add = (path: string, message: string) => void;

function policyRules(object: KubeObject): Violation[] {
  const out: Violation[] = [];
  const add: Add = (path, message) => out.push({ path, message });
  const spec = (object as AuthorizationPolicyObject).spec ?? {};
  const rules = spec.rules ?? [];
  if (spec.action === "DENY" && rules.length === 0)
    add("spec.rules", "a DENY policy without rules denies nothing; to deny everything write rules: [{}] or an ALLOW policy without rules");
  for (const [key, value] of Object.entries(spec.selector?.matchLabels ?? {})) {
    if (key === "" || key.includes("*") || value.includes("*"))
      add(`spec.selector.matchLabels["${key}"]`, "wildcards are not allowed in labels");
  }
  for (const [at, rule] of rules.entries()) {
    const path = `spec.rules[${at}]`;
    if (rule.from?.length === 0) add(`${path}.from`, "must not be empty; remove it to mean anyone");
    if (rule.to?.length === 0) add(`${path}.to`, "must not be empty; remove it to mean anything");
    if (rule.when?.length === 0) add(`${path}.when`, "must not be empty; remove it to mean always");
    for (const [which, each] of (rule.from ?? []).entries()) checkSource(each.source, `${path}.from[${which}].source`, add);
    for (const [which, each] of (rule.to ?? []).entries()) checkOperation(each.operation, `${path}.to[${which}].operation`, add);
    for (const [which, each] of (rule.when ?? []).entries()) checkCondition(each, `${path}.when[${which}]`, add);
  }
  return out;
}

function checkSource(source: PolicySource | undefined, path: string, add: Add): void {
  if (!notEmpty(source, path, add)) return;
  for (const field of ["principals", "notPrincipals"] as const) eachOf(source[field], `${path}.${field}`, checkPrincipal, add);
  for (const field of ["requestPrincipals", "notRequestPrincipals"] as const)
    eachOf(source[field], `${path}.${field}`, checkRequestPrincipal, add);
  for (const field of ["namespaces", "notNamespaces"] as const) eachOf(source[field], `${path}.${field}`, checkNamespace, add);
  for (const field of ["serviceAccounts", "notServiceAccounts"] as const) {
    eachOf(source[field], `${path}.${field}`, checkServiceAccount, add);
    const rivals = ["principals", "notPrincipals", "namespaces", "notNamespaces"] as const;
    const rival = rivals.find((name) => source[name] !== undefined);
    if (source[field] !== undefined && rival !== undefined)
      add(`${path}.${field}`, `cannot stand beside ${rival}; use two entries of from`);
  }
  for (const field of ["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"] as const)
    eachOf(source[field], `${path}.${field}`, checkBlock, add);
}

function checkCondition({ key, values, notValues }: PolicyCondition, path: string, add: Add): void {
  const known = `${Object.keys(conditionKeys).join(", ")}, request.auth.principal, request.auth.audiences, request.auth.presenter and request.auth.claims[NAME]`;
  const token = key === undefined ? undefined : tokenCondition(key);
  if (token === undefined && !Object.hasOwn(conditionKeys, key ?? "")) {
    add(
      `${path}.key`,
      key === undefined ? `is required: one of ${known}` : notImplemented(`condition ${show(key)}`, `known are ${known}; use from and to`),
    );
    return;
  }
  if (values === undefined && notValues === undefined) add(path, "must have values or notValues");
  const check = token === undefined ? checkBlock : token.kind === "principal" ? checkRequestPrincipal : checkPattern;
  eachOf(values, `${path}.values`, check, add);
  eachOf(notValues, `${path}.notValues`, check, add);
}

function checkBlock(value: string, path: string, add: Add): void {
  if (parseCidr(value) === undefined) add(path, `${show(value)} is no IP address or CIDR block`);
  // An IPv4 client has its IPv4 address, whatever socket it came to.
  else if (inIpv6Clothes(value)) add(path, `${show(value)} is an IPv4 address written as IPv6, which nobody has; write the IPv4 form`);
}

function checkOperation(operation: PolicyOperation | undefined, path: string, add: Add): void {
  if (!notEmpty(operation, path, add)) return;
  for (const field of ["ports", "notPorts"] as const) {
    eachOf(
      operation[field],
      `${path}.${field}`,
      (value, at) => portNumber(value) === undefined && add(at, `${show(value)} is no port number from 1 to 65535`),
      add,
    );
  }
  for (const field of ["hosts", "notHosts"] as const) eachOf(operation[field], `${path}.${field}`, checkPattern, add);
  for (const field of ["methods", "notMethods"] as const) {
    eachOf(
      operation[field],
      `${path}.${field}`,
      (value, at) => {
        checkPattern(value, at, add);
        if (value !== value.toUpperCase())
          add(at, `methods are case-sensitive and upper case by standard: write ${show(value.toUpperCase())}, got ${show(value)}`);
      },
      add,
    );
  }
  for (const field of ["paths", "notPaths"] as const) {
    eachOf(
      operation[field],
      `${path}.${field}`,
      (value, at) => {
        checkPattern(value, at, add);
        if (/[{}]/.test(value))
          add(
            at,
            `${show(value)}: path templates ({*}, {**}) are not implemented by this version of Weft; use an exact path, or "*" at the beginning or end`,
          );
        else if (!value.startsWith("/") && !value.startsWith("*")) add(at, `${show(value)} can match no path: begin it with "/" or "*"`);
      },
      add,
    );
  }
}

function notEmpty<T extends object>(value: T | undefined, path: string, add: Add): value is T {
  if (value !== undefined && Object.keys(value).length > 0) return true;
  add(path, "must hold at least one condition");
  return false;
}

function eachOf(
  values: readonly string[] | undefined,
  path: string,
  check: (value: string, path: string, add: Add) => void,
  add: Add,
): void {
  if (values === undefined) return;
  // Istio treats an empty list as absent, so that a rule reads as "nobody" and means "anybody".
  if (values.length === 0) add(path, "must not be empty; remove it, or say what it should match");
  for (const [at, value] of values.entries()) {
    if (value === "") add(`${path}[${at}]`, "must not be empty");
    else check(value, `${path}[${at}]`, add);
  }
}

/** `*` alone, at the beginning or at the end; anywhere else it would be taken literally. */
function checkPattern(value: string, path: string, add: Add): void {
  const inner = value.replace(/^\*/, "").replace(/\*$/, "");
  if (inner.includes("*") || (value.length > 1 && value.startsWith("*") && value.endsWith("*")))
    add(path, `${show(value)}: "*" may stand alone, at the beginning, or at the end`);
}

function checkNamespace(value: string, path: string, add: Add): void {
  checkPattern(value, path, add);
  if (!/^[-a-z0-9*]+$/.test(value)) add(path, `${show(value)} can be the name of no namespace`);
}

function checkPrincipal(value: string, path: string, add: Add): void {
  checkPattern(value, path, add);
  if (value.startsWith("spiffe://")) add(path, `write it without spiffe://: ${show(value.slice("spiffe://".length))}`);
  else if (!value.includes("*") && !/^[a-z0-9._-]+\/ns\/[^/]+\/sa\/[^/]+$/.test(value))
    add(
      path,
      `${show(value)} can match no identity: use TRUSTDOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT, for example cluster.local/ns/shop/sa/cart`,
    );
}

function checkRequestPrincipal(value: string, path: string, add: Add): void {
  checkPattern(value, path, add);
  if (!value.includes("*") && !/.\/./s.test(value))
    add(path, `${show(value)} can be nobody: use ISSUER/SUBJECT, for example https://accounts.example.com/1234, or * for any good token`);
}

function checkServiceAccount(value: string, path: string, add: Add): void {
  const [first = "", second, extra] = value.split("/");
  if (extra !== undefined || !dnsSubdomain.test(first) || (second !== undefined && !dnsSubdomain.test(second)))
    add(path, `${show(value)} is not of the form SERVICEACCOUNT or NAMESPACE/SERVICEACCOUNT (no wildcards)`);
}

/** An address is a block of one. undefined = neither. */
export function parseCidr(text: string): { readonly prefix: string; readonly length: number } | undefined {
  const [address = "", bits, extra] = text.split("/");
  const family = isIP(address);
  // A zone (fe80::1%eth0) has a meaning on one machine only.
  if (family === 0 || extra !== undefined || address.includes("%")) return undefined;
  const most = family === 4 ? 32 : 128;
  if (bits === undefined) return { prefix: address, length: most };
  if (!/^\d{1,3}$/.test(bits) || Number(bits) > most) return undefined;
  return { prefix: address, length: Number(bits) };
}

/** `::ffff:10.0.0.1`, however it is written. */
function inIpv6Clothes(text: string): boolean {
  const [address = ""] = text.split("/");
  return address.includes(":") && /^\[::ffff:[0-9a-f]{1,4}:[0-9a-f]{1,4}\]$/.test(new URL(`http://[${address}]`).hostname);
}
