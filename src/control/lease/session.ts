// Owns: this control plane among several on one etcd: that it is there (a key that vanishes with it), who else is, and which of them does singleton work.
// One lease of etcd carries all of it. The word of a holder whose lease has ended is worth nothing: its writes carry a fence (`store/fence.ts`).
// Never does singleton work itself.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { afterPrefix } from "../store/etcd/layout.ts";
import { holds, put, remove, transaction, writtenAt } from "../store/etcd/requests.ts";
import type { EtcdStore } from "../store/etcd/store.ts";
import type { Fence } from "../store/fence.ts";
import type { Store } from "../store/store.ts";

/** A control plane, as the others see it. */
export interface Member {
  readonly id: string;
  /** Where its proxies connect, `host:port`. */
  readonly xdsAddress: string;
  readonly apiUrl: string;
  readonly version: string;
}

export interface SessionOptions {
  readonly store: EtcdStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly id: string;
  /** Becomes the holder of singleton work; writes through `store` are refused once that is over. */
  readonly begin: (store: Store, fence: Fence) => void;
  /** Is so no longer, or the session ends. */
  readonly end: () => Promise<void> | void;
  /** Somebody came or went. */
  readonly onMembers?: (members: readonly Member[]) => void;
  /** What control planes tell each other each round, and forget with whoever told it: what this one has to say that is new, and what another said. */
  readonly usage?: { tell(): string | undefined; hear(id: string, text: string): void };
}

/** A control plane that says nothing for so long counts as gone: longer than etcd's election, short enough that work is not left lying. */
export const sessionSeconds = 5;
/** The lease is kept alive, and the others looked at, this often. */
const roundMs = 1_500;
const leaseName = "leader";

export class Session {
  readonly #options: SessionOptions;
  readonly #leaderKey: string;
  #lease: bigint | undefined;
  /** Until when etcd keeps the lease for sure. */
  #goodUntilMs = 0;
  #leading = false;
  #self: Member | undefined;
  #members: readonly Member[] = [];
  #timer: Timer | undefined;
  #round: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#leaderKey = options.store.rows.layout.lease(leaseName);
  }

  get id(): string {
    return this.#options.id;
  }

  get leading(): boolean {
    return this.#leading;
  }

  /** Control planes that are there, this one among them once it has said so. */
  get members(): readonly Member[] {
    return this.#members;
  }

  /** Joins: from now on the others see this one. Throws StoreFailure. */
  async start(self: Member): Promise<void> {
    this.#self = self;
    await this.#keep();
    this.#next();
  }

  /** Leaves at once: the others need not wait for the lease to end. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#round;
    await this.#lead(undefined);
    const lease = this.#lease;
    if (lease === undefined) return;
    try {
      await this.#options.store.rows.connection.revokeLease(lease);
    } catch (cause) {
      this.#options.log.debug({ cause }, "The lease could not be given back; it ends by itself");
    }
  }

  #next(): void {
    if (this.#stopped) return;
    // Jitter: several control planes do not come in step.
    this.#timer = this.#options.clock.after(roundMs * (0.8 + 0.4 * this.#options.random()), () => {
      this.#round = this.#keep()
        .catch((cause: unknown) => this.#options.log.warn({ cause }, "The lease in etcd could not be kept alive; it is tried again"))
        .then(async () => {
          if (this.#options.clock.mono() >= this.#goodUntilMs) await this.#lead(undefined);
          this.#next();
        });
    });
  }

  async #keep(): Promise<void> {
    const { store, clock } = this.#options;
    const { connection, layout } = store.rows;
    const askedMs = clock.mono();
    if (this.#lease !== undefined) {
      const left = await connection.keepLeaseAlive(this.#lease);
      if (left > 0) this.#goodUntilMs = askedMs + left * 1000;
      else {
        this.#lease = undefined;
        await this.#lead(undefined);
      }
    }
    if (this.#lease === undefined) {
      this.#lease = await connection.grantLease(sessionSeconds);
      this.#goodUntilMs = askedMs + sessionSeconds * 1000;
      const self = put(`${layout.members}${this.#options.id}`, JSON.stringify(this.#self), this.#lease);
      await connection.txn(transaction([], [self], []), true);
    }
    const lease = this.#lease;
    // Of all that try at the same moment etcd lets one.
    const claim = transaction([writtenAt(this.#leaderKey, 0n)], [put(this.#leaderKey, this.#options.id, lease)], []);
    if (!this.#leading) await connection.txn(claim, true);
    const { usage } = this.#options;
    const news = usage?.tell();
    if (news !== undefined) await connection.txn(transaction([], [put(`${layout.usage}${this.#options.id}`, news, lease)], []), true);
    const [leader, members, told] = await store.rows.several([
      { from: this.#leaderKey },
      { from: layout.members, to: afterPrefix(layout.members) },
      ...(usage === undefined ? [] : [{ from: layout.usage, to: afterPrefix(layout.usage) }]),
    ]);
    const found = leader?.kvs[0];
    const mine = found !== undefined && found.lease === lease;
    await this.#lead(mine ? found.createRevision : undefined);
    const text = new TextDecoder();
    const seen = (members?.kvs ?? []).map((kv) => JSON.parse(text.decode(kv.value)) as Member);
    for (const kv of told?.kvs ?? []) {
      const id = text.decode(kv.key).slice(layout.usage.length);
      if (id !== this.#options.id) usage?.hear(id, text.decode(kv.value));
    }
    const changed = JSON.stringify(seen) !== JSON.stringify(this.#members);
    this.#members = seen;
    if (changed) this.#options.onMembers?.(seen);
  }

  async #lead(token: bigint | undefined): Promise<void> {
    if ((token !== undefined) === this.#leading) return;
    this.#leading = token !== undefined;
    if (token === undefined) {
      this.#options.log.info({}, "Singleton work is another control plane's from now on");
      await this.#options.end();
      return;
    }
    this.#options.log.info({ token: String(token) }, "This control plane does the singleton work");
    const fence: Fence = { name: leaseName, key: this.#leaderKey, token };
    this.#options.begin(this.#options.store.fenced(fence), fence);
  }
}

/** Takes the claim away from whoever has it; for tests of fencing. */
export async function breakLease(store: EtcdStore, holder: string): Promise<void> {
  const key = store.rows.layout.lease(leaseName);
  await store.rows.connection.txn(transaction([holds(key, holder)], [remove(key)], []), true);
}
