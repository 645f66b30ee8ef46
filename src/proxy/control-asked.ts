// Owns: which of the clusters that lead to the control plane the data path uses after all: the control plane is a rate limit service too. A cluster is given on as the
// data path has them, with this workload's certificate, which the control plane's own streams present by other means. Pure.

import { workloadCertificateSecret } from "../wire/names.ts";
import type { ClusterConfig, ProxyConfig } from "./config.ts";

/** The same object for the same cluster, so that nothing is built anew. */
const made = new WeakMap<ClusterConfig, ClusterConfig>();

export function controlAsked(config: ProxyConfig): ClusterConfig[] {
  const names = new Set<string>();
  for (const listener of config.listeners.values())
    for (const { terminal } of listener.chains) {
      const name = terminal.kind === "http" ? terminal.stages?.globalRateLimit?.filter?.cluster : undefined;
      if (name !== undefined) names.add(name);
    }
  const out: ClusterConfig[] = [];
  for (const name of names) {
    const cluster = config.clusters.get(name);
    if (cluster?.control === true) out.push(asData(cluster));
  }
  return out;
}

function asData(cluster: ClusterConfig): ClusterConfig {
  const known = made.get(cluster);
  if (known !== undefined) return known;
  const { tls } = cluster;
  const own = { kind: "secret", name: workloadCertificateSecret } as const;
  const next: ClusterConfig = {
    ...cluster,
    control: false,
    tls: tls === null || tls.certificate !== null ? tls : { ...tls, certificate: own },
  };
  made.set(cluster, next);
  return next;
}
