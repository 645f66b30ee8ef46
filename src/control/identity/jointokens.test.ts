import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type JoinTokenObject, joinTokenKind } from "../../api/kinds/jointoken.ts";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { type Store, StoreFailure } from "../store/store.ts";
import { JoinTokenList } from "./jointokens.ts";
import { openTokenAuthority, type TokenAuthority } from "./token.ts";

let folder: string;
let store: Store;
let clock: PausedClock;
let list: JoinTokenList;
let tokens: TokenAuthority;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weft-jointokens-"));
  store = openSqliteStore(":memory:");
  clock = new PausedClock();
  list = new JoinTokenList(store, clock, silentLogger);
  tokens = openTokenAuthority(folder, "cluster.local", clock, (...asked) => list.check(...asked));
});
afterEach(async () => {
  list.stop();
  await store.close();
  rmSync(folder, { recursive: true, force: true });
});

const key = { resource: "jointokens.weft.dev", namespace: "shop", name: "reviews-1" };
async function give(use: "Once" | "Reusable", seconds = 3600): Promise<string> {
  const expiresAt = `${new Date(clock.now() + seconds * 1000).toISOString().slice(0, 19)}Z`;
  const object: JoinTokenObject = {
    apiVersion: "weft.dev/v1alpha1",
    kind: "JoinToken",
    metadata: { name: "reviews-1", namespace: "shop", uid: "u-1" },
    spec: { serviceAccount: "reviews", expiresAt, use },
  };
  expect(joinTokenKind.validate(object)).toEqual([]);
  await store.create(key, object);
  const issued = await tokens.issue({ namespace: "shop", serviceAccount: "reviews" }, seconds, {
    namespace: "shop",
    name: "reviews-1",
    uid: "u-1",
  });
  return issued.token.reveal();
}
const verdict = async (token: string, purpose: "api" | "certificate") => {
  const answer = await tokens.verify(token, purpose);
  return answer.ok ? "good" : answer.reason;
};

describe("a listed join token", () => {
  test("for once: one certificate, the API until it expires", async () => {
    const token = await give("Once");
    expect(await verdict(token, "api")).toBe("good");
    expect(await verdict(token, "certificate")).toBe("good");
    expect(await verdict(token, "certificate")).toContain("is good for one certificate and was used at");
    expect(await verdict(token, "api")).toBe("good");
    expect((await store.get(key))?.status).toMatchObject({ uses: 1 });
  });

  test("for once, shown by many at the same moment, serves one", async () => {
    const token = await give("Once");
    const answers = await Promise.all(Array.from({ length: 6 }, () => verdict(token, "certificate")));
    expect(answers.filter((answer) => answer === "good")).toHaveLength(1);
  });

  test("while the store fails it is neither good nor bad: that is said, and it is good afterwards", async () => {
    const token = await give("Once");
    const { get, update } = store;
    const away = () => Promise.reject(new StoreFailure("etcd does not answer"));
    store.get = away;
    for (const purpose of ["api", "certificate"] as const)
      expect(verdict(token, purpose)).rejects.toThrow(new StoreFailure("etcd does not answer"));
    store.get = get.bind(store);
    store.update = away;
    expect(verdict(token, "certificate")).rejects.toThrow("etcd does not answer");
    store.update = update.bind(store);
    expect(await verdict(token, "certificate")).toBe("good");
  });

  test("reusable: as often as it is asked for, and counted", async () => {
    const token = await give("Reusable", 20 * 86_400);
    for (let at = 0; at < 3; at++) expect(await verdict(token, "certificate")).toBe("good");
    expect((await store.get(key))?.status).toMatchObject({ uses: 3 });
  });

  test("revoked by deleting it, for everything, also when another of its name is made", async () => {
    const token = await give("Reusable");
    const object = await store.get(key);
    await store.delete(key, undefined);
    expect(await verdict(token, "api")).toContain("was revoked");
    await store.create(key, { ...object!, metadata: { ...object!.metadata, uid: "u-2" } });
    expect(await verdict(token, "certificate")).toContain("was revoked");
  });

  test("expires as the list says, if that is sooner than the token says; and is forgotten an hour later", async () => {
    const token = await give("Reusable");
    const object = (await store.get(key)) as JoinTokenObject;
    await store.update(
      key,
      {
        ...object,
        spec: { ...object.spec, expiresAt: new Date(clock.now() + 60_000).toISOString().replace(/\.\d+/, "") },
      } as JoinTokenObject,
      undefined,
    );
    clock.advance(61_000);
    expect(await verdict(token, "api")).toContain("expired at");
    clock.advance(2 * 3_600_000);
    const end = performance.now() + 2000;
    while ((await store.get(key)) !== undefined && performance.now() < end) await Bun.sleep(1);
    expect(await store.get(key)).toBeUndefined();
  });

  test("without a list to ask is not good; and may live longer than one that cannot be revoked", async () => {
    const token = await give("Reusable", 86_400 * 30);
    const answer = await openTokenAuthority(folder, "cluster.local", clock).verify(token);
    expect(answer).toMatchObject({ ok: false });
    await expect(tokens.issue({ namespace: "shop", serviceAccount: "x" }, 86_401)).rejects.toThrow(/86400/);
  });
});
