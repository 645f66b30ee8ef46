// Owns: how a cluster's endpoints are chosen, as Envoy's Cluster says it: policy, localities, slow start, panic. What is ours alone comes in metadata that
// Envoy passes over (`filter_metadata["weft.dev"]`, wire/names.ts), so that it falls back to the policy beside it.

import type { Cluster, Cluster_SlowStartConfig } from "../../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { balanceMetadata, sidecarMetadata } from "../../../wire/names.ts";
import { isPrime, largestTable } from "../../balance/maglev.ts";
import type { BalanceConfig, ClusterConfig, SlowStartConfig } from "../../config.ts";
import { ClientSideWeightedRoundRobin } from "../proto/types.ts";
import { at, choose, type Gate, millis, unpack } from "./gate.ts";

/** Envoy's, for ring hash and Maglev. */
const defaultRing = 1024n;
const largestRing = 8_388_608n;
const defaultTable = 65_537;

/** Finagle's. */
const defaultDecayMs = 10_000;

const weightedType = "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin";

type Kind = "round_robin" | "least_request" | "ring_hash" | "random" | "maglev" | "config";

/** The parts of a ClusterConfig that balancing is made of. */
export function decodeBalance(
  gate: Gate,
  cluster: Cluster,
  path: string,
): Pick<ClusterConfig, "balance" | "slowStart" | "panicPercent" | "localities" | "heedsRateLimits"> {
  const common = cluster.commonLbConfig;
  const where = at(path, "common_lb_config");
  const panic = common?.healthyPanicThreshold?.value;
  if (panic !== undefined && !(panic >= 0 && panic <= 100)) gate.add(at(where, "healthy_panic_threshold.value"), "must be 0 to 100");
  const own = ownWords(gate, cluster, path);
  const locality = common?.localityConfigSpecifier;
  const zones = locality?.case === "zoneAwareLbConfig" ? locality.value : undefined;
  if (zones !== undefined) {
    const share = zones.routingEnabled?.value ?? 100;
    if (share !== 0 && share !== 100)
      gate.add(at(where, "zone_aware_lb_config.routing_enabled.value"), "must be 0 or 100: shares of it are not supported");
    if (zones.minClusterSize !== undefined && zones.minClusterSize !== 6n)
      gate.add(at(where, "zone_aware_lb_config.min_cluster_size"), "is not supported; it is 6");
  }
  const localities: ClusterConfig["localities"] =
    own.localities ??
    (locality?.case === "localityWeightedLbConfig"
      ? "weighted"
      : zones !== undefined && zones.routingEnabled?.value !== 0
        ? "own"
        : undefined);
  const slow = slowStart(gate, cluster, path);
  return {
    balance: own.balance ?? policy(gate, cluster, path),
    ...(slow === undefined ? {} : { slowStart: slow }),
    ...(panic === undefined ? {} : { panicPercent: panic }),
    ...(localities === undefined ? {} : { localities }),
    ...(own.heedsRateLimits ? { heedsRateLimits: true } : {}),
  };
}

