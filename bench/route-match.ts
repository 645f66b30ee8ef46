// Owns: what finding a route costs: host and route of large tables, over a request that is parsed once. Prints microseconds beside the budgets of
// issue "traffic management". Not part of the bench's report: run it by itself, `bun bench/route-match.ts [--check]`.

import type { ClusterSlot } from "../src/proxy/balance/cluster.ts";
import type { RouteConfig, RouteMatchConfig } from "../src/proxy/config.ts";
import { latin1 } from "../src/proxy/http/bytes.ts";
import { Head, parseRequest } from "../src/proxy/http1/head.ts";
import { defaultLimits } from "../src/proxy/http1/limits.ts";
import { type CompiledTable, compileTable, findHost, findRoute } from "../src/proxy/route/table.ts";
import { forward, route, table } from "../src/proxy/testing/fixture.ts";

const slotOf = (name: string): ClusterSlot => ({ name, current: null });

function hosts(count: number, routesOf: (host: number) => readonly Partial<RouteMatchConfig>[]): CompiledTable {
  const virtualHosts = Array.from({ length: count }, (_, n) => ({
    name: `h${n}`,
    domains: [`service-${n}.shop`, `service-${n}.shop.svc.cluster.local`],
    routes: routesOf(n).map((match, at): RouteConfig => {
      return route(forward("c"), { name: String(at), match: { path: { kind: "prefix", value: "/" }, headers: [], query: [], ...match } });
    }),
  }));
  return compileTable(table(virtualHosts), slotOf);
}

/** Microseconds of one look-up, the best of several rounds: what the code takes, not what the machine's other guests do. */
function measure(compiled: CompiledTable, host: string, path: string, wanted: string): number {
  const bytes = latin1(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nuser-agent: bench\r\naccept: */*\r\n\r\n`);
  const head = new Head();
  head.limits = defaultLimits;
  if (parseRequest(bytes, 0, bytes.length, head) <= 0) throw new Error("no request");
  const once = () => {
    const found = findHost(compiled, bytes, head.authorityFrom, head.authorityTo);
    return found === null ? null : findRoute(found, bytes, head, bytes, head.pathFrom, head.pathTo, head.pathTo, false, Math.random);
  };
  if (once()?.name !== wanted) throw new Error(`${host}${path} finds ${once()?.name}, not ${wanted}`);
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 12; round++) {
    const began = performance.now();
    for (let n = 0; n < 10_000; n++) once();
    best = Math.min(best, (performance.now() - began) / 10);
  }
  return best;
}

const prefixes = Array.from(
  { length: 10 },
  (_, n): Partial<RouteMatchConfig> => ({ path: { kind: "separated-prefix", value: `/api/v1/part-${n}` } }),
);
const expressions = Array.from(
  { length: 100 },
  (_, n): Partial<RouteMatchConfig> => ({ path: { kind: "regex", value: `/api/v[0-9]+/part-${n}/[a-z]+` } }),
);
const distinct = Array.from(
  { length: 100 },
  (_, n): Partial<RouteMatchConfig> => ({ path: { kind: "regex", value: `/part-${n}/[a-z]+/[0-9]+` } }),
);
const many = Array.from({ length: 1_000 }, (_, n): Partial<RouteMatchConfig> => ({ path: { kind: "prefix", value: `/part-${n}/` } }));

const one = hosts(1, () => [{}]);
const rows: readonly (readonly [string, number, number])[] = [
  ["one host, one route", measure(one, "service-0.shop", "/api/v1/part-9/x", "0"), Number.NaN],
  [
    "1 000 hosts of 10 prefixes, the last fits",
    measure(
      hosts(1_000, () => prefixes),
      "service-777.shop",
      "/api/v1/part-9/x",
      "9",
    ),
    2,
  ],
  [
    "100 expressions that begin alike, the last fits",
    measure(
      hosts(1, () => expressions),
      "service-0.shop",
      "/api/v1/part-99/abc",
      "99",
    ),
    10,
  ],
  [
    "100 expressions that begin differently",
    measure(
      hosts(1, () => distinct),
      "service-0.shop",
      "/part-99/abc/12",
      "99",
    ),
    10,
  ],
  [
    "1 000 prefixes on one host",
    measure(
      hosts(1, () => many),
      "service-0.shop",
      "/part-999/x",
      "999",
    ),
    2,
  ],
];
let failed = false;
for (const [name, us, budget] of rows) {
  const over = us > budget;
  failed ||= over;
  console.log(
    `${name.padEnd(52)} ${us.toFixed(3).padStart(8)} us${Number.isNaN(budget) ? "" : `   budget ${budget} us${over ? "   OVER" : ""}`}`,
  );
}
if (process.argv.includes("--check") && failed) process.exit(1);
