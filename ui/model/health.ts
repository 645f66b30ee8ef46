// Owns: what counts as healthy on the page, in one table. Colour, shape and words all follow from it; nothing else compares ratios.

import type { EdgeStats } from "../../src/api/live.ts";
import type { ServiceNode, Traffic } from "./picture.ts";

export type Health = "good" | "warn" | "bad" | "idle";

/** From this share of good answers on, an edge is drawn plainly; below `bad` it is drawn as failing. */
export const thresholds = { good: 0.99, bad: 0.95 } as const;

export const healthWords: Record<Health, string> = {
  good: "healthy",
  warn: "some calls fail",
  bad: "failing",
  idle: "no traffic",
};

/** Health of a success ratio; null (nothing was asked) is idle. */
export function healthOf(successRatio: number | null): Health {
  if (successRatio === null) return "idle";
  if (successRatio >= thresholds.good) return "good";
  return successRatio >= thresholds.bad ? "warn" : "bad";
}

/** A service that is reached by bytes alone has no ratio: it is good while there are any. */
export function serviceHealth(node: ServiceNode, traffic: Traffic | undefined): Health {
  const health = healthOf(node.successRatio);
  const busy = traffic?.kind === "bytes" && (traffic.openConnections > 0 || traffic.bytesPerSecond > 0);
  return health === "idle" && busy ? "good" : health;
}

/** An edge of opaque TCP may have no ratio and yet carry bytes: then it is good, not idle. */
export function edgeHealth(stats: EdgeStats): Health {
  const health = healthOf(stats.successRatio);
  if (health !== "idle") return health;
  return stats.protocol === "tcp" && (stats.openConnections > 0 || stats.bytesPerSecond > 0) ? "good" : "idle";
}
