import { expect, test } from "bun:test";
import { JoinedMap } from "../../compile/snapshot.ts";
import type { XdsResource } from "../../wire/xds-types.ts";
import { resource } from "./support.ts";
import { changedNames, versionOf } from "./versions.ts";

const map = (...names: string[]) =>
  new Map<string, XdsResource>(
    names.map((text) => [text.split("=")[0] as string, resource("cluster", ...(text.split("=") as [string, string]))]),
  );

test("a version stands for the content, whatever the order and however the map is put together", () => {
  const whole = versionOf(map("a=1", "b=2", "c=3"));
  expect(versionOf(map("c=3", "a=1", "b=2"))).toBe(whole);
  expect(versionOf(new JoinedMap(map("b=2"), map("a=1", "c=3")))).toBe(whole);
  for (const other of [map("a=1", "b=2"), map("a=1", "b=2", "c=4"), map("a=2", "b=1", "c=3"), map()])
    expect(versionOf(other)).not.toBe(whole);
});

test("changed names are the same for joined maps and plain ones, and nothing is changed in equal maps", () => {
  const cases: [string[], string[], string[], string[]][] = [
    [["a=1"], ["b=1", "c=1"], ["a=1"], ["b=2", "d=1"]],
    [["a=1"], ["b=1"], [], ["b=1"]],
    [[], [], ["a=1"], []],
    [["a=1"], ["b=1"], ["a=1"], ["b=1"]],
  ];
  for (const [a, b, c, d] of cases) {
    const joined = changedNames(new JoinedMap(map(...a), map(...b)), new JoinedMap(map(...c), map(...d)));
    expect([...joined].sort()).toEqual([...changedNames(map(...a, ...b), map(...c, ...d))].sort());
    expect([...joined].sort()).toEqual([...changedNames(new JoinedMap(map(...a), map(...b)), map(...c, ...d))].sort());
  }
});
