// Owns: saying why no endpoint of a cluster may be chosen, for whoever is turned away. Runs after a failure only.

import type { Cluster } from "./cluster.ts";
import type { Endpoint } from "./endpoint.ts";

/**
 * The likely cause in words: who is out, by whose judgement, for how long still, and what the last connection came to. Empty = there is no endpoint at
 * all, of which nothing more is known here.
 */
export function whyNobody({ endpoints }: Cluster, nowMs: number): string {
  const count = endpoints.length;
  if (count === 0) return "";
  const ejected = endpoints.filter((one) => one.config.healthy && one.ejected);
  const failing = endpoints.filter((one) => one.config.healthy && !one.ejected && one.failing);
  const unhealthy = endpoints.filter((one) => !one.config.healthy);
  const parts: string[] = [];
  const many = (number: number) => (count === 1 ? "its only one" : number === count ? `all ${count}` : `${number} of ${count}`);
  const are = (number: number) => (number === 1 ? "is" : "are");
  if (ejected.length > 0) {
    const leftMs = Math.max(0, Math.min(...ejected.map((one) => one.ejectedUntilMs)) - nowMs);
    parts.push(`${many(ejected.length)} ${are(ejected.length)} ejected after failures, for ${Math.ceil(leftMs / 1_000)} s more`);
  }
  if (failing.length > 0) parts.push(`${many(failing.length)} ${failing.length === 1 ? "fails its" : "fail their"} health checks`);
  if (unhealthy.length > 0) parts.push(`${many(unhealthy.length)} ${are(unhealthy.length)} reported as not healthy`);
  const last = lastFailure(endpoints);
  if (last !== undefined) parts.push(`the last connection to ${last.host}:${last.port} came to: ${last.whyFailed}`);
  return parts.join("; ");
}

function lastFailure(endpoints: readonly Endpoint[]): Endpoint | undefined {
  let found: Endpoint | undefined;
  for (const one of endpoints) if (one.whyFailed !== "" && (found === undefined || one.avoidUntilMs > found.avoidUntilMs)) found = one;
  return found;
}