function policy(gate: Gate, cluster: Cluster, path: string): BalanceConfig {
  // Nobody is chosen there: the request says who.
  if (cluster.clusterDiscoveryType.case === "clusterType") return { kind: "random" };
  if (cluster.loadBalancingPolicy !== undefined) return byExtension(gate, cluster, at(path, "load_balancing_policy"));
  const kind = choose<Kind>(
    gate,
    at(path, "lb_policy"),
    "envoy.config.cluster.v3.Cluster.LbPolicy",
    cluster.lbPolicy,
    { ROUND_ROBIN: "round_robin", LEAST_REQUEST: "least_request", RING_HASH: "ring_hash", RANDOM: "random", MAGLEV: "maglev" },
    "round_robin",
  );
  const { lbConfig } = cluster;
  const fits: Readonly<Record<string, Kind>> = {
    leastRequestLbConfig: "least_request",
    ringHashLbConfig: "ring_hash",
    maglevLbConfig: "maglev",
    roundRobinLbConfig: "round_robin",
  };
  if (lbConfig.case !== undefined && fits[lbConfig.case] !== kind) {
    const field = lbConfig.case.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    gate.add(at(path, field), `needs lb_policy: ${(fits[lbConfig.case] ?? "").toUpperCase()}`);
  }
  const factor = cluster.commonLbConfig?.consistentHashingLbConfig?.hashBalanceFactor;
  if (factor !== undefined && factor < 100)
    gate.add(at(path, "common_lb_config.consistent_hashing_lb_config.hash_balance_factor"), "must be at least 100");
  const overload = factor === undefined ? {} : { overloadPercent: factor };
  switch (kind) {
    case "least_request": {
      const config = lbConfig.case === "leastRequestLbConfig" ? lbConfig.value : undefined;
      const choices = config?.choiceCount ?? 2;
      if (choices < 2) gate.add(at(path, "least_request_lb_config.choice_count"), "must be at least 2");
      const bias = config?.activeRequestBias?.defaultValue ?? 1;
      if (!(bias >= 0)) gate.add(at(path, "least_request_lb_config.active_request_bias.default_value"), "must not be negative");
      return { kind, choices, ...(bias === 1 ? {} : { bias }) };
    }
    case "ring_hash": {
      const config = lbConfig.case === "ringHashLbConfig" ? lbConfig.value : undefined;
      const field = at(path, "ring_hash_lb_config");
      if (config !== undefined)
        choose(
          gate,
          at(field, "hash_function"),
          "envoy.config.cluster.v3.Cluster.RingHashLbConfig.HashFunction",
          config.hashFunction,
          { XX_HASH: true },
          true,
        );
      const least = config?.minimumRingSize ?? defaultRing;
      const most = config?.maximumRingSize ?? largestRing;
      if (least < 1n || least > largestRing) gate.add(at(field, "minimum_ring_size"), `must be 1 to ${largestRing}`);
      if (most > largestRing || most < least) gate.add(at(field, "maximum_ring_size"), `must be minimum_ring_size to ${largestRing}`);
      return { kind, minSize: Number(least), maxSize: Number(most), ...overload };
    }
    case "maglev": {
      const size = Number((lbConfig.case === "maglevLbConfig" ? lbConfig.value.tableSize : undefined) ?? defaultTable);
      if (size > largestTable || !isPrime(size))
        gate.add(at(path, "maglev_lb_config.table_size"), `must be a prime of at most ${largestTable}`);
      return { kind, tableSize: size, ...overload };
    }
    case "random":
      return { kind };
    default:
      return { kind: "round_robin" };
  }
}

/** Of the extensions the first that is known, as Envoy takes it. */
function byExtension(gate: Gate, cluster: Cluster, path: string): BalanceConfig {
  const named: string[] = [];
  for (const [n, one] of (cluster.loadBalancingPolicy?.policies ?? []).entries()) {
    const typed = one.typedExtensionConfig?.typedConfig;
    const name = typed === undefined ? "" : typed.typeUrl.slice(typed.typeUrl.lastIndexOf("/") + 1);
    named.push(name);
    if (typed === undefined || name !== weightedType) continue;
    const where = `${path}.policies[${n}].typed_extension_config.typed_config`;
    const config = unpack(gate, ClientSideWeightedRoundRobin, typed, where);
    if (config === undefined) break;
    if (config.enableOobLoadReport === true)
      gate.add(at(where, "enable_oob_load_report"), "is not supported: load reports come with answers (endpoint-load-metrics)");
    return {
      kind: "load_report",
      blackoutMs: millis(gate, at(where, "blackout_period"), config.blackoutPeriod, 10_000),
      expirationMs: millis(gate, at(where, "weight_expiration_period"), config.weightExpirationPeriod, 180_000),
      // gRFC A58: not below 100 ms.
      updateMs: Math.max(100, millis(gate, at(where, "weight_update_period"), config.weightUpdatePeriod, 1_000)),
    };
  }
  gate.add(at(path, "policies"), `none of ${named.join(", ") || "nothing"} is supported; supported: ${weightedType}; others by lb_policy`);
  return { kind: "round_robin" };
}

