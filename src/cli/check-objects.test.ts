// What `weft check` says of objects: each fault once, by name, and nothing of what is right.

import { expect, test } from "bun:test";
import type { ProxyObject } from "../api/live.ts";
import type { KubeObject } from "../api/meta.ts";
import { type Mesh, objectFindings, proxyFindings } from "./check-objects.ts";
import { redacted, redactedLine } from "./verbs/bug-report.ts";

const object = (kind: string, name: string, rest: Record<string, unknown>, metadata: Record<string, unknown> = {}): KubeObject => ({
  apiVersion: "v1",
  kind,
  metadata: { name, namespace: "shop", ...metadata },
  ...rest,
});
const empty: Mesh = { services: [], entries: [], slices: [], routes: [], policies: [], roles: [], clusterRoles: [], bindings: [] };
const service = (name: string, spec: Record<string, unknown> = { selector: { app: name } }) => object("Service", name, { spec });

test("services without instances, and no others", () => {
  const mesh: Mesh = {
    ...empty,
    services: [service("a"), service("b"), service("c", {}), service("d"), service("e", { type: "ExternalName" })],
    entries: [
      object("WorkloadEntry", "a-1", { spec: {} }, { labels: { app: "a" } }),
      object("WorkloadEntry", "d-1", { spec: { labels: { app: "d" } } }, { namespace: "other" }),
    ],
    slices: [object("EndpointSlice", "c-1", { endpoints: [{}] }, { labels: { "kubernetes.io/service-name": "c" } })],
  };
  expect(objectFindings(mesh).map(({ about }) => about)).toEqual(["Service shop/b", "Service shop/d"]);
});

test("conditions that say no, and bindings to nothing", () => {
  const no = (type: string) => ({ type, status: "False", reason: "Why", message: "because" });
  const found = objectFindings({
    ...empty,
    routes: [
      object("HTTPRoute", "r", { status: { parents: [{ conditions: [no("ResolvedRefs"), { ...no("Accepted"), status: "True" }] }] } }),
    ],
    policies: [
      object("AuthorizationPolicy", "p", { status: { conditions: [no("Enforced")] } }),
      object("RateLimitPolicy", "l", { status: { ancestors: [{ conditions: [no("Accepted")] }, { conditions: [no("Enforced")] }] } }),
    ],
    roles: [object("Role", "there", {})],
    bindings: [
      object("RoleBinding", "good", { roleRef: { kind: "Role", name: "there" } }),
      object("RoleBinding", "bad", { roleRef: { kind: "ClusterRole", name: "there" } }),
    ],
  });
  expect(found.map(({ level, about }) => `${level} ${about}`)).toEqual([
    "error HTTPRoute shop/r",
    "warning AuthorizationPolicy shop/p",
    "error RateLimitPolicy shop/l",
    "warning RateLimitPolicy shop/l",
    "warning RoleBinding shop/bad",
  ]);
  expect(found[0]?.message).toBe("ResolvedRefs is False (Why): because");
});

test("proxies that are lost, behind, rejecting or of another version", () => {
  const proxy = (name: string, status: Partial<ProxyObject["status"]>) =>
    object("Proxy", name, {
      status: { connected: true, synced: true, agent: "weft/0.1.0", lastRejection: null, ...status },
    }) as ProxyObject;
  const rejection = { type: "route", version: "1", reason: "no such field", at: "" } as const;
  const proxies = [
    proxy("good", {}),
    proxy("lost", { connected: false }),
    proxy("gone", { connected: false }),
    proxy("behind", { synced: false }),
    proxy("rejects", { synced: false, lastRejection: rejection }),
    proxy("healed", { lastRejection: rejection }),
    proxy("old", { agent: "weft/0.0.9" }),
  ];
  const found = proxyFindings(proxies, [object("WorkloadEntry", "lost", {})], "0.1.0");
  expect(found.map(({ level, about }) => `${level} ${about}`)).toEqual([
    "error proxy shop/lost",
    "warning proxy shop/behind",
    "error proxy shop/rejects",
    "warning proxy shop/old",
  ]);
});

test("a report has no copies of objects and no annotation that sounds like a secret", () => {
  const annotations = { "kubectl.kubernetes.io/last-applied-configuration": "{}", "example.com/api-key": "k", note: "n" };
  const { metadata } = redacted(object("Service", "a", {}, { annotations, managedFields: [{}] }));
  expect(metadata).toEqual({ name: "a", namespace: "shop", annotations: { "example.com/api-key": "[redacted]", note: "n" } });
});

test("nor headers and fields that do, nor values in the queries of logged requests", () => {
  const spec = {
    filters: [
      {
        set: [
          { name: "Authorization", value: "Basic x" },
          { name: "x-user", value: "u" },
        ],
      },
    ],
    headers: { request: { set: { cookie: "a=b", "x-plain": "p" } } },
    tls: { credentialName: "shop-cert", certificateRefs: [{ name: "shop-cert" }] },
    password: "p",
  };
  expect(redacted(object("HTTPRoute", "a", { spec })).spec).toEqual({
    filters: [
      {
        set: [
          { name: "Authorization", value: "[redacted]" },
          { name: "x-user", value: "u" },
        ],
      },
    ],
    headers: { request: { set: { cookie: "[redacted]", "x-plain": "p" } } },
    tls: { credentialName: "shop-cert", certificateRefs: [{ name: "shop-cert" }] },
    password: "[redacted]",
  });
  expect(redactedLine('{"path":"/a?x=1&access_token=abc&y=2","other":"key=1"}')).toBe(
    '{"path":"/a?x=1&access_token=[redacted]&y=2","other":"key=1"}',
  );
});
