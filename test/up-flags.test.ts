// Judges that the words of help and the parser of `weft up`, which stand in two rooms, name the same flags.

import { expect, test } from "bun:test";
import { verbs } from "../src/cli/verbs.ts";
import { parseOptions, usage } from "../src/control/options.ts";

test("weft up's help has each flag that it takes, and takes each that help has", () => {
  const up = verbs.find((v) => v.name === "up");
  const said = up?.flags.map((f) => f.name) ?? [];
  for (const name of said) expect(usage).toContain(`--${name}`);
  let known = "";
  try {
    parseOptions(["--no-such-flag", "x"], {});
  } catch (cause) {
    known = String(cause);
  }
  const taken = [...known.slice(known.indexOf("it knows")).matchAll(/--([a-z-]+)/g)].map(([, name]) => name as string);
  expect(taken.length).toBeGreaterThan(10);
  expect(said.toSorted()).toEqual(taken.toSorted());
});
