import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { key, must, object, storeContract, until } from "./contract.ts";
import type { Keep } from "./keep.ts";
import { openSqliteStore } from "./sqlite.ts";
import { CompactedError, type Revision, StoreFailure } from "./store.ts";

storeContract("sqlite", async () => {
  const folder = mkdtempSync(join(tmpdir(), "weft-store-"));
  return {
    open: async () => openSqliteStore(join(folder, "weft.db")),
    openCopy: async (path) => openSqliteStore(path),
    destroy: async () => rmSync(folder, { recursive: true, force: true }),
  };
});

function inFolder(run: (folder: string) => Promise<void> | void): () => Promise<void> {
  return async () => {
    const folder = mkdtempSync(join(tmpdir(), "weft-store-"));
    try {
      await run(folder);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
}

function failureOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(StoreFailure);
    return (error as Error).message;
  }
  throw new Error("expected a StoreFailure");
}

describe("the SQLite file", () => {
  test(
    "is readable by its user alone",
    inFolder(async (folder) => {
      const path = join(folder, "weft.db");
      const store = openSqliteStore(path);
      must(await store.create(key("a"), object("a", 1)));
      expect(statSync(path).mode & 0o777).toBe(0o600);
      expect(statSync(`${path}-wal`).mode & 0o777).toBe(0o600);
      await store.close();
    }),
  );

  test(
    "that is no database at all is refused and left alone",
    inFolder((folder) => {
      const path = join(folder, "weft.db");
      writeFileSync(
        path,
        "these are my holiday notes, and there are more than a hundred bytes of them, so that SQLite reads a whole header\n".repeat(20),
      );
      const before = statSync(path);
      expect(failureOf(() => openSqliteStore(path))).toContain("is not an SQLite database");
      expect(statSync(path).size).toBe(before.size);
    }),
  );

  test(
    "of another program is refused and left alone",
    inFolder((folder) => {
      const path = join(folder, "weft.db");
      const foreign = new Database(path, { create: true });
      foreign.run("CREATE TABLE bookmarks (url TEXT)");
      foreign.close();
      expect(failureOf(() => openSqliteStore(path))).toContain("database of another program");
      const again = new Database(path);
      expect(again.query("SELECT name FROM sqlite_schema").all()).toEqual([{ name: "bookmarks" }]);
      again.close();
    }),
  );

  test(
    "of format 1 is taken over with its objects; its history begins anew",
    inFolder(async (folder) => {
      const path = join(folder, "weft.db");
      const old = new Database(path, { create: true });
      old.run(`CREATE TABLE history (revision INTEGER PRIMARY KEY, type TEXT NOT NULL, resource TEXT NOT NULL, namespace TEXT NOT NULL,
        name TEXT NOT NULL, body TEXT NOT NULL)`);
      old.run(`CREATE TABLE objects (resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL,
        PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID`);
      old.run("CREATE TABLE state (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL, oldest INTEGER NOT NULL)");
      old.run("INSERT INTO state VALUES (1, 3, 1)");
      const { resource, namespace } = key("a");
      const insert = old.prepare<unknown, [number, string, string, string, string]>("INSERT INTO history VALUES (?, 'added', ?, ?, ?, ?)");
      for (const [revision, name] of [
        [1, "a"],
        [2, "gone"],
        [3, "b"],
      ] as const)
        insert.run(revision, resource, namespace, name, JSON.stringify(object(name, revision)));
      old.run(`INSERT INTO objects VALUES ('${resource}', '${namespace}', 'a', 1), ('${resource}', '${namespace}', 'b', 3)`);
      old.run("PRAGMA application_id = 1466263156");
      old.run("PRAGMA user_version = 1");
      old.close();
      const store = openSqliteStore(path);
      expect((await store.listAll()).items.map((item) => item.key.name)).toEqual(["a", "b"]);
      expect(await store.revision()).toBe(3);
      await expect(store.watch(1, undefined, () => {})).rejects.toBeInstanceOf(CompactedError);
      expect((await store.listAt(3, resource)).items).toHaveLength(2);
      must(await store.update(key("a"), object("a", 9), 1));
      expect((await store.listAt(3, resource)).items.map((item) => item.spec)).toEqual([{ value: 1 }, { value: 3 }]);
      await store.close();
      expect((await openSqliteStore(path).listAll()).items).toHaveLength(2);
    }),
  );

  test(
    "of a newer format is refused, naming both formats",
    inFolder(async (folder) => {
      const path = join(folder, "weft.db");
      await openSqliteStore(path).close();
      const raw = new Database(path);
      raw.run("PRAGMA user_version = 7");
      raw.close();
      expect(failureOf(() => openSqliteStore(path))).toMatch(/store format 7; this version of Weft knows formats up to 3 only/);
    }),
  );

  test(
    "that is damaged is refused with a way out",
    inFolder(async (folder) => {
      const path = join(folder, "weft.db");
      const store = openSqliteStore(path);
      await Promise.all(Array.from({ length: 300 }, (_, at) => store.create(key(`n${at}`), object(`n${at}`, at))));
      await store.close();
      const bytes = Buffer.from(await Bun.file(path).arrayBuffer());
      bytes.fill(0xee, 4096, bytes.length - 4096);
      writeFileSync(path, bytes);
      expect(failureOf(() => openSqliteStore(path))).toMatch(/is damaged and was left as it is\. Put a copy of it back/);
    }),
  );

  test(
    "held by another process is refused",
    inFolder(async (folder) => {
      const path = join(folder, "weft.db");
      const store = openSqliteStore(path);
      const child = Bun.spawn({
        cmd: [process.execPath, join(import.meta.dir, "crash-writer.ts"), path, "0"],
        stdout: "pipe",
        stderr: "pipe",
      });
      expect(await child.exited).not.toBe(0);
      expect(await new Response(child.stderr).text()).toContain("is in use by another process");
      await store.close();
    }),
  );

  test("in a folder that does not exist is refused with a message", () => {
    expect(failureOf(() => openSqliteStore("/nonexistent/folder/weft.db"))).toContain("cannot be opened as a file");
  });
});

