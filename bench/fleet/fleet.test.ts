// The fleet's objects are what they are said to be, and the table judges.

import { describe, expect, test } from "bun:test";
import { kindByResource } from "../../src/api/kinds.ts";
import type { KubeObject } from "../../src/api/meta.ts";
import { compileAll } from "../../src/compile/compile.ts";
import { buildWorld } from "../../src/compile/world.ts";
import { fleetBudgets, fleetTable, judgeFleet } from "./budgets.ts";
import { callers, fleet, rareCallers, serviceName, usedBy } from "./mesh.ts";

const shape = { services: 50, proxies: 100, uses: 20 };

describe("a simulated fleet", () => {
  test("is made of valid objects, in which every proxy uses as many services as it is said to", () => {
    const objects = fleet(shape);
    for (const { resource, object } of objects) {
      const kind = kindByResource(resource)!;
      expect(kind.validate(object as KubeObject)).toEqual([]);
    }
    const { snapshots } = compileAll(
      buildWorld(
        objects.map(({ object }) => object as KubeObject),
        "cluster.local",
      ),
    );
    for (let proxy = 0; proxy < shape.proxies; proxy++) {
      expect(new Set(usedBy(shape, proxy)).size).toBe(shape.uses);
      const { resources } = snapshots.get(`fleet/p${String(proxy).padStart(5, "0")}`)!;
      const uses = shape.uses + (proxy < rareCallers ? 1 : 0);
      expect([resources.cluster.size, resources.endpoint.size, resources.listener.size, resources.route.size]).toEqual([
        uses + 1,
        uses,
        uses + 1,
        uses,
      ]);
    }
  });

  test("knows who uses a service", () => {
    const users = callers(shape, 7);
    expect(users.length).toBe((shape.proxies * shape.uses) / shape.services);
    for (const at of users) expect(usedBy(shape, at).map(serviceName)).toContain(serviceName(7));
  });
});

describe("the table", () => {
  const budget = (figure: string) => fleetBudgets.find((each) => each.figure === figure)!;

  test("judges most and least, and what was not measured", () => {
    expect(judgeFleet(budget("endpoint-cpu"), 50)).toBe("met");
    expect(judgeFleet(budget("endpoint-cpu"), 50.1)).toBe("missed");
    expect(judgeFleet(budget("api-writes"), 299)).toBe("missed");
    expect(judgeFleet(budget("api-writes"), 300)).toBe("met");
    expect(judgeFleet(budget("peak"), undefined)).toBe("not measured");
    expect(judgeFleet(budget("idle-cpu"), 99)).toBe("");
  });

  test("has a row for each figure", () => {
    const lines = fleetTable(new Map([["endpoint-p99", 17.64]])).split("\n");
    expect(lines.length).toBe(fleetBudgets.length);
    expect(lines[0]).toMatch(/17\.6 ms {2}<= 1000 ms {2}met$/);
  });
});
