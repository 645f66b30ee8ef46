// What `weft check` says of objects: each fault once, by name, and nothing of what is right.

import { expect, test } from "bun:test";
import type { ProxyObject } from "../api/live.ts";
import type { KubeObject } from "../api/meta.ts";
import { authorityFindings, type Mesh, objectFindings, proxyFindings } from "./check-objects.ts";
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

test("services of which no instance is healthy, with the reason and the way out", () => {
  const says = (status: string, reason: string, message = "because") => ({ conditions: [{ type: "Healthy", status, reason, message }] });
  const instance = (name: string, app: string, status?: object, annotations?: object) =>
    object("WorkloadEntry", name, { spec: {}, ...(status && { status }) }, { labels: { app }, ...(annotations && { annotations }) });
  const slice = (app: string, ready: boolean) =>
    object("EndpointSlice", app, { endpoints: [{ conditions: { ready } }] }, { labels: { "kubernetes.io/service-name": app } });
  const found = objectFindings({
    ...empty,
    services: ["bad", "part", "new", "hand", "sliced", "both", "lost"].map((name) => service(name)),
    entries: [
      instance("bad-1", "bad", says("False", "Unhealthy", "/healthz answered 500")),
      instance("bad-2", "bad", says("Unknown", "Draining")),
      instance("part-1", "part", says("False", "Unhealthy")),
      instance("part-2", "part", says("True", "Answering")),
      instance("new-1", "new", undefined, { "weft.dev/health": "reported" }),
      instance("hand-1", "hand"),
      instance("both-1", "both", says("False", "Unhealthy")),
      instance("lost-1", "lost", says("False", "ProxyLost")),
    ],
    slices: [slice("sliced", false), slice("both", true)],
  });
  expect(found.map(({ level, about, message }) => `${level} ${about}: ${message}`)).toEqual([
    "error Service shop/bad: no instance takes calls: bad-1 is not healthy (Unhealthy): /healthz answered 500; bad-2 is not healthy (Draining): because",
    "warning Service shop/new: no instance takes calls: new-1 is not healthy (Starting): its health has not been reported yet",
    "error Service shop/sliced: no instance takes calls: 1 endpoint of its EndpointSlices is not ready",
    "error Service shop/lost: no instance takes calls: lost-1 is not healthy (ProxyLost): because",
  ]);
  expect(found.map(({ fix }) => fix)).toEqual([
    "mend what its health check finds (weft describe workloadentry bad-1 -n shop, the log of its weft run); it takes calls again as soon as it passes",
    "wait until it answers on its port, and check again; weft describe workloadentry new-1 -n shop says what it waits for",
    "look at what writes its EndpointSlices: conditions.ready of an endpoint says whether it takes calls",
    "look at its machine and at the log of its weft run, which starts a sidecar again by itself",
  ]);
});

