// Owns: what becomes of a WorkloadEntry whose proxy went away without unregistering it (SIGKILL, lost machine).
//   proxy connects            -> condition ProxyConnected=True (kept in the object, so that a restarted control plane knows who had a proxy);
//                                an entry that was put out for ProxyLost is Healthy again
//   no proxy for 5 s          -> Healthy=False, reason ProxyLost, if it was healthy: no more calls go there
//   no proxy for 5 min more   -> the entry is deleted
//   proxy has a Gateway's port closed -> a condition for each (../../api/kinds/closed-listeners.ts), gone when it is open
// After a restart of the control plane proxies get 30 s to come back. An entry that never had a proxy is left alone; so is one that
// `weft run` itself has put out (starting, draining). Never touches anything but WorkloadEntries.

import { type ClosedListener, closedConditions, isClosedCondition } from "../../api/kinds/closed-listeners.ts";
import type { Condition, KubeObject } from "../../api/meta.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { ObjectKey, Store, StoreEvent } from "../store/store.ts";

export interface LivenessDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  /** Key of WorkloadEntries in the store. */
  readonly resource: string;
  /** By `NS/NAME`. */
  readonly isConnected: (key: string) => boolean;
  /** With several control planes: which this one is, and whether another (by its id) is there. Absent: it is the only one. */
  readonly among?: { readonly id: string; readonly isThere: (id: string) => boolean };
  readonly onEvent: (level: "info" | "warn", message: string, namespace: string, workload: string) => void;
}

/** A sidecar that is restarted or whose connection breaks is back within a second; a dead one is noticed by callers at once anyway. */
export const graceMs = 5_000;
export const restartGraceMs = 30_000;
export const forgetMs = 300_000;

const lostReason = "ProxyLost";
const connectedType = "ProxyConnected";
const healthyType = "Healthy";
const maxTries = 5;

interface Tracked {
  timer: Timer | undefined;
}

export class Liveness {
  readonly #deps: LivenessDeps;
  readonly #tracked = new Map<string, Tracked>();
  /** Whose entries wait to be put out: the control plane that is gone, by entry. */
  readonly #adopting = new Map<string, string>();
  /** What connected proxies of Gateways do not have open, by entry, as said last. */
  readonly #closed = new Map<string, readonly ClosedListener[]>();
  /** Writes to one entry happen one after another. */
  readonly #writes = new Map<string, Promise<void>>();
  #stopped = false;

  constructor(deps: LivenessDeps) {
    this.#deps = deps;
  }

