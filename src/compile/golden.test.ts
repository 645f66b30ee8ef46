// Goldens: one folder a case in testdata/, `input.yaml` and one JSON file a workload plus statuses.json.
// Rewrite them after a wanted change with `WEFT_UPDATE_GOLDENS=1 bun test src/compile/golden.test.ts`, and read the difference.

import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { kindOf } from "../api/kinds.ts";
import type { KubeObject } from "../api/meta.ts";
import { buildWorld, compileAll } from "./compile.ts";
import { snapshotToJson } from "./decode.ts";

const update = process.env.WEFT_UPDATE_GOLDENS === "1";
const folder = join(import.meta.dir, "testdata");

describe("goldens (rewrite with: WEFT_UPDATE_GOLDENS=1 bun test src/compile/golden.test.ts)", () => {
  for (const name of readdirSync(folder).sort()) {
    test(name, () => {
      const path = join(folder, name);
      const objects = parseAllDocuments(readFileSync(join(path, "input.yaml"), "utf8")).map((document) => document.toJS() as KubeObject);
      for (const object of objects) {
        const kind = kindOf(object);
        kind?.applyDefaults(object);
        expect(kind?.validate(object), `${object.kind} ${object.metadata.name}`).toEqual([]);
      }
      const { snapshots, statuses } = compileAll(buildWorld(objects, "cluster.local"));
      const made = new Map<string, string>();
      for (const [key, snapshot] of snapshots) made.set(`${key.replace("/", ".")}.json`, pretty(snapshotToJson(snapshot)));
      made.set("statuses.json", pretty(statuses));

      const files = readdirSync(path).filter((file) => file !== "input.yaml");
      if (update) {
        for (const file of files) if (!made.has(file)) rmSync(join(path, file));
        for (const [file, text] of made) writeFileSync(join(path, file), text);
      }
      for (const file of files.filter((each) => existsSync(join(path, each))))
        expect(made.has(file), `${name}/${file} is no longer made`).toBe(true);
      for (const [file, text] of made) {
        const golden = join(path, file);
        expect(existsSync(golden) ? readFileSync(golden, "utf8") : "(no such golden)", `${name}/${file}`).toBe(text);
      }
    });
  }
});

function pretty(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
