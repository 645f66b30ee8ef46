// Owns: requests whose host the route table does not have and that wait until the control plane has said where it leads (Envoy's `on_demand` filter with
// VHDS): who waits, for how long, how many at most, and which of the hosts given so are still used. Made with the first chain that asks; without one nothing
// of this is loaded. Never decides a route: the table does.

import type { Timer } from "../../base/clock.ts";
import type { MetricRegistry, Series } from "../../base/metric.ts";
import { text } from "../http/bytes.ts";
import type { Exchange } from "../http/exchange.ts";
import type { Head } from "../http1/head.ts";
import type { Ticker } from "../resilience/ticker.ts";
import type { CompiledTable, TableSlot } from "./table.ts";
import { hostNamed } from "./table.ts";

/** How long a request waits for its host: Envoy's default for clusters on demand. */
export const waitMs = 5_000;
/** Requests that wait at once, and hosts that they wait for. */
export const maxWaiting = 1_024;
export const maxWaitingHosts = 256;
/** A longer name is none that a service has: a host of 253 characters and its port. */
const maxName = 259;
/** How often hosts that are used are told of, so that they are kept. */
export const tellEveryMs = 60_000;

/** What becomes of a request whose host is not in the table. */
export type Held = "held" | "absent" | "full" | "no";

interface Waiting {
  readonly x: Exchange;
  readonly serial: number;
}

export class OnDemand {
  readonly #ticker: Ticker;
  readonly #ask: (table: string, host: string) => void;
  /** By table, then by host. */
  readonly #waiting = new Map<string, Map<string, Waiting[]>>();
  /** Of tables with hosts that were given on demand. */
  readonly #tables = new Map<string, CompiledTable>();
  readonly #outcomes: Readonly<Record<"served" | "absent" | "late" | "full", Series>>;
  #count = 0;
  #timer: Timer | undefined;
  #toldMs = 0;

  constructor(ticker: Ticker, metrics: MetricRegistry, ask: (table: string, host: string) => void) {
    this.#ticker = ticker;
    this.#ask = ask;
    const family = metrics.counter(
      "weft_on_demand_requests_total",
      "Requests whose host had to be asked for: served, absent (there is no such host), late (no answer in time), full (too many wait).",
      ["outcome"],
    );
    const of = (outcome: string) => family.with([outcome]);
    this.#outcomes = { served: of("served"), absent: of("absent"), late: of("late"), full: of("full") };
  }

  /** Requests that wait. */
  get waiting(): number {
    return this.#count;
  }

  /** `held`: the request goes on by `resume`, when its host has come or the time is over. */
  hold(x: Exchange, slot: TableSlot, bytes: Uint8Array, head: Head): Held {
    const table = slot.current;
    if (table === null || table.config.onDemand === undefined) return "no";
    const size = head.authorityTo - head.authorityFrom;
    if (size === 0 || size > maxName) return "absent";
    const host = text(bytes, head.authorityFrom, head.authorityTo).toLowerCase();
    if (table.absent.has(host) || host.includes("/")) {
      this.#outcomes.absent.value++;
      return "absent";
    }
    let hosts = this.#waiting.get(slot.name);
    if (hosts === undefined) {
      hosts = new Map();
      this.#waiting.set(slot.name, hosts);
    }
    let list = hosts.get(host);
    if (this.#count >= maxWaiting || (list === undefined && hosts.size >= maxWaitingHosts)) {
      for (const each of this.#waiting.values()) this.#sweep(each);
      list = hosts.get(host);
      if (this.#count >= maxWaiting || (list === undefined && hosts.size >= maxWaitingHosts)) {
        this.#outcomes.full.value++;
        return "full";
      }
    }
    if (list === undefined) {
      list = [];
      hosts.set(host, list);
    }
    list.push({ x, serial: x.serial });
    // Each asks: whoever is asked knows whether it has told the control plane already.
    this.#ask(slot.name, host);
    this.#count++;
    x.held = true;
    x.tryAtMs = this.#ticker.now() + waitMs;
    x.ownHalf.arm();
    return "held";
  }

  /** A held request goes on: what it found. */
  went(found: boolean, absent: boolean): void {
    this.#outcomes[found ? "served" : absent ? "absent" : "late"].value++;
  }

  /** A table is in force. Lets go of the requests that know now where they lead. */
  applied(table: CompiledTable): void {
    const { name, onDemand } = table.config;
    if (onDemand === undefined) {
      this.#tables.delete(name);
      return;
    }
    this.#tellUsed();
    this.#tables.set(name, table);
    this.#timer ??= this.#ticker.after(tellEveryMs, () => this.#again());
    const hosts = this.#waiting.get(name);
    if (hosts === undefined) return;
    for (const [host, list] of hosts) {
      if (hostNamed(table, host) === null && !table.absent.has(host)) continue;
      hosts.delete(host);
      this.#count -= list.length;
      for (const { x, serial } of list) x.resume(serial);
    }
    if (hosts.size === 0) this.#waiting.delete(name);
  }

  gone(table: string): void {
    this.#tables.delete(table);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Requests that went away, or whose time is over, wait no more. */
  #sweep(hosts: Map<string, Waiting[]>): void {
    for (const [host, list] of hosts) {
      const still = list.filter(({ x, serial }) => x.held && x.serial === serial);
      this.#count -= list.length - still.length;
      if (still.length === 0) hosts.delete(host);
      else hosts.set(host, still);
    }
  }

  #again(): void {
    this.#timer = undefined;
    for (const [name, hosts] of this.#waiting) {
      this.#sweep(hosts);
      if (hosts.size === 0) this.#waiting.delete(name);
    }
    this.#tellUsed();
    if (this.#tables.size > 0) this.#timer = this.#ticker.after(tellEveryMs, () => this.#again());
  }

  /** Asking again for a host that is there says that it is used. */
  #tellUsed(): void {
    for (const [name, table] of this.#tables)
      for (const [host, compiled] of table.exact) if (compiled.demanded && compiled.usedMs > this.#toldMs) this.#ask(name, host);
    this.#toldMs = this.#ticker.now();
  }
}
