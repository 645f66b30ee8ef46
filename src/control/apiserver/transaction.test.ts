import { beforeEach, describe, expect, test } from "bun:test";
import { kinds } from "../../api/kinds.ts";
import type { KubeObject } from "../../api/meta.ts";
import { admit } from "../../compile/admit.ts";
import { buildWorld } from "../../compile/compile.ts";
import { effects } from "../../compile/effects.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import type { StagedChange } from "./staged.ts";
import { makeTestServer, type TestServer } from "./testing.ts";
import type { Operation, TransactionAnswer } from "./transaction.ts";

const services = "/api/v1/namespaces/shop/services";
const routes = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes";
let server: TestServer;
beforeEach(() => {
  const store = openSqliteStore(":memory:");
  const worldOf = async (staged: readonly StagedChange[] = []) => {
    const id = (key: StagedChange["key"]) => `${key.resource}/${key.namespace}/${key.name}`;
    const objects = new Map((await store.listAll()).items.map(({ key, object }) => [id(key), object]));
    for (const { key, after } of staged) {
      if (after === undefined) objects.delete(id(key));
      else objects.set(id(key), after);
    }
    return buildWorld(objects.values(), "cluster.local");
  };
  server = makeTestServer({
    kinds,
    store,
    admit: async (candidate, _existing, staged) => admit(await worldOf(staged), candidate),
    preview: async (staged) => effects(await worldOf(), await worldOf(staged)),
  });
});

const service = (name: string) => ({ metadata: { name }, spec: { selector: { app: name }, ports: [{ name: "http", port: 80 }] } });
const route = (name: string, backend: string) => ({
  metadata: { name },
  spec: { parentRefs: [{ group: "", kind: "Service", name: "cart", port: 80 }], rules: [{ backendRefs: [{ name: backend, port: 80 }] }] },
});
const post = (path: string, body: unknown): Operation => ({ method: "POST", path, body });

async function transact(
  operations: readonly Operation[],
  options: Record<string, unknown> = {},
): Promise<TransactionAnswer & { code: number }> {
  const response = await server.ask("POST", "/weft/v1alpha1/transactions", { operations, ...options });
  return { ...((await response.json()) as TransactionAnswer), code: response.status };
}
const names = async (path: string) =>
  ((await (await server.ask("GET", path)).json()) as { items: KubeObject[] }).items.map((item) => item.metadata.name);
const refusals = (answer: TransactionAnswer) =>
  answer.outcomes.map((outcome) => ("status" in outcome ? outcome.status.message : undefined));

describe("a transaction", () => {
  test("stores all, with the namespace, under one number in the history", async () => {
    const answer = await transact([post(services, service("cart")), post(routes, route("r", "cart"))]);
    expect([answer.code, answer.committed]).toEqual([200, true]);
    expect(
      answer.outcomes.map((outcome) => ("object" in outcome ? `${outcome.change} ${outcome.object.metadata.name}` : "refused")),
    ).toEqual(["created cart", "created r"]);
    const stored = (await (await server.ask("GET", `${routes}/r`)).json()) as KubeObject;
    expect("object" in answer.outcomes[1]! && answer.outcomes[1].object).toEqual(stored);
    expect(await names("/api/v1/namespaces")).toEqual(["shop"]);
    expect(new Set((await server.store.history({ limit: 10 })).map((entry) => entry.transaction)).size).toBe(1);
  });

  test("with one fault stores none, and tells every fault", async () => {
    await server.ask("POST", services, service("cart"));
    const before = await server.store.revision();
    const typo = { ...route("typo", "cart"), spec: { ...route("typo", "cart").spec, surprise: 1 } };
    const answer = await transact([
      post(services, service("fine")),
      post(routes, typo),
      { method: "DELETE", path: `${services}/nope` },
      post(routes, route("a", "cart")),
      post(routes, route("b", "fine")),
    ]);
    expect([answer.code, answer.committed]).toEqual([422, false]);
    expect(refusals(answer)).toEqual([
      undefined,
      expect.stringContaining('unknown field "surprise"'),
      'services "nope" not found',
      expect.stringContaining("contradicts HTTPRoute shop/b"),
      expect.stringContaining("contradicts HTTPRoute shop/a"),
    ]);
    expect(await server.store.revision()).toBe(before);
  });

  test("judges contradictions by the outcome: one object may take another's place", async () => {
    await transact([post(services, service("cart")), post(services, service("cart2")), post(routes, route("old", "cart"))]);
    expect(refusals(await transact([post(routes, route("new", "cart2"))]))).toEqual([
      expect.stringContaining("contradicts HTTPRoute shop/old"),
    ]);
    const swap = await transact([post(routes, route("new", "cart2")), { method: "DELETE", path: `${routes}/old` }]);
    expect(swap.committed).toBe(true);
    expect(await names(routes)).toEqual(["new"]);
  });

  test("sees its own writes: an object may be made and changed, applied and read", async () => {
    const merge = { contentType: "application/merge-patch+json" };
    const answer = await transact([
      post(services, service("cart")),
      { method: "PATCH", path: `${services}/cart`, body: { metadata: { labels: { a: "b" } } }, ...merge },
      {
        method: "PATCH",
        path: `${services}/other?fieldManager=x`,
        body: { apiVersion: "v1", kind: "Service", ...service("other") },
        contentType: "application/apply-patch+yaml",
      },
    ]);
    expect(answer.committed).toBe(true);
    expect(((await (await server.ask("GET", `${services}/cart`)).json()) as KubeObject).metadata.labels).toEqual({ a: "b" });
    expect(await names(services)).toEqual(["cart", "other"]);
  });

  test("dry shows what would come of it, for proxies too, and stores nothing", async () => {
    const entry = {
      metadata: {
        name: "cart-1",
        labels: { app: "cart" },
        annotations: { "weft.dev/inbound": "http=8080", "weft.dev/http-proxy-port": "15001" },
      },
      spec: { address: "127.0.0.1", ports: { http: 9080 } },
    };
    await transact([
      post(services, service("cart")),
      post(services, service("v2")),
      post("/apis/networking.istio.io/v1/namespaces/shop/workloadentries", entry),
    ]);
    const before = await server.store.revision();
    const answer = await transact([post(routes, route("r", "v2"))], { dryRun: true, preview: true });
    expect([answer.code, answer.committed]).toEqual([200, false]);
    expect(answer.proxies).toEqual([
      { change: "vanishes", kind: "route", what: "shop/cart:80 everything -> shop/cart:80", proxies: ["shop/cart-1"], all: true },
      { change: "appears", kind: "route", what: "shop/cart:80 everything -> shop/v2:80", proxies: ["shop/cart-1"], all: true },
    ]);
    expect(await server.store.revision()).toBe(before);
  });

  test("is refused when it is malformed, too large, or asked for by a workload", async () => {
    for (const body of [
      {},
      { operations: [{}] },
      { operations: [{ method: "GET", path: services }] },
      { operations: [post("/weft/v1alpha1/rollback", {})] },
    ])
      expect((await server.ask("POST", "/weft/v1alpha1/transactions", body)).status).toBe(400);
    const many = Array.from({ length: 2_001 }, () => ({ method: "DELETE", path: `${services}/x` }));
    expect((await server.ask("POST", "/weft/v1alpha1/transactions", { operations: many })).status).toBe(400);
    expect((await transact([post(`${services}?dryRun=All`, service("x"))])).code).toBe(400);
    const workload = { authorization: "Bearer shop/reviews" };
    expect((await server.ask("POST", "/weft/v1alpha1/transactions", { operations: [] }, workload)).status).toBe(403);
  });
});

