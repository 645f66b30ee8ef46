// Owns: whether a join token that stands in the list of them (JoinToken objects) may still be used, noting its use, and hearing that one was revoked while
// something is open by it. Never sees a token.

import { type JoinTokenObject, joinTokenKind } from "../../api/kinds/jointoken.ts";
import { resourceOf } from "../../api/meta.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { ObjectKey, Store, StoreEvent, WatchHandle, Write } from "../store/store.ts";

/** The object that a token is bound to; in the token's claims. */
export interface TokenBinding {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** What a token is shown for. A one-time token is good for one certificate. */
export type TokenPurpose = "api" | "certificate";

/** undefined = good; else why not, for the caller's eyes. */
export type CheckBinding = (
  binding: TokenBinding,
  serviceAccount: string,
  purpose: TokenPurpose,
  /** Of a certificate: SHA-256 of the public key that it is for. */
  keySha256?: string,
) => Promise<string | undefined>;

const resource = resourceOf(joinTokenKind);
/** An expired one is listed so much longer, so that one can see what became of it. */
const rememberMs = 3_600_000;
const sweepEveryMs = 300_000;
const maxTries = 8;
/** An answer may be lost on its way: whoever has the key that was certified may ask again for so long. Nobody else can, as a request is signed by its key. */
export const askAgainMs = 600_000;
/** Clocks of control planes differ: one that is deleted so shortly before it would be forgotten was forgotten. */
const forgettingSlackMs = 60_000;

export class JoinTokenList {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #sweeper: Timer;
  /** By uid: until when a token that was revoked is remembered as that. */
  readonly #revoked = new Map<string, number>();
  readonly #onRevoked = new Set<() => void>();
  #watch: WatchHandle | undefined;

  /** `tidier`: by which store expired ones are deleted; undefined from it = that is another control plane's work now. */
  constructor(store: Store, clock: Clock, log: Logger, tidier: () => Store | undefined = () => store) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
    this.#sweeper = clock.every(sweepEveryMs, () => {
      for (const [uid, untilMs] of this.#revoked) if (untilMs <= clock.now()) this.#revoked.delete(uid);
      this.#sweep(tidier()).catch((cause: unknown) => this.#log.error({ cause }, "Expired join tokens could not be forgotten"));
    });
  }

  stop(): void {
    this.#sweeper.cancel();
    this.#watch?.stop();
  }

  /** Hears from now on of tokens that are revoked, by whichever control plane. */
  async follow(): Promise<void> {
    this.#watch = await this.#store.watch(await this.#store.revision(), resource, (event) => this.#onEvent(event));
  }

  /** Called when one was revoked. */
  onRevoked(run: () => void): void {
    this.#onRevoked.add(run);
  }

  /** Why what is open by a token is to end; undefined: it was not revoked since `follow`. One that has had its time ends nothing. */
  whyNoMore(binding: TokenBinding): string | undefined {
    return this.#revoked.has(binding.uid) ? revoked(binding) : undefined;
  }

  #onEvent({ type, key, object }: StoreEvent): void {
    if (key.resource !== resource || (type !== "deleted" && object.metadata.deletionTimestamp === undefined)) return;
    const untilMs = Date.parse((object as JoinTokenObject).spec.expiresAt) + rememberMs;
    if (object.metadata.uid === undefined || !(this.#clock.now() < untilMs - forgettingSlackMs)) return;
    this.#revoked.set(object.metadata.uid, untilMs);
    for (const run of [...this.#onRevoked]) run();
  }

  /** Notes the use of a token for a certificate; of two at the same moment a one-time token serves one. */
  async check(binding: TokenBinding, serviceAccount: string, purpose: TokenPurpose, keySha256?: string): Promise<string | undefined> {
    const key: ObjectKey = { resource, namespace: binding.namespace, name: binding.name };
    for (let attempt = 1; attempt <= maxTries; attempt++) {
      const object = (await this.#store.get(key)) as JoinTokenObject | undefined;
      if (object === undefined || object.metadata.uid !== binding.uid || object.metadata.deletionTimestamp !== undefined)
        return revoked(binding);
      const { spec, status } = object;
      if (spec.serviceAccount !== serviceAccount)
        return `the join token ${binding.name} is for service account ${spec.serviceAccount} now; ask for a new one`;
      const now = this.#clock.now();
      if (Date.parse(spec.expiresAt) <= now)
        return `the join token ${binding.name} expired at ${spec.expiresAt}; ask for a new one (weft token create)`;
      if (purpose === "api") return undefined;
      if (spec.use === "Once" && status?.usedAt !== undefined) {
        const again = keySha256 !== undefined && status.keySha256 === keySha256;
        if (again && Math.abs(now - Date.parse(status.usedAt)) <= askAgainMs) return undefined;
        return `the join token ${binding.name} is good for one certificate and was used at ${status.usedAt}; ask for a new one (weft token create)`;
      }
      const usedAt = `${new Date(now).toISOString().slice(0, 19)}Z`;
      const noted = {
        ...object,
        status: { usedAt, uses: (status?.uses ?? 0) + 1, ...(spec.use === "Once" && keySha256 !== undefined && { keySha256 }) },
      };
      const result = await this.#store.update(key, noted, Number(object.metadata.resourceVersion));
      if (result.ok) return undefined;
    }
    return `the join token ${binding.name} is used by too many at once; try again`;
  }

  async #sweep(store: Store | undefined): Promise<void> {
    if (store === undefined) return;
    const { items } = await store.list(resource);
    const before = this.#clock.now() - rememberMs;
    const gone = (items as JoinTokenObject[]).filter((each) => Date.parse(each.spec.expiresAt) < before);
    const writes = gone.map(
      ({ metadata }): Write => ({
        verb: "delete",
        key: { resource, namespace: metadata.namespace ?? "", name: metadata.name },
        expected: Number(metadata.resourceVersion),
      }),
    );
    await store.transact(writes);
  }
}

function revoked(binding: TokenBinding): string {
  return `the join token ${binding.name} was revoked; ask for a new one (weft token create)`;
}
