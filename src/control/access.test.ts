// Who may do what with the API, as a whole control plane answers it: users, roles, bindings, escalation, the audit log, rate limits.

import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ControlPlane, startControlPlane } from "./plane.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const run of cleanups.splice(0).reverse()) await run();
});

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: answers of many shapes, looked into by matchers
  readonly body: any;
}
type Ask = (method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer>;

const rbac = "/apis/rbac.authorization.k8s.io/v1";

async function mesh(more: Partial<Parameters<typeof startControlPlane>[0]> = {}) {
  const dir = mkdtempSync(join(tmpdir(), "weft-access-"));
  cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
  const plane: ControlPlane = await startControlPlane({ dataDir: dir, apiPort: 0, xdsPort: 0, dashboardPort: 0, ...more });
  cleanups.push(() => plane.stop());
  const ca = readFileSync(join(dir, "ca.crt"), "utf8");
  const asToken =
    (token: string): Ask =>
    async (method, path, body, headers = {}) => {
      const response = await fetch(plane.apiUrl + path, {
        method,
        tls: { ca },
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { "content-type": method === "PATCH" ? "application/merge-patch+json" : "application/json" }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      const lines = response.headers.get("content-type")?.includes("jsonl") === true;
      return { status: response.status, headers: response.headers, body: text.startsWith("{") && !lines ? JSON.parse(text) : text };
    };
  const admin = asToken(readFileSync(join(dir, "admin.token"), "utf8").trim());
  const good = async (answer: Promise<Answer>) => {
    const { status, body } = await answer;
    if (status >= 300) throw new Error(`${status} ${JSON.stringify(body)}`);
    return body;
  };
  const tokenOf = async (name: string) =>
    (await good(admin("POST", `/apis/weft.dev/v1alpha1/users/${name}/token`, { spec: {} }))).status.token as string;
  const user = async (name: string, groups: string[] = []): Promise<Ask> => {
    await good(
      admin("POST", "/apis/weft.dev/v1alpha1/users", {
        apiVersion: "weft.dev/v1alpha1",
        kind: "User",
        metadata: { name },
        spec: { groups },
      }),
    );
    return asToken(await tokenOf(name));
  };
  const bind = (namespace: string, name: string, role: string, subject: Record<string, string>, kind = "ClusterRole") =>
    good(
      admin(
        "POST",
        namespace === "" ? `${rbac}/clusterrolebindings` : `${rbac}/namespaces/${namespace}/rolebindings`,
        binding(namespace, name, role, subject, kind),
      ),
    );
  const audit = () =>
    readFileSync(join(dir, "audit.log"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { dir, plane, admin, asToken, tokenOf, user, bind, good, audit };
}

function binding(namespace: string, name: string, role: string, subject: Record<string, string>, kind = "ClusterRole") {
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: namespace === "" ? "ClusterRoleBinding" : "RoleBinding",
    metadata: { name },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind, name: role },
    subjects: [subject],
  };
}

const service = (name: string) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name },
  spec: { ports: [{ name: "http", port: 80 }] },
});
const shop = "/api/v1/namespaces/shop/services";

