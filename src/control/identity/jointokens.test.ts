import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type JoinTokenObject, joinTokenKind } from "../../api/kinds/jointoken.ts";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { type Store, StoreFailure } from "../store/store.ts";
import { askAgainMs, JoinTokenList } from "./jointokens.ts";
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
  tokens = openTokenAuthority(
    folder,
    "cluster.local",
    clock,
    (...asked) => list.check(...asked),
    undefined,
    (binding) => list.whyNoMore(binding),
  );
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
const verdict = async (token: string, purpose: "api" | "certificate", keySha256?: string) => {
  const answer = await tokens.verify(token, purpose, keySha256);
  return answer.ok ? "good" : answer.reason;
};

async function until(met: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 5_000;
  while (!(await met())) {
    if (performance.now() > end) throw new Error("not within 5 s");
    await Bun.sleep(1);
  }
}

describe("a listed join token", () => {
  test("for once: one certificate, the API until it expires", async () => {
    const token = await give("Once");
    expect(await verdict(token, "api")).toBe("good");
    expect(await verdict(token, "certificate")).toBe("good");
    expect(await verdict(token, "certificate")).toContain("is good for one certificate and was used at");
    expect(await verdict(token, "api")).toBe("good");
    expect((await store.get(key))?.status).toMatchObject({ uses: 1 });
  });

  test("for once: the key that it was used for may ask again for a while, another may not", async () => {
    const token = await give("Once", 86_400);
    expect(await verdict(token, "certificate", "a1")).toBe("good");
    expect((await store.get(key))?.status).toMatchObject({ uses: 1, keySha256: "a1" });
    expect(await verdict(token, "certificate", "a1")).toBe("good");
    expect(await verdict(token, "certificate", "b2")).toContain("is good for one certificate and was used at");
    expect(await verdict(token, "certificate")).toContain("was used at");
    clock.advance(askAgainMs - 2_000);
    expect(await verdict(token, "certificate", "a1")).toBe("good");
    clock.advance(4_000);
    expect(await verdict(token, "certificate", "a1")).toContain("was used at");
    expect((await store.get(key))?.status).toMatchObject({ uses: 1 });
  });

  test("for once, when the store answers that it failed though it wrote: the same key gets its certificate, another none", async () => {
    const token = await give("Once");
    const update = store.update.bind(store);
    store.update = async (...args) => {
      await update(...args);
      throw new StoreFailure("etcd does not answer");
    };
    expect(verdict(token, "certificate", "a1")).rejects.toThrow("etcd does not answer");
    store.update = update;
    expect(await verdict(token, "certificate", "b2")).toContain("was used at");
    expect(await verdict(token, "certificate", "a1")).toBe("good");
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

  test("what is open by it is told when it is revoked, and not when it has had its time", async () => {
    await list.follow();
    let heard = 0;
    list.onRevoked(() => {
      heard++;
    });
    const token = await give("Reusable");
    const open = await tokens.verify(token);
    const why = () => (open.ok ? open.whyNoMore() : "no");
    await verdict(token, "certificate");
    expect([why(), heard]).toEqual([undefined, 0]);
    await store.delete(key, undefined);
    expect([why(), heard]).toEqual([expect.stringContaining("reviews-1 was revoked"), 1]);
    // Remembered for as long as it would have been listed, and no longer.
    clock.advance(2 * 3_600_000 + 400_000);
    expect(why()).toBeUndefined();

    const old = await give("Reusable");
    const expired = await tokens.verify(old);
    clock.advance(3_600_000 + 3_600_000 + 400_000);
    await until(async () => (await store.get(key)) === undefined);
    expect([expired.ok && expired.whyNoMore(), heard]).toEqual([undefined, 1]);
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
