// Owns: the sentences that say a service or a call aloud: for screen readers, titles and list cells. One place, so that graph and list say the same.

import { type Circuit, circuitWords } from "./circuits.ts";
import { byteRate, count, duration, failing, rate, success } from "./format.ts";
import { edgeHealth, healthWords, serviceHealth, thresholds } from "./health.ts";
import { type CallEdge, isOutside, type ServiceNode, splitId, type Traffic } from "./picture.ts";

export function instancesReady(node: ServiceNode): { ready: number; instances: number } {
  return {
    ready: node.versions.reduce((n, v) => n + v.ready, 0),
    instances: node.versions.reduce((n, v) => n + v.instances, 0),
  };
}

/** `reviews in shop: healthy, 41.2 requests a second, 99.8 % succeed, p99 12 ms; 2 versions, 3 of 3 instances ready` */
export function describeService(node: ServiceNode, traffic: Traffic | undefined, circuits: readonly Circuit[] = []): string {
  const { ready, instances } = instancesReady(node);
  const fleet = isOutside(node)
    ? "outside the mesh"
    : `${count(node.versions.length, "version")}, ${ready} of ${count(instances, "instance")} ready`;
  const where = isOutside(node) ? "" : ` in ${node.namespace}`;
  const broken = circuitWords(circuits);
  return `${node.name}${where}: ${serviceState(node, traffic)}, ${trafficWords(node, traffic)}; ${fleet}${broken === "" ? "" : `; ${broken}`}`;
}

/** One or two words on how the service is: a caller that nobody calls is not "without traffic". */
export function serviceState(node: ServiceNode, traffic: Traffic | undefined): string {
  return traffic?.kind === "caller" ? "only calls others" : healthWords[serviceHealth(node, traffic)];
}

function trafficWords(node: ServiceNode, traffic: Traffic | undefined): string {
  if (traffic?.kind === "bytes") return `TCP, ${byteRate(traffic.bytesPerSecond)}, ${count(traffic.openConnections, "open connection")}`;
  const requests = `${rate(node.requestsPerSecond)} requests a second`;
  return node.successRatio === null ? requests : `${requests}, ${success(node.successRatio)} succeed, p99 ${duration(node.p99Ms)}`;
}

export function callTitle(edge: CallEdge): string {
  return `${nameOf(edge.from, edge.to)} → ${nameOf(edge.to, edge.from)}`;
}

/** `front calls reviews: healthy, 24.1 requests a second, 99.2 % succeed, p50 3 ms, p99 12 ms, mutual TLS` */
export function describeCall(edge: CallEdge): string {
  const { stats } = edge;
  const traffic =
    stats.protocol === "tcp"
      ? `TCP, ${byteRate(stats.bytesPerSecond)}, ${count(stats.openConnections, "open connection")}`
      : `${rate(stats.requestsPerSecond)} requests a second, ${success(stats.successRatio)} succeed, p50 ${duration(stats.p50Ms)}, p99 ${duration(stats.p99Ms)}`;
  return `${nameOf(edge.from, edge.to)} calls ${nameOf(edge.to, edge.from)}: ${healthWords[edgeHealth(stats)]}, ${traffic}${stats.mutualTls === null ? "" : `, ${lockWords(stats.mutualTls)}`}`;
}

/** Nothing of calls that were all refused before they travelled. */
export function lockWords(mutualTls: boolean | null): string {
  if (mutualTls === null) return "";
  return mutualTls ? "mutual TLS" : "not encrypted";
}

/** `99.6 %` while healthy, `7.2 % fail` when not: what is wrong is said in words. */
export function outcome(successRatio: number | null): string {
  return successRatio === null || successRatio >= thresholds.good ? success(successRatio) : failing(successRatio);
}

/** The name alone where both ends share the namespace (or one is outside the mesh and has none), else `name.namespace`. */
export function nameOf(id: string, other: string): string {
  const mine = splitId(id);
  const theirs = splitId(other).namespace;
  const bare = mine.namespace === theirs || [mine.namespace, theirs].some((namespace) => namespace === "" || namespace === "unknown");
  return bare ? mine.name : `${mine.name}.${mine.namespace}`;
}