describe("users", () => {
  test("a new user may ask what there is, and nothing else, in Kubernetes' words", async () => {
    const { user } = await mesh();
    const alice = await user("alice", ["dev"]);
    expect((await alice("GET", "/apis")).status).toBe(200);
    expect((await alice("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})).body.status.userInfo).toEqual({
      username: "alice",
      groups: ["dev", "weft:users", "system:authenticated"],
    });
    expect(await alice("POST", shop, service("a"))).toMatchObject({
      status: 403,
      body: {
        reason: "Forbidden",
        message: 'services is forbidden: User "alice" cannot create resource "services" in API group "" in the namespace "shop"',
        details: { kind: "services" },
      },
    });
    expect((await alice("GET", "/apis/gateway.networking.k8s.io/v1/httproutes")).body.message).toBe(
      'httproutes.gateway.networking.k8s.io is forbidden: User "alice" cannot list resource "httproutes" in API group "gateway.networking.k8s.io" at the cluster scope',
    );
    expect((await alice("GET", "/metrics")).body.message).toBe('forbidden: User "alice" cannot get path "/metrics"');
    for (const path of ["/weft/v1alpha1/backup", "/weft/v1alpha1/history", "/insight/v1alpha1/graph"])
      expect((await alice("GET", path)).status).toBe(403);
    expect((await alice("POST", "/weft/v1alpha1/rollback", { revision: 0 })).status).toBe(403);
  });

  test("a token ends with its user, and one of the same name does not bring it back", async () => {
    const { admin, user } = await mesh();
    const alice = await user("alice");
    expect((await alice("GET", "/apis")).status).toBe(200);
    await admin("DELETE", "/apis/weft.dev/v1alpha1/users/alice");
    expect(await alice("GET", "/apis")).toMatchObject({
      status: 401,
      body: { message: expect.stringContaining('"alice" of this token was deleted') },
    });
    const again = await user("alice");
    expect((await alice("GET", "/apis")).status).toBe(401);
    expect((await again("GET", "/apis")).status).toBe(200);
    await admin("PATCH", "/apis/weft.dev/v1alpha1/users/alice", { spec: { expiresAt: "2020-01-01T00:00:00Z" } });
    expect(await again("GET", "/apis")).toMatchObject({ status: 401, body: { message: expect.stringContaining("expired at 2020") } });
  });

  test("a user's token is no join token", async () => {
    const { plane, tokenOf, user, dir } = await mesh();
    await user("alice");
    const { createPrivateKey } = await import("node:crypto");
    const { openTokenAuthority } = await import("./identity/token.ts");
    const { systemClock } = await import("../base/clock.ts");
    expect(createPrivateKey(readFileSync(join(dir, "signing.key"), "utf8")).type).toBe("private");
    const verdict = await openTokenAuthority(dir, plane.trustDomain, systemClock).verify(await tokenOf("alice"), "certificate");
    expect(verdict).toMatchObject({ ok: false, reason: expect.stringContaining("audience") });
  });

  test("names and groups of the control plane cannot be taken", async () => {
    const { admin } = await mesh();
    const make = (name: string, groups: string[]) =>
      admin("POST", "/apis/weft.dev/v1alpha1/users", {
        apiVersion: "weft.dev/v1alpha1",
        kind: "User",
        metadata: { name },
        spec: { groups },
      });
    expect((await make("admin", [])).status).toBe(422);
    expect((await make("x", ["system:masters"])).body.details.causes).toEqual([expect.objectContaining({ field: "spec.groups[0]" })]);
    expect((await make("x", ["weft:users"])).status).toBe(422);
    expect((await admin("POST", "/apis/weft.dev/v1alpha1/users/nobody/token", { spec: {} })).status).toBe(404);
  });
});

describe("open watches", () => {
  /** What a watch has said so far; `over` when it has ended. */
  async function watching(
    plane: ControlPlane,
    dir: string,
    token: string,
    path: string,
    headers: Record<string, string> = {},
    query = "?watch=true",
  ) {
    const aborter = new AbortController();
    cleanups.push(() => aborter.abort());
    const response = await fetch(`${plane.apiUrl}${path}${query}`, {
      tls: { ca: readFileSync(join(dir, "ca.crt"), "utf8") },
      headers: { authorization: `Bearer ${token}`, ...headers },
      signal: aborter.signal,
    });
    const seen = { status: response.status, text: "", over: false };
    void (async () => {
      const decoder = new TextDecoder();
      for await (const chunk of response.body ?? []) seen.text += decoder.decode(chunk as Uint8Array);
      seen.over = true;
    })().catch(() => {});
    return seen;
  }
  const until = async (what: string, met: () => boolean) => {
    const end = performance.now() + 10_000;
    while (!met()) {
      if (performance.now() > end) throw new Error(`not within 10 s: ${what}`);
      await Bun.sleep(5);
    }
  };
  const last = (seen: { text: string }) => JSON.parse(seen.text.trim().split("\n").at(-1) ?? "") as Record<string, unknown>;

  test("end with their user, and when the right is taken away, each with the reason; those of others go on", async () => {
    const { plane, dir, admin, user, tokenOf, bind } = await mesh();
    for (const name of ["alice", "bob", "carol"]) {
      await user(name, name === "carol" ? ["dev"] : []);
      await bind("shop", `${name}-views`, "view", { kind: "User", name, apiGroup: "rbac.authorization.k8s.io" });
    }
    await admin("POST", shop, service("a"));
    const [alice, bob, carol] = await Promise.all(
      ["alice", "bob", "carol"].map(async (name) => watching(plane, dir, await tokenOf(name), shop)),
    );
    const root = await watching(plane, dir, readFileSync(join(dir, "admin.token"), "utf8").trim(), shop);
    const all = [alice!, bob!, carol!, root];
    expect(all.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    await until("each has the service", () => all.every(({ text }) => text.includes('"name":"a"')));
    const at = performance.now();
    await admin("DELETE", "/apis/weft.dev/v1alpha1/users/alice");
    await until("alice's ended", () => alice!.over);
    expect(performance.now() - at).toBeLessThan(2_000);
    expect(last(alice!)).toMatchObject({
      type: "ERROR",
      object: { kind: "Status", code: 401, reason: "Unauthorized", message: expect.stringContaining('"alice" of this token was deleted') },
    });
    await admin("DELETE", `${rbac}/namespaces/shop/rolebindings/bob-views`);
    await until("bob's ended", () => bob!.over);
    expect(last(bob!)).toMatchObject({ type: "ERROR", object: { code: 403, message: expect.stringContaining('User "bob" cannot watch') } });
    await admin("PATCH", "/apis/weft.dev/v1alpha1/users/carol", { spec: { groups: ["dev", "ops"] } });
    await admin("POST", shop, service("b"));
    await until("the others go on", () => [carol!, root].every(({ text }) => text.includes('"name":"b"')));
    await admin("PATCH", "/apis/weft.dev/v1alpha1/users/carol", { spec: { groups: ["ops"] } });
    await until("carol's ended", () => carol!.over);
    expect(last(carol!)).toMatchObject({ object: { code: 401, message: expect.stringContaining('not in the group "dev" any more') } });
    expect(root.over).toBe(false);
  }, 30_000);

  test("end with the join token that they were opened by", async () => {
    const { plane, dir, admin, good, bind } = await mesh();
    await bind("shop", "reviews-views", "view", { kind: "ServiceAccount", name: "reviews", namespace: "shop" });
    const tokens = "/apis/weft.dev/v1alpha1/namespaces/shop/jointokens";
    const give = async (name: string) => {
      const expiresAt = `${new Date(Date.now() + 3_600_000).toISOString().slice(0, 19)}Z`;
      const spec = { serviceAccount: "reviews", expiresAt, use: "Reusable" };
      await good(admin("POST", tokens, { apiVersion: "weft.dev/v1alpha1", kind: "JoinToken", metadata: { name }, spec }));
      const bound = { boundObjectRef: { apiVersion: "weft.dev/v1alpha1", kind: "JoinToken", name } };
      const issued = await good(admin("POST", "/api/v1/namespaces/shop/serviceaccounts/reviews/token", { spec: bound }));
      return issued.status.token as string;
    };
    const [one, other] = [await give("one"), await give("other")];
    const [first, second] = [await watching(plane, dir, one, shop), await watching(plane, dir, other, shop)];
    expect([first.status, second.status]).toEqual([200, 200]);
    await admin("DELETE", `${tokens}/one`);
    await until("the first has ended", () => first.over);
    expect(last(first)).toMatchObject({ object: { code: 401, message: expect.stringContaining("the join token one was revoked") } });
    await admin("POST", shop, service("a"));
    await until("the second goes on", () => second.text.includes('"name":"a"'));
  }, 30_000);

  test("so do the audit log and the log, followed, when the right to them is taken away", async () => {
    const { plane, dir, admin, user, tokenOf } = await mesh();
    await user("alice");
    await admin("POST", `${rbac}/clusterroles`, {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: "looker" },
      rules: [{ nonResourceURLs: ["/weft/v1alpha1/audit", "/insight/v1alpha1/logs"], verbs: ["get"] }],
    });
    await admin(
      "POST",
      `${rbac}/clusterrolebindings`,
      binding("", "looker", "looker", { kind: "User", name: "alice", apiGroup: "rbac.authorization.k8s.io" }),
    );
    const token = await tokenOf("alice");
    const audit = await watching(plane, dir, token, "/weft/v1alpha1/audit?follow=true", {}, "");
    const log = await watching(plane, dir, token, "/insight/v1alpha1/logs?follow=true", {}, "");
    expect([audit.status, log.status]).toEqual([200, 200]);
    await admin("POST", shop, service("seen"));
    await until("the write is told", () => audit.text.includes('"seen"'));
    await admin("DELETE", `${rbac}/clusterrolebindings/looker`);
    await until("both have ended", () => audit.over && log.over);
    await admin("POST", shop, service("unseen"));
    expect(audit.text).not.toContain('"unseen"');
  }, 30_000);

  test("in the middle of what it begins with, a watch ends with the reason as well", async () => {
    const { plane, dir, admin, user, tokenOf, bind } = await mesh();
    await user("alice");
    await bind("", "all", "view", { kind: "User", name: "alice", apiGroup: "rbac.authorization.k8s.io" });
    const maps = Array.from({ length: 40 }, (_, n) => ({
      ...service(`s${n}`),
      metadata: { name: `s${n}`, annotations: { a: "x".repeat(50_000) } },
    }));
    for (const each of maps) await admin("POST", shop, each);
    // Not read until the end: the server waits in the middle.
    const response = await fetch(`${plane.apiUrl}${shop}?watch=true`, {
      tls: { ca: readFileSync(join(dir, "ca.crt"), "utf8") },
      headers: { authorization: `Bearer ${await tokenOf("alice")}` },
    });
    await admin("DELETE", `${rbac}/clusterrolebindings/all`);
    await Bun.sleep(400);
    const lines = (await response.text()).trim().split("\n");
    expect(JSON.parse(lines.at(-1) as string)).toMatchObject({ type: "ERROR", object: { code: 403 } });
    for (const line of lines) expect(() => JSON.parse(line)).not.toThrow();
  }, 30_000);
});

describe("roles", () => {
  test("a RoleBinding reaches its namespace, by user and by group; a service account gets more than a join token", async () => {
    const { admin, asToken, good, user, bind } = await mesh();
    const [alice, bob] = [await user("alice"), await user("bob", ["dev"])];
    await bind("shop", "alice", "edit", { kind: "User", name: "alice" });
    await bind("shop", "dev", "view", { kind: "Group", name: "dev" });
    expect((await alice("POST", shop, service("a"))).status).toBe(201);
    expect((await alice("POST", "/api/v1/namespaces/other/services", service("a"))).status).toBe(403);
    expect((await alice("GET", "/api/v1/services")).status).toBe(403);
    expect((await bob("GET", shop)).body.items).toHaveLength(1);
    expect((await bob("DELETE", `${shop}/a`)).status).toBe(403);
    expect((await alice("GET", "/apis/weft.dev/v1alpha1/namespaces/shop/jointokens")).status).toBe(403);
    expect((await alice("POST", "/api/v1/namespaces/shop/serviceaccounts/a/token", { spec: {} })).status).toBe(403);
    const ci = asToken((await good(admin("POST", "/api/v1/namespaces/shop/serviceaccounts/ci/token", { spec: {} }))).status.token);
    expect((await ci("GET", shop)).status).toBe(403);
    await bind("shop", "ci", "edit", { kind: "ServiceAccount", name: "ci", namespace: "shop" });
    expect((await ci("DELETE", `${shop}/a`)).status).toBe(200);
    await good(admin("DELETE", `${rbac}/namespaces/shop/rolebindings/ci`));
    expect((await ci("GET", shop)).status).toBe(403);
  });

  test("names narrow, subresources and paths are their own", async () => {
    const { admin, good, user, bind } = await mesh();
    const alice = await user("alice");
    await good(admin("POST", shop, service("a")));
    await good(admin("POST", shop, service("b")));
    const rules = [
      { apiGroups: [""], resources: ["services"], resourceNames: ["a"], verbs: ["get", "delete"] },
      { nonResourceURLs: ["/insight/*"], verbs: ["get"] },
    ];
    await good(
      admin("POST", `${rbac}/clusterroles`, {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "ClusterRole",
        metadata: { name: "one:a" },
        rules,
      }),
    );
    await bind("", "alice", "one:a", { kind: "User", name: "alice" });
    expect((await alice("GET", `${shop}/a`)).status).toBe(200);
    expect((await alice("GET", `${shop}/b`)).status).toBe(403);
    expect((await alice("GET", shop)).status).toBe(403);
    expect((await alice("GET", "/insight/v1alpha1/graph")).status).toBe(200);
    expect((await alice("GET", "/metrics")).status).toBe(403);
    const review = async (resourceAttributes: Record<string, string>) =>
      (await alice("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", { spec: { resourceAttributes } })).body.status.allowed;
    expect(await review({ verb: "get", resource: "services", namespace: "shop", name: "a" })).toBe(true);
    expect(await review({ verb: "get", resource: "services", namespace: "shop" })).toBe(false);
    expect(await review({ verb: "*", resource: "*", group: "*" })).toBe(false);
  });

  test("the built-in ones are shown and cannot be written", async () => {
    const { admin } = await mesh();
    const names = (await admin("GET", `${rbac}/clusterroles`)).body.items.map((each: { metadata: { name: string } }) => each.metadata.name);
    expect(names).toEqual(["admin", "cluster-admin", "edit", "system:basic-user", "system:discovery", "view", "weft:observer"]);
    expect((await admin("GET", `${rbac}/clusterroles/view`)).body.rules[0].verbs).toEqual(["get", "list", "watch"]);
    expect((await admin("DELETE", `${rbac}/clusterroles/view`)).status).toBe(403);
    expect((await admin("PATCH", `${rbac}/clusterroles/view`, { rules: [] })).status).toBe(403);
    const taken = { apiVersion: "rbac.authorization.k8s.io/v1", kind: "ClusterRole", metadata: { name: "system:mine" }, rules: [] };
    expect((await admin("POST", `${rbac}/clusterroles`, taken)).status).toBe(403);
    const pages = (await admin("GET", `${rbac}/clusterroles?limit=3`)).body;
    const rest = (await admin("GET", `${rbac}/clusterroles?limit=10&continue=${pages.metadata.continue}`)).body;
    expect([...pages.items, ...rest.items]).toHaveLength(7);
  });

  test("a binding to a role that is not there grants nothing until it is", async () => {
    const { admin, good, user, bind } = await mesh();
    const alice = await user("alice");
    await bind("shop", "later", "reader", { kind: "User", name: "alice" }, "Role");
    expect((await alice("GET", shop)).status).toBe(403);
    const role = {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "Role",
      metadata: { name: "reader" },
      rules: [{ apiGroups: [""], resources: ["services"], verbs: ["list"] }],
    };
    await good(admin("POST", `${rbac}/namespaces/shop/roles`, role));
    expect((await alice("GET", shop)).status).toBe(200);
    expect((await admin("PATCH", `${rbac}/namespaces/shop/rolebindings/later`, { roleRef: { name: "other" } })).status).toBe(403);
  });
});

describe("escalation", () => {
  test("nobody grants what they do not have", async () => {
    const { user, bind } = await mesh();
    const alice = await user("alice");
    await bind("shop", "alice", "admin", { kind: "User", name: "alice" });
    const bindings = `${rbac}/namespaces/shop/rolebindings`;
    expect((await alice("POST", bindings, binding("shop", "bob", "edit", { kind: "User", name: "bob" }))).status).toBe(201);
    const more = await alice("POST", bindings, binding("shop", "me", "cluster-admin", { kind: "User", name: "alice" }));
    expect(more.status).toBe(403);
    expect(more.body.message).toContain(
      'user "alice" (groups=["weft:users","system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:["*"], Resources:["*"], Verbs:["*"]}',
    );
    const role = (rules: unknown[]) => ({ apiVersion: "rbac.authorization.k8s.io/v1", kind: "Role", metadata: { name: "r" }, rules });
    const roles = `${rbac}/namespaces/shop/roles`;
    expect((await alice("POST", roles, role([{ apiGroups: [""], resources: ["namespaces"], verbs: ["delete"] }]))).status).toBe(403);
    expect((await alice("POST", roles, role([{ apiGroups: [""], resources: ["services"], verbs: ["delete"] }]))).status).toBe(201);
    expect((await alice("PATCH", `${roles}/r`, { rules: [{ apiGroups: ["*"], resources: ["*"], verbs: ["*"] }] })).status).toBe(403);
    // The same in a transaction: the role it refers to is looked for among what is staged.
    const transaction = {
      operations: [
        {
          method: "POST",
          path: roles,
          body: { ...role([{ apiGroups: [""], resources: ["services"], verbs: ["get"] }]), metadata: { name: "r2" } },
        },
        { method: "POST", path: bindings, body: binding("shop", "r2", "r2", { kind: "User", name: "bob" }, "Role") },
      ],
    };
    expect((await alice("POST", "/weft/v1alpha1/transactions", transaction)).body).toMatchObject({ committed: true });
    transaction.operations.push({
      method: "POST",
      path: bindings,
      body: binding("shop", "r3", "cluster-admin", { kind: "User", name: "bob" }),
    });
    expect((await alice("POST", "/weft/v1alpha1/transactions", transaction)).status).toBe(422);
    expect((await alice("POST", "/weft/v1alpha1/transactions", { ...transaction, preview: true })).status).toBe(403);
  });

  test("who may look at everything sees no private keys", async () => {
    const { user, bind } = await mesh();
    const carol = await user("carol");
    await bind("shop", "carol", "view", { kind: "User", name: "carol" });
    expect((await carol("GET", "/api/v1/namespaces/shop/services")).status).toBe(200);
    expect((await carol("GET", "/api/v1/namespaces/shop/secrets")).status).toBe(403);
  });

  test("the verbs bind, escalate and impersonate lift it, each for what it names", async () => {
    const { admin, good, user, bind } = await mesh();
    const alice = await user("alice");
    const rules = [
      { apiGroups: ["rbac.authorization.k8s.io"], resources: ["rolebindings"], verbs: ["create"] },
      { apiGroups: ["rbac.authorization.k8s.io"], resources: ["clusterroles"], resourceNames: ["view"], verbs: ["bind"] },
      { apiGroups: ["weft.dev"], resources: ["users"], verbs: ["create"] },
      { apiGroups: [""], resources: ["groups"], resourceNames: ["dev"], verbs: ["impersonate"] },
      { apiGroups: [""], resources: ["users"], resourceNames: ["bob"], verbs: ["impersonate"] },
    ];
    await good(
      admin("POST", `${rbac}/clusterroles`, {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "ClusterRole",
        metadata: { name: "onboard" },
        rules,
      }),
    );
    await bind("", "alice", "onboard", { kind: "User", name: "alice" });
    const bindings = `${rbac}/namespaces/shop/rolebindings`;
    expect((await alice("POST", bindings, binding("shop", "v", "view", { kind: "User", name: "bob" }))).status).toBe(201);
    expect((await alice("POST", bindings, binding("shop", "e", "edit", { kind: "User", name: "bob" }))).status).toBe(403);
    const make = (name: string, group: string) =>
      alice("POST", "/apis/weft.dev/v1alpha1/users", {
        apiVersion: "weft.dev/v1alpha1",
        kind: "User",
        metadata: { name },
        spec: { groups: [group] },
      });
    expect((await make("carol", "dev")).status).toBe(201);
    expect((await make("dave", "ops")).status).toBe(403);
    const as = (headers: Record<string, string>) => alice("GET", shop, undefined, headers);
    expect((await as({ "impersonate-user": "bob" })).status).toBe(200);
    expect((await as({ "impersonate-user": "carol" })).status).toBe(403);
    expect((await as({ "impersonate-user": "admin" })).status).toBe(403);
    expect((await as({ "impersonate-user": "bob", "impersonate-group": "system:masters" })).status).toBe(403);
  });
});

describe("audit log", () => {
  test("has each write: who, what, from where and with what result, and no content", async () => {
    const { dir, admin, user, bind, audit } = await mesh();
    const alice = await user("alice");
    await bind("shop", "alice", "edit", { kind: "User", name: "alice" });
    await alice("POST", shop, { ...service("a"), metadata: { name: "a", annotations: { note: "hush-hush" } } });
    await alice("GET", shop);
    await alice("DELETE", "/api/v1/namespaces/other/services/a");
    await admin("PATCH", `${shop}/a?dryRun=All`, { metadata: { labels: { x: "1" } } }, { "impersonate-user": "alice" });
    await alice("POST", "/weft/v1alpha1/transactions", { operations: [{ method: "DELETE", path: `${shop}/a` }] });
    await alice("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {
      spec: { resourceAttributes: { verb: "get", resource: "services" } },
    });
    const lines = audit();
    expect(lines.slice(0, 3)).toMatchObject([
      { user: "admin", verb: "create", resource: "users.weft.dev", name: "alice", code: 201 },
      { user: "admin", verb: "create", resource: "users.weft.dev/token", name: "alice", code: 201 },
      { user: "admin", verb: "create", resource: "rolebindings.rbac.authorization.k8s.io", namespace: "shop", name: "alice", code: 201 },
    ]);
    expect(lines.slice(3)).toMatchObject([
      {
        user: "alice",
        verb: "create",
        resource: "services",
        namespace: "shop",
        name: "a",
        code: 201,
        from: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
      },
      { user: "alice", verb: "delete", namespace: "other", code: 403, reason: "Forbidden" },
      { user: "alice", actingAs: "admin", verb: "patch", dryRun: true, code: 200 },
      {
        user: "alice",
        path: "/weft/v1alpha1/transactions",
        code: 200,
        operations: [{ verb: "delete", resource: "services", namespace: "shop", name: "a", code: 200 }],
      },
    ]);
    const text = readFileSync(join(dir, "audit.log"), "utf8");
    expect(text).not.toContain("hush-hush");
    expect(text).not.toContain("eyJ");
    expect(statSync(join(dir, "audit.log")).mode & 0o777).toBe(0o600);
  });
});

