// Judge: Envoy with the same configuration, made by our own compiler of AuthorizationPolicies for a service whose port takes plain text, lets the same requests
// pass and refuses the same: what matches exactly, by beginning, by end and by absence, DENY before ALLOW, addresses, and callers without an identity.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { needsPeers } from "../support/peers.ts";
import { Alike, type Ask, type Difference, type Seen, told, words } from "./alike.ts";

const differences: readonly Difference[] = [
  {
    why: "Envoy's parser knows methods by name and answers a lower-case one with 400; to us a method is any token in its own case (RFC 9110 9.1), and the policy refuses it with 403",
    without: (seen, ask) => (/[a-z]/.test(ask.method) ? { ...seen, status: 0 } : seen),
  },
];

const ready = needsPeers("alike-policies.test.ts", "envoy");

/** Each is a service with policies of its own: what is allowed and what is denied. */
const guarded: Readonly<Record<string, { readonly allow?: string; readonly deny?: string }>> = {
  paths: { allow: '{to: [{operation: {paths: [/exact, /pre*, "*.json", /a/b/*]}}]}' },
  "not-paths": { allow: '{to: [{operation: {notPaths: [/secret*, "*/admin"]}}]}' },
  methods: { allow: "{to: [{operation: {methods: [GET, HEAD]}}]}", deny: "{to: [{operation: {paths: [/locked*], notMethods: [HEAD]}}]}" },
  hosts: { allow: '{to: [{operation: {hosts: [one.example, "*.wild.example", "pre.*"]}}]}' },
  both: { allow: "{to: [{operation: {paths: [/read*], methods: [GET]}}, {operation: {paths: [/write*], methods: [POST, PUT]}}]}" },
  deny: { deny: '{to: [{operation: {paths: ["*/private"]}}, {operation: {methods: [DELETE]}}]}' },
  near: { allow: "{from: [{source: {ipBlocks: [127.0.0.0/8]}}], to: [{operation: {paths: [/near*]}}]}" },
  far: { allow: "{from: [{source: {notIpBlocks: [127.0.0.1]}}]}" },
  clients: {
    allow: '{from: [{source: {remoteIpBlocks: [10.0.0.0/8, "2001:db8::/32"], notRemoteIpBlocks: [10.9.0.0/16]}}]}',
    deny: "{when: [{key: remote.ip, values: [10.8.0.0/16]}, {key: source.ip, values: [127.0.0.0/8]}]}",
  },
  "not-clients": { allow: "{when: [{key: remote.ip, notValues: [10.0.0.0/8]}]}" },
  named: { allow: '{from: [{source: {principals: ["*"]}}]}' },
  unnamed: { deny: '{from: [{source: {notPrincipals: ["cluster.local/ns/shop/sa/front"]}}], to: [{operation: {paths: [/named*]}}]}' },
  spaces: { allow: "{from: [{source: {namespaces: [shop]}}]}" },
  nothing: { allow: "" },
  open: {},
};
const names = Object.keys(guarded);

const policy = (name: string, action: "ALLOW" | "DENY", rule: string): string => `---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ${name}-${action.toLowerCase()}, namespace: shop}
spec: {selector: {matchLabels: {app: ${name}}}, action: ${action}${rule === "" ? "" : `, rules: [${rule}]`}}`;

const parts = (
  name: string,
  ports: Readonly<Record<string, number>>,
  n: number,
): string => `{apiVersion: v1, kind: Service, metadata: {name: ${name}, namespace: shop}, spec: {selector: {app: ${name}}, ports: [{name: http, port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: ${name}-1, namespace: shop, labels: {app: ${name}}, annotations: {weft.dev/inbound: "http=${ports[name]}"}}, spec: {address: 127.0.0.1, ports: {http: ${41_000 + n}}, serviceAccount: ${name}}}
${guarded[name]?.allow === undefined ? "" : policy(name, "ALLOW", guarded[name].allow)}
${guarded[name]?.deny === undefined ? "" : policy(name, "DENY", guarded[name].deny)}
---`;

const objects = (ports: Readonly<Record<string, number>>): string => `
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: shop}, spec: {mtls: {mode: DISABLE}}}
---
${names.map((name, n) => parts(name, ports, n)).join("\n")}
`;

const asks: Record<string, Ask[]> = Object.fromEntries(names.map((name) => [name, []]));
const add = (name: string, path: string, more: Partial<Ask> = {}): void =>
  void asks[name]?.push({ method: "GET", host: `${name}.shop`, path, headers: {}, ...more });

for (const path of [
  "/exact",
  "/exact/",
  "/exact?q",
  "/Exact",
  "/pre",
  "/prefix/x",
  "/p",
  "/a.json",
  "/x/y.json?z",
  "/a.jsonx",
  "/a/b/",
  "/a/b",
  "/a/b/c/d",
  "/",
])
  add("paths", path);
for (const path of ["/exact/../other", "/other/../exact", "/%65xact", "//exact", "/pre%2Ffix", "/x/%2e%2e/exact", "/a//b/c", "/a/b/../c"])
  add("paths", path);
for (const path of ["/", "/secret", "/secrets/x", "/x/admin", "/admin", "/admin/x", "/x/../secret", "/%73ecret", "/x/admin?y"])
  add("not-paths", path);
for (const client of [
  "",
  "10.0.0.1",
  "10.0.0.1, 9.9.9.9",
  "9.9.9.9, 10.0.0.1",
  "10.9.0.1",
  "10.8.255.255",
  "2001:db8::1",
  "2001:db9::1",
  "10.0.0.1:80",
  "x,",
])
  for (const name of ["clients", "not-clients"]) add(name, "/", client === "" ? {} : { headers: { "x-forwarded-for": client } });
for (const method of ["GET", "HEAD", "POST", "PUT", "get", "OPTIONS"])
  for (const path of ["/", "/locked/x"]) add("methods", path, { method });
for (const host of [
  "one.example",
  "ONE.example",
  "one.example:80",
  "two.example",
  "a.wild.example",
  "a.b.wild.example",
  "wild.example",
  "pre.x",
  "prex",
])
  add("hosts", "/", { host });
for (const method of ["GET", "POST", "PUT", "DELETE"])
  for (const path of ["/read", "/read/x", "/write", "/other"]) add("both", path, { method });
for (const method of ["GET", "DELETE"]) for (const path of ["/", "/x/private", "/private", "/private/x"]) add("deny", path, { method });
for (const name of ["near", "far", "named", "unnamed", "spaces", "nothing", "open"])
  for (const path of ["/", "/near/x", "/named/x"]) add(name, path, path === "/" ? { method: "POST", sends: "body" } : {});

describe.skipIf(!ready)("our proxy and Envoy with one configuration of AuthorizationPolicies", () => {
  let alike: Alike;
  const seen = new Map<string, (readonly [Seen, Seen])[]>();

  beforeAll(async () => {
    alike = await Alike.start(
      names,
      objects,
      names.map((name) => `shop/${name}-1`),
    );
    for (const name of names) seen.set(name, await alike.all(`shop/${name}-1 inbound|http`, asks[name] ?? []));
  }, 60_000);

  afterAll(async () => {
    await alike?.stop();
  }, 15_000);

  for (const name of names)
    for (const [n, ask] of (asks[name] ?? []).entries())
      test(`${name}: ${words(ask)}`, () => {
        const [ours, theirs] = (seen.get(name) as (readonly [Seen, Seen])[])[n] as readonly [Seen, Seen];
        expect(told(ours, ask, differences)).toEqual(told(theirs, ask, differences));
      });
});
