import { expect, test } from "bun:test";
import { RE2JS } from "re2js";
import { largestProgram } from "../../wire/expression.ts";
import { compileExpression, compileReplacer } from "./regex.ts";

const utf8 = new TextEncoder();

function matches(source: string, value: string, ignoreCase = false): boolean {
  const bytes = utf8.encode(`<${value}>`);
  return compileExpression(source, ignoreCase).matches(bytes, 1, bytes.length - 1);
}

test.each([
  ["/api/v[0-9]+", "/api/v12", true],
  ["/api/v[0-9]+", "/api/v12/x", false],
  ["^/a$", "/a", true],
  ["(?i)/FOO/(bar|baz)", "/foo/BAZ", true],
  ["a.c", "aäc", true],
  ["a.c", "a\u{1F600}c", true],
  ["a..c", "aäc", false],
  ["[à-ü]+", "äöü", true],
  ["\\bfoo\\b.*", "foo bar", true],
  ["\\bfoo\\b.*", "foobar", false],
  ["foo\\Bbar", "foobar", true],
  ["(?m)a$\n^b", "a\nb", true],
  ["(?s)a.b", "a\nb", true],
  ["a.b", "a\nb", false],
  ["", "", true],
  ["", "x", false],
  ["[[:alpha:]]{2,3}", "ab", true],
  ["[[:alpha:]]{2,3}", "abcd", false],
  ["\\p{Greek}+", "αβγ", true],
  ["(?i)k", "\u212A", true],
] as const)("%p against %p: %p", (source, value, expected) => {
  expect(matches(source, value)).toBe(expected);
});

test("bytes that are no UTF-8 match nothing, as in RE2", () => {
  const any = compileExpression("(?s).*", false);
  for (const bytes of [[0xff], [0xc3], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80], [0x61, 0x80]]) {
    expect(any.matches(Uint8Array.from(bytes), 0, bytes.length)).toBe(false);
  }
});

test("what every match begins with", () => {
  const prefix = (source: string) => compileExpression(source, false).prefix;
  expect(prefix("/api/v[0-9]+")).toBe("/api/v");
  expect(prefix("^/api/.*")).toBe("/api/");
  expect(prefix("/a(b|c)d")).toBe("/a");
  expect(prefix("/abc|/abd")).toBe("/ab");
  expect(prefix("(?i)/a")).toBe("/");
  expect(prefix("/a?")).toBe("/");
});

test("what is no RE2 syntax, looks behind or is too large is refused with a sentence", () => {
  expect(() => compileExpression("(", false)).toThrow("RE2 syntax");
  expect(() => compileExpression("a(?=b)", false)).toThrow("RE2 syntax");
  expect(() => compileExpression("(a)\\1", false)).toThrow("RE2 syntax");
  expect(() => compileExpression("(?<=a)b", false)).toThrow();
  expect(() => compileExpression("((a|bc){100}){10}", false)).toThrow(`more than ${largestProgram}`);
  expect(() => compileReplacer("((a|bc){100}){10}")).toThrow(`more than ${largestProgram}`);
});

test("re2js keeps the shape of program that is run here", () => {
  const inner = RE2JS.compile("^a(b+|[^c]).\\b").re2() as unknown as {
    prog: { start: number; inst: { op: number; out: number; arg: number }[] };
  };
  expect(inner.prog.start).toBeGreaterThan(0);
  expect(inner.prog.inst.map((one) => one.op).sort((a, b) => a - b)).toEqual([1, 1, 3, 3, 4, 4, 5, 6, 8, 9, 9, 11]);
});

test("patterns that stall backtracking engines take linear time", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["(a+)+$", `${"a".repeat(60_000)}!`],
    ["(a|aa)+", `${"a".repeat(60_000)}!`],
    ["(a|a?)+", `${"a".repeat(60_000)}!`],
    ["(.*a){20}", `${"a".repeat(60_000)}!\n`],
    ["(x+x+)+y", "x".repeat(60_000)],
    ["([a-zA-Z]+)*", `${"a".repeat(60_000)}!`],
    ["^(([a-z])+.)+[A-Z]([a-z])+$", "a".repeat(60_000)],
    ["(.*.*.*.*=.*)*x", "=".repeat(60_000)],
  ];
  for (const [source, value] of cases) {
    const expression = compileExpression(source, false);
    const bytes = utf8.encode(value);
    const began = performance.now();
    expect(expression.matches(bytes, 0, bytes.length)).toBe(false);
    expect(performance.now() - began).toBeLessThan(500);
  }
});

test("an expression with 2^100 states stays within its memory and linear", () => {
  const expression = compileExpression("(a|b)*a(a|b){100}", false);
  let value = "";
  for (let i = 0, x = 1; i < 8_000; i++) {
    x = (x * 1_103_515_245 + 12_345) & 0x7fff_ffff;
    value += (x & 0x1_0000) === 0 ? "a" : "b";
  }
  const cut = value.length - 101;
  const bytes = utf8.encode(value);
  const began = performance.now();
  for (let i = 0; i < 3; i++) expect(expression.matches(bytes, 0, bytes.length)).toBe(value[cut] === "a");
  expect(performance.now() - began).toBeLessThan(3_000);
});

test("agrees with re2js itself over random expressions and values", () => {
  let seed = 20_261_124;
  const next = (below: number): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const atoms = [
    "a",
    "b",
    ".",
    "[ab]",
    "[^a]",
    "ä",
    "\\w",
    "\\b",
    "\\B",
    "^",
    "$",
    "(?:a|bc)",
    "(b)",
    "\\n",
    " ",
    "(?m:^)",
    "(?m:$)",
    "(?i:A)",
  ];
  const suffixes = ["", "", "", "*", "+", "?", "{0,2}", "*?"];
  const letters = ["a", "b", "c", "ä", " ", "\n", "A", "_", "\u{1F600}"];
  for (let round = 0; round < 1_500; round++) {
    let source = "";
    for (let n = 1 + next(6); n > 0; n--) {
      const atom = atoms[next(atoms.length)] as string;
      source += /^(\\[bB]|[\^$])$/.test(atom) ? atom : atom + suffixes[next(suffixes.length)];
      if (next(8) === 0) source += "|";
    }
    const ours = compileExpression(source, false);
    const theirs = RE2JS.compile(source);
    for (let n = 0; n < 8; n++) {
      let value = "";
      for (let size = next(7); size > 0; size--) value += letters[next(letters.length)];
      const bytes = utf8.encode(value);
      const expected = theirs.matcher(value).matches();
      if (ours.matches(bytes, 0, bytes.length) !== expected)
        throw new Error(`${JSON.stringify(source)} against ${JSON.stringify(value)}: RE2 says ${expected}`);
      if (expected) expect(value.startsWith(ours.prefix)).toBe(true);
    }
  }
});