function slowStart(gate: Gate, cluster: Cluster, path: string): SlowStartConfig | undefined {
  const { lbConfig } = cluster;
  let config: Cluster_SlowStartConfig | undefined;
  if (lbConfig.case === "leastRequestLbConfig" || lbConfig.case === "roundRobinLbConfig") config = lbConfig.value.slowStartConfig;
  if (config === undefined) return undefined;
  const where = at(
    path,
    lbConfig.case === "leastRequestLbConfig" ? "least_request_lb_config.slow_start_config" : "round_robin_lb_config.slow_start_config",
  );
  const windowMs = millis(gate, at(where, "slow_start_window"), config.slowStartWindow, 0);
  if (windowMs === 0) return undefined;
  const aggression = config.aggression?.defaultValue ?? 1;
  if (!(aggression > 0)) gate.add(at(where, "aggression.default_value"), "must be above 0");
  const least = config.minWeightPercent?.value ?? 10;
  if (!(least >= 0 && least <= 100)) gate.add(at(where, "min_weight_percent.value"), "must be 0 to 100");
  // A share of nothing would never be chosen, not even to warm up.
  return { windowMs, aggression, minShare: Math.max(0.01, least / 100) };
}

interface OwnWords {
  readonly localities: ClusterConfig["localities"];
  readonly balance: BalanceConfig | undefined;
  readonly heedsRateLimits: boolean;
}

/** `filter_metadata["weft.dev"]`. */
function ownWords(gate: Gate, cluster: Cluster, path: string): OwnWords {
  const words = cluster.metadata?.filterMetadata[sidecarMetadata.filter] ?? {};
  const where = at(path, `metadata.filter_metadata["${sidecarMetadata.filter}"]`);
  const kind = words[balanceMetadata.policy];
  const number = (key: string, fallback: number): number => {
    const value = words[key];
    if (value === undefined) return fallback;
    if (typeof value === "number" && value > 0) return value;
    gate.add(`${where}.${key}`, "must be a number above 0");
    return fallback;
  };
  let balance: BalanceConfig | undefined;
  if (kind === "peak_ewma") balance = { kind, decayMs: number(balanceMetadata.decayMs, defaultDecayMs) };
  else if (kind === "least_connections") balance = { kind, choices: number(balanceMetadata.choices, 2) };
  else if (kind !== undefined)
    gate.add(`${where}.${balanceMetadata.policy}`, `${JSON.stringify(kind)} is not supported; supported: peak_ewma, least_connections`);
  return { balance, heedsRateLimits: words[balanceMetadata.heedsRateLimits] === true, localities: ownLocalities(gate, words, where) };
}

function ownLocalities(gate: Gate, words: Readonly<Record<string, unknown>>, path: string): ClusterConfig["localities"] {
  const near = words[balanceMetadata.nearFirst];
  const shares = words[balanceMetadata.localityShares];
  if (near !== undefined) {
    const failover = near as Record<string, string>;
    if (typeof near !== "object" || near === null || Object.values(near).some((to) => typeof to !== "string"))
      gate.add(`${path}.${balanceMetadata.nearFirst}`, "must be an object of regions");
    else return { kind: "near", failover };
  }
  if (shares === undefined) return undefined;
  const rules = typeof shares === "object" && shares !== null ? Object.values(shares) : [null];
  const good = rules.every(
    (to) => typeof to === "object" && to !== null && Object.values(to).every((share) => typeof share === "number" && share > 0),
  );
  if (good) return { kind: "shares", from: shares as Record<string, Record<string, number>> };
  gate.add(`${path}.${balanceMetadata.localityShares}`, "must be shares above 0 by locality, by our own locality");
  return undefined;
}
