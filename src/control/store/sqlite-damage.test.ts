// Bytes of the file that somebody else overwrites while it is in use: each answer is right, or says that the file is damaged and how to go on.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, cpSync, mkdtempSync, openSync, rmSync, statSync, truncateSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KubeObject } from "../../api/meta.ts";
import { key, must } from "./contract.ts";
import { type FileStore, openSqliteStore } from "./sqlite.ts";
import { type StoreEvent, StoreFailure } from "./store.ts";

setDefaultTimeout(60_000);

const words = /weft\.db is damaged and was left as it is\. .*weft restore FILE --data FOLDER/;
const count = 150;
const routes = key("x").resource;

/** Larger than what SQLite keeps of the file in memory. */
function large(at: number, round: number): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Thing",
    metadata: { name: `n${at}`, namespace: "shop" },
    spec: { value: at * 1000 + round, fill: `${at}.${round}.`.repeat(3_000) },
  };
}

const revisionOf = (object: KubeObject | undefined) => Number(object?.metadata.resourceVersion);

async function filled(path: string): Promise<{ store: FileStore; model: Map<string, KubeObject>; history: KubeObject[] }> {
  const store = openSqliteStore(path);
  const model = new Map<string, KubeObject>();
  const history: KubeObject[] = [];
  for (const round of [1, 2]) {
    const results = await Promise.all(
      Array.from({ length: count }, (_, at) => {
        const object = large(at, round);
        return round === 1 ? store.create(key(`n${at}`), object) : store.update(key(`n${at}`), object, undefined);
      }),
    );
    for (const result of results) {
      const { object } = must(result);
      model.set(object.metadata.name, object);
      history[revisionOf(object)] = object;
    }
  }
  return { store, model, history };
}

/** What a read answers, or that it failed in the words for the user. Anything else is thrown. */
async function orDamage<T>(read: Promise<T>): Promise<T | "damaged"> {
  try {
    return await read;
  } catch (error) {
    expect(error).toBeInstanceOf(StoreFailure);
    expect((error as Error).message).toMatch(words);
    return "damaged";
  }
}

function overwrite(path: string, from: number, bytes: Uint8Array): void {
  const fd = openSync(path, "r+");
  writeSync(fd, bytes, 0, bytes.length, from);
  closeSync(fd);
}

/** The same numbers each time. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

describe("a file that is damaged while it is in use", () => {
  test("never gives a wrong answer, wherever the damage is", async () => {
    let found = 0;
    for (let round = 0; round < 16; round++) {
      const folder = mkdtempSync(join(tmpdir(), "weft-damage-"));
      const path = join(folder, "weft.db");
      const { store, model, history } = await filled(path);
      const random = numbers(round + 1);
      const target = round % 4 === 3 ? `${path}-wal` : path;
      const size = statSync(target).size;
      if (round === 15) truncateSync(path, Math.floor(statSync(path).size / 2));
      else {
        const length = Math.min(size, [64, 4_096, 65_536, 1 << 20][round % 4] as number);
        const bytes = new Uint8Array(length).map(() => (round % 2 === 0 ? random() * 256 : 0));
        // Several places, so that some of them are not in memory.
        for (let n = 0; n < (length < 8_192 ? 24 : 2); n++) overwrite(target, Math.floor(random() * (size - length)), bytes);
      }
      const said: string[] = [];
      for (const [name, object] of model) {
        const got = await orDamage(store.get(key(name)));
        if (got !== "damaged") expect(got).toEqual(object);
        else said.push(name);
      }
      const list = await orDamage(store.list(routes));
      if (list !== "damaged") expect(new Map(list.items.map((item) => [item.metadata.name, item]))).toEqual(model);
      const all = await orDamage(store.listAll());
      if (all !== "damaged") expect(all.items.length).toBe(count);
      const past = await orDamage(store.history({ resource: routes, limit: 1_000 }));
      if (past !== "damaged") for (const entry of past) expect(entry.object).toEqual(history[entry.revision] as KubeObject);
      // A watch brings what was written, in order, or stops before the damage.
      const events: StoreEvent[] = [];
      const watch = await store.watch(0, routes, (event) => events.push(event));
      for (let quiet = 0, before = -1; quiet < 3; quiet = events.length === before ? quiet + 1 : 0) {
        before = events.length;
        await new Promise((resolve) => setImmediate(resolve));
      }
      watch.stop();
      expect(events.map((event) => event.revision)).toEqual(events.map((_, at) => at + 1));
      for (const event of events) expect(event.object).toEqual(history[event.revision] as KubeObject);
      for (let n = 0; n < 2 * count; n++) store.look();
      if (store.damage !== undefined) {
        found++;
        expect(store.damage).toMatch(words);
        expect(await orDamage(store.create(key("later"), large(0, 3)))).toBe("damaged");
        expect(await orDamage(store.transact([{ verb: "delete", key: key("n1"), expected: undefined }]))).toBe("damaged");
        expect(await orDamage(store.backup(join(folder, "copy")))).toBe("damaged");
      } else expect(said).toEqual([]);
      await store.close().catch(() => undefined);
      rmSync(folder, { recursive: true, force: true });
    }
    // Damage that hits nothing but what is in memory, or free pages, need not be seen; most is.
    expect(found).toBeGreaterThanOrEqual(10);
  });

  test("is noticed though nobody reads, and told of once", async () => {
    const folder = mkdtempSync(join(tmpdir(), "weft-damage-"));
    const path = join(folder, "weft.db");
    await (await filled(path)).store.close();
    const copy = join(folder, "again", "weft.db");
    cpSync(path, copy);
    const told: string[] = [];
    const store = openSqliteStore(copy, { onDamage: (why) => told.push(why) });
    expect((await store.list(routes)).items.length).toBe(count);
    for (let n = 0; n < 100; n++) store.look();
    expect(store.damage).toBeUndefined();
    const size = statSync(copy).size;
    // The text of many rows, none of SQLite's own structures: nothing but a checksum sees it.
    const before = Buffer.from("fill");
    const bytes = Buffer.from(await Bun.file(copy).arrayBuffer());
    let changed = 0;
    for (let at = bytes.indexOf(before, size / 4); at !== -1 && at < (size * 3) / 4; at = bytes.indexOf(before, at + 1), changed++)
      overwrite(copy, at, Buffer.from("film"));
    expect(changed).toBeGreaterThan(20);
    for (let n = 0; n < 100; n++) store.look();
    expect(told.length).toBe(1);
    expect(told[0]).toMatch(words);
    expect(told[0]).toMatch(/the row of revision \d+ is not the one that was written/);
    await store.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test("what is trimmed is forgotten, and what was rolled back", async () => {
    const store = openSqliteStore(":memory:", { keep: { revisions: 10 } });
    for (let round = 0; round < 60; round++)
      await Promise.all(
        Array.from({ length: 20 }, (_, at) =>
          round === 0 ? store.create(key(`n${at}`), large(at, 0)) : store.update(key(`n${at}`), large(at, round), undefined),
        ),
      );
    expect(await store.oldest()).toBeGreaterThan(900);
    const refused = await store.transact([
      { verb: "update", key: key("n1"), object: large(1, 99), expected: undefined },
      { verb: "create", key: key("n2"), object: large(2, 99) },
    ]);
    expect(refused).toMatchObject({ ok: false, reason: "exists" });
    must(await store.delete(key("n3"), undefined));
    for (let n = 0; n < 100; n++) store.look();
    expect((await store.list(routes)).items.length).toBe(19);
    expect(store.damage).toBeUndefined();
    await store.close();
  });
});
