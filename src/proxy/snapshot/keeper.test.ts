// When snapshots are written, and what becomes of them on a disk that is full, a folder that is not ours alone, or beside another proxy.

import { afterEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PausedClock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import { type FolderError, SnapshotFolder } from "./folder.ts";
import type { Kept } from "./format.ts";
import { SnapshotKeeper } from "./keeper.ts";

const dirs: string[] = [];
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true });
});

function newDir(): string {
  const dir = mkdtempSync(join(tmpdir(), "weft-snapshot-"));
  dirs.push(dir);
  return join(dir, "kept");
}

const owner = { node: "n", trustDomain: "t" };
const of = (version: string, size = 10): Kept => ({
  resources: { cluster: [{ name: "a", version, bytes: new Uint8Array(size) }], endpoint: [], listener: [], route: [] },
  identity: null,
});

function open(dir: string) {
  const clock = new PausedClock();
  const metrics = new MetricRegistry();
  const said: string[] = [];
  const line = (fields: object, text: string): void => void said.push(`${text} ${JSON.stringify(fields)}`);
  const log = { debug() {}, info: line, warn: line, error: line } as unknown as Logger;
  const folder = new SnapshotFolder(dir);
  const keeper = new SnapshotKeeper({ clock, log, metrics, folder, owner, program: "p" });
  const value = (name: string, labels: string[] = []): number | undefined =>
    metrics
      .families()
      .find((family) => family.name === name)
      ?.series.filter((one) => one.labels.join() === labels.join())
      .map((one) => ("value" in one ? one.value : Number.NaN))[0];
  const writes = async (count: number): Promise<void> => {
    for (let n = 0; n < 400 && value("weft_snapshot_writes_total") !== count; n++) await Bun.sleep(5);
    expect(value("weft_snapshot_writes_total")).toBe(count);
  };
  ends.push(() => folder.release());
  return { clock, said, folder, keeper, value, writes };
}

