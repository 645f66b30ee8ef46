// Owns: choosing an endpoint. Takes a permit (rule 12): nothing is forwarded that was not authorized.

import type { Permit } from "../authz/permit.ts";
import type { BalanceConfig } from "../config.ts";
import type { Cluster, Spread } from "./cluster.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Observer } from "./observer.ts";
import type { Pool } from "./pool.ts";
import { wanted } from "./wanted.ts";

/** Places of a ring or table that are tried before the first is taken all the same. */
const mostPlaces = 64;
/** Endpoints that peak EWMA looks at; why five: docs/decisions/0022. */
const ewmaChoices = 5;

/**
 * An endpoint, or null when none is there (`cluster.full` is set when all are at their limit). `not` is avoided if another exists (the one a retry comes
 * from). Endpoints that just refused a connection are avoided as long as others exist. Takes what `wanted` holds.
 */
export function pick(cluster: Cluster, _permit: Permit, nowMs: number, random: () => number, not: Endpoint | null): Endpoint | null {
  if (nowMs >= cluster.dueMs) cluster.refresh(nowMs);
  cluster.carried = true;
  if (wanted.address !== null) {
    const kept = stays(cluster, not);
    if (kept !== null) return kept;
  }
  const pool = cluster.spread === null ? cluster.pool : share(cluster.spread, random);
  const usable = pool.members;
  const count = usable.length;
  if (count < 2) wanted.hashed = false;
  if (count === 0) {
    cluster.full = false;
    return null;
  }
  if (count === 1) return cluster.limited ? withRoom(cluster, usable[0] as Endpoint, nowMs, not) : (usable[0] as Endpoint);
  const balance = cluster.config.balance;
  let chosen: Endpoint;
  switch (balance.kind) {
    case "least_request": {
      chosen = draw(pool, random);
      const choices = balance.choices > 2 ? balance.choices : 2;
      for (let i = 1; i < choices; i++) {
        let other = draw(pool, random);
        // Two different ones, or the power of two choices is one choice in two of two endpoints.
        if (other === chosen) other = usable[(usable.indexOf(chosen) + 1 + ((random() * (count - 1)) | 0)) % count] as Endpoint;
        if (balance.bias === undefined ? better(other, chosen, nowMs, not) : biased(other, chosen, balance.bias, nowMs, not))
          chosen = other;
      }
      break;
    }
    case "peak_ewma":
      chosen = cheapest(pool, random, nowMs, not);
      break;
    case "least_connections": {
      chosen = draw(pool, random);
      for (let i = 1; i < balance.choices; i++) {
        const other = draw(pool, random);
        if (other !== not && other.connections * chosen.weight < chosen.connections * other.weight) chosen = other;
      }
      break;
    }
    case "round_robin":
    case "load_report":
      chosen = nextInTurn(pool, random);
      break;
    case "random":
      chosen = draw(pool, random);
      break;
    case "ring_hash":
    case "maglev":
      chosen = byHash(pool, balance, random, nowMs, not);
      break;
  }
  wanted.hashed = false;
  if (cluster.limited) return withRoom(cluster, chosen, nowMs, not);
  if (chosen !== not && chosen.avoidUntilMs <= nowMs) return chosen;
  // Rare: the chosen one is to be avoided. The least busy of those that are not.
  let best = chosen;
  for (let i = 0; i < count; i++) {
    const other = usable[i] as Endpoint;
    if (better(other, best, nowMs, not)) best = other;
  }
  return best;
}

/** The endpoint that a session stays with, while it is there and no attempt at it has just failed. */
function stays(cluster: Cluster, not: Endpoint | null): Endpoint | null {
  const found = cluster.endpointAt(wanted.address as string);
  wanted.address = null;
  if (found === undefined || found === not || !found.available) return null;
  wanted.hashed = false;
  return found;
}

/** One of several pools, with a chance in proportion to its share. */
function share(spread: Spread, random: () => number): Pool {
  const { pools, upTo } = spread;
  const aim = random() * (upTo[upTo.length - 1] as number);
  let at = 0;
  while (at < upTo.length - 1 && (upTo[at] as number) <= aim) at++;
  return pools[at] as Pool;
}

/** Is `a` to be preferred over `b`? Avoided ones come last, then active requests against weight. */
function better(a: Endpoint, b: Endpoint, nowMs: number, not: Endpoint | null): boolean {
  const aShunned = (a === not ? 2 : 0) + (a.avoidUntilMs > nowMs ? 1 : 0);
  const bShunned = (b === not ? 2 : 0) + (b.avoidUntilMs > nowMs ? 1 : 0);
  if (aShunned !== bShunned) return aShunned < bShunned;
  return a.active * b.weight < b.active * a.weight;
}

function biased(a: Endpoint, b: Endpoint, bias: number, nowMs: number, not: Endpoint | null): boolean {
  const aShunned = (a === not ? 2 : 0) + (a.avoidUntilMs > nowMs ? 1 : 0);
  const bShunned = (b === not ? 2 : 0) + (b.avoidUntilMs > nowMs ? 1 : 0);
  if (aShunned !== bShunned) return aShunned < bShunned;
  // Envoy: weight / (active + 1) ^ bias.
  return b.weight * (a.active + 1) ** bias < a.weight * (b.active + 1) ** bias;
}