test("the audit log is read by the administrator and who a role names, and who reads it stands in it", async () => {
  const { admin, user, good } = await mesh();
  const alice = await user("alice");
  await admin("DELETE", `${shop}/nothing`);
  expect((await alice("GET", "/weft/v1alpha1/audit")).status).toBe(403);
  const lines = async (as: Ask, query: string) => {
    const { body } = await as("GET", `/weft/v1alpha1/audit?${query}`);
    return body
      .trim()
      .split("\n")
      .filter(Boolean)
      .map((line: string) => JSON.parse(line));
  };
  // Refused writes of those who may not, and of what is not there, and the refused look.
  expect(await lines(admin, "denied&since=2020-01-01T00:00:00Z")).toMatchObject([
    { user: "admin", verb: "delete", resource: "services", namespace: "shop", name: "nothing", code: 404 },
    { user: "alice", verb: "get", path: "/weft/v1alpha1/audit", code: 403, reason: "Forbidden" },
  ]);
  expect((await admin("GET", "/weft/v1alpha1/audit?limit=many")).status).toBe(400);
  await good(
    admin("POST", `${rbac}/clusterroles`, {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: "auditor" },
      rules: [{ nonResourceURLs: ["/weft/v1alpha1/audit"], verbs: ["get"] }],
    }),
  );
  await good(
    admin("POST", `${rbac}/clusterrolebindings`, {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "auditor" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "auditor" },
      subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: "alice" }],
    }),
  );
  expect(await lines(alice, "resource=clusterroles")).toMatchObject([{ user: "admin", verb: "create", name: "auditor", code: 201 }]);
});