test("an instance that has been starting for long is a fault", () => {
  const starting = {
    type: "Healthy",
    status: "False",
    reason: "Starting",
    message: "no answer",
    lastTransitionTime: "2026-01-01T00:00:00Z",
  };
  const entry = object("WorkloadEntry", "a-1", { spec: {}, status: { conditions: [starting] } }, { labels: { app: "a" } });
  const after = (seconds: number) =>
    objectFindings({ ...empty, services: [service("a")], entries: [entry] }, Date.parse(starting.lastTransitionTime) + seconds * 1000)[0];
  expect(after(50)).toMatchObject({ level: "warning", fix: expect.stringMatching(/^wait until it answers/) });
  expect(after(70)).toEqual({
    level: "error",
    about: "Service shop/a",
    message: "no instance takes calls: a-1 is not healthy (Starting): no answer, since 2026-01-01T00:00:00Z",
    fix: "mend what its health check finds (weft describe workloadentry a-1 -n shop, the log of its weft run); it takes calls again as soon as it passes",
  });
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

test("PeerAuthentications that select nobody, and no others", () => {
  const policy = (name: string, labels: Record<string, string> | undefined, namespace = "shop") =>
    object(
      "PeerAuthentication",
      name,
      { spec: { mtls: { mode: "STRICT" }, ...(labels !== undefined && { selector: { matchLabels: labels } }) } },
      { namespace },
    );
  const found = objectFindings({
    ...empty,
    entries: [object("WorkloadEntry", "a-1", { spec: { labels: { version: "v1" } } }, { labels: { app: "a" } })],
    policies: [
      policy("by-labels", { app: "a", version: "v1" }),
      policy("whole", undefined),
      policy("mesh", undefined, "weft-system"),
      policy("mesh-by-labels", { app: "a" }, "weft-system"),
      policy("nobody", { app: "b" }),
      policy("other", undefined, "bank"),
      policy("mesh-nobody", { app: "b" }, "weft-system"),
    ],
  });
  expect(found.map(({ about, level }) => `${level} ${about}`)).toEqual([
    "warning PeerAuthentication shop/nobody",
    "warning PeerAuthentication bank/other",
    "warning PeerAuthentication weft-system/mesh-nobody",
  ]);
  expect(found.map(({ message }) => message)).toEqual([
    "selects no workload: none in shop has the labels app=b",
    "selects no workload: there is none in bank",
    "selects no workload: none has the labels app=b",
  ]);
});

test("a root rotation that stands still, and keys that are not sealed in etcd", () => {
  const startedAt = "2026-11-24T10:00:00.000Z";
  const now = Date.parse(startedAt);
  const hour = 3_600_000;
  const rotation = { phase: "distributing", startedAt, switchedAt: null, waitingFor: ["shop/a-1", "shop/b-1"], othersEndAt: null } as const;
  expect(authorityFindings({ rotation: null, sharedKeys: null }, now)).toEqual([]);
  expect(authorityFindings({ rotation: null, sharedKeys: "sealed" }, now)).toEqual([]);
  expect(authorityFindings({ rotation }, now + 0.9 * hour)).toEqual([]);
  expect(authorityFindings({ rotation }, now + 1.1 * hour)).toMatchObject([
    {
      level: "warning",
      about: "root rotation",
      message: expect.stringMatching(/^stands still \(distributing since .*it waits for shop\/a-1, shop\/b-1/),
    },
  ]);
  const switchedAt = new Date(now + hour).toISOString();
  const othersEndAt = new Date(now + 26 * hour).toISOString();
  for (const phase of ["issuing", "returning"] as const) {
    const later = { ...rotation, phase, switchedAt, othersEndAt, waitingFor: [] };
    expect(authorityFindings({ rotation: later }, now + 26.9 * hour)).toEqual([]);
    expect(authorityFindings({ rotation: later }, now + 27.1 * hour)).toMatchObject([
      { message: `stands still (${phase} since ${switchedAt})`, fix: expect.stringContaining("weft ca finish") },
    ]);
  }
  expect(authorityFindings({ rotation: null, sharedKeys: "plain" }, now)).toMatchObject([
    { level: "warning", about: "store", fix: expect.stringContaining("--store-key") },
  ]);
});

test("certificates of proxies near their end that nobody has renewed", () => {
  const beganAt = Date.parse("2026-11-24T00:00:00.000Z");
  const hour = 3_600_000;
  const proxy = (certificate: { notBefore: string; notAfter: string } | undefined, connected = true) => ({
    apiVersion: "weft.dev/v1alpha1",
    kind: "Proxy" as const,
    metadata: { name: "a-1", namespace: "shop" },
    status: {
      connected,
      synced: true,
      agent: "weft/1",
      lastRejection: null,
      ...(certificate && { certificate }),
    } as unknown as ProxyObject["status"],
  });
  const day = { notBefore: new Date(beganAt).toISOString(), notAfter: new Date(beganAt + 24 * hour).toISOString() };
  const at = (hours: number, one = proxy(day)) =>
    proxyFindings([one], [], "1", beganAt + hours * hour).map(({ level, message }) => `${level}: ${message}`);
  expect([at(1), at(13), at(17.9), at(23, proxy(undefined)), at(23, proxy(day, false))]).toEqual([[], [], [], [], []]);
  expect(at(18.5)).toEqual([expect.stringMatching(/^warning: its certificate ends in 330 min \(.*has not been renewed/)]);
  expect(at(22)).toEqual([expect.stringMatching(/^error: its certificate ends in 120 min/)]);
  expect(at(25)).toEqual([expect.stringMatching(/^error: its certificate expired at /)]);
});
