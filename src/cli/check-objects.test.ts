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

test("of every kind that has a status: routes, gateways and their listeners, rules, and what selects nobody", () => {
  const say = (type: string, status: "True" | "False", reason = "Why") => ({ type, status, reason, message: "because" });
  const found = objectFindings({
    ...empty,
    routes: [
      object("GRPCRoute", "g", { status: { parents: [{ conditions: [say("ResolvedRefs", "False")] }] } }),
      object("VirtualService", "v", { status: { conditions: [say("Accepted", "True", "NoService"), say("ResolvedRefs", "False")] } }),
    ],
    policies: [
      object("Gateway", "gw", {
        status: {
          conditions: [say("Accepted", "False", "ListenersNotValid"), say("Programmed", "False", "AddressNotAssigned")],
          listeners: [
            { name: "a", conditions: [say("Conflicted", "False", "NoConflicts"), say("ResolvedRefs", "False", "InvalidCertificateRef")] },
            { name: "b", conditions: [say("Conflicted", "True", "HostnameConflict"), say("Accepted", "True")] },
          ],
        },
      }),
      object("DestinationRule", "d", { status: { conditions: [say("Accepted", "False", "NoSuchService")] } }),
      object("Sidecar", "s", { status: { conditions: [say("Accepted", "True", "NoWorkload"), say("HostsResolved", "True")] } }),
      object("Sidecar", "good", { status: { conditions: [say("Accepted", "True", "Accepted")] } }),
    ],
  });
  expect(found.map(({ level, about, message }) => `${level} ${about}: ${message}`)).toEqual([
    "error GRPCRoute shop/g: ResolvedRefs is False (Why): because",
    "warning VirtualService shop/v: because (NoService)",
    "error VirtualService shop/v: ResolvedRefs is False (Why): because",
    "warning Gateway shop/gw: Programmed is False (AddressNotAssigned): because",
    "error Gateway shop/gw: listener a: ResolvedRefs is False (InvalidCertificateRef): because",
    "warning Gateway shop/gw: listener b: because (HostnameConflict)",
    "warning DestinationRule shop/d: Accepted is False (NoSuchService): because",
    "warning Sidecar shop/s: because (NoWorkload)",
  ]);
});

test("a proxy that another control plane has is not lost, and one that another has lost is", () => {
  const gone = (name: string) => object("Proxy", name, { status: { connected: false } }) as ProxyObject;
  const entry = (name: string, ...conditions: readonly object[]) => object("WorkloadEntry", name, { status: { conditions } });
  const at = { type: "ProxyConnected", status: "True", reason: "Connected", message: "its proxy is connected to control plane b" };
  const put = { type: "Healthy", status: "False", reason: "ProxyLost", message: "no proxy of this workload is connected" };
  const found = proxyFindings(
    [gone("moved"), gone("here")],
    [
      entry("moved", at),
      entry("here", { ...at, message: "its proxy is connected" }),
      entry("theirs", { ...at, status: "False" }, put),
      entry("starting", { ...put, reason: "Starting" }),
    ],
    "",
  );
  expect(found.map(({ level, about }) => `${level} ${about}`)).toEqual(["error WorkloadEntry shop/theirs", "error proxy shop/here"]);
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

test("nor what matchers of headers and query parameters compare with, nor contents of ConfigMaps", () => {
  const match = { headers: { "x-api-key": { exact: "s1" }, "x-plain": { exact: "p" } }, queryParams: { token: { regex: "s2" } } };
  const when = [
    { key: "request.headers[x-api-key]", values: ["s3"] },
    { key: "source.ip", values: ["10.0.0.1"] },
  ];
  const { spec } = redacted(
    object("VirtualService", "a", { spec: { http: [{ match: [match] }], when, cookie: { name: "session", ttl: "1h" } } }),
  );
  expect(spec).toEqual({
    http: [
      {
        match: [
          {
            headers: { "x-api-key": { exact: "[redacted]" }, "x-plain": { exact: "p" } },
            queryParams: { token: { regex: "[redacted]" } },
          },
        ],
      },
    ],
    when: [
      { key: "request.headers[x-api-key]", values: ["[redacted]"] },
      { key: "source.ip", values: ["10.0.0.1"] },
    ],
    cookie: { name: "session", ttl: "1h" },
  });
  expect(redacted(object("ConfigMap", "a", { data: { "app.yaml": "user: x" } })).data).toEqual({ "app.yaml": "[redacted]" });
});