test("who asks too often is told when to come back; the administrator is not", async () => {
  const { admin, user, asToken } = await mesh({ apiRate: 1 });
  const alice = await user("alice");
  const answers = [];
  for (let n = 0; n < 8; n++) answers.push(await alice("GET", "/apis"));
  const late = answers.at(-1);
  expect(answers[0]?.status).toBe(200);
  expect(late).toMatchObject({ status: 429, body: { reason: "TooManyRequests", details: { retryAfterSeconds: 1 } } });
  expect(late?.headers.get("retry-after")).toBe("1");
  for (let n = 0; n < 8; n++) expect((await admin("GET", "/apis")).status).toBe(200);
  // Guessing is slowed down by address; good credentials from there are not.
  const wrong = asToken("guess");
  const guesses = [];
  for (let n = 0; n < 60; n++) guesses.push((await wrong("GET", "/apis")).status);
  expect(guesses[0]).toBe(401);
  expect(guesses.at(-1)).toBe(429);
  expect((await admin("GET", "/apis")).status).toBe(200);
});

test("profiles are the administrator's, and in the audit log", async () => {
  const { admin, user, audit } = await mesh();
  const alice = await user("alice");
  expect((await alice("GET", "/weft/v1alpha1/profile/heap")).status).toBe(403);
  const cpu = await admin("GET", "/weft/v1alpha1/profile/cpu?seconds=1");
  expect(cpu.body).toMatchObject({ nodes: expect.any(Array), samples: expect.any(Array) });
  expect((await admin("GET", "/weft/v1alpha1/profile/heap")).body).toMatchObject({
    snapshot: { meta: { node_fields: expect.any(Array) } },
  });
  expect((await admin("GET", "/weft/v1alpha1/profile/cpu?seconds=0")).status).toBe(400);
  expect((await admin("GET", "/weft/v1alpha1/profile/other")).status).toBe(404);
  expect(audit().filter(({ path }) => String(path).includes("/profile/"))).toHaveLength(5);
});

test("a rollback of everything does not bring back who was shut out", async () => {
  const { admin, good, user, bind } = await mesh();
  await good(admin("POST", shop, service("a")));
  await user("alice");
  await bind("shop", "alice", "edit", { kind: "User", name: "alice" });
  const { revision } = await good(admin("GET", "/weft/v1alpha1/history"));
  await good(admin("DELETE", `${rbac}/namespaces/shop/rolebindings/alice`));
  await good(admin("DELETE", `${shop}/a`));
  await good(admin("POST", "/weft/v1alpha1/rollback", { revision }));
  expect((await admin("GET", `${shop}/a`)).status).toBe(200);
  expect((await admin("GET", `${rbac}/namespaces/shop/rolebindings/alice`)).status).toBe(404);
  await good(admin("POST", "/weft/v1alpha1/rollback", { revision, resource: "rolebindings.rbac.authorization.k8s.io" }));
  expect((await admin("GET", `${rbac}/namespaces/shop/rolebindings/alice`)).status).toBe(200);
});
