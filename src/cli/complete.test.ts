import { describe, expect, test } from "bun:test";
import { joined, wantedAt } from "./complete.ts";

const values = (words: string[]) => {
  const wanted = wantedAt(words);
  return wanted.from === "list" ? wanted.candidates.map((c) => c.value) : wanted;
};

describe("what may stand under the cursor", () => {
  test("verbs first", () => {
    expect(values([""])).toContain("apply");
    expect(values(["g"])).toContain("get");
  });

  test("flags of the verb, without those given already", () => {
    const flags = values(["get", "svc", "--watch", "--"]);
    expect(flags).toContain("--output");
    expect(flags).not.toContain("--watch");
    expect(values(["apply", "-f", "a", "--"])).toContain("--filename");
  });

  test.each([
    [["get", ""], { from: "live", operand: "kind", kind: undefined, prefix: "" }],
    [["get", "svc", ""], { from: "live", operand: "object", kind: "svc", prefix: "" }],
    [["get", "svc", "a", "-A", ""], { from: "live", operand: "object", kind: "svc", prefix: "" }],
    [["get", "svc/re"], { from: "live", operand: "object", kind: "svc", prefix: "svc/" }],
    [["get", "-n", ""], { from: "live", operand: "namespace", kind: undefined, prefix: "" }],
    [["get", "--namespace=sh"], { from: "live", operand: "namespace", kind: undefined, prefix: "" }],
    [["get", "-n", "shop", ""], { from: "live", operand: "kind", kind: undefined, prefix: "" }],
    [["run", "--service", ""], { from: "live", operand: "service", kind: undefined, prefix: "" }],
    [["apply", "-f", ""], { from: "files" }],
    [["run", "--service", "a", "--", "no"], { from: "files" }],
    [["version", ""], { from: "nothing" }],
    [["run", "--port", ""], { from: "nothing" }],
    [["frobnicate", ""], { from: "nothing" }],
  ])("%j", (words, wanted) => {
    expect(wantedAt(words)).toEqual(wanted as never);
  });

  test("fixed values", () => {
    expect(values(["get", "svc", "-o", ""])).toEqual(["table", "wide", "yaml", "json", "name"]);
    expect(values(["get", "svc", "--output=y"])).toEqual(["table", "wide", "yaml", "json", "name"]);
    expect(values(["completion", ""])).toEqual(["bash", "zsh", "fish"]);
    expect(values(["help", ""])).toContain("run");
  });
});

test("words that bash has split at = are put together", () => {
  expect(joined(["get", "--namespace", "=", "sh"])).toEqual(["get", "--namespace=sh"]);
  expect(joined(["get", "--namespace", "="])).toEqual(["get", "--namespace="]);
  expect(joined(["get", "=", "x"])).toEqual(["get", "=", "x"]);
});
