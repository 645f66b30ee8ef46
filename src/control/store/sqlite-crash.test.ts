import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { key, must, object } from "./contract.ts";
import { openSqliteStore } from "./sqlite.ts";
import { StoreFailure } from "./store.ts";

interface Acknowledged {
  readonly verb: string;
  readonly at: number;
  readonly revision: number;
}

/** Runs the writer, kills it with SIGKILL `afterMs` after its first line, and returns every line it got out, newest per name. */
async function writeAndKill(path: string, first: number, afterMs: number): Promise<Map<string, Acknowledged>> {
  const child = Bun.spawn({
    cmd: [process.execPath, join(import.meta.dir, "crash-writer.ts"), path, String(first)],
    stdout: "pipe",
    stderr: "inherit",
  });
  const newest = new Map<string, Acknowledged>();
  let rest = "";
  let started = false;
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout) {
    if (!started) {
      started = true;
      setTimeout(() => child.kill("SIGKILL"), afterMs);
    }
    const lines = (rest + decoder.decode(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [verb = "", name = "", at = "", revision = ""] = line.split(" ");
      if (name !== "") newest.set(name, { verb, at: Number(at), revision: Number(revision) });
    }
  }
  await child.exited;
  return newest;
}

describe("kill -9", () => {
  test("at any moment loses no acknowledged write and leaves no half one", async () => {
    const folder = mkdtempSync(join(tmpdir(), "weft-crash-"));
    const path = join(folder, "weft.db");
    try {
      let first = 0;
      let acknowledgedWrites = 0;
      for (let round = 0; round < 8; round++) {
        const acknowledged = await writeAndKill(path, first, 5 + Math.random() * 120);
        const store = openSqliteStore(path);
        const revision = await store.revision();
        for (const [name, ack] of acknowledged) {
          acknowledgedWrites++;
          expect(ack.revision).toBeLessThanOrEqual(revision);
          first = Math.max(first, ack.at + 1);
          const now = await store.get({ resource: "httproutes", namespace: "crash", name });
          if (now === undefined) {
            // Gone as acknowledged, or by the one write of this lane that may have been committed but not yet acknowledged.
            expect(ack.verb === "gone" || (ack.at + 5) % 11 === 0).toBe(true);
            continue;
          }
          const written = Number(now.metadata.resourceVersion);
          expect(written).toBeGreaterThanOrEqual(ack.revision);
          if (written > ack.revision) {
            expect((now.spec as { at: number }).at).toBe(ack.at + 5);
            continue;
          }
          expect(ack.verb).toBe("put");
          expect(now.metadata.resourceVersion).toBe(String(ack.revision));
          expect(now.spec).toEqual({ at: ack.at, filler: "x".repeat((ack.at * 37) % 3000) });
        }
        const all = await store.listAll();
        for (const item of all.items) {
          const spec = item.object.spec as { at: number; filler: string };
          expect(spec.filler).toHaveLength((spec.at * 37) % 3000);
        }
        must(await store.create(key(`after-${round}`), { ...object(`after-${round}`, round), spec: { at: 0, filler: "" } }));
        await store.close();
      }
      expect(acknowledgedWrites).toBeGreaterThan(20);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }, 30_000);
});

describe("a full disk", () => {
  const root = process.getuid?.() === 0;
  if (!root)
    console.warn("skipped: the full-disk test mounts a small tmpfs, which only root may do; run `sudo bun test src/control/store`");

  test.skipIf(!root)("refuses the write with a clear message, keeps what was there, and works again once space is freed", async () => {
    const folder = mkdtempSync(join(tmpdir(), "weft-full-"));
    const mount = Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]);
    if (mount.exitCode !== 0) {
      console.warn(`skipped: tmpfs cannot be mounted here: ${mount.stderr.toString().trim()}`);
      rmSync(folder, { recursive: true, force: true });
      return;
    }
    try {
      const path = join(folder, "weft.db");
      let store = openSqliteStore(path);
      must(await store.create(key("small"), object("small", 1)));
      writeFileSync(join(folder, "ballast"), new Uint8Array(1_200_000));
      const kept: string[] = [];
      let failed: unknown;
      for (let at = 0; at < 100 && failed === undefined; at++) {
        const filler = { ...object(`n${at}`, at), spec: { text: "x".repeat(40_000) } };
        try {
          must(await store.create(key(`n${at}`), filler));
          kept.push(`n${at}`);
        } catch (error) {
          failed = error;
        }
      }
      expect(failed).toBeInstanceOf(StoreFailure);
      expect((failed as Error).message).toMatch(/the disk that holds .*weft\.db is full; nothing was written\. Free some space/);
      expect(kept.length).toBeGreaterThan(2);

      // Reading goes on, and nothing of the failed write is to be seen.
      const names = async () => new Set((await store.list(key("").resource)).items.map((item) => item.metadata.name));
      const expected = new Set(["small", ...kept]);
      expect(await names()).toEqual(expected);
      const revision = await store.revision();
      expect(revision).toBe(expected.size);

      rmSync(join(folder, "ballast"));
      const again = must(await store.create(key("again"), object("again", 1)));
      expect(again.revision).toBe(revision + 1);
      await store.close();
      store = openSqliteStore(path);
      expect(await names()).toEqual(new Set([...expected, "again"]));
      await store.close();

      // A start on a full disk is told as clearly.
      writeFileSync(join(folder, "ballast2"), new Uint8Array(100_000));
      try {
        writeFileSync(join(folder, "ballast3"), new Uint8Array(4_000_000));
      } catch {
        // Full, as meant.
      }
      expect(() => openSqliteStore(join(folder, "second.db"))).toThrow(/is full; nothing was written/);
    } finally {
      // Lazily: after a failure the store is still open.
      Bun.spawnSync(["umount", "-l", folder]);
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
