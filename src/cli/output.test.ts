import { describe, expect, test } from "bun:test";
import { age, milliseconds, percent, short, table, toYaml } from "./output.ts";
import { mayColour } from "./terminal.ts";

describe("table", () => {
  test("pads to the widest cell and leaves no blanks at the end", () => {
    expect(
      table(
        ["NAME", "AGE"],
        [
          ["a", "1s"],
          ["long-name", ""],
        ],
        false,
      ),
    ).toBe("NAME        AGE\na           1s\nlong-name\n");
  });

  test("a column whose cells all stand right has its head there too; wide characters count as two", () => {
    const rows = [
      [
        { text: "日本", right: false },
        { text: "5", right: true },
      ],
      ["ab", { text: "1234", right: true }],
    ];
    expect(table(["N", "RATE"], rows, false)).toBe("N      RATE\n日本      5\nab     1234\n");
  });

  test("cut to the terminal: the widest column gives", () => {
    const text = table(["NAME", "MESSAGE"], [["a", "a long message that does not fit"]], false, { columns: 30, drop: [] });
    expect(text).toBe("NAME   MESSAGE\na      a long message that do…\n");
    for (const line of text.split("\n")) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(30);
  });

  test("left out before anything is cut, in the order given", () => {
    const rows = [["name-1", "value-22", "agent-33"]];
    const at = (columns: number) => table(["A", "B", "C"], rows, false, { columns, drop: ["C", "B"] }).split("\n")[1];
    expect([at(28), at(27), at(16), at(10)]).toEqual(["name-1   value-22   agent-33", "name-1   value-22", "name-1", "name-1"]);
  });

  test("colours wrap the cell and not the padding", () => {
    expect(table(["A", "B"], [[{ text: "x", tone: "red" }, "y"]], true)).toContain("\u001b[31mx\u001b[0m   y");
  });
});

test.each([
  [0, "0s"],
  [119_000, "119s"],
  [192_000, "3m12s"],
  [3_600_000, "60m"],
  [4 * 3_600_000 + 600_000, "4h10m"],
  [52 * 3_600_000, "2d4h"],
  [12 * 86_400_000, "12d"],
])("age of %d ms is %s", (ms, text) => {
  expect(age(ms)).toBe(text);
});

test("percent never rounds to all or nothing", () => {
  expect([1, 0, 0.999999, 0.000001, 0.975, null].map(percent)).toEqual(["100%", "0%", "99.99%", "0.0%", "97.5%", "-"]);
});

test("milliseconds and rates", () => {
  expect([0.123, 1.26, 45.4, 1200, null].map(milliseconds)).toEqual(["0.12 ms", "1.3 ms", "45 ms", "1.20 s", "-"]);
  expect([0, 0.04, 3.14, 250.4, 12_345].map(short)).toEqual(["0", "0.04", "3.1", "250", "12.3k"]);
});

test("yaml keeps a certificate readable", async () => {
  expect(await toYaml({ ca: "-----BEGIN\nabc\n" })).toBe("ca: |\n  -----BEGIN\n  abc\n");
});

test("colour: only on a terminal, never with NO_COLOR, always with CLICOLOR_FORCE", () => {
  expect(mayColour(true, {})).toBe(true);
  expect(mayColour(false, {})).toBe(false);
  expect(mayColour(true, { NO_COLOR: "1" })).toBe(false);
  expect(mayColour(true, { NO_COLOR: "" })).toBe(true);
  expect(mayColour(true, { TERM: "dumb" })).toBe(false);
  expect(mayColour(false, { CLICOLOR_FORCE: "1" })).toBe(true);
});
