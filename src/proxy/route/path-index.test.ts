import { expect, test } from "bun:test";
import { latin1 } from "../http/bytes.ts";
import { candidates, makePathIndex } from "./path-index.ts";

function lookUp(beginnings: readonly string[], path: string): readonly string[] {
  const index = makePathIndex(
    // Enough others that the tree is used.
    [...beginnings, ...Array.from({ length: 20 }, (_, n) => `~${n}`)].map((text, n) => `${n}:${text}`),
    (route) => route.slice(route.indexOf(":") + 1),
  );
  const bytes = latin1(`..${path}`);
  return candidates(index, bytes, 2, bytes.length).filter((route) => !route.includes("~"));
}

test("lists what can match, in the order of the configuration", () => {
  const routes = ["/b", "/", "/a/b", "/a", "", "/ab", "/a/b/c"];
  expect(lookUp(routes, "/a/b/x")).toEqual(["1:/", "2:/a/b", "3:/a", "4:"]);
  expect(lookUp(routes, "/a/b/c")).toEqual(["1:/", "2:/a/b", "3:/a", "4:", "6:/a/b/c"]);
  expect(lookUp(routes, "/abc")).toEqual(["1:/", "3:/a", "4:", "5:/ab"]);
  expect(lookUp(routes, "/")).toEqual(["1:/", "4:"]);
  expect(lookUp(routes, "*")).toEqual(["4:"]);
  expect(lookUp(routes, "")).toEqual(["4:"]);
});

test("agrees with a walk over all beginnings, whatever they are", () => {
  let seed = 7;
  const next = (below: number): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const word = (size: number): string => Array.from({ length: size }, () => "/ab"[next(3)]).join("");
  for (let round = 0; round < 300; round++) {
    const beginnings = Array.from({ length: 1 + next(20) }, () => word(next(6)));
    for (let n = 0; n < 20; n++) {
      const path = word(next(9));
      const got = lookUp(beginnings, path).filter((route) => path.startsWith(route.slice(route.indexOf(":") + 1)));
      expect(got).toEqual(beginnings.map((text, at) => `${at}:${text}`).filter((_, at) => path.startsWith(beginnings[at] as string)));
    }
  }
});

test("beginnings that lie within each other by the hundred fall back to the list", () => {
  const nested = Array.from({ length: 500 }, (_, n) => `/${"a".repeat(n)}`);
  expect(makePathIndex(nested, (text) => text).root).toBeNull();
  const flat = Array.from({ length: 500 }, (_, n) => `/${n}/`);
  expect(makePathIndex(flat, (text) => text).root).not.toBeNull();
});
