import { describe, expect, test } from "bun:test";
import { parse, parseDurationMs } from "./parse.ts";
import { allFlags, type VerbSpec } from "./spec.ts";
import { distance, suggestion } from "./suggest.ts";
import { verbNamed, verbs } from "./verbs.ts";

const get = verbNamed("get") as VerbSpec;
const run = verbNamed("run") as VerbSpec;
const apply = verbNamed("apply") as VerbSpec;

function fault(spec: VerbSpec, ...argv: string[]): string {
  try {
    parse(spec, argv);
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error(`${argv.join(" ")} was accepted`);
}

describe("flags", () => {
  test.each([
    [["svc", "-n", "shop"]],
    [["-n", "shop", "svc"]],
    [["svc", "-nshop"]],
    [["svc", "-n=shop"]],
    [["svc", "--namespace", "shop"]],
    [["svc", "--namespace=shop"]],
  ])("%j names the namespace", (argv) => {
    const parsed = parse(get, argv);
    expect(parsed.text("namespace")).toBe("shop");
    expect(parsed.operands).toEqual(["svc"]);
  });

  test("switches of one letter may stand together, the last with a value", () => {
    const parsed = parse(get, ["svc", "-Awo", "json"]);
    expect([parsed.on("all-namespaces"), parsed.on("watch"), parsed.text("output")]).toEqual([true, true, "json"]);
  });

  test("a repeated flag gathers, a single one is refused twice", () => {
    expect(parse(apply, ["-f", "a", "-f", "-", "--filename=c"]).list("filename")).toEqual(["a", "-", "c"]);
    expect(fault(get, "svc", "-n", "a", "-n", "b")).toBe('--namespace is given twice ("a" and "b"); it takes one value');
  });

  test("what follows -- is the command, untouched", () => {
    const parsed = parse(run, ["--service", "a", "--port", "1", "--", "node", "--port", "2", "--", "-h"]);
    expect(parsed.command).toEqual(["node", "--port", "2", "--", "-h"]);
    expect(parsed.integer("port", 1, 9)).toBe(1);
  });

  test("--help wins over other faults", () => {
    expect(parse(run, ["--nonsense", "--help"]).on("help")).toBe(true);
    expect(parse(get, ["-h"]).on("help")).toBe(true);
  });
});

describe("refusals name the word and the way out", () => {
  test.each([
    [run, ["--servce", "a", "--", "x"], "weft run has no flag --servce; did you mean --service?"],
    [get, ["svc", "-x"], "weft get has no flag -x"],
    [get, ["svc", "-watch"], "weft get has no flag -a; did you mean --watch?"],
    [get, ["svc", "-o", "jsn"], '--output takes table, wide, yaml, json, name, not "jsn"; did you mean json?'],
    [get, ["svc", "-n"], "-n needs a value: -n NAMESPACE"],
    [get, ["svc", "--namespace", "-A"], "--namespace needs a value: --namespace NAMESPACE"],
    [get, ["svc", "--watch=yes"], "--watch takes no value"],
    [get, [], "weft get needs KIND"],
    [run, ["--service", "a", "node", "x"], "put -- before the command: weft run [flags] -- node x"],
    [run, ["--service", "a", "--"], "weft run needs a command to start, after --"],
    [verbNamed("version") as VerbSpec, ["now"], 'weft version does not know what to do with "now"'],
  ])("%#", (spec, argv, message) => {
    expect(fault(spec, ...argv)).toBe(message);
  });

  test("numbers and times", () => {
    const parsed = parse(run, ["--port", "99999", "--wait", "soon", "--", "x"]);
    expect(() => parsed.integer("port", 1, 65535)).toThrow('--port takes a whole number from 1 to 65535, not "99999"');
    expect(() => parsed.durationMs("wait")).toThrow('not "soon"');
    expect(["30", "1.5", "500ms", "2m", "1h", "1d"].map(parseDurationMs)).toEqual([30_000, 1500, 500, 120_000, 3_600_000, 86_400_000]);
    expect(["", "-1", "1 s", "s", "1w"].map(parseDurationMs)).toEqual([undefined, undefined, undefined, undefined, undefined]);
  });
});

describe("suggestions", () => {
  test.each([
    ["gte", "get"],
    ["aply", "apply"],
    ["stauts", "status"],
    ["desc", "describe"],
  ])("%s -> %s", (word, meant) => {
    expect(
      suggestion(
        word,
        verbs.map((v) => v.name),
      ),
    ).toBe(meant);
  });

  test("nothing near, nothing said", () => {
    expect(
      suggestion(
        "frobnicate",
        verbs.map((v) => v.name),
      ),
    ).toBeUndefined();
    expect(distance("ab", "ba")).toBe(1);
  });
});

describe("the table of verbs", () => {
  test.each(verbs.map((v) => [v.name, v] as const))(
    "%s: flags are unique, every one is explained, examples start with weft",
    (_name, spec) => {
      const flags = allFlags(spec);
      expect(new Set(flags.map((f) => f.name)).size).toBe(flags.length);
      const letters = flags.flatMap((f) => f.short ?? []);
      expect(new Set(letters).size).toBe(letters.length);
      for (const flag of flags) expect(flag.help.length).toBeGreaterThan(5);
      for (const example of spec.examples) expect(example.command).toContain(`weft ${spec.name}`);
    },
  );

  test.each(verbs.flatMap((v) => v.examples.map((e) => [e.command, v] as const)))("example parses: %s", (command, spec) => {
    const own = command.split(/ (?:\||&&|>) /).find((part) => part.startsWith(`weft ${spec.name}`)) ?? command.replace(/^.*?(weft )/, "$1");
    const words = own
      .replace(/[<>()].*$/, "")
      .trim()
      .split(" ")
      .slice(2);
    expect(() => parse(spec, words)).not.toThrow();
  });
});
