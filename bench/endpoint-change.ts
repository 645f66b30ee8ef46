// Owns: what a change of endpoints costs the proxy: of 5 000 one is replaced, and the bytes of the list go through the store of accepted resources, into the
// cluster, and to the next choice. Prints CPU time beside the budget of issue "traffic management", for each policy. Not part of the bench's report: run it
// by itself, `bun bench/endpoint-change.ts [--check]`.

import { create, toBinary } from "@bufbuild/protobuf";
import { Cluster } from "../src/proxy/balance/cluster.ts";
import { pick } from "../src/proxy/balance/pick.ts";
import { permit, transportOf } from "../src/proxy/balance/testing/simulate.ts";
import type { BalanceConfig, EndpointConfig } from "../src/proxy/config.ts";
import { cluster as clusterConfig } from "../src/proxy/testing/fixture.ts";
import { ResourceStore } from "../src/proxy/xds/store.ts";
import { ClusterLoadAssignmentSchema } from "../src/wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";

const count = 5_000;
const warmUp = 300;
/** Changes that one median is taken of, and how many such medians: the least of them is what the code takes, not what the machine's other guests do. */
const stretch = 50;
const stretches = 12;
const budgetMs = 1;

/** The list of endpoints as a control plane sends it. */
function listOf(addresses: readonly string[]): Uint8Array {
  const lbEndpoints = addresses.map((address) => {
    const socketAddress = {
      case: "socketAddress" as const,
      value: { address, portSpecifier: { case: "portValue" as const, value: 8080 } },
    };
    return { hostIdentifier: { case: "endpoint" as const, value: { address: { address: socketAddress } } } };
  });
  const locality = { region: "r", zone: "a" };
  return toBinary(
    ClusterLoadAssignmentSchema,
    create(ClusterLoadAssignmentSchema, { clusterName: "c", endpoints: [{ locality, lbEndpoints }] }),
  );
}

/** All of one length, so that a list can be changed where it stands. */
const addressOf = (n: number): string => `10.${100 + Math.floor(n / 10_000)}.${100 + (Math.floor(n / 100) % 100)}.${100 + (n % 100)}`;

interface Cost {
  readonly median: number;
  readonly slowest: number;
}

function measure(balance: BalanceConfig): Cost {
  const store = new ResourceStore({ readFile: () => new Uint8Array(0), staticSecrets: new Map(), controlClusters: new Set() }, {});
  const cluster = new Cluster(clusterConfig("c", [], { balance }));
  const taken: number[] = [];
  const list = Buffer.from(listOf(Array.from({ length: count }, (_, n) => addressOf(n))));
  for (let round = 0; round < warmUp + stretch * stretches; round++) {
    if (round > 0) list.write(addressOf(count + round), list.indexOf(addressOf((round * 7_919) % count)));
    const bytes = Uint8Array.from(list);
    const began = process.cpuUsage();
    const problem = store.take("endpoint", { name: "c", version: String(round), bytes });
    if (problem !== undefined) throw new Error(problem);
    const endpoints = store.types.endpoint.held.get("c")?.config as readonly EndpointConfig[];
    cluster.setEndpoints(endpoints, transportOf, round, round === 0);
    const chosen = pick(cluster, permit, round, Math.random, null);
    const { user, system } = process.cpuUsage(began);
    if (chosen === null || cluster.endpoints.length !== count) throw new Error("the change was not applied");
    if (round >= warmUp) taken.push((user + system) / 1_000);
  }
  const medians = Array.from({ length: stretches }, (_, n) => share(taken.slice(n * stretch, (n + 1) * stretch), 0.5));
  return { median: Math.min(...medians), slowest: share(taken, 0.99) };
}

/** The value that this share of all does not reach. */
function share(values: readonly number[], part: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * part)] as number;
}

const policies: readonly (readonly [string, BalanceConfig])[] = [
  ["peak EWMA", { kind: "peak_ewma", decayMs: 10_000 }],
  ["least request", { kind: "least_request", choices: 2 }],
  ["least connections", { kind: "least_connections", choices: 2 }],
  ["round robin", { kind: "round_robin" }],
  ["random", { kind: "random" }],
  ["ring hash", { kind: "ring_hash", minSize: 1_024, maxSize: 8_388_608 }],
  ["Maglev, 65 537 places", { kind: "maglev", tableSize: 65_537 }],
];
let failed = false;
for (const [name, balance] of policies) {
  const { median, slowest } = measure(balance);
  const over = median > budgetMs;
  failed ||= over;
  console.log(
    `${name.padEnd(24)} ${median.toFixed(2).padStart(6)} ms   one of a hundred ${slowest.toFixed(2)} ms   budget ${budgetMs} ms${over ? "   OVER" : ""}`,
  );
}
if (process.argv.includes("--check") && failed) process.exit(1);
