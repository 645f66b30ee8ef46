// Holds the rooms apart: which room may import which, and that the files ARCHITECTURE.md names exist.

import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

const root = resolve(import.meta.dir, "..");

/** For each room under src/, the rooms that it may import besides itself. Type-only imports count too. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  base: [],
  wire: ["base"],
  api: ["base", "wire"],
  compile: ["base", "wire", "api"],
  insight: ["base", "wire", "api"],
  control: ["base", "wire", "api", "compile", "insight"],
  proxy: ["base", "wire"],
  // The command line talks to the API over HTTP; `main.ts` alone starts the other processes. `weft validate` judges files with the compiler, which is pure.
  cli: ["base", "wire", "api", "compile"],
};

/** The hot path: own code that depends on nothing but Bun. `re2js` is for compiling patterns at configuration time. */
const hotPath = ["net", "tls", "tcp", "http", "http1", "route", "chain", "balance", "authz"];
const hotPathPackages = ["bun", "bun:ffi", "node:fs", "node:tls", "node:net", "re2js"];

const importPattern =
  /(?:^|\n)\s*(?:import|export)\s[^"';]*?from\s*["']([^"']+)["']|(?:^|\n)\s*import\s*["']([^"']+)["']|import\(\s*["']([^"']+)["']\s*\)/g;

function sourceFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

function importsOf(file: string): string[] {
  return [...readFileSync(file, "utf8").matchAll(importPattern)].map((match) => (match[1] ?? match[2] ?? match[3]) as string);
}

const roomOf = (file: string): string => relative(join(root, "src"), file).split("/")[0] as string;

describe("imports point one way", () => {
  for (const room of Object.keys(allowed)) {
    test(room, () => {
      const wrong: string[] = [];
      for (const file of sourceFiles(join(root, "src", room))) {
        for (const target of importsOf(file).filter((name) => name.startsWith("."))) {
          const to = roomOf(resolve(dirname(file), target));
          if (to !== room && !allowed[room]?.includes(to)) wrong.push(`${relative(root, file)} imports ${target}`);
        }
      }
      expect(wrong).toEqual([]);
    });
  }

  test("every room is in the table", () => {
    const rooms = readdirSync(join(root, "src"), { withFileTypes: true }).filter((entry) => entry.isDirectory());
    expect(rooms.map((entry) => entry.name).sort()).toEqual(Object.keys(allowed).sort());
  });

  test("the proxy's hot path depends on nothing but Bun", () => {
    const wrong: string[] = [];
    for (const room of hotPath) {
      for (const file of sourceFiles(join(root, "src", "proxy", room)).filter((name) => !name.endsWith(".test.ts"))) {
        for (const target of importsOf(file).filter((name) => !name.startsWith("."))) {
          if (!hotPathPackages.includes(target)) wrong.push(`${relative(root, file)} imports ${target}`);
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  test("the dashboard knows the API's types alone", () => {
    const wrong: string[] = [];
    // The development server is a tool beside the page: it serves what the control plane serves, so it takes the page from there.
    for (const file of sourceFiles(join(root, "ui")).filter((name) => !name.endsWith("/dev-server.ts"))) {
      for (const target of importsOf(file).filter((name) => name.startsWith("."))) {
        const to = relative(root, resolve(dirname(file), target));
        if (!to.startsWith("ui/") && !to.startsWith("src/api/")) wrong.push(`${relative(root, file)} imports ${target}`);
      }
    }
    expect(wrong).toEqual([]);
  });
});

test("the demo's shop imports nothing of Weft", () => {
  for (const file of sourceFiles(join(root, "demo", "shop"))) {
    expect(importsOf(file).filter((name) => name.startsWith("."))).toEqual([]);
  }
});

test("no room has an import cycle between its files", () => {
  const graph = new Map<string, string[]>();
  for (const file of sourceFiles(join(root, "src")).filter((name) => !name.includes("/wire/gen/"))) {
    const staticImports = [
      ...readFileSync(file, "utf8").matchAll(/(?:^|\n)\s*(?:import|export)\s(?!type\b)[^"';]*?from\s*["'](\.[^"']+)["']/g),
    ];
    graph.set(
      file,
      staticImports.map((match) => resolve(dirname(file), match[1] as string)),
    );
  }
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    const at = path.indexOf(file);
    if (at >= 0) cycles.push([...path.slice(at), file].map((name) => relative(root, name)).join(" -> "));
    if (at >= 0 || done.has(file)) return;
    for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  expect(cycles).toEqual([]);
});

test("ARCHITECTURE.md names files that exist", () => {
  const text = readFileSync(join(root, "ARCHITECTURE.md"), "utf8");
  const named = [...text.matchAll(/`((?:src|proto|demo|bench|test|ui|scripts|docs|bin|\.ci)\/[^`*\s]*)`/g)].map(
    (match) => match[1] as string,
  );
  expect(named.length).toBeGreaterThan(30);
  expect(named.filter((name) => !existsSync(join(root, name)))).toEqual([]);
});
