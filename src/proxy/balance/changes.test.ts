// A cluster that was changed step by step chooses among the same endpoints, by the same weights, as one that was made anew from the last step: whatever came,
// went, fell ill, was ejected or got another priority or weight in between.

import { expect, test } from "bun:test";
import type { BalanceConfig, EndpointConfig } from "../config.ts";
import { endpoint as endpointConfig } from "../testing/fixture.ts";
import type { Cluster } from "./cluster.ts";
import { pick } from "./pick.ts";
import { makeCluster, permit, seeded, transportOf } from "./testing/simulate.ts";

const maglev = { kind: "maglev", tableSize: 251 } as const;

const owners = ({ pool, config }: Cluster): readonly number[] | null =>
  config.balance.kind !== "maglev" || pool.members.length < 2
    ? null
    : Array.from({ length: maglev.tableSize }, (_, place) => pool.hashed(maglev, BigInt(place), 0).port);

const seen = (cluster: Cluster) => ({
  owners: cluster.spread !== null ? null : owners(cluster),
  ports: cluster.endpoints.map((one) => one.port),
  usable: cluster.usable.map((one) => one.port),
  // While there are several pools the one of all stands idle.
  sums: cluster.spread !== null || cluster.pool.cumulative === null ? null : [...cluster.pool.cumulative],
  members: cluster.spread !== null ? null : cluster.pool.members.map((one) => one.port),
  panic: cluster.panic,
  spread: cluster.spread?.pools.map((pool) => pool.members.map((one) => one.port)) ?? null,
});

for (let seed = 1; seed <= 15; seed++)
  test(`step by step (seed ${seed})`, () => {
    const balance: BalanceConfig = seed % 3 === 0 ? maglev : { kind: "random" };
    const random = seeded(seed);
    const some = (below: number): number => Math.floor(random() * below);
    const { cluster } = makeCluster(20, { balance });
    let configs: readonly EndpointConfig[] = cluster.endpoints.map((one) => one.config);
    let port = 1_000;
    // Seldom, so that there are long times in which all are alike.
    const stranger = (): EndpointConfig =>
      endpointConfig(port++, { healthy: some(12) > 0, priority: some(15) === 0 ? 1 : 0, weight: some(10) === 0 ? 3 : 1 });
    for (let step = 0; step < 60; step++) {
      const at = some(configs.length);
      const kind = some(6);
      if (kind <= 1) configs = configs.with(at, stranger());
      else if (kind === 2) configs = configs.toSpliced(at, 0, stranger(), stranger());
      else if (kind === 3 && configs.length > 5) configs = configs.toSpliced(at, 1 + some(3));
      else if (kind === 4) configs = configs.with(at, { ...(configs[at] as EndpointConfig), healthy: true, priority: 0, weight: 1 });
      else {
        const one = cluster.endpoints[at];
        if (one !== undefined) {
          one.failing = !one.failing;
          cluster.changed();
        }
      }
      if (some(4) > 0) pick(cluster, permit, step, random, null);
      cluster.setEndpoints(configs, transportOf, step, false);
      pick(cluster, permit, step, random, null);
      const fresh = makeCluster(1, { balance }).cluster;
      fresh.setEndpoints(configs, transportOf, step, true);
      const failing = new Set(cluster.endpoints.filter((one) => one.failing).map((one) => one.port));
      for (const one of fresh.endpoints) one.failing = failing.has(one.port);
      fresh.changed();
      pick(fresh, permit, step, random, null);
      expect(seen(cluster)).toEqual(seen(fresh));
    }
  });
