// Between the look at a namespace and the write somebody else writes: a store that lets another in at that very moment.

import { afterEach, describe, expect, test } from "bun:test";
import type { KubeObject } from "../../api/meta.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import type { Store } from "../store/store.ts";
import { gadget, makeTestServer } from "./testing.ts";

const namespace = { resource: "namespaces", namespace: "", name: "shop" };
const gadgets = "/apis/test.weft.dev/v1/namespaces/shop/gadgets";
const stores: Store[] = [];
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
});

/** `others` runs before the next write of that kind, `beside` is what it writes with. */
function made(followed: boolean) {
  const beside = openSqliteStore(":memory:");
  stores.push(beside);
  let others: ((verb: string) => Promise<unknown> | undefined) | undefined;
  const letIn = async (verb: string) => {
    const run = others?.(verb);
    if (run === undefined) return;
    others = undefined;
    await run;
  };
  const store: Store = {
    revision: () => beside.revision(),
    get: (key) => beside.get(key),
    list: (...asked) => beside.list(...asked),
    listAll: () => beside.listAll(),
    listAt: (...asked) => beside.listAt(...asked),
    listAllAt: (revision) => beside.listAllAt(revision),
    history: (query) => beside.history(query),
    oldest: () => beside.oldest(),
    create: async (key, ...rest) => {
      if (key.resource !== "namespaces") await letIn("create");
      return beside.create(key, ...rest);
    },
    update: async (...asked) => {
      await letIn("update");
      return beside.update(...asked);
    },
    delete: async (...asked) => {
      await letIn("delete");
      return beside.delete(...asked);
    },
    transact: async (...asked) => {
      await letIn("transact");
      return beside.transact(...asked);
    },
    backup: (path) => beside.backup(path),
    watch: (...asked) => beside.watch(...asked),
    compact: (before) => beside.compact(before),
    close: () => beside.close(),
  };
  let seen = 0;
  const server = makeTestServer({
    store,
    ...(followed && {
      followed: {
        revision: () => seen,
        reached: async (revision) => {
          seen = Math.max(seen, revision);
        },
      },
    }),
  });
  return {
    server,
    beside,
    whenNext: (verb: string, run: () => Promise<unknown>) => (others = (each) => (each === verb ? run() : undefined)),
  };
}

const shop: KubeObject = { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", uid: "u" } } as KubeObject;
const going = { ...shop, metadata: { ...shop.metadata, deletionTimestamp: "2026-01-01T00:00:00Z", finalizers: ["test.weft.dev/hold"] } };

for (const followed of [false, true])
  describe(followed ? "with a view of what others write" : "without one", () => {
    test("nothing is made in a namespace that goes at that moment", async () => {
      const { server, beside, whenNext } = made(followed);
      await beside.create(namespace, shop);
      whenNext("create", () => beside.delete(namespace, undefined));
      const answer = await server.ask("POST", gadgets, gadget("a"));
      expect(answer.status).toBe(404);
      expect(await answer.json()).toMatchObject({ reason: "NotFound", message: 'namespaces "shop" not found' });
      expect((await beside.list("gadgets.test.weft.dev")).items).toEqual([]);
    });

    test("nor in one whose deletion begins, or has begun", async () => {
      const { server, beside, whenNext } = made(followed);
      await beside.create(namespace, shop);
      whenNext("create", () => beside.update(namespace, going, undefined));
      for (const name of ["a", "b"]) {
        const answer = await server.ask("POST", gadgets, gadget(name));
        expect(answer.status).toBe(403);
        expect(await answer.json()).toMatchObject({
          reason: "Forbidden",
          message: `gadgets.test.weft.dev "${name}" is forbidden: unable to create new content in namespace shop because it is being terminated`,
        });
      }
      expect((await beside.list("gadgets.test.weft.dev")).items).toEqual([]);
    });

    test("nor by an apply or a transaction", async () => {
      const { server, beside, whenNext } = made(followed);
      await beside.create(namespace, shop);
      whenNext("create", () => beside.delete(namespace, undefined));
      const headers = { "content-type": "application/apply-patch+yaml" };
      const applied = await server.ask("PATCH", `${gadgets}/a?fieldManager=me`, JSON.stringify(gadget("a", { size: 1 })), headers);
      expect(applied.status).toBe(404);
      await beside.create(namespace, shop);
      whenNext("transact", () => beside.delete(namespace, undefined));
      const operations = ["a", "b"].map((name) => ({ method: "POST", path: gadgets, body: gadget(name, { size: 1 }) }));
      const answer = await server.ask("POST", "/weft/v1alpha1/transactions", { operations });
      expect(await answer.json()).toMatchObject({ committed: false, outcomes: [{ code: 404 }, { code: 404 }] });
      expect((await beside.list("gadgets.test.weft.dev")).items).toEqual([]);
    });

    test("a namespace stays in which something is made at the moment of its deletion", async () => {
      const { server, beside, whenNext } = made(followed);
      const inside = { resource: "gadgets.test.weft.dev", namespace: "shop", name: "a" };
      const make = () => beside.create(inside, gadget("a", { size: 1 }, { namespace: "shop" }));
      for (const verb of ["delete", "update", "transact"]) {
        await beside.delete(inside, undefined);
        await beside.delete(namespace, undefined);
        const finalizers = verb === "update" ? { finalizers: ["test.weft.dev/hold"] } : {};
        await beside.create(namespace, { ...shop, metadata: { ...shop.metadata, ...finalizers } });
        whenNext(verb, make);
        const operations = [{ method: "DELETE", path: "/api/v1/namespaces/shop" }];
        const answer = await (verb === "transact"
          ? server.ask("POST", "/weft/v1alpha1/transactions", { operations })
          : server.ask("DELETE", "/api/v1/namespaces/shop"));
        const said = JSON.stringify(await answer.json());
        expect(said).toContain("the namespace is not empty; delete what is in it first (gadgets.test.weft.dev: a)");
        expect((await beside.get(namespace))?.metadata.deletionTimestamp).toBeUndefined();
        expect(await beside.get(namespace)).toBeDefined();
      }
    });

    test("a transaction that makes a namespace and fills it, and one that empties and deletes it", async () => {
      const { server, beside } = made(followed);
      const made1 = [{ method: "POST", path: gadgets, body: gadget("a", { size: 1 }) }];
      expect((await server.ask("POST", "/weft/v1alpha1/transactions", { operations: made1 })).status).toBe(200);
      const gone = [
        { method: "DELETE", path: `${gadgets}/a` },
        { method: "DELETE", path: "/api/v1/namespaces/shop" },
      ];
      expect((await server.ask("POST", "/weft/v1alpha1/transactions", { operations: gone })).status).toBe(200);
      expect((await beside.listAll()).items).toEqual([]);
    });
  });
