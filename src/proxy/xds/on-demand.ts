// Owns: the virtual hosts that this proxy asks for when a request first needs them (Envoy's VHDS): which names, since when nobody has used each, and the
// route table that comes of the control plane's and of what was given so. A name nobody uses is given up. Never holds a request: `route/on-demand.ts` does.

import type { MetricRegistry } from "../../base/metric.ts";
import { demandedHost, hostOfDemand } from "../../wire/xds-types.ts";
import type { RouteTableConfig, VirtualHostConfig } from "../config.ts";
import type { ResourceStore } from "./store.ts";

/** Names at once. A program that calls more hosts than this is better given the whole mesh. */
export const maxDemanded = 1_000;
/** A name that nobody has used for so long is given up, with what only it needs. */
export const forgetAfterMs = 600_000;
/** One that was used so lately does not make room for another. */
const keepMs = 10_000;

interface Merged {
  readonly base: RouteTableConfig;
  readonly hosts: readonly VirtualHostConfig[];
  readonly absent: readonly string[];
  readonly table: RouteTableConfig;
}

export class DemandedHosts {
  /** By resource name, the one used last at the end. */
  readonly #asked = new Map<string, { readonly table: string; readonly host: string; lastMs: number }>();
  readonly #merged = new Map<string, Merged>();

  constructor(metrics: MetricRegistry, store: ResourceStore) {
    const gauge = metrics.gauge(
      "weft_on_demand_hosts",
      "Hosts asked for when a request first needed them: given, absent, or not answered yet.",
      ["state"],
    );
    metrics.beforeExport(() => {
      // Of a proxy that never asks there is nothing to tell.
      if (this.#asked.size === 0 && this.#merged.size === 0) return;
      const { held, absent } = store.types.host;
      let there = 0;
      let away = 0;
      for (const name of this.#asked.keys()) {
        if (held.has(name)) there++;
        else if (absent.has(name)) away++;
      }
      gauge.with(["given"]).value = there;
      gauge.with(["absent"]).value = away;
      gauge.with(["waiting"]).value = this.#asked.size - there - away;
    });
  }

  get size(): number {
    return this.#asked.size;
  }

  names(): ReadonlySet<string> {
    return new Set(this.#asked.keys());
  }

  /** Somebody needs this host, or goes on using it. `again`: it is not asked for yet, so that the control plane must be told. */
  ask(table: string, host: string, nowMs: number): "again" | "known" | "full" {
    const name = demandedHost(table, host);
    const known = this.#asked.get(name);
    if (known !== undefined) {
      known.lastMs = nowMs;
      this.#asked.delete(name);
      this.#asked.set(name, known);
      return "known";
    }
    if (this.#asked.size >= maxDemanded) {
      const [oldest, { lastMs }] = this.#asked.entries().next().value as [string, { lastMs: number }];
      if (nowMs - lastMs < keepMs) return "full";
      this.#asked.delete(oldest);
    }
    this.#asked.set(name, { table, host, lastMs: nowMs });
    return "again";
  }

  /** Gives up what nobody has used for long; true = something was. */
  expire(nowMs: number): boolean {
    let any = false;
    for (const [name, { lastMs }] of this.#asked) {
      if (nowMs - lastMs < forgetAfterMs) break;
      this.#asked.delete(name);
      any = true;
    }
    return any;
  }

  /** Takes the names that a snapshot holds hosts of, as if they were asked for now. `tables`: names of route tables. */
  restore(names: Iterable<string>, tables: readonly string[], nowMs: number): void {
    for (const name of names)
      for (const table of tables) {
        const host = hostOfDemand(table, name);
        if (host !== undefined) this.ask(table, host, nowMs);
      }
  }

  /** The table with what was given on demand; the same object for as long as nothing of it changes. */
  merge(base: RouteTableConfig, store: ResourceStore): RouteTableConfig {
    if (base.onDemand === undefined) return base;
    const { held, absent, rejected } = store.types.host;
    const own = new Set(base.virtualHosts.flatMap((host) => host.domains));
    const hosts: VirtualHostConfig[] = [];
    const away: string[] = [];
    for (const [name, { table, host }] of this.#asked) {
      if (table !== base.name || own.has(host)) continue;
      const config = held.get(name)?.config;
      if (config !== undefined) hosts.push(config);
      // What this proxy cannot use is not there for its callers; the log and the control plane know why.
      else if (absent.has(name) || rejected.has(name)) away.push(host);
    }
    // In an order that use does not change.
    hosts.sort((a, b) => (a.name < b.name ? -1 : 1));
    away.sort();
    const before = this.#merged.get(base.name);
    if (before !== undefined && before.base === base && same(before.hosts, hosts) && same(before.absent, away)) return before.table;
    const table = { ...base, virtualHosts: [...base.virtualHosts, ...withoutDoubles(hosts, own)], onDemand: { absent: away } };
    this.#merged.set(base.name, { base, hosts, absent: away, table });
    return table;
  }
}

/** Two given hosts may claim one domain, where a control plane answers with all names of a service: the first has it. */
function withoutDoubles(hosts: readonly VirtualHostConfig[], taken: ReadonlySet<string>): VirtualHostConfig[] {
  const seen = new Set(taken);
  const out: VirtualHostConfig[] = [];
  for (const host of hosts) {
    const domains = host.domains.filter((domain) => !seen.has(domain));
    for (const domain of domains) seen.add(domain);
    if (domains.length > 0) out.push({ ...host, domains, demanded: true });
  }
  return out;
}

function same<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((each, at) => each === b[at]);
}