  /** Takes up the entries found at the start: those that had a proxy before get time to show it again. */
  start(entries: readonly KubeObject[]): void {
    // Of several the one that leads does this, for all that nobody holds.
    if (this.#deps.among !== undefined) return;
    for (const entry of entries) {
      if (conditionOf(entry, connectedType) === undefined) continue;
      const key = keyOf(entry);
      if (isLost(entry)) this.#arm(key, restartGraceMs + forgetMs, () => this.#forget(key));
      else this.#arm(key, restartGraceMs, () => this.#putOut(key));
    }
  }

  /** Those whose proxy was connected to a control plane that is gone, and came back to none: they get the time that a restart gives. */
  adopt(entries: readonly KubeObject[]): void {
    const { among } = this.#deps;
    if (among === undefined) return;
    for (const entry of entries) {
      const key = keyOf(entry);
      const state = conditionOf(entry, connectedType);
      if (state === undefined || this.#deps.isConnected(key)) continue;
      if (state.status !== "True") {
        if (isLost(entry) && this.#tracked.get(key)?.timer === undefined) this.#arm(key, forgetMs, () => this.#forget(key));
        continue;
      }
      const holder = holderOf(entry);
      if (holder === among.id || among.isThere(holder) || this.#adopting.get(key) === holder) continue;
      this.#adopting.set(key, holder);
      this.#arm(key, restartGraceMs, () => {
        this.#adopting.delete(key);
        this.#putOut(key, holder);
      });
    }
  }

  /** A proxy of this entry has opened a stream. */
  connected(key: string): void {
    this.#arm(key, 0, undefined);
    this.#adopting.delete(key);
    const again = () => {
      if (this.#deps.isConnected(key)) this.connected(key);
    };
    this.#update(key, again, (entry, now) => {
      if (!this.#deps.isConnected(key)) return undefined;
      const next = [
        condition(
          connectedType,
          "True",
          "Connected",
          this.#deps.among === undefined ? "its proxy is connected" : `its proxy is connected to control plane ${this.#deps.among.id}`,
          now,
        ),
      ];
      if (isLost(entry)) next.push(condition(healthyType, "True", "ProxyBack", "its proxy is connected again", now));
      return next;
    });
  }

  /** What its proxy says that it does not have open of a Gateway's ports, each time that may have changed. */
  listeners(key: string, closed: readonly ClosedListener[]): void {
    if (this.#stopped || Bun.deepEquals(closed, this.#closed.get(key))) return;
    this.#closed.set(key, closed);
    this.#writeClosed(key);
  }

  #writeClosed(key: string): void {
    this.#update(
      key,
      () => this.#writeClosed(key),
      (_entry, now) => closedConditions(this.#closed.get(key) ?? [], now),
      isClosedCondition,
    );
  }

  /** Its last stream has ended. */
  lost(key: string): void {
    this.#closed.delete(key);
    if (this.#stopped || !this.#tracked.has(key)) return;
    this.#arm(key, graceMs, () => this.#putOut(key));
  }

  /** An entry changed in the store. */
  entryChanged(event: StoreEvent): void {
    const key = `${event.key.namespace}/${event.key.name}`;
    const tracked = this.#tracked.get(key);
    if (tracked === undefined || this.#stopped) return;
    if (event.type === "deleted") {
      tracked.timer?.cancel();
      this.#tracked.delete(key);
      this.#closed.delete(key);
      return;
    }
    // Whoever reports an entry's health replaces the list of conditions; ours go back in.
    if (!this.#deps.isConnected(key)) return;
    if (conditionOf(event.object, connectedType)?.status !== "True") this.connected(key);
    if ((this.#closed.get(key)?.length ?? 0) > 0 && !conditionsOf(event.object).some(isClosedCondition)) this.#writeClosed(key);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const tracked of this.#tracked.values()) tracked.timer?.cancel();
    await Promise.all(this.#writes.values());
  }

  #arm(key: string, afterMs: number, run: (() => void) | undefined): void {
    const tracked = this.#tracked.get(key) ?? { timer: undefined };
    tracked.timer?.cancel();
    tracked.timer = run === undefined ? undefined : this.#deps.clock.after(afterMs, run);
    this.#tracked.set(key, tracked);
  }

  /** `gone`: the control plane whose entry it was when the wait began. One that another has taken over meanwhile is not ours to judge. */
  #putOut(key: string, gone?: string): void {
    if (this.#deps.isConnected(key)) return;
    const again = () => this.#putOut(key, gone);
    this.#update(
      key,
      again,
      (entry, now) => {
        if (this.#deps.isConnected(key) || this.#othersBusiness(entry, gone)) return undefined;
        const next = [condition(connectedType, "False", lostReason, "its proxy has gone without a word", now)];
        // Only what is in service is put out of it: draining or starting is weft run's own word and stays.
        if (conditionOf(entry, healthyType)?.status !== "False") {
          next.push(
            condition(healthyType, "False", lostReason, "no proxy of this workload is connected; it is deleted if none comes back", now),
          );
          this.#deps.onEvent("warn", "its proxy is gone; no more calls go there", entry.metadata.namespace ?? "", entry.metadata.name);
        }
        return next;
      },
      isClosedCondition,
    );
    this.#arm(key, forgetMs, () => this.#forget(key));
  }

  #othersBusiness(entry: KubeObject, gone: string | undefined): boolean {
    const { among } = this.#deps;
    if (among === undefined || conditionOf(entry, connectedType)?.status !== "True") return false;
    const holder = holderOf(entry);
    // One that cannot reach the store for a moment counts as gone, and still serves: only the wait that began for it may end it.
    return gone === undefined ? holder !== among.id : holder !== gone || among.isThere(gone);
  }

  #forget(key: string): void {
    if (this.#deps.isConnected(key)) return;
    const again = () => this.#forget(key);
    this.#enqueue(key, again, async () => {
      const entry = await this.#deps.store.get(this.#keyOf(key));
      if (entry === undefined || this.#deps.isConnected(key) || conditionOf(entry, connectedType)?.status === "True") return;
      const result = await this.#deps.store.delete(this.#keyOf(key), Number(entry.metadata.resourceVersion));
      if (!result.ok) return;
      this.#deps.onEvent("warn", "deleted: its proxy has been gone for five minutes", entry.metadata.namespace ?? "", entry.metadata.name);
    });
  }

  /**
   * Compare-and-set of some conditions; `change` sees the newest entry and returns undefined to leave it alone. `all`: which conditions it speaks for, so
   * that those go that it does not name.
   */
  #update(
    key: string,
    again: () => void,
    change: (entry: KubeObject, now: string) => Condition[] | undefined,
    all: (condition: Condition) => boolean = () => false,
  ): void {
    this.#enqueue(key, again, async () => {
      for (let attempt = 0; attempt < maxTries; attempt++) {
        const entry = await this.#deps.store.get(this.#keyOf(key));
        if (entry === undefined) return;
        const wanted = change(entry, `${new Date(this.#deps.clock.now()).toISOString().slice(0, 19)}Z`);
        const next = wanted === undefined ? undefined : withConditions(entry, wanted, all);
        if (next === undefined) return;
        const result = await this.#deps.store.update(this.#keyOf(key), next, Number(entry.metadata.resourceVersion));
        if (result.ok || result.reason !== "conflict") return;
      }
    });
  }

  /** `again`: what is done in a while where the store fails (etcd away, a full disk), unless the proxy has come or gone meanwhile. */
  #enqueue(key: string, again: () => void, run: () => Promise<void>): void {
    const connected = this.#deps.isConnected(key);
    if (this.#stopped) return;
    const before = this.#writes.get(key) ?? Promise.resolve();
    const next = before.then(run).catch((cause: unknown) => {
      this.#deps.log.error({ cause, entry: key }, "The health of a workload could not be written; it is tried again");
      if (!this.#stopped && connected === this.#deps.isConnected(key)) this.#arm(key, graceMs, again);
    });
    this.#writes.set(key, next);
    void next.then(() => {
      if (this.#writes.get(key) === next) this.#writes.delete(key);
    });
  }

  #keyOf(key: string): ObjectKey {
    const slash = key.indexOf("/");
    return { resource: this.#deps.resource, namespace: key.slice(0, slash), name: key.slice(slash + 1) };
  }
}

/** Whether a proxy of this entry was connected when it was last written: its deletion is then a goodbye, not a burial. */
export function hadProxy(entry: KubeObject): boolean {
  return conditionOf(entry, connectedType)?.status === "True";
}

function keyOf(entry: KubeObject): string {
  return `${entry.metadata.namespace ?? ""}/${entry.metadata.name}`;
}

/** The control plane that the proxy was last connected to; empty = a single one, which has no name. */
function holderOf(entry: KubeObject): string {
  return /^its proxy is connected to control plane (\S+)$/.exec(conditionOf(entry, connectedType)?.message ?? "")?.[1] ?? "";
}

function conditionsOf(entry: KubeObject): readonly Condition[] {
  const list = (entry.status as { conditions?: unknown } | undefined)?.conditions;
  return Array.isArray(list) ? (list as Condition[]) : [];
}

function conditionOf(entry: KubeObject, type: string): Condition | undefined {
  return conditionsOf(entry).find((c) => c.type === type);
}

/** Put out by this file, so that this file may put it back. */
function isLost(entry: KubeObject): boolean {
  const healthy = conditionOf(entry, healthyType);
  return healthy?.status === "False" && healthy.reason === lostReason;
}

function condition(type: string, status: "True" | "False", reason: string, message: string, at: string): Condition {
  return { type, status, reason, message, lastTransitionTime: at };
}

/** The entry with these conditions in place of those of the same type; undefined when they all stand there already. */
function withConditions(entry: KubeObject, wanted: readonly Condition[], all: (condition: Condition) => boolean): KubeObject | undefined {
  const old = conditionsOf(entry);
  const news = wanted.filter((w) => {
    const before = old.find((c) => c.type === w.type);
    // Which control plane a proxy is connected to stands in the message, and why a port is closed.
    const told = w.type === connectedType || all(w);
    return before?.status !== w.status || before.reason !== w.reason || (told && before.message !== w.message);
  });
  const over = (c: Condition) => all(c) && !wanted.some((w) => w.type === c.type);
  if (news.length === 0 && !old.some(over)) return undefined;
  const kept = old.filter((c) => !over(c) && !news.some((n) => n.type === c.type));
  return { ...entry, status: { ...(entry.status as object | undefined), conditions: [...kept, ...news] } };
}
