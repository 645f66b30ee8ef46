// Property: the order of the input does not show in the output.

import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import type { KubeObject } from "../api/meta.ts";
import { buildWorld, compileAll } from "./compile.ts";
import { mesh } from "./testing/arbitrary.ts";
import { fingerprint, objectsOf, violationsOf } from "./testing/objects.ts";

const folder = join(import.meta.dir, "testdata");

/** All golden cases as one mesh; names that stand in two cases are kept once. */
const goldens: readonly KubeObject[] = (() => {
  const byKey = new Map<string, KubeObject>();
  for (const name of readdirSync(folder).sort()) {
    for (const object of objectsOf(readFileSync(join(folder, name, "input.yaml"), "utf8")))
      byKey.set(`${object.kind} ${object.metadata.namespace} ${object.metadata.name}`, object);
  }
  return [...byKey.values()];
})();

function compiledText(objects: readonly KubeObject[]): string {
  return fingerprint(compileAll(buildWorld(objects, "cluster.local")));
}

describe("the compiler", () => {
  test("gives the same bytes for the goldens in any order", () => {
    const wanted = compiledText(goldens);
    fc.assert(
      fc.property(fc.shuffledSubarray([...goldens], { minLength: goldens.length }), (shuffled) => {
        expect(compiledText(shuffled)).toBe(wanted);
      }),
      { numRuns: 6 },
    );
  }, 60_000);

  test("gives the same bytes for any mesh in any order, and never an open snapshot", () => {
    fc.assert(
      fc.property(
        mesh.chain((objects) => fc.tuple(fc.constant(objects), fc.shuffledSubarray(objects, { minLength: objects.length }))),
        ([objects, shuffled]) => {
          for (const object of objects) expect(violationsOf(object)).toEqual([]);
          expect(compiledText(shuffled)).toBe(compiledText(objects));
        },
      ),
      { numRuns: 40 },
    );
  }, 60_000);

  test("leaves its input alone", () => {
    const before = JSON.stringify(goldens);
    compiledText(goldens);
    expect(JSON.stringify(goldens)).toBe(before);
  });
});
