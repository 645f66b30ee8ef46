import { describe, expect, test } from "bun:test";
import { StreamTable } from "./stream-table.ts";

describe("a table of streams", () => {
  test("holds what a Map would, whatever comes and goes", () => {
    const table = new StreamTable<string>();
    const model = new Map<number, string>();
    let seed = 7;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((seed / 0x1_0000_0000) * below);
    };
    for (let step = 0; step < 20_000; step++) {
      // Numbers that fall together, as a hostile peer would pick them, among those in order.
      const id = step % 3 === 0 ? 1 + 512 * random(40) : 1 + 2 * random(120);
      if (model.has(id)) {
        expect(table.get(id)).toBe(model.get(id) as string);
        expect(table.delete(id)).toBe(true);
        model.delete(id);
      } else {
        expect([table.get(id), table.delete(id)]).toEqual([null, false]);
        if (model.size < 100) {
          table.add(id, `stream ${id}`);
          model.set(id, `stream ${id}`);
        }
      }
      expect(table.size).toBe(model.size);
    }
    expect(table.list().sort()).toEqual([...model.values()].sort());
    for (const id of model.keys()) expect(table.get(id)).toBe(`stream ${id}`);
  });

  test("the largest numbers, and none", () => {
    const table = new StreamTable<number>();
    expect([table.get(1), table.delete(1), table.list()]).toEqual([null, false, []]);
    table.add(0x7fff_ffff, 1);
    table.add(0x7fff_fffd, 2);
    expect([table.get(0x7fff_ffff), table.get(0x7fff_fffd), table.get(1)]).toEqual([1, 2, null]);
  });
});
