import { expect, test } from "bun:test";
import fc from "fast-check";
import { unified } from "./difference.ts";

test("same texts differ in nothing; a change stands between three lines of what surrounds it", () => {
  expect(unified("a\nb\n", "a\nb\n")).toEqual([]);
  const lines = Array.from({ length: 20 }, (_, at) => `line ${at}`);
  const after = lines.map((line, at) => (at === 10 ? "changed" : line));
  expect(unified(lines.join("\n"), after.join("\n"))).toEqual([
    "@@ -8 +8 @@",
    " line 7",
    " line 8",
    " line 9",
    "-line 10",
    "+changed",
    " line 11",
    " line 12",
    " line 13",
  ]);
  expect(unified("", "new\n")).toEqual(["@@ -1 +1 @@", "+new"]);
  expect(unified("old\n", "")).toEqual(["@@ -1 +1 @@", "-old"]);
});

test("what is taken away and added makes one text into the other", () => {
  const text = fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 12 });
  fc.assert(
    fc.property(text, text, (before, after) => {
      const lines = unified(before.map((line) => `${line}\n`).join(""), after.map((line) => `${line}\n`).join(""));
      const count = (marks: string, letter: string) => lines.filter((line) => marks.includes(line[0]!) && line.slice(1) === letter).length;
      for (const letter of ["a", "b", "c"]) {
        const grown = after.filter((line) => line === letter).length - before.filter((line) => line === letter).length;
        expect(count("+", letter) - count("-", letter)).toBe(grown);
      }
    }),
  );
});
