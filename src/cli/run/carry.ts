// Owns: connections that go past a sidecar which is down: one instance for each, by weight, another where it cannot be reached, and bytes both ways as they come.
// Never looks into them, and never decides whether an upstream may be led this way: the table does.

import { connect, type Socket } from "node:net";
import type { Clock, Timer } from "../../base/clock.ts";
import type { DirectTarget } from "../../wire/direct.ts";

/** At once, of one `weft run`; what comes beyond it is closed. */
export const mostConnections = 1_000;
/** One attempt, and how many instances are tried. */
const connectMs = 2_000;
const mostAttempts = 3;
/** When a sidecar serves again: a connection that is silent for so long is closed, and any after so long. */
export const silentMs = 1_000;
export const leaveMs = 60_000;
const lookMs = 250;

export interface CarryCounts {
  /** Connections that reached an instance. */
  led: number;
  /** Connections that could not be led anywhere. */
  lost: number;
}

interface Pair {
  readonly client: Socket;
  instance: Socket | undefined;
  lastMs: number;
}

export class Carrier {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #open = new Set<Pair>();
  #leaving: Timer | undefined;

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  /** Connections that are open. */
  get open(): number {
    return this.#open.size;
  }

  /** Takes a connection that was just accepted, with `allowHalfOpen`. */
  take(client: Socket, targets: readonly DirectTarget[], counts: CarryCounts): void {
    const pair: Pair = { client, instance: undefined, lastMs: this.#clock.mono() };
    client.on("error", () => this.#end(pair));
    client.on("close", () => this.#end(pair));
    if (this.#open.size >= mostConnections) {
      counts.lost++;
      client.destroy();
      return;
    }
    this.#open.add(pair);
    client.setNoDelay(true);
    this.#connect(pair, this.#order(targets), counts);
  }

  /** The sidecar serves again: what is open may come to its end, and need not hurry unless it has nothing to say. */
  leave(): void {
    const until = this.#clock.mono() + leaveMs;
    this.#leaving ??= this.#clock.every(lookMs, () => {
      const now = this.#clock.mono();
      for (const pair of this.#open) {
        if (now < until && now - pair.lastMs < silentMs) continue;
        pair.client.end();
        pair.instance?.end();
        if (now >= until || now - pair.lastMs >= 2 * silentMs) this.#end(pair);
      }
      if (this.#open.size === 0) this.#stay();
    });
  }

  /** It is down again. */
  stay(): void {
    this.#stay();
  }

  stop(): void {
    this.#stay();
    for (const pair of [...this.#open]) this.#end(pair);
  }

  #stay(): void {
    this.#leaving?.cancel();
    this.#leaving = undefined;
  }

  /** Instances in the order in which this connection tries them. */
  #order(targets: readonly DirectTarget[]): { readonly host: string; readonly port: number }[] {
    const target = this.#draw(targets);
    const rest = [...(target?.endpoints ?? [])];
    const order: { readonly host: string; readonly port: number }[] = [];
    while (rest.length > 0 && order.length < mostAttempts) {
      const one = this.#draw(rest);
      if (one === undefined) break;
      rest.splice(rest.indexOf(one), 1);
      order.push(one);
    }
    return order;
  }

  #draw<T extends { readonly weight: number }>(from: readonly T[]): T | undefined {
    let at = this.#random() * from.reduce((sum, { weight }) => sum + weight, 0);
    for (const one of from) {
      at -= one.weight;
      if (at < 0) return one;
    }
    return from.at(-1);
  }

  #connect(pair: Pair, order: { readonly host: string; readonly port: number }[], counts: CarryCounts): void {
    const next = order.shift();
    if (next === undefined || !this.#open.has(pair)) {
      counts.lost++;
      this.#end(pair);
      return;
    }
    const instance = connect({ host: next.host, port: next.port, allowHalfOpen: true });
    let tried = false;
    const another = (): void => {
      if (tried) return;
      tried = true;
      late.cancel();
      instance.destroy();
      this.#connect(pair, order, counts);
    };
    const late = this.#clock.after(connectMs, another);
    instance.once("error", another);
    instance.once("connect", () => {
      if (tried) return;
      tried = true;
      late.cancel();
      pair.instance = instance;
      if (!this.#open.has(pair)) {
        instance.destroy();
        return;
      }
      counts.led++;
      instance.setNoDelay(true);
      instance.on("error", () => this.#end(pair));
      instance.on("close", () => this.#end(pair));
      const said = (): void => {
        pair.lastMs = this.#clock.mono();
      };
      pair.client.on("data", said);
      instance.on("data", said);
      // Back pressure and half close are theirs.
      pair.client.pipe(instance);
      instance.pipe(pair.client);
    });
  }

  /** An end of both that is not half: what one side has written was handed over before its `close`. */
  #end(pair: Pair): void {
    if (!this.#open.delete(pair)) return;
    pair.client.destroy();
    pair.instance?.destroy();
  }
}
