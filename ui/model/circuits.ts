// Owns: what circuit breaking does just now, from what proxies say of themselves: instances that callers have taken out, limits that refuse. Pure.

import type { ProxyObject } from "../../src/api/live.ts";
import { count } from "./format.ts";

export interface Circuit {
  readonly kind: "ejected" | "limit";
  /** `namespace/name` of the service it is about, as in the picture; a host outside the mesh as it is. */
  readonly service: string;
  /** Of the caller: its service and its instance. */
  readonly callerService: string;
  readonly caller: string;
  /** The instance that is out: its name, or its address where the caller knows no name; empty for a limit. */
  readonly instance: string;
  /** `consecutive_5xx`, `max_requests` */
  readonly reason: string;
}

/** Of connected proxies, by what it is about. */
export function circuitsOf(proxies: readonly ProxyObject[]): Circuit[] {
  const found: Circuit[] = [];
  for (const { metadata, status } of proxies) {
    if (!status.connected) continue;
    const caller = metadata.name;
    const callerService = `${metadata.namespace}/${metadata.labels?.app ?? metadata.name}`;
    for (const { cluster, endpoint, workload, reason } of status.ejected ?? []) {
      const instance = workload === undefined ? endpoint : workload.slice(workload.indexOf("/") + 1);
      found.push({ kind: "ejected", service: serviceOf(cluster), callerService, caller, instance, reason });
    }
    for (const { cluster, limit } of status.openCircuits ?? [])
      found.push({ kind: "limit", service: serviceOf(cluster), callerService, caller, instance: "", reason: limit });
  }
  return found;
}

/** `1 instance taken out, calls refused`; empty when there is nothing to say. */
export function circuitWords(circuits: readonly Circuit[]): string {
  const out = new Set(circuits.filter((one) => one.kind === "ejected").map((one) => one.instance)).size;
  const words = out === 0 ? [] : [`${count(out, "instance")} taken out`];
  if (circuits.some((one) => one.kind === "limit")) words.push("calls refused");
  return words.join(", ");
}

/** The same in as little room as a card has. */
export function circuitChip(circuits: readonly Circuit[]): string {
  const out = new Set(circuits.filter((one) => one.kind === "ejected").map((one) => one.instance)).size;
  return out === 0 ? "refused" : `${out} out`;
}

/** `outbound|80|v2|moody.shop.svc.cluster.local` -> `shop/moody`. */
function serviceOf(cluster: string): string {
  const host = cluster.slice(cluster.lastIndexOf("|") + 1);
  const [name = "", namespace = "", svc] = host.split(".");
  return svc === "svc" ? `${namespace}/${name}` : host;
}
