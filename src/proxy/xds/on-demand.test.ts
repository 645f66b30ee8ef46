// Which hosts this proxy asks for, for how long, and the table that comes of them.

import { expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { MetricRegistry } from "../../base/metric.ts";
import { VirtualHostSchema } from "../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import type { RouteTableConfig } from "../config.ts";
import { DemandedHosts, forgetAfterMs, maxDemanded } from "./on-demand.ts";
import { ResourceStore } from "./store.ts";

const base: RouteTableConfig = {
  name: "out",
  ignorePort: false,
  virtualHosts: [{ name: "own", domains: ["own"], routes: [] }],
  onDemand: { absent: [] },
};

function made() {
  const store = new ResourceStore({ readFile: () => new Uint8Array(0), staticSecrets: new Map(), controlClusters: new Set() }, {});
  const give = (name: string, domains: string[], version = "1") =>
    store.take("host", { name, version, bytes: toBinary(VirtualHostSchema, create(VirtualHostSchema, { name: `vh ${name}`, domains })) });
  return { store, give, hosts: new DemandedHosts(new MetricRegistry(), store) };
}

const domains = (table: RouteTableConfig) => table.virtualHosts.map((host) => host.domains.join("+"));

test("a table has what was given, knows what is absent, and is the same object until something changes", () => {
  const { store, give, hosts } = made();
  expect(hosts.merge({ ...base, onDemand: undefined } as never, store).virtualHosts.length).toBe(1);
  for (const host of ["b", "a", "nobody", "bad", "own"]) expect(hosts.ask("out", host, 0)).toBe("again");
  expect(hosts.ask("other", "a", 0)).toBe("again");
  expect(hosts.names()).toEqual(new Set(["out/a", "out/b", "out/nobody", "out/bad", "out/own", "other/a"]));
  expect(domains(hosts.merge(base, store))).toEqual(["own"]);
  expect(give("out/b", ["b"])).toBeUndefined();
  give("out/a", ["a"]);
  give("other/a", ["elsewhere"]);
  expect(give("out/bad", [])).toContain("domains");
  store.remove("host", "out/nobody");
  const table = hosts.merge(base, store);
  expect(domains(table)).toEqual(["own", "a", "b"]);
  expect(table.onDemand?.absent).toEqual(["bad", "nobody"]);
  expect(table.virtualHosts.map((host) => host.demanded ?? false)).toEqual([false, true, true]);
  hosts.ask("out", "b", 5);
  expect(hosts.merge(base, store)).toBe(table);
  // It comes to be.
  give("out/nobody", ["nobody"]);
  const next = hosts.merge(base, store);
  expect(domains(next)).toEqual(["own", "a", "b", "nobody"]);
  expect(next.onDemand?.absent).toEqual(["bad"]);
});

test("of hosts that claim one domain the first has it, and none takes one of the table's own", () => {
  const { store, give, hosts } = made();
  for (const host of ["a", "a:80"]) hosts.ask("out", host, 0);
  give("out/a", ["a", "a:80", "own"]);
  give("out/a:80", ["a", "a:80"]);
  expect(domains(hosts.merge(base, store))).toEqual(["own", "a+a:80"]);
});

test("what nobody uses any more is given up; use keeps it", () => {
  const { hosts } = made();
  hosts.ask("out", "a", 0);
  hosts.ask("out", "b", 1_000);
  expect(hosts.expire(forgetAfterMs - 1)).toBe(false);
  expect(hosts.ask("out", "a", forgetAfterMs - 1)).toBe("known");
  expect(hosts.expire(forgetAfterMs + 1_000)).toBe(true);
  expect([...hosts.names()]).toEqual(["out/a"]);
});

test("there is room for so many; the one unused for longest goes, but none that was used a moment ago", () => {
  const { hosts } = made();
  for (let n = 0; n < maxDemanded; n++) hosts.ask("out", `h${n}`, n);
  expect(hosts.ask("out", "more", maxDemanded)).toBe("full");
  hosts.ask("out", "h0", 60_000);
  expect(hosts.ask("out", "more", 60_000)).toBe("again");
  expect(hosts.size).toBe(maxDemanded);
  expect(hosts.names().has("out/h0")).toBe(true);
  expect(hosts.names().has("out/h1")).toBe(false);
});