describe("going back", () => {
  const rollback = async (revision: number, more: Record<string, unknown> = {}) => {
    const response = await server.ask("POST", "/weft/v1alpha1/rollback", { revision, ...more });
    return { ...((await response.json()) as TransactionAnswer & { message?: string }), code: response.status };
  };

  test("restores, changes and deletes, in one transaction, and leaves registrations alone", async () => {
    await transact([post(services, service("cart")), post(services, service("goes"))]);
    const then = await server.store.revision();
    const merge = { "content-type": "application/merge-patch+json" };
    await server.ask("PATCH", `${services}/cart`, { spec: { selector: { app: "other" } } }, merge);
    await server.ask("DELETE", `${services}/goes`);
    await server.ask("POST", services, service("comes"));
    const registered = { metadata: { name: "i", annotations: { "weft.dev/health": "reported" } }, spec: { address: "127.0.0.1" } };
    await server.ask("POST", "/apis/networking.istio.io/v1/namespaces/shop/workloadentries", registered);
    const dry = await rollback(then, { dryRun: true });
    expect(dry.outcomes.map((outcome) => ("object" in outcome ? `${outcome.change} ${outcome.object.metadata.name}` : ""))).toEqual([
      "created goes",
      "configured cart",
      "deleted comes",
    ]);
    expect(await names(services)).toEqual(["cart", "comes"]);
    expect((await rollback(then)).committed).toBe(true);
    expect(await names(services)).toEqual(["cart", "goes"]);
    expect(((await (await server.ask("GET", `${services}/cart`)).json()) as KubeObject).spec).toMatchObject({ selector: { app: "cart" } });
    expect(await names("/apis/networking.istio.io/v1/namespaces/shop/workloadentries")).toEqual(["i"]);
    expect((await rollback(then)).outcomes).toEqual([]);
  });

  test("keeps to a namespace, a kind, an object", async () => {
    await server.ask("POST", services, service("a"));
    const then = await server.store.revision();
    await server.ask("POST", services, service("b"));
    await server.ask("POST", "/api/v1/namespaces/bank/services", service("c"));
    expect((await rollback(then, { namespace: "bank", dryRun: true })).outcomes).toHaveLength(1);
    expect((await rollback(then, { resource: "services", name: "b", dryRun: true })).outcomes).toHaveLength(1);
    expect((await rollback(then, { resource: "httproutes.gateway.networking.k8s.io", dryRun: true })).outcomes).toEqual([]);
  });

  test("is refused to the future, to what is not kept, and to the middle of a transaction", async () => {
    await transact([post(services, service("a")), post(services, service("b"))]);
    await server.ask("POST", services, service("c"));
    expect((await rollback(99)).code).toBe(400);
    expect((await rollback(2)).message).toContain("middle of a transaction");
    await server.store.compact(await server.store.revision());
    expect((await rollback(1)).code).toBeGreaterThanOrEqual(400);
    expect((await rollback(0)).code).toBe(410);
  });

  test("the history names who wrote, and leaves out what nobody asked for unless asked", async () => {
    await server.ask("POST", services, service("a"));
    const [made] = (await server.store.list("services")).items;
    await server.store.update({ resource: "services", namespace: "shop", name: "a" }, { ...made!, status: { conditions: [] } }, undefined);
    type History = { oldest: number; entries: { by: string; type: string; name: string; resource: string }[] };
    const history = async (query: string) => (await (await server.ask("GET", `/weft/v1alpha1/history?${query}`)).json()) as History;
    expect((await history("namespace=shop")).entries.map(({ by, type, name }) => `${by} ${type} ${name}`)).toEqual(["admin added a"]);
    expect((await history("namespace=shop&all=true")).entries.map(({ by }) => by)).toEqual(["", "admin"]);
    expect((await server.ask("GET", "/weft/v1alpha1/history?resource=nope")).status).toBe(400);
  });
});
