import { describe, expect, test } from "bun:test";
import { jsonPatch } from "./patch-json.ts";
import { mergePatch } from "./patch-merge.ts";
import { strategicKeysOf, strategicMergePatch } from "./patch-strategic.ts";

describe("merge patch (RFC 7396, appendix A)", () => {
  test.each<[unknown, unknown, unknown]>([
    [{ a: "b" }, { a: "c" }, { a: "c" }],
    [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }],
    [{ a: "b" }, { a: null }, {}],
    [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
    [{ a: ["b"] }, { a: "c" }, { a: "c" }],
    [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
    [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
    [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
    [
      ["a", "b"],
      ["c", "d"],
      ["c", "d"],
    ],
    [{ a: "b" }, ["c"], ["c"]],
    [{ a: "foo" }, null, null],
    [{ a: "foo" }, "bar", "bar"],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: "b", c: null }, { a: "b" }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ])("%j with %j is %j", (target, patch, expected) => {
    const before = JSON.stringify(target);
    expect(mergePatch(target, patch)).toEqual(expected);
    expect(JSON.stringify(target)).toBe(before);
  });
});

describe("JSON patch (RFC 6902, appendix A)", () => {
  test.each<[string, unknown, unknown[], unknown]>([
    ["adding a member", { foo: "bar" }, [{ op: "add", path: "/baz", value: "qux" }], { foo: "bar", baz: "qux" }],
    ["adding an element", { foo: ["bar", "baz"] }, [{ op: "add", path: "/foo/1", value: "qux" }], { foo: ["bar", "qux", "baz"] }],
    ["removing a member", { baz: "qux", foo: "bar" }, [{ op: "remove", path: "/baz" }], { foo: "bar" }],
    ["removing an element", { foo: [1, 2, 3] }, [{ op: "remove", path: "/foo/1" }], { foo: [1, 3] }],
    ["replacing", { baz: "qux", foo: "bar" }, [{ op: "replace", path: "/baz", value: "boo" }], { baz: "boo", foo: "bar" }],
    ["replacing an element", { foo: [1, 2, 3] }, [{ op: "replace", path: "/foo/1", value: 9 }], { foo: [1, 9, 3] }],
    [
      "moving",
      { foo: { bar: "baz", waldo: "fred" }, qux: {} },
      [{ op: "move", from: "/foo/waldo", path: "/qux/thud" }],
      { foo: { bar: "baz" }, qux: { thud: "fred" } },
    ],
    ["moving an element", { foo: [1, 2, 3, 4] }, [{ op: "move", from: "/foo/1", path: "/foo/3" }], { foo: [1, 3, 4, 2] }],
    [
      "copying",
      { a: [1] },
      [
        { op: "copy", from: "/a", path: "/b" },
        { op: "add", path: "/b/-", value: 2 },
      ],
      { a: [1], b: [1, 2] },
    ],
    ["testing", { baz: "qux", foo: ["a", 2] }, [{ op: "test", path: "/foo/1", value: 2 }], { baz: "qux", foo: ["a", 2] }],
    [
      "escapes",
      { "/": 9, "~1": 10 },
      [
        { op: "test", path: "/~01", value: 10 },
        { op: "remove", path: "/~1" },
      ],
      { "~1": 10 },
    ],
    ["the whole document", { a: 1 }, [{ op: "replace", path: "", value: { b: 2 } }], { b: 2 }],
    ["adding null", { a: 1 }, [{ op: "add", path: "/b", value: null }], { a: 1, b: null }],
  ])("%s", (_what, target, patch, expected) => {
    const before = JSON.stringify(target);
    expect(jsonPatch(target, patch)).toEqual(expected);
    expect(JSON.stringify(target)).toBe(before);
  });

  test.each<[string, unknown, RegExp]>([
    ["a missing parent", [{ op: "add", path: "/b/c", value: 1 }], /operation 0: there is nothing at "\/b"/],
    ["a missing target", [{ op: "remove", path: "/b" }], /there is nothing at "\/b"/],
    ["an inherited name", [{ op: "test", path: "/toString", value: 1 }], /there is nothing at/],
    ["an index beyond the end", [{ op: "add", path: "/a/5", value: 1 }], /"5" is no index of "\/a": the list has 4 places, counted from 0/],
    ["a leading zero", [{ op: "remove", path: "/a/01" }], /"01" is no index/],
    ["the end as a source", [{ op: "remove", path: "/a/-" }], /"-" is no index/],
    ["a failed test", [{ op: "test", path: "/a", value: [1] }], /is not the one tested for/],
    ["1 is not true", [{ op: "test", path: "/a/0", value: true }], /is not the one tested for/],
    ["no value", [{ op: "add", path: "/b" }], /has no "value"/],
    ["no such operation", [{ op: "spam", path: "/a" }], /"spam" is not an operation/],
    ["a move into itself", [{ op: "move", from: "/o", path: "/o/x" }], /into itself/],
    ["a pointer without slash", [{ op: "add", path: "b", value: 1 }], /is not a JSON pointer/],
    ["a prototype", [{ op: "add", path: "/__proto__/x", value: 1 }], /no field name/],
    ["no list", { op: "add" }, /is a list of operations/],
    ["removing everything", [{ op: "remove", path: "" }], /cannot be removed by a patch/],
  ])("refuses %s", (_what, patch, message) => {
    expect(() => jsonPatch({ a: [1, 2, 3], o: {} }, patch)).toThrow(message);
  });
});

describe("strategic merge patch", () => {
  const keys = strategicKeysOf("services") ?? {};
  const port = (number: number, name: string, more = {}) => ({ port: number, name, ...more });
  const service = (...ports: unknown[]) => ({
    metadata: { labels: { a: "1" }, finalizers: ["x"] },
    spec: { ports, selector: { app: "a", tier: "b" }, externalIPs: ["1.1.1.1"] },
  });

  test.each<[string, unknown, unknown]>([
    ["ports merge by their number", { spec: { ports: [port(80, "web")] } }, { ports: [port(80, "web", { targetPort: 1 }), port(81, "b")] }],
    [
      "a new port is added",
      { spec: { ports: [port(82, "c")] } },
      { ports: [port(80, "a", { targetPort: 1 }), port(81, "b"), port(82, "c")] },
    ],
    ["a port is deleted", { spec: { ports: [{ port: 80, $patch: "delete" }] } }, { ports: [port(81, "b")] }],
    ["the list is replaced", { spec: { ports: [port(90, "z"), { $patch: "replace" }] } }, { ports: [port(90, "z")] }],
    ["a port's field is removed", { spec: { ports: [{ port: 80, targetPort: null }] } }, { ports: [port(80, "a"), port(81, "b")] }],
    [
      "the order is the client's",
      { spec: { $setElementOrder_ports: 0, "$setElementOrder/ports": [{ port: 82 }, { port: 81 }, { port: 80 }], ports: [port(82, "c")] } },
      undefined,
    ],
    ["other lists are replaced", { spec: { externalIPs: ["2.2.2.2"] } }, { externalIPs: ["2.2.2.2"] }],
    ["maps merge", { spec: { selector: { tier: null, x: "y" } } }, { selector: { app: "a", x: "y" } }],
    ["a map is replaced", { spec: { selector: { $patch: "replace", x: "y" } } }, { selector: { x: "y" } }],
    ["a map is deleted", { spec: { selector: { $patch: "delete" } } }, { selector: undefined }],
    [
      "only some keys are kept",
      { spec: { $retainKeys: ["selector"], selector: { z: "1" } } },
      { ports: undefined, externalIPs: undefined, selector: { app: "a", tier: "b", z: "1" } },
    ],
  ])("%s", (what, patch, expected) => {
    const target = service(port(80, "a", { targetPort: 1 }), port(81, "b"));
    const before = JSON.stringify(target);
    if (expected === undefined) {
      expect(() => strategicMergePatch(target, patch, keys)).toThrow(/no known directive/);
      return;
    }
    const merged = strategicMergePatch(target, patch, keys) as typeof target;
    for (const [name, value] of Object.entries(expected as object))
      expect([what, (merged.spec as Record<string, unknown>)[name]]).toEqual([what, value]);
    expect(JSON.stringify(target)).toBe(before);
  });

  test("order: named items as named, items of others stay where they are", () => {
    const target = service(port(1, "a"), port(2, "b"), port(3, "c"));
    const patch = { spec: { "$setElementOrder/ports": [{ port: 4 }, { port: 3 }, { port: 1 }], ports: [port(4, "d")] } };
    const merged = strategicMergePatch(target, patch, keys) as { spec: { ports: { port: number }[] } };
    expect(merged.spec.ports.map((each) => each.port)).toEqual([4, 2, 3, 1]);
    const orderOnly = strategicMergePatch(
      target,
      { spec: { "$setElementOrder/ports": [{ port: 3 }, { port: 2 }, { port: 1 }] } },
      keys,
    ) as typeof merged;
    expect(orderOnly.spec.ports.map((each) => each.port)).toEqual([3, 2, 1]);
  });

  test("sets of scalars: added once, deleted by name", () => {
    const target = service();
    expect(strategicMergePatch(target, { metadata: { finalizers: ["x", "y"] } }, keys)).toMatchObject({
      metadata: { finalizers: ["x", "y"] },
    });
    expect(strategicMergePatch(target, { metadata: { "$deleteFromPrimitiveList/finalizers": ["x"] } }, keys)).toMatchObject({
      metadata: { finalizers: [] },
    });
  });

  test.each<[unknown, RegExp]>([
    [{ spec: { ports: [{ name: "x" }] } }, /an item of spec\.ports lacks its merge key "port"/],
    [{ spec: { $patch: "smash" } }, /\$patch at spec is "smash"/],
    [{ spec: { $retainKeys: "x" } }, /\$retainKeys at spec is not a list/],
    [{ spec: { "$deleteFromPrimitiveList/ports": [1] } }, /does not belong at spec/],
    [{ $frobnicate: 1 }, /\$frobnicate at the top is no known directive/],
    [[], /is an object/],
  ])("refuses %j", (patch, message) => {
    expect(() => strategicMergePatch(service(), patch, keys)).toThrow(message);
  });
});
