// What the published kinds say of their fields in words stands at fields that there are. Those of a Gateway's listeners once stood under
// spec.addresses[], so that `kubectl explain` had nothing to say of them.

import { expect, test } from "bun:test";
import { kinds } from "./kinds.ts";
import type { Schema } from "./schema.ts";
import words from "./schemas/words.json" with { type: "json" };

function has(schema: Schema | undefined, path: string): boolean {
  if (path === "" || schema === undefined) return schema !== undefined;
  // What is kept as it is, and what has names of its own.
  if (Object.keys(schema.properties ?? {}).length === 0) return true;
  const [, name = "", rest = ""] = /^([^.[\]]+)(?:\[\])?\.?(.*)$/.exec(path) ?? [];
  const child = schema.properties?.[name];
  return has(child?.type === "array" ? (child.items ?? child) : child, rest);
}

for (const [kind, told] of Object.entries(words))
  test(`words of ${kind} are of its fields`, () => {
    const found = kinds.find((each) => each.kind === kind);
    // Of what is refused, or kept and not looked at, the schema does not know all.
    const apart = [...Object.keys(found?.unimplemented ?? {}), ...(found?.definedBy.informational ?? [])];
    const strange = Object.keys(told).filter((path) => !has(found?.schema, path) && !apart.some((each) => path.startsWith(each)));
    expect(strange).toEqual([]);
  });
