// A ring that was changed, and changed again, is the ring that would be made anew; whatever came and went.

import { expect, test } from "bun:test";
import type { Endpoint } from "./endpoint.ts";
import { Ring } from "./ring.ts";
import { makeCluster, seeded } from "./testing/simulate.ts";

const keysOf = (ring: Ring): readonly string[] => Array.from(ring.keys, (key, at) => `${key} ${ring.ownerAt(at).port}`);
const weightOf = (one: Endpoint): number => one.config.weight;

for (let seed = 1; seed <= 10; seed++)
  test(`one by one, in stretches, moved, reweighed (seed ${seed})`, () => {
    const random = seeded(seed);
    const spare = makeCluster(400, {}).cluster.endpoints;
    const ring = new Ring();
    let members: readonly Endpoint[] = spare.slice(0, 40);
    let next = 40;
    for (let step = 0; step < 25; step++) {
      const at = Math.floor(random() * members.length);
      const many = 1 + Math.floor(random() * 3);
      const come = spare.slice(next, next + many);
      next += many;
      const kind = Math.floor(random() * 5);
      if (kind === 0) members = members.with(at, come[0] as Endpoint);
      else if (kind === 1) members = members.toSpliced(at, 0, ...come);
      else if (kind === 2) members = members.toSpliced(at, many);
      else if (kind === 3) members = members.toSpliced(at, many, ...come);
      else members = [...members.slice(at), ...members.slice(0, at)];
      ring.update(members, weightOf, 512, 8_192);
      const fresh = new Ring();
      fresh.update(members, weightOf, 512, 8_192);
      expect(keysOf(ring)).toEqual(keysOf(fresh));
    }
    expect(members.length).toBeGreaterThan(0);
  });
