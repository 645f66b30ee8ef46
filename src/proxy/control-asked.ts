// Owns: which of the clusters that lead to the control plane the data path uses after all: the control plane is a rate limit service too. A cluster is given on as the
// data path has them, with this workload's certificate and the mesh's roots as they are now, which the control plane's own streams have by other means. Pure.

import { meshRootsSecret, workloadCertificateSecret } from "../wire/names.ts";
import type { ClusterConfig, ProxyConfig } from "./config.ts";

/** The same object for the same cluster, so that nothing is built anew. */
const made = new WeakMap<ClusterConfig, ClusterConfig>();

/** `identified`: this proxy has an identity of the mesh, or will have one. */
export function controlAsked(config: ProxyConfig, identified: boolean): ClusterConfig[] {
  const names = new Set<string>();
  for (const listener of config.listeners.values())
    for (const { terminal } of listener.chains) {
      const name = terminal.kind === "http" ? terminal.stages?.globalRateLimit?.filter?.cluster : undefined;
      if (name !== undefined) names.add(name);
    }
  const out: ClusterConfig[] = [];
  for (const name of names) {
    const cluster = config.clusters.get(name);
    if (cluster?.control === true) out.push(asData(cluster, identified));
  }
  return out;
}

function asData(cluster: ClusterConfig, identified: boolean): ClusterConfig {
  const known = made.get(cluster);
  if (known !== undefined) return known;
  const { tls } = cluster;
  const certificate = { kind: "secret", name: workloadCertificateSecret } as const;
  // The roots of the bootstrap are those of the day that it was written.
  const roots = { kind: "secret", name: meshRootsSecret } as const;
  const ours = identified && tls !== null && tls.certificate === null && tls.roots !== null;
  const next: ClusterConfig = { ...cluster, control: false, tls: ours ? { ...tls, certificate, roots } : tls };
  made.set(cluster, next);
  return next;
}
