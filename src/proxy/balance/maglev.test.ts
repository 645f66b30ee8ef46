// A Maglev table that was changed, and changed again, is to the last place the one that would be made from nothing; whatever came and went.

import { expect, test } from "bun:test";
import type { Endpoint } from "./endpoint.ts";
import { isPrime, largestTable, Maglev } from "./maglev.ts";
import { Passed } from "./maglev-passed.ts";
import { inverseModulo, timesModulo } from "./maglev-permutation.ts";
import { Picks } from "./maglev-picks.ts";
import { makeCluster, seeded } from "./testing/simulate.ts";

const weightOf = (one: Endpoint): number => one.config.weight;
const ownersOf = (table: Maglev): string => Array.from({ length: table.size }, (_, place) => table.ownerAt(place).port).join();
/** Changes tables wherever it can. */
const always = { bytesEach: Number.POSITIVE_INFINITY, share: Number.POSITIVE_INFINITY };

const shapes: readonly (readonly [size: number, members: number, steps: number])[] = [
  [5, 3, 40],
  [11, 11, 40],
  [251, 3, 60],
  [251, 40, 60],
  [251, 300, 40],
  [1_021, 7, 40],
  [1_021, 200, 60],
  [1_021, 900, 60],
  [65_537, 300, 4],
  [65_537, 5_000, 12],
];

for (const [size, count, steps] of shapes)
  for (let seed = 1; seed <= (size > 2_000 ? 1 : 6); seed++)
    test(`${size} places, ${count} endpoints, come, gone, replaced, moved (seed ${seed})`, () => {
      const random = seeded(seed * 1_000 + count);
      const some = (below: number): number => Math.floor(random() * below);
      const spare = makeCluster(count + steps * 4, {}).cluster.endpoints;
      const table = new Maglev(always);
      let members: readonly Endpoint[] = spare.slice(0, count);
      table.update(members, weightOf, size);
      let next = count;
      let changed = 0;
      for (let step = 0; step < steps; step++) {
        const at = some(members.length);
        const many = 1 + some(3);
        const come = spare.slice(next, next + many);
        next += many;
        const kind = some(5);
        if (kind === 0) members = members.with(at, come[0] as Endpoint);
        else if (kind === 1) members = members.toSpliced(at, 0, ...come);
        else if (kind === 2 && members.length > many) members = members.toSpliced(at, many);
        else if (kind === 3) members = members.toSpliced(at, many, ...come);
        else members = [...members.slice(at), ...members.slice(0, at)];
        if (table.update(members, weightOf, size)) changed++;
        const fresh = new Maglev();
        expect(fresh.update(members, weightOf, size)).toBe(false);
        expect(ownersOf(table) === ownersOf(fresh)).toBe(true);
      }
      // Not by always making it from nothing.
      if (count >= 40) expect(changed).toBeGreaterThan(steps / 2);
    }, 60_000);

test("by itself, a large table is changed where little of it does, and made from nothing otherwise", () => {
  const spare = makeCluster(5_100, {}, (i) => ({ weight: i === 5_050 ? 2 : 1 })).cluster.endpoints;
  const members = spare.slice(0, 5_000);
  const table = new Maglev();
  const takes = (next: readonly Endpoint[]): boolean => {
    const changed = table.update(next, weightOf, 65_537);
    const fresh = new Maglev();
    fresh.update(next, weightOf, 65_537);
    expect(ownersOf(table) === ownersOf(fresh)).toBe(true);
    return changed;
  };
  const replaced = members.with(7, spare[5_000] as Endpoint);
  expect(takes(members)).toBe(false);
  expect(takes(replaced)).toBe(true);
  expect(takes([...replaced].reverse())).toBe(true);
  expect(takes(replaced.slice(1))).toBe(true);
  // Too much at once.
  expect(takes([...members.slice(50), ...spare.slice(5_000, 5_050)])).toBe(false);
  // One of twice the weight: the others are asked in every second round.
  expect(takes(members.with(9, spare[5_050] as Endpoint))).toBe(false);
  expect(takes(members.with(9, spare[5_051] as Endpoint))).toBe(false);
  expect(takes(members)).toBe(true);
  // Few endpoints: what changes need would take more memory than they are worth.
  expect(takes(members.slice(0, 1_000))).toBe(false);
  expect(takes(members.slice(1, 1_000))).toBe(false);
}, 60_000);