describe("history", () => {
  test(
    "is trimmed to the revisions asked for, on its own",
    inFolder(async (folder) => {
      const path = join(folder, "weft.db");
      const store = openSqliteStore(path, { keep: { revisions: 100 } });
      must(await store.create(key("first"), object("first", 1)));
      must(await store.create(key("busy"), object("busy", 0)));
      for (let round = 0; round < 12; round++) {
        await Promise.all(Array.from({ length: 100 }, (_, at) => store.update(key("busy"), object("busy", at), undefined)));
      }
      await expect(store.watch(1, undefined, () => {})).rejects.toBeInstanceOf(CompactedError);
      expect((await store.get(key("first")))?.spec).toEqual({ value: 1 });
      await store.close();
      const raw = new Database(path, { readonly: true });
      const rows = raw.query<{ n: number }, []>("SELECT count(*) AS n FROM history").get()?.n ?? 0;
      expect(rows).toBeLessThanOrEqual(310);
      raw.close();
    }),
  );

  test("does not count what is transient, up to a bound", async () => {
    const lease = { resource: "leases", namespace: "shop", name: "a" };
    const fill = async (keep: Keep) => {
      const store = openSqliteStore(":memory:", { keep: { ...keep, transient: new Set(["leases"]) } });
      must(await store.create(lease, object("a", 0)));
      must(await store.create(key("a"), object("a", 0)));
      // One in ten counts: 2, 12, 22, ...
      for (let at = 3; at <= 3000; at += 10) {
        const written = Array.from({ length: 10 }, (_, n) =>
          n === 9 ? store.update(key("a"), object("a", at), undefined) : store.update(lease, object("a", n), undefined),
        );
        for (const result of await Promise.all(written)) must(result);
      }
      const oldest = await store.oldest();
      const seen: Revision[] = [];
      const watch = await store.watch(oldest, undefined, ({ revision }) => seen.push(revision));
      await until(() => seen.length === 3002 - oldest);
      watch.stop();
      expect(seen).toEqual(Array.from({ length: 3002 - oldest }, (_, at) => oldest + 1 + at));
      expect((await store.listAt(oldest, "leases")).items.length).toBe(1);
      await store.close();
      return oldest;
    };
    // Trimmed at 3002 for the last time, with the group that reached 3000: 150 that count are 1512, 1522, ..., 3002.
    expect(await fill({ revisions: 150 })).toBe(1512);
    expect(await fill({ revisions: 150, all: 200 })).toBe(2803);
    expect(await fill({ revisions: 1000 })).toBe(1);
  });

  test("is not trimmed under a watch that is still reading it", async () => {
    const store = openSqliteStore(":memory:");
    must(await store.create(key("busy"), object("busy", 0)));
    await Promise.all(Array.from({ length: 1199 }, (_, at) => store.update(key("busy"), object("busy", at), undefined)));
    let seen = 0;
    const watch = await store.watch(0, undefined, () => seen++);
    await store.compact(1100);
    await until(() => seen === 1200);
    watch.stop();
    await store.compact(1100);
    await expect(store.watch(0, undefined, () => {})).rejects.toBeInstanceOf(CompactedError);
    await store.close();
  });

  test("a watcher that throws is reported and harms nobody else", async () => {
    const errors: unknown[] = [];
    const store = openSqliteStore(":memory:", { onError: (error) => errors.push(error) });
    const seen: string[] = [];
    await store.watch(0, undefined, () => {
      throw new Error("watcher broke");
    });
    await store.watch(0, undefined, (event) => seen.push(event.key.name));
    must(await store.create(key("a"), object("a", 1)));
    await until(() => seen.length === 1);
    expect((errors[0] as Error).message).toBe("watcher broke");
    await store.close();
  });

  test("watchers in this process have seen a write when its promise resolves", async () => {
    const store = openSqliteStore(":memory:");
    const seen: string[] = [];
    await store.watch(0, undefined, (event) => seen.push(event.key.name));
    must(await store.create(key("a"), object("a", 1)));
    must(await store.create(key("b"), object("b", 1)));
    expect(seen).toEqual(["a", "b"]);
    await store.close();
  });
});
