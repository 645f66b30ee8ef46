import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { KubeObject } from "../api/meta.ts";
import { systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { gadget, makeTestServer, type TestServer, testKinds } from "./apiserver/testing.ts";
import { Collector } from "./collector.ts";

const shop = "/apis/test.weft.dev/v1/namespaces/shop/gadgets";
let server: TestServer;
let collector: Collector;
beforeEach(async () => {
  server = makeTestServer();
  collector = new Collector({ store: server.store, kinds: testKinds, clock: systemClock, log: silentLogger });
  await collector.start();
});
afterEach(async () => {
  await collector.stop();
  await server.store.close();
});

async function make(
  name: string,
  owners: readonly KubeObject[] = [],
  more: Record<string, unknown> = {},
  reference: Record<string, unknown> = {},
): Promise<KubeObject> {
  const ownerReferences = owners.map((owner) => ({
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid,
    ...reference,
  }));
  const response = await server.ask("POST", shop, gadget(name, {}, { ...(ownerReferences.length > 0 && { ownerReferences }), ...more }));
  expect(response.status).toBe(201);
  return (await response.json()) as KubeObject;
}

const remove = (name: string, propagationPolicy?: string) =>
  server.ask("DELETE", `${shop}/${name}`, propagationPolicy === undefined ? undefined : { propagationPolicy });
async function names(): Promise<string[]> {
  return ((await (await server.ask("GET", shop)).json()) as { items: KubeObject[] }).items.map((item) => item.metadata.name);
}
async function get(name: string): Promise<KubeObject> {
  return (await (await server.ask("GET", `${shop}/${name}`)).json()) as KubeObject;
}
async function settles(read: () => Promise<unknown>, expected: unknown): Promise<void> {
  const end = performance.now() + 3000;
  while (!Bun.deepEquals(await read(), expected) && performance.now() < end) await Bun.sleep(2);
  expect(await read()).toEqual(expected as never);
}

describe("objects with owners", () => {
  test("go with their owner, and theirs with them", async () => {
    const a = await make("a");
    const b = await make("b", [a]);
    await make("c", [b]);
    await make("other");
    await remove("a");
    await settles(names, ["other"]);
    const [last] = await server.store.history({ limit: 1 });
    expect(last).toMatchObject({ by: "system:garbage-collector", type: "deleted" });
  });

  test("stay while another owner is there, without the reference to the one that went", async () => {
    const [a, b] = [await make("a"), await make("b")];
    await make("c", [a, b]);
    await remove("a");
    await settles(async () => (await get("c")).metadata.ownerReferences?.map((each) => each.name), ["b"]);
    await remove("b");
    await settles(names, []);
  });

  test("go when their owner never was, or is another of the same name; stay when its kind is not served here", async () => {
    const a = await make("a");
    await make("never", [{ ...a, metadata: { ...a.metadata, uid: "00000000-0000-4000-8000-000000000000" } }]);
    await make("foreign", [{ ...a, apiVersion: "apps/v1", kind: "Deployment" }]);
    await settles(names, ["a", "foreign"]);
  });

  test("with a finalizer are marked and wait for it", async () => {
    await make("b", [await make("a")], { finalizers: ["example.com/hold"] });
    await remove("a");
    await settles(async () => (await get("b")).metadata.deletionTimestamp !== undefined, true);
    await server.ask("PATCH", `${shop}/b`, { metadata: { finalizers: null } }, { "content-type": "application/merge-patch+json" });
    await settles(names, []);
  });

  test("are found at the start, when the owner went while nobody looked", async () => {
    await collector.stop();
    await make("b", [await make("a")]);
    await remove("a");
    expect(await names()).toEqual(["b"]);
    collector = new Collector({ store: server.store, kinds: testKinds, clock: systemClock, log: silentLogger });
    await collector.start();
    await settles(names, []);
  });
});

describe("how a deletion asks for more", () => {
  test("Orphan leaves dependents and takes their reference away", async () => {
    await make("b", [await make("a")]);
    await remove("a", "Orphan");
    await settles(names, ["b"]);
    expect((await get("b")).metadata.ownerReferences).toBeUndefined();
  });

  test("Foreground keeps the owner until the dependents that block it are gone", async () => {
    await make("b", [await make("a")], { finalizers: ["example.com/hold"] }, { blockOwnerDeletion: true });
    const answer = (await (await remove("a", "Foreground")).json()) as KubeObject;
    expect(answer.metadata.finalizers).toEqual(["foregroundDeletion"]);
    await settles(async () => (await get("b")).metadata.deletionTimestamp !== undefined, true);
    expect(await names()).toEqual(["a", "b"]);
    await server.ask("PATCH", `${shop}/b`, { metadata: { finalizers: null } }, { "content-type": "application/merge-patch+json" });
    await settles(names, []);
  });

  test("Foreground goes down through owners of owners, the innermost first", async () => {
    const block = { blockOwnerDeletion: true };
    const b = await make("b", [await make("a")], {}, block);
    await make("c", [b], {}, block);
    await remove("a", "Foreground");
    await settles(names, []);
    const gone = (await server.store.history({ limit: 20 })).filter((entry) => entry.type === "deleted").map((entry) => entry.key.name);
    expect(gone).toEqual(["a", "b", "c"]);
  });

  test("an unknown policy is refused; new finalizers on what is being deleted too", async () => {
    await make("a", [], { finalizers: ["example.com/hold"] });
    expect((await remove("a", "Sideways")).status).toBe(400);
    await remove("a");
    const more = { metadata: { finalizers: ["example.com/hold", "example.com/more"] } };
    const answer = await server.ask("PATCH", `${shop}/a`, more, { "content-type": "application/merge-patch+json" });
    expect(answer.status).toBe(422);
    expect(((await answer.json()) as { message: string }).message).toContain("no new finalizers can be added");
  });
});
