import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Schema } from "../../api/schema.ts";
import { difference, emptySet, fromFieldsV1, intersection, pathsOf, sameSet, toFieldsV1, union } from "./set.ts";
import { compare, fieldsOf, merge, prune } from "./typed.ts";

const schema: Schema = {
  type: "object",
  properties: {
    replicas: { type: "integer" },
    atomic: { type: "array", items: { type: "string" } },
    tags: { type: "array", listType: "set", items: { type: "string" } },
    labels: { type: "object", additionalProperties: { type: "string" } },
    selector: { type: "object", mapType: "atomic", additionalProperties: { type: "string" } },
    ports: {
      type: "array",
      listType: "map",
      listMapKeys: ["port", "protocol"],
      items: {
        type: "object",
        properties: { port: { type: "integer" }, protocol: { type: "string", default: "TCP" }, name: { type: "string" } },
      },
    },
  },
};
const port = (number: number, name?: string, protocol?: string) => ({ port: number, ...(name && { name }), ...(protocol && { protocol }) });

describe("fields", () => {
  test("of a configuration: leaves, atomic lists and maps whole, items and keys each", () => {
    const value = { replicas: 1, atomic: ["a"], tags: ["x", "y"], labels: { a: "b" }, selector: { c: "d" }, ports: [port(80, "http")] };
    expect(pathsOf(fieldsOf(schema, value))).toEqual([
      ".atomic",
      ".labels.a",
      '.ports[port=80,protocol="TCP"]',
      '.ports[port=80,protocol="TCP"].name',
      '.ports[port=80,protocol="TCP"].port',
      ".replicas",
      ".selector",
      '.tags[="x"]',
      '.tags[="y"]',
    ]);
    expect(pathsOf(fieldsOf(schema, { labels: {} }))).toEqual([".labels"]);
    expect(pathsOf(fieldsOf(schema, { ports: [] }))).toEqual([]);
    // Two items with one key can only be owned together.
    expect(pathsOf(fieldsOf(schema, { ports: [port(80), port(80)] }))).toEqual([".ports"]);
    // Without a schema maps are granular, their keys owned themselves, and lists atomic.
    expect(pathsOf(fieldsOf(undefined, { a: { b: [1] } }))).toEqual([".a", ".a.b"]);
  });

  test("that differ: whatever comes or goes with all that is in it", () => {
    const before = { replicas: 1, labels: { a: "1", b: "1" }, ports: [port(80, "http"), port(81)], tags: ["x"] };
    const after = { replicas: 2, labels: { a: "1" }, ports: [port(80, "web"), port(82)], tags: ["x", "y"], selector: { q: "r" } };
    const { added, removed, modified } = compare(schema, before, after);
    expect(pathsOf(added)).toEqual(['.ports[port=82,protocol="TCP"]', '.ports[port=82,protocol="TCP"].port', ".selector", '.tags[="y"]']);
    expect(pathsOf(removed)).toEqual([".labels.b", '.ports[port=81,protocol="TCP"]', '.ports[port=81,protocol="TCP"].port']);
    expect(pathsOf(modified)).toEqual(['.ports[port=80,protocol="TCP"].name', ".replicas"]);
  });
});

describe("merging", () => {
  const merged = (live: number[], wanted: number[]) =>
    (
      merge(schema, { ports: live.map((each) => port(each)) }, { ports: wanted.map((each) => port(each)) }) as { ports: { port: number }[] }
    ).ports.map((each) => each.port);

  test("keeps the wanted order, and others' items where they are", () => {
    expect(merged([1, 2], [3])).toEqual([1, 2, 3]);
    expect(merged([1, 2, 3], [3, 1])).toEqual([2, 3, 1]);
    expect(merged([1, 2, 3], [1, 4, 3])).toEqual([1, 2, 4, 3]);
    expect(merged([], [2, 1])).toEqual([2, 1]);
    expect(merged([5, 1, 6, 2, 7], [2, 1])).toEqual([5, 6, 2, 7, 1]);
  });

  test("every item of both is there once, and the wanted ones in their order, whatever the lists", () => {
    const list = fc.uniqueArray(fc.integer({ min: 1, max: 8 }));
    fc.assert(
      fc.property(list, list, (live, wanted) => {
        const out = merged(live, wanted);
        expect([...out].sort()).toEqual([...new Set([...live, ...wanted])].sort());
        expect(out.filter((each) => wanted.includes(each))).toEqual(wanted);
        const others = live.filter((each) => !wanted.includes(each));
        expect(out.filter((each) => others.includes(each))).toEqual(others);
      }),
      { numRuns: 500 },
    );
  });

  test("replaces what is atomic and changes neither side", () => {
    const live = { atomic: ["a"], selector: { a: "1" }, labels: { a: "1" } };
    const kept = structuredClone(live);
    expect(merge(schema, live, { atomic: ["b"], selector: { b: "1" }, labels: { b: "1" } })).toEqual({
      atomic: ["b"],
      selector: { b: "1" },
      labels: { a: "1", b: "1" },
    });
    expect(live).toEqual(kept);
  });
});

test("pruning takes what only the last configuration owned, with what nobody owns in it", () => {
  const value = { replicas: 1, labels: { mine: "1", shared: "1", other: "1" }, ports: [{ ...port(80), targetPort: 80 }, port(81)] };
  const last = fieldsOf(schema, { replicas: 1, labels: { mine: "1", shared: "1" }, ports: [port(80)] });
  const owned = fieldsOf(schema, { labels: { shared: "1" }, ports: [port(81)] });
  expect(prune(schema, value, last, owned)).toEqual({ labels: { shared: "1", other: "1" }, ports: [port(81)] });
});

describe("sets", () => {
  const leaf = fc.constantFrom("f:a", "f:b", 'k:{"port":80}', 'v:"x"');
  const tree: fc.Arbitrary<Record<string, unknown>> = fc.letrec<{ node: Record<string, unknown> }>((tie) => ({
    node: fc.dictionary(leaf, fc.oneof({ maxDepth: 3 }, fc.constant({}), tie("node")), { maxKeys: 3 }),
  })).node;
  const set = tree.map((fields) => fromFieldsV1(fields) ?? emptySet);

  test("come back from FieldsV1 as they went", () => {
    fc.assert(fc.property(set, (each) => sameSet(fromFieldsV1(toFieldsV1(each)) ?? emptySet, each)));
    for (const wrong of [[], "x", 1, { spec: {} }, { "f:a": 1 }]) expect(fromFieldsV1(wrong)).toBeUndefined();
  });

  test("obey the laws of sets", () => {
    fc.assert(
      fc.property(set, set, (a, b) => {
        const [inA, inB] = [new Set(pathsOf(a)), new Set(pathsOf(b))];
        expect(new Set(pathsOf(union(a, b)))).toEqual(inA.union(inB));
        expect(new Set(pathsOf(difference(a, b)))).toEqual(inA.difference(inB));
        expect(new Set(pathsOf(intersection(a, b)))).toEqual(inA.intersection(inB));
      }),
    );
  });
});
