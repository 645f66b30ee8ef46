import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

// What may not be called in the rooms of the hot path, and why (rules 3 and 8).
const banned: readonly { readonly pattern: RegExp; readonly why: string; readonly except?: readonly string[] }[] = [
  { pattern: /\basync\b|\bawait\b/, why: "the hot path is synchronous" },
  { pattern: /\bnew (Headers|Request|Response|URL|AbortController|Promise)\b/, why: "costs more than the whole request" },
  { pattern: /\bsetTimeout\b|\bsetInterval\b/, why: "deadlines are fields against one tick" },
  { pattern: /\bDate\.now\b|\bperformance\.now\b|\bMath\.random\b/, why: "effects come in by parameter" },
  {
    pattern: /\bprocess\.|\bconsole\./,
    why: "effects come in by parameter",
    except: ["net/libc.ts", "net/original-dst.ts"],
  },
  {
    pattern: /\bJSON\./,
    why: "configuration time only",
    except: ["runtime/stage-state.ts", "runtime/apply.ts", "runtime/build.ts", "route/edit.ts"],
  },
];

const rooms = ["net", "tls", "tcp", "http", "http1", "route", "chain", "balance", "resilience", "authz", "runtime"];

test("no banned call in the rooms of the hot path", () => {
  const found: string[] = [];
  for (const room of rooms) {
    for (const name of readdirSync(join(import.meta.dir, room))) {
      if (!name.endsWith(".ts") || name.endsWith(".test.ts")) continue;
      const path = `${room}/${name}`;
      const code = readFileSync(join(import.meta.dir, path), "utf8").replaceAll(/\/\/.*|\/\*[\s\S]*?\*\//g, "");
      for (const rule of banned)
        if (rule.pattern.test(code) && !rule.except?.includes(path)) found.push(`${path}: ${rule.pattern} (${rule.why})`);
    }
  }
  expect(found).toEqual([]);
});

test("the hot path depends on nothing but Bun, its base, and one expression engine", () => {
  const found: string[] = [];
  for (const room of rooms) {
    for (const name of readdirSync(join(import.meta.dir, room))) {
      if (!name.endsWith(".ts") || name.endsWith(".test.ts")) continue;
      const code = readFileSync(join(import.meta.dir, room, name), "utf8");
      for (const [, target] of code.matchAll(/from "([^"]+)"/g)) if (!target?.startsWith(".")) found.push(`${room}/${name}: ${target}`);
    }
  }
  expect(found).toEqual([]);
});
