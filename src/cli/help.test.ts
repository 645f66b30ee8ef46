import { expect, test } from "bun:test";
import { overview, sections } from "./help.ts";
import { verbs } from "./verbs.ts";

test("the overview shows every verb once, and no other", () => {
  const shown = sections.flatMap(([, names]) => names);
  expect(shown.toSorted()).toEqual(verbs.map((v) => v.name).toSorted());
  const text = overview(verbs, false, 80);
  for (const verb of verbs) expect(text).toContain(`\n  ${verb.name} `);
});