describe("writing", () => {
  test("a burst is one write, at most one a second, and none of what has not changed", async () => {
    const { clock, keeper, writes, value, folder } = open(newDir());
    expect(folder.lock()).toBeUndefined();
    let now: Kept | null = of("1");
    keeper.keep(() => now);
    for (let n = 0; n < 50; n++) keeper.touch();
    clock.advance(99);
    expect(existsSync(join(folder.path, "snapshot"))).toBe(false);
    clock.advance(1);
    await writes(1);
    keeper.touch();
    clock.advance(5_000);
    await Bun.sleep(20);
    expect(value("weft_snapshot_writes_total")).toBe(1);
    now = of("2");
    keeper.touch();
    clock.advance(100);
    await writes(2);
    now = of("3");
    keeper.touch();
    clock.advance(800);
    await Bun.sleep(20);
    expect(value("weft_snapshot_writes_total")).toBe(2);
    clock.advance(300);
    await writes(3);
    expect(keeper.load()?.resources.cluster[0]?.version).toBe("3");
    clock.advance(7_000);
    expect(value("weft_snapshot_age_seconds")).toBe(7.1);
    expect(readdirSync(folder.path).sort()).toEqual(["lock", "snapshot"]);
    expect(statSync(join(folder.path, "snapshot")).mode & 0o777).toBe(0o600);
  });

  test("what is not whole is not written; an end writes what is left", async () => {
    const { clock, keeper, value, folder } = open(newDir());
    folder.lock();
    let now: Kept | null = null;
    keeper.keep(() => now);
    keeper.touch();
    clock.advance(3_000);
    await Bun.sleep(10);
    expect(value("weft_snapshot_writes_total")).toBe(0);
    now = of("1");
    await keeper.stop();
    expect(value("weft_snapshot_writes_total")).toBe(1);
    expect(folder.held).toBe(false);
  });

  test("what is too large is told, and what is on disk stays", async () => {
    const { clock, keeper, writes, value, said, folder } = open(newDir());
    folder.lock();
    let now = of("1");
    keeper.keep(() => now);
    keeper.touch();
    clock.advance(100);
    await writes(1);
    now = of("2", 64 * 1024 * 1024);
    keeper.touch();
    clock.advance(2_000);
    for (let n = 0; n < 200 && value("weft_snapshot_failures_total", ["too_large"]) === undefined; n++) await Bun.sleep(5);
    expect(value("weft_snapshot_failures_total", ["too_large"])).toBe(1);
    expect(said.join()).toContain("at most 67108864 are kept");
    expect(keeper.load()?.resources.cluster[0]?.version).toBe("1");
  });

  test.skipIf(process.getuid?.() !== 0 || Bun.which("mount") === null)(
    "a full disk: told once, the one before stays, and it goes on when there is room",
    async () => {
      const dir = newDir();
      mkdirSync(dir, { mode: 0o700 });
      if (Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", dir]).exitCode !== 0)
        return console.warn("no tmpfs can be mounted here");
      ends.push(() => Bun.spawnSync(["umount", "-l", dir]));
      const { clock, keeper, writes, value, said, folder } = open(dir);
      folder.lock();
      let now = of("1");
      keeper.keep(() => now);
      keeper.touch();
      clock.advance(100);
      await writes(1);
      now = of("2", 100_000);
      keeper.touch();
      for (let tries = 1; tries <= 2; tries++) {
        clock.advance(11_000);
        for (let n = 0; n < 200 && value("weft_snapshot_failures_total", ["disk_full"]) !== tries; n++) await Bun.sleep(5);
        expect(value("weft_snapshot_failures_total", ["disk_full"])).toBe(tries);
        await Bun.sleep(10);
      }
      expect(said.filter((line) => line.startsWith("The snapshot cannot be written; traffic is served on."))).toHaveLength(1);
      expect(keeper.load()?.resources.cluster[0]?.version).toBe("1");
      expect(readdirSync(dir).sort()).toEqual(["lock", "snapshot"]);
      now = of("3");
      clock.advance(11_000);
      await writes(2);
      expect(said.at(-1)).toContain("The snapshot can be written again.");
    },
  );
});

describe("what is there and not used", () => {
  const without = (file: string): string => {
    rmSync(file);
    return file;
  };
  const table: [string, (file: string) => void, string][] = [
    ["half a file", (file) => writeFileSync(file, readFileSync(file).subarray(0, 70)), "corrupt"],
    ["open to others", (file) => chmodSync(file, 0o644), "read"],
    ["a link", (file) => symlinkSync("/etc/passwd", without(file)), "read"],
    ["a folder", (file) => mkdirSync(without(file)), "read"],
  ];
  test.each(table)("%s", async (_name, change, reason) => {
    const { clock, keeper, writes, value, said, folder } = open(newDir());
    folder.lock();
    keeper.keep(() => of("1"));
    keeper.touch();
    clock.advance(100);
    await writes(1);
    change(join(folder.path, "snapshot"));
    expect(keeper.load()).toBeNull();
    expect(value("weft_snapshot_failures_total", [reason])).toBe(1);
    expect(said.at(-1)).toStartWith("The snapshot is not used; waiting for the control plane.");
  });

  test("another proxy's", async () => {
    const { clock, keeper, writes, folder } = open(newDir());
    folder.lock();
    keeper.keep(() => of("1"));
    keeper.touch();
    clock.advance(100);
    await writes(1);
    const metrics = new MetricRegistry();
    const said: object[] = [];
    const log = { debug() {}, info() {}, error() {}, warn: (fields: object) => said.push(fields) } as unknown as Logger;
    const other = new SnapshotKeeper({ clock, log, metrics, folder, owner: { ...owner, node: "m" }, program: "p" });
    expect(other.load()).toBeNull();
    expect(said).toEqual([{ folder: folder.path, reason: "foreign", problem: 'it is of node "n", and this proxy is "m"' }]);
  });
});

describe("the folder", () => {
  test("is one proxy's, and free again when that ends", () => {
    const dir = newDir();
    const [first, second] = [new SnapshotFolder(dir), new SnapshotFolder(dir)];
    expect([first.lock(), first.lock(), second.lock()]).toEqual([undefined, undefined, `process ${process.pid}`]);
    first.release();
    expect(second.lock()).toBeUndefined();
    second.release();
  });

  test("is refused when it is not this user's alone, or no folder", () => {
    const dir = newDir();
    mkdirSync(dir);
    chmodSync(dir, 0o770);
    expect(() => new SnapshotFolder(dir)).toThrow("is open to others (mode 0770): whoever may write there may configure this proxy");
    chmodSync(dir, 0o700);
    symlinkSync(dir, `${dir}-link`);
    expect(() => new SnapshotFolder(`${dir}-link`)).toThrow("is no folder (a link is not followed)");
    writeFileSync(`${dir}-file`, "");
    const made = (): FolderError | undefined => {
      try {
        new SnapshotFolder(`${dir}-file/below`);
      } catch (error) {
        return error as FolderError;
      }
      return undefined;
    };
    expect([made()?.fatal, made()?.message]).toEqual([false, expect.stringContaining("cannot be made")]);
  });
});
