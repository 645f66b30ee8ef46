// A bundle stands for the sources only while it is newer than every one of them.
import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "./base/root.ts";
import { type BundledCommand, bundledCommands, bundlePath, freshBundle, manifestPath } from "./bundled.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** A package with one source, older than its bundle. */
function made(bun: string = Bun.version): string {
  const root = mkdtempSync(join(tmpdir(), "weft-bundled-"));
  folders.push(root);
  mkdirSync(join(root, "src"));
  mkdirSync(join(root, "dist/proxy"), { recursive: true });
  writeFileSync(join(root, "src/a.ts"), "");
  utimesSync(join(root, "src/a.ts"), 1_000, 1_000);
  writeFileSync(bundlePath(root, "proxy"), "");
  writeFileSync(manifestPath(root, "proxy"), JSON.stringify({ bun, sources: ["src/a.ts"] }));
  return root;
}

describe("a bundle", () => {
  test("is used while it is newer than its sources", () => {
    const root = made();
    expect(freshBundle(root, "proxy")).toBe(join(root, "dist/proxy/proxy.js"));
    expect(freshBundle(root, "up")).toBeUndefined();
  });

  test("is not used once a source has changed or is gone, for another Bun, or with a broken manifest", () => {
    const changed = made();
    const later = Date.now() / 1000 + 5;
    utimesSync(join(changed, "src/a.ts"), later, later);
    expect(freshBundle(changed, "proxy")).toBeUndefined();
    const gone = made();
    unlinkSync(join(gone, "src/a.ts"));
    expect(freshBundle(gone, "proxy")).toBeUndefined();
    expect(freshBundle(made("0.0.1"), "proxy")).toBeUndefined();
    const broken = made();
    writeFileSync(manifestPath(broken, "proxy"), "{");
    expect(freshBundle(broken, "proxy")).toBeUndefined();
  });

  test("of this package lists every source of its command that it was made from", () => {
    const root = packageRoot();
    for (const command of Object.keys(bundledCommands) as BundledCommand[]) {
      const path = manifestPath(root, command);
      // Made by `npm ci`; a checkout that never ran it starts from its sources.
      if (!existsSync(path)) continue;
      const { sources } = JSON.parse(readFileSync(path, "utf8")) as { sources: string[] };
      expect(sources).toContain(bundledCommands[command]);
      expect(sources).toContain("package-lock.json");
      expect(sources.filter((source) => source.startsWith("node_modules/"))).toEqual([]);
    }
  });
});
