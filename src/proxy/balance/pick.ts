// Owns: choosing an endpoint. Takes a permit (rule 12): nothing is forwarded that was not authorized.

import type { Permit } from "../authz/permit.ts";
import type { Cluster } from "./cluster.ts";
import type { Endpoint } from "./endpoint.ts";

/**
 * An endpoint, or null when none is healthy. `not` is avoided if another exists (the one a retry comes from). Endpoints that just refused a
 * connection are avoided as long as others exist.
 */
export function pick(cluster: Cluster, _permit: Permit, nowMs: number, random: () => number, not: Endpoint | null): Endpoint | null {
  const usable = cluster.usable;
  const count = usable.length;
  if (count === 0) return null;
  const first = usable[0] as Endpoint;
  if (count === 1) return first;
  const balance = cluster.config.balance;
  let chosen: Endpoint;
  switch (balance.kind) {
    case "least_request": {
      chosen = draw(cluster, random);
      const choices = balance.choices > 2 ? balance.choices : 2;
      for (let i = 1; i < choices; i++) {
        let other = draw(cluster, random);
        // Two different ones, or the power of two choices is one choice in two of two endpoints.
        if (other === chosen) other = usable[(usable.indexOf(chosen) + 1 + ((random() * (count - 1)) | 0)) % count] as Endpoint;
        if (better(other, chosen, nowMs, not)) chosen = other;
      }
      break;
    }
    case "round_robin":
      chosen = nextInTurn(cluster, random);
      break;
    case "random":
      chosen = draw(cluster, random);
      break;
  }
  if (chosen !== not && chosen.avoidUntilMs <= nowMs) return chosen;
  // Rare: the chosen one is to be avoided. The least busy of those that are not.
  let best = chosen;
  for (let i = 0; i < count; i++) {
    const other = usable[i] as Endpoint;
    if (better(other, best, nowMs, not)) best = other;
  }
  return best;
}

/** Is `a` to be preferred over `b`? Avoided ones come last, then active requests against weight. */
function better(a: Endpoint, b: Endpoint, nowMs: number, not: Endpoint | null): boolean {
  const aShunned = (a === not ? 2 : 0) + (a.avoidUntilMs > nowMs ? 1 : 0);
  const bShunned = (b === not ? 2 : 0) + (b.avoidUntilMs > nowMs ? 1 : 0);
  if (aShunned !== bShunned) return aShunned < bShunned;
  return a.active * b.weight < b.active * a.weight;
}

/** One endpoint with a chance in proportion to its weight. */
function draw(cluster: Cluster, random: () => number): Endpoint {
  const usable = cluster.usable;
  const sums = cluster.cumulative;
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
function nextInTurn(cluster: Cluster, random: () => number): Endpoint {
  const usable = cluster.usable;
  const sums = cluster.cumulative;
  // The first turn starts anywhere, so that many proxies configured at once do not all begin with the same endpoint.
  if (cluster.rotation === 0) cluster.rotation = 1 + ((random() * 4096) | 0);
  cluster.rotation = (cluster.rotation + 1) & 0x3fff_ffff;
  if (sums === null) return usable[cluster.rotation % usable.length] as Endpoint;
  // Golden-ratio steps spread the turns evenly over the weights without a schedule to keep.
  const total = sums[sums.length - 1] as number;
  const aim = ((cluster.rotation * 0.6180339887498949) % 1) * total;
  let at = 0;
  while (at < sums.length - 1 && (sums[at] as number) <= aim) at++;
  return usable[at] as Endpoint;
}
