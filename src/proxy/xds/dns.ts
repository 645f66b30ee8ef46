// Owns: names in STRICT_DNS clusters: looking them up, again and again, and putting all their addresses where the name stood. A failed look-up keeps the
// last answer. Never knows what the endpoints are for.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { ClusterConfig, EndpointConfig } from "../config.ts";
import { ipFamily } from "./decode/ip.ts";

/** Addresses of a name, in any order. Rejects when there is no answer. */
export type Lookup = (host: string) => Promise<readonly { readonly address: string }[]>;

export interface DnsOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly lookup: Lookup;
  /** An answer changed: resolve again. */
  readonly changed: () => void;
}

/** Envoy's default dns_refresh_rate. */
const refreshMs = 5_000;

interface Known {
  /** Sorted; undefined: no answer yet. */
  addresses: readonly string[] | undefined;
  settled: boolean;
  timer: Timer | undefined;
}

type NamedSource = Extract<ClusterConfig["source"], { endpoints: unknown }>;

/** The addresses of a name that its cluster wants (Envoy's `dns_lookup_family`). */
function taken(addresses: readonly string[], families: NamedSource["families"]): readonly string[] {
  if (families === undefined) return addresses;
  const ofFour = addresses.filter((address) => ipFamily(address) === 4);
  if (families === "ipv4" || (families === "ipv4-first" && ofFour.length > 0)) return ofFour;
  return addresses.filter((address) => ipFamily(address) === 6);
}

export class DnsResolver {
  readonly #options: DnsOptions;
  readonly #known = new Map<string, Known>();
  /** Results by the cluster they were made of, so that an unchanged one keeps its identity. */
  #made = new Map<ClusterConfig, { readonly key: string; readonly cluster: ClusterConfig }>();
  #stopped = false;

  constructor(options: DnsOptions) {
    this.#options = options;
  }

  /** The clusters with names replaced by addresses. Starts looking up new names and stops for those that are gone. */
  resolve(clusters: ReadonlyMap<string, ClusterConfig>): ReadonlyMap<string, ClusterConfig> {
    const wanted = new Set<string>();
    for (const cluster of clusters.values()) {
      if (cluster.source.kind !== "strict_dns") continue;
      for (const endpoint of cluster.source.endpoints) if (ipFamily(endpoint.address.host) === 0) wanted.add(endpoint.address.host);
    }
    for (const [host, known] of [...this.#known]) {
      if (wanted.has(host)) continue;
      known.timer?.cancel();
      this.#known.delete(host);
    }
    for (const host of wanted) if (!this.#known.has(host)) this.#begin(host);
    if (wanted.size === 0) return clusters;
    const made = new Map<ClusterConfig, { key: string; cluster: ClusterConfig }>();
    const out = new Map<string, ClusterConfig>();
    for (const [name, cluster] of clusters) out.set(name, this.#cluster(cluster, made));
    this.#made = made;
    return out;
  }

  /** Names without any answer, good or bad, so far. */
  pending(): readonly string[] {
    return [...this.#known].filter(([, known]) => !known.settled).map(([host]) => `the address of ${host}`);
  }

  stop(): void {
    this.#stopped = true;
    for (const known of this.#known.values()) known.timer?.cancel();
    this.#known.clear();
  }

  #cluster(cluster: ClusterConfig, made: Map<ClusterConfig, { key: string; cluster: ClusterConfig }>): ClusterConfig {
    if (cluster.source.kind !== "strict_dns") return cluster;
    const hosts = cluster.source.endpoints.map((e) => e.address.host);
    const key = hosts.map((host) => `${host}=${this.#known.get(host)?.addresses?.join(",") ?? ""}`).join(";");
    const before = this.#made.get(cluster);
    const one =
      before?.key === key
        ? before
        : { key, cluster: { ...cluster, source: { ...cluster.source, endpoints: this.#endpoints(cluster.source) } } };
    made.set(cluster, one);
    return one.cluster;
  }

  #endpoints({ endpoints, families }: NamedSource): readonly EndpointConfig[] {
    return endpoints.flatMap((endpoint) => {
      const { host, port } = endpoint.address;
      if (ipFamily(host) !== 0) return [endpoint];
      return taken(this.#known.get(host)?.addresses ?? [], families).map((address) => ({ ...endpoint, address: { host: address, port } }));
    });
  }

  #begin(host: string): void {
    const known: Known = { addresses: undefined, settled: false, timer: undefined };
    this.#known.set(host, known);
    this.#look(host, known);
  }

  #look(host: string, known: Known): void {
    const { clock, log, lookup, changed } = this.#options;
    const again = (differs: boolean): void => {
      if (this.#stopped || this.#known.get(host) !== known) return;
      const first = !known.settled;
      known.settled = true;
      known.timer = clock.after(refreshMs, () => this.#look(host, known));
      if (first || differs) changed();
    };
    lookup(host).then(
      (answers) => {
        const addresses = [...new Set(answers.map((a) => a.address))].sort();
        const differs = addresses.join() !== (known.addresses ?? []).join();
        if (addresses.length > 0) known.addresses = addresses;
        again(addresses.length > 0 && differs);
      },
      (error: unknown) => {
        if (!known.settled) log.warn({ host, error }, "A name cannot be resolved; trying again.");
        again(false);
      },
    );
  }
}