/**
 * The one of `ewmaChoices` where a request would cost least. With unequal weights of two, both drawn by weight: that draw is what gives each its share
 * while there is little to do, and more choices would take it away again.
 */
function cheapest(pool: Pool, random: () => number, nowMs: number, not: Endpoint | null): Endpoint {
  const usable = pool.members;
  const count = usable.length;
  const sums = pool.cumulative;
  const meanWeight = sums === null ? 0 : (sums[sums.length - 1] as number) / count;
  const choices = sums !== null ? 2 : count < ewmaChoices ? count : ewmaChoices;
  // Few of them are looked at in turn, each once, from anywhere: the first of equals is a different one each time.
  const walks = sums === null && count <= ewmaChoices;
  let at = walks ? (random() * count) | 0 : 0;
  let chosen: Endpoint | null = null;
  let least = 0;
  for (let i = 0; i < choices; i++) {
    const other = walks ? (usable[at] as Endpoint) : draw(pool, random);
    if (++at === count) at = 0;
    const shunned = (other === not ? 2 : 0) + (other.avoidUntilMs > nowMs ? 1 : 0);
    const share = sums === null ? 1 : meanWeight / other.weight;
    // Costs are far below this: milliseconds times requests under way.
    const cost = shunned * 1e15 + (other.observer as Observer).cost(share, nowMs);
    if (chosen !== null && cost >= least) continue;
    chosen = other;
    least = cost;
  }
  return chosen as Endpoint;
}

/** The key's endpoint; on the way round the ring the next, where that one is to be avoided or has too much to do. */
function byHash(
  pool: Pool,
  balance: BalanceConfig & { kind: "ring_hash" | "maglev" },
  random: () => number,
  nowMs: number,
  not: Endpoint | null,
): Endpoint {
  const hash = wanted.hashed ? wanted.hash : (BigInt((random() * 0x1_0000_0000) >>> 0) << 32n) | BigInt((random() * 0x1_0000_0000) >>> 0);
  const first = pool.hashed(balance, hash, 0);
  const most = balance.overloadPercent === undefined ? Number.POSITIVE_INFINITY : mostActive(pool, balance.overloadPercent);
  if (first !== not && first.avoidUntilMs <= nowMs && first.active < most) return first;
  const places = Math.min(pool.places(balance), mostPlaces);
  for (let i = 1; i < places; i++) {
    const next = pool.hashed(balance, hash, i);
    if (next !== not && next.avoidUntilMs <= nowMs && next.active < most) return next;
  }
  return first;
}

/** Bounded loads (Mirrokni et al.): no more than a share of the average, the request to come included. */
function mostActive(pool: Pool, percent: number): number {
  const { members } = pool;
  let active = 1;
  for (let i = 0; i < members.length; i++) active += (members[i] as Endpoint).active;
  return Math.ceil(((active / members.length) * percent) / 100);
}

/** Every endpoint has a limit of its own: the chosen one if it has room, or else the best that has; null = all are full. */
function withRoom(cluster: Cluster, chosen: Endpoint, nowMs: number, not: Endpoint | null): Endpoint | null {
  // Another attempt has an endpoint that it comes from.
  const again = not !== null;
  if (hasRoom(cluster, chosen, again) && chosen !== not && chosen.avoidUntilMs <= nowMs) return chosen;
  let best: Endpoint | null = null;
  for (const other of cluster.usable)
    if (hasRoom(cluster, other, again) && (best === null || better(other, best, nowMs, not))) best = other;
  cluster.full = best === null;
  return best;
}

function hasRoom({ config: { endpointLimits } }: Cluster, endpoint: Endpoint, again: boolean): boolean {
  if (endpointLimits === undefined) return true;
  if (endpoint.active >= endpointLimits.maxRequests || (again && endpoint.activeRetries >= endpointLimits.maxRetries)) return false;
  return endpoint.connections < endpointLimits.maxConnections || endpoint.idle.length > 0 || endpoint.shared.length > 0;
}

/** One endpoint with a chance in proportion to its weight. */
function draw(pool: Pool, random: () => number): Endpoint {
  const usable = pool.members;
  const sums = pool.cumulative;
  if (sums === null) return usable[(random() * usable.length) | 0] as Endpoint;
  const aim = random() * (sums[sums.length - 1] as number);
  let low = 0;
  let high = sums.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sums[middle] as number) > aim) high = middle;
    else low = middle + 1;
  }
  return usable[low] as Endpoint;
}

/** In turn; with unequal weights the turn walks the sum of weights, so that each gets its share. */
function nextInTurn(pool: Pool, random: () => number): Endpoint {
  const usable = pool.members;
  const sums = pool.cumulative;
  // The first turn starts anywhere, so that many proxies configured at once do not all begin with the same endpoint.
  if (pool.rotation === 0) pool.rotation = 1 + ((random() * 4096) | 0);
  pool.rotation = (pool.rotation + 1) & 0x3fff_ffff;
  if (sums === null) return usable[pool.rotation % usable.length] as Endpoint;
  // Golden-ratio steps spread the turns evenly over the weights without a schedule to keep.
  const total = sums[sums.length - 1] as number;
  const aim = ((pool.rotation * 0.6180339887498949) % 1) * total;
  let low = 0;
  let high = sums.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sums[middle] as number) > aim) high = middle;
    else low = middle + 1;
  }
  return usable[low] as Endpoint;
}