test("another size, and two endpoints of one address, make it from nothing", () => {
  const { endpoints } = makeCluster(60, {}).cluster;
  const twin = makeCluster(1, {}).cluster.endpoints[0] as Endpoint;
  const table = new Maglev(always);
  expect(table.update(endpoints.slice(0, 50), weightOf, 251)).toBe(false);
  expect(table.update(endpoints.slice(0, 50), weightOf, 241)).toBe(false);
  expect(table.size).toBe(241);
  expect(table.update(endpoints.slice(0, 51), weightOf, 241)).toBe(true);
  expect(table.update([...endpoints.slice(0, 51), twin], weightOf, 241)).toBe(false);
  expect(table.update([...endpoints.slice(0, 52), twin], weightOf, 241)).toBe(false);
  expect(table.update(endpoints.slice(0, 52), weightOf, 241)).toBe(false);
  const fresh = new Maglev();
  fresh.update(endpoints.slice(0, 52), weightOf, 241);
  expect(ownersOf(table)).toBe(ownersOf(fresh));
});

test("the example that maglev-picks.ts gives", () => {
  const [a, b, c] = [0, 1, 2];
  const owners = Int32Array.of(a, c, b, a, b);
  const ways = [
    { offset: 0, skip: 1 },
    { offset: 0, skip: 2 },
    { offset: 1, skip: 3 },
  ];
  const picks = new Picks(owners, Int32Array.of(a, b, c), ways);
  expect(picks.change([a], new Map(), Int32Array.of(b, c))).toBe(true);
  expect([...owners]).toEqual([b, c, b, b, c]);
  // Five picks of one are more than there is room for.
  expect(picks.change([b], new Map(), Int32Array.of(c))).toBe(false);
  expect([...owners]).toEqual([b, c, b, b, c]);
});

test("who has come to a place, also where there are more than there is room for", () => {
  const count = 40;
  const offsets = Int32Array.from({ length: count }, (_, id) => id % 7);
  const skips = Int32Array.from({ length: count }, (_, id) => 1 + (id % 6));
  const passed = new Passed(7, offsets, skips);
  const ways = new Int32Array(count);
  const random = seeded(3);
  for (let step = 0; step < 500; step++) {
    const id = Math.floor(random() * count);
    const way = Math.floor(random() * 8);
    if (way > (ways[id] as number)) passed.reach(id, way);
    else passed.retreat(id, way);
    ways[id] = way;
    for (let place = 0; place < 7; place++) {
      const many = passed.collect(place);
      const found = [...passed.found.subarray(0, many)];
      const wanted = [...ways.keys()].filter((one) =>
        Array.from({ length: ways[one] as number }, (_, at) => ((offsets[one] as number) + at * (skips[one] as number)) % 7).includes(
          place,
        ),
      );
      expect(found.sort((x, y) => x - y)).toEqual(wanted);
    }
  }
});

test("reckoning backwards along a way is exact in the largest table", () => {
  expect(isPrime(largestTable)).toBe(true);
  const random = seeded(1);
  for (const size of [2, 3, 251, 65_537, largestTable])
    for (let round = 0; round < 200; round++) {
      const skip = 1 + Math.floor(random() * (size - 1));
      const step = Math.floor(random() * size);
      const inverse = inverseModulo(skip, size);
      expect(timesModulo(skip, inverse, size)).toBe(1 % size);
      const place = timesModulo(step, skip, size);
      expect(BigInt(place)).toBe((BigInt(step) * BigInt(skip)) % BigInt(size));
      expect(timesModulo(place, inverse, size)).toBe(step);
    }
});
