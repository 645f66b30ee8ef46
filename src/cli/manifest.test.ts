import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inOrder, readManifests, splitPath } from "./manifest.ts";

let dir = "";
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "weft-manifest-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const stdinOf = (text: string) => () => Promise.resolve(text);
const service = (name: string) => `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}}\nspec:\n  ports:\n  - {name: http, port: 80}\n`;

describe("readManifests", () => {
  test("several documents, empty ones between, JSON and lists", async () => {
    const text = `---\n${service("a")}---\n---\n{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Service","metadata":{"name":"b"}}]}\n`;
    const { manifests, faults } = await readManifests(["-"], stdinOf(text));
    expect(faults).toEqual([]);
    expect(manifests.map((m) => [m.object.metadata.name, m.file])).toEqual([
      ["a", "stdin"],
      ["b", "stdin"],
    ]);
  });

  test("a field is found at its line, a missing one at the nearest that is there", async () => {
    const { manifests } = await readManifests(["-"], stdinOf(`# first\n${service("a")}---\n${service("b")}`));
    const second = manifests[1];
    expect(second?.place()).toBe("stdin:9");
    expect(second?.place("spec.ports[0].port")).toBe("stdin:14");
    expect(second?.place("spec.ports[0].nothing.deeper")).toBe("stdin:14");
    expect(second?.place("spec.selector")).toBe("stdin:12");
  });

  test("malformed YAML: line, column and document; the other documents are read all the same", async () => {
    const { manifests, faults } = await readManifests(["-"], stdinOf(`${service("a")}---\nfoo: [1, 2\nbar: 3\n---\n${service("c")}`));
    expect(manifests.map((m) => m.object.metadata.name)).toEqual(["a", "c"]);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatch(/^stdin:\d+:\d+: not YAML: .*\(document 2\)$/);
  });

  test("a key twice is a fault, not a silent choice", async () => {
    const { faults } = await readManifests(["-"], stdinOf("apiVersion: v1\nkind: A\nkind: B\nmetadata: {name: x}\n"));
    expect(faults.join()).toContain("stdin:3:1: not YAML: Map keys must be unique");
  });

  test("everything that is missing is said at once", async () => {
    const { faults } = await readManifests(["-"], stdinOf("spec: {}\n---\njust words\n---\n- a\n"));
    expect(faults).toEqual([
      "stdin:1: apiVersion: is missing, for example v1 or gateway.networking.k8s.io/v1 (document 1)",
      "stdin:1: kind: is missing, for example Service (document 1)",
      "stdin:1: metadata: is missing, with the object's name in it (document 1)",
      'stdin:3:1: an object is a mapping with apiVersion, kind and metadata; this is "just words" (document 2)',
      "stdin:5:1: an object is a mapping with apiVersion, kind and metadata; this is a list (document 3)",
    ]);
  });

  test("a folder: its manifests by name, nothing else", async () => {
    writeFileSync(join(dir, "b.yaml"), service("b"));
    writeFileSync(join(dir, "a.json"), '{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}}');
    writeFileSync(join(dir, "notes.txt"), "not for weft");
    const { manifests } = await readManifests([dir], stdinOf(""));
    expect(manifests.map((m) => m.object.metadata.name)).toEqual(["a", "b"]);
  });

  test("sources that are not there, and nothing at all", async () => {
    await expect(readManifests([join(dir, "nope.yaml")], stdinOf(""))).rejects.toThrow(/there is no file or folder .*nope\.yaml/);
    await expect(readManifests(["-"], stdinOf("---\n# only a comment\n"))).rejects.toThrow("there is no object in -");
  });

  test("services go before what refers to them, otherwise the order of the file", async () => {
    const object = (kind: string, name: string) => `apiVersion: v1\nkind: ${kind}\nmetadata: {name: ${name}}\n---\n`;
    const text =
      object("HTTPRoute", "r1") +
      object("WorkloadEntry", "w") +
      object("HTTPRoute", "r2") +
      object("Service", "s") +
      object("Namespace", "n");
    const { manifests } = await readManifests(["-"], stdinOf(text));
    expect(inOrder(manifests).map((m) => m.object.metadata.name)).toEqual(["n", "s", "w", "r1", "r2"]);
  });
});

test("field paths", () => {
  expect(splitPath("spec.rules[0].matches[1].path")).toEqual(["spec", "rules", 0, "matches", 1, "path"]);
  expect(splitPath('metadata.labels["app.kubernetes.io/name"]')).toEqual(["metadata", "labels", "app.kubernetes.io/name"]);
});
