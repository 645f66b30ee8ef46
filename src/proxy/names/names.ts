// Owns: the endpoints of a cluster that leads wherever a request says (Envoy's dynamic forward proxy): by host and port of the authority, with the
// addresses that DNS has for it. A request waits for the first answer; later ones are asked for beside the traffic. Bounded; loaded on first use.

import type { Cluster, Waiter } from "../balance/cluster.ts";
import { Endpoint, type Transport } from "../balance/endpoint.ts";
import type { EndpointConfig } from "../config.ts";
import { ipFamily } from "../xds/decode/ip.ts";

/** Addresses of a name, in any order. Rejects when there is no answer. */
export type Lookup = (host: string) => Promise<readonly { readonly address: string }[]>;

export const systemLookup: Lookup = (host) => Bun.dns.lookup(host);

/** Limits of one cluster of names; see docs/reference/limits.md. */
export const nameLimits = {
  /** Envoy's max_hosts. The one unused for the longest goes. */
  hosts: 1024,
  /** Requests that wait for answers, as Envoy's max_pending_requests of a DNS cache. */
  waiting: 1024,
  /** Envoy's dns_refresh_rate: an answer older than this is asked for again when it is used. */
  refreshMs: 60_000,
  /** A name without an answer is not asked for again before this. */
  failedMs: 1_000,
} as const;

interface Known {
  /** The first may be chosen at once; others where that one fails. Empty = none yet, or no answer. */
  endpoints: readonly Endpoint[];
  asking: boolean;
  /** When the last answer came, good or bad. */
  answeredMs: number;
  /** Why there is nobody; empty = nothing is known yet, or somebody is there. */
  problem: string;
  readonly waiting: Waiter[];
}

export interface NamesDeps {
  readonly lookup: Lookup;
  readonly nowMs: () => number;
  readonly transportOf: (config: EndpointConfig) => Transport;
}

export class Names {
  /** What `find` says where it gives nobody: a sentence; empty = the waiter is called when there is an answer. */
  problem = "";
  deps: NamesDeps;
  readonly #cluster: Cluster;
  readonly #known = new Map<string, Known>();
  #waiting = 0;

  constructor(cluster: Cluster, deps: NamesDeps) {
    this.#cluster = cluster;
    this.deps = deps;
  }

  /** `host` in lower case, a name or an address without brackets. `not` is avoided if another address is there. */
  find(host: string, port: number, nowMs: number, not: Endpoint | null, waiter: Waiter): Endpoint | null {
    this.problem = "";
    const key = `${host} ${port}`;
    let known = this.#known.get(key);
    if (known === undefined) {
      if (!this.#makeRoom()) return this.#no("too many hosts are in use at once");
      known = { endpoints: [], asking: false, answeredMs: 0, problem: "", waiting: [] };
    } else this.#known.delete(key);
    // The last in the map is the last used.
    this.#known.set(key, known);
    if (known.endpoints.length > 0) {
      if (!known.asking && ipFamily(host) === 0 && nowMs - known.answeredMs >= nameLimits.refreshMs) this.#ask(host, port, known);
      return choose(known.endpoints, nowMs, not);
    }
    if (ipFamily(host) !== 0) {
      known.endpoints = this.#endpoints(host, port, [host], []);
      return known.endpoints[0] ?? null;
    }
    if (known.problem !== "" && nowMs - known.answeredMs < nameLimits.failedMs) return this.#no(known.problem);
    if (this.#waiting >= nameLimits.waiting) return this.#no("too many requests wait for addresses of names");
    known.waiting.push(waiter);
    this.#waiting++;
    if (!known.asking) this.#ask(host, port, known);
    return null;
  }

  /** Lets all connections go when they are idle. */
  retire(): void {
    for (const { endpoints } of this.#known.values()) for (const endpoint of endpoints) endpoint.retire();
    this.#known.clear();
  }

  /** For statistics. */
  get size(): number {
    return this.#known.size;
  }

  #no(problem: string): null {
    this.problem = problem;
    return null;
  }

  /** False: every one is being asked for, or has requests under way. */
  #makeRoom(): boolean {
    if (this.#known.size < nameLimits.hosts) return true;
    for (const [key, { endpoints, asking }] of this.#known) {
      if (asking || endpoints.some(({ active }) => active > 0)) continue;
      for (const endpoint of endpoints) endpoint.retire();
      this.#known.delete(key);
      return true;
    }
    return false;
  }

  #ask(host: string, port: number, known: Known): void {
    known.asking = true;
    this.deps.lookup(host).then(
      (answers) => this.#answered(host, port, known, [...new Set(answers.map(({ address }) => address))].sort()),
      () => this.#answered(host, port, known, []),
    );
  }

  #answered(host: string, port: number, known: Known, addresses: readonly string[]): void {
    known.asking = false;
    known.answeredMs = this.deps.nowMs();
    // An answer that does not come leaves the last one in use.
    if (addresses.length > 0) known.endpoints = this.#endpoints(host, port, addresses, known.endpoints);
    known.problem = known.endpoints.length > 0 ? "" : `the name ${host} has no address that can be found`;
    const waiting = known.waiting.splice(0);
    this.#waiting -= waiting.length;
    for (const waiter of waiting) waiter.retryPick();
  }

  #endpoints(host: string, port: number, addresses: readonly string[], before: readonly Endpoint[]): readonly Endpoint[] {
    const next = addresses.map((address): Endpoint => {
      const same = before.find((each) => each.host === address);
      if (same !== undefined) return same;
      const config: EndpointConfig = {
        address: { host: address, port },
        weight: 1,
        healthy: true,
        priority: 0,
        transportMatch: {},
        workload: null,
        identity: null,
        ...(host === address ? {} : { hostname: host }),
      };
      return new Endpoint(this.#cluster, this.deps.transportOf(config), config);
    });
    for (const endpoint of before) if (!next.includes(endpoint)) endpoint.retire();
    return next;
  }
}

/** The first that is not to be avoided, or else the first. */
function choose(endpoints: readonly Endpoint[], nowMs: number, not: Endpoint | null): Endpoint {
  for (const endpoint of endpoints) if (endpoint !== not && endpoint.avoidUntilMs <= nowMs) return endpoint;
  return endpoints[0] as Endpoint;
}

/** `HOST`, `HOST:PORT` or `[ADDRESS]:PORT` of an authority; null = it is none. `usual` where it names no port. */
export function hostAndPort(authority: string, usual: number): { readonly host: string; readonly port: number } | null {
  const found = /^(?:\[([0-9a-f:.]+)\]|([^:[\]/@?#\s]+))(?::(\d{1,5}))?$/.exec(authority.toLowerCase());
  if (found === null) return null;
  const port = found[3] === undefined ? usual : Number(found[3]);
  if (port < 1 || port > 65_535) return null;
  return { host: found[1] ?? (found[2] as string), port };
}
