import { describe, expect, test } from "bun:test";
import type { KubeObject } from "../api/meta.ts";
import { lastAppliedAnnotation, remembered, threeWay, withMemory } from "./merge.ts";

function route(spec: unknown, extra: Partial<KubeObject["metadata"]> = {}): KubeObject {
  return { apiVersion: "x/v1", kind: "Route", metadata: { name: "r", namespace: "shop", ...extra }, spec };
}

/** What the server would hold after `wanted` was created, with `defaults` laid over by the server. */
function live(wanted: KubeObject, change: (object: KubeObject) => void = () => {}): KubeObject {
  const object = structuredClone(withMemory(remembered(wanted, "shop")));
  object.metadata.uid = "u";
  object.metadata.resourceVersion = "7";
  change(object);
  return object;
}

/** RFC 7396, for the tests: the patch has to do what it promises. */
function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = typeof target === "object" && target !== null && !Array.isArray(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merged(result[key], value);
  }
  return result;
}

describe("threeWay", () => {
  test("nothing changed: nothing to do, whatever the order of keys", () => {
    const now = live(route({ a: 1, b: { c: 2 } }));
    expect(threeWay(now, remembered(route({ b: { c: 2 }, a: 1 }), "shop"))).toBeUndefined();
  });

  test("server defaults are left alone, in lists too", () => {
    const now = live(route({ rules: [{ name: "a" }] }), (o) => {
      o.spec = { rules: [{ name: "a", weight: 1 }], type: "ClusterIP" };
    });
    expect(threeWay(now, remembered(route({ rules: [{ name: "a" }] }), "shop"))).toBeUndefined();
  });

  test("a field taken out of a list's item is a change, though the rest is covered", () => {
    const now = live(route({ rules: [{ name: "a", path: "/x" }] }));
    const patch = threeWay(now, remembered(route({ rules: [{ name: "a" }] }), "shop"));
    expect((merged(now, patch) as KubeObject).spec).toEqual({ rules: [{ name: "a" }] });
  });

  test("a field taken out of the file is removed, one that others set stays", () => {
    const now = live(route({ mine: 1, gone: { deep: true } }), (o) => {
      (o.spec as Record<string, unknown>).theirs = 5;
      o.metadata.labels = { theirs: "yes" };
    });
    const after = merged(now, threeWay(now, remembered(route({ mine: 2 }), "shop"))) as KubeObject;
    expect(after.spec).toEqual({ mine: 2, theirs: 5 });
    expect(after.metadata.labels).toEqual({ theirs: "yes" });
  });

  test("the last annotation and the last label taken out of the file are removed, those of others stay", () => {
    const now = live(route({ a: 1 }, { labels: { mine: "1" }, annotations: { mine: "1" } }), (o) => {
      o.metadata.labels = { ...o.metadata.labels, theirs: "2" };
      o.metadata.annotations = { ...o.metadata.annotations, theirs: "2" };
    });
    for (const metadata of [{}, { labels: {}, annotations: {} }]) {
      const wanted = remembered(route({ a: 1 }, metadata), "shop");
      const after = merged(now, threeWay(now, wanted)) as KubeObject;
      expect(after.metadata.labels).toEqual({ theirs: "2" });
      expect(after.metadata.annotations).toEqual({ theirs: "2", [lastAppliedAnnotation]: `${JSON.stringify(wanted)}\n` });
      expect(threeWay(after, wanted)).toBeUndefined();
    }
  });

  test("an object made without apply: only the memory is new", () => {
    const wanted = route({ a: 1 });
    const now = live(wanted, (o) => {
      delete o.metadata.annotations;
    });
    const patch = threeWay(now, remembered(wanted, "shop"));
    expect(Object.keys(patch ?? {})).toEqual(["metadata"]);
    expect((merged(now, patch) as KubeObject).metadata.annotations?.[lastAppliedAnnotation]).toContain('"a":1');
  });

  test("applying the outcome again is nothing to do", () => {
    const now = live(route({ a: 1, list: [1, 2] }));
    const wanted = remembered(route({ b: 2, list: [2] }), "shop");
    const after = merged(now, threeWay(now, wanted)) as KubeObject;
    expect(threeWay(after, wanted)).toBeUndefined();
  });

  test("what `get -o yaml` printed can be applied: status, uid and the memory itself are not remembered", () => {
    const now = live(route({ a: 1 }), (o) => {
      o.status = { conditions: [] };
    });
    expect(threeWay(now, remembered(now, "shop"))).toBeUndefined();
  });
});
