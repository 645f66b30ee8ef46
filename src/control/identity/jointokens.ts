// Owns: whether a join token that stands in the list of them (JoinToken objects) may still be used, and noting its use. Never sees a token.

import { type JoinTokenObject, joinTokenKind } from "../../api/kinds/jointoken.ts";
import { resourceOf } from "../../api/meta.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { ObjectKey, Store, Write } from "../store/store.ts";

/** The object that a token is bound to; in the token's claims. */
export interface TokenBinding {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** What a token is shown for. A one-time token is good for one certificate. */
export type TokenPurpose = "api" | "certificate";

/** undefined = good; else why not, for the caller's eyes. */
export type CheckBinding = (binding: TokenBinding, serviceAccount: string, purpose: TokenPurpose) => Promise<string | undefined>;

const resource = resourceOf(joinTokenKind);
/** An expired one is listed so much longer, so that one can see what became of it. */
const rememberMs = 3_600_000;
const sweepEveryMs = 300_000;
const maxTries = 8;

export class JoinTokenList {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #sweeper: Timer;

  /** `tidier`: by which store expired ones are deleted; undefined from it = that is another control plane's work now. */
  constructor(store: Store, clock: Clock, log: Logger, tidier: () => Store | undefined = () => store) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
    this.#sweeper = clock.every(sweepEveryMs, () => {
      this.#sweep(tidier()).catch((cause: unknown) => this.#log.error({ cause }, "Expired join tokens could not be forgotten"));
    });
  }

  stop(): void {
    this.#sweeper.cancel();
  }

  /** Notes the use of a token for a certificate; of two at the same moment a one-time token serves one. */
  async check(binding: TokenBinding, serviceAccount: string, purpose: TokenPurpose): Promise<string | undefined> {
    const key: ObjectKey = { resource, namespace: binding.namespace, name: binding.name };
    for (let attempt = 1; attempt <= maxTries; attempt++) {
      const object = (await this.#store.get(key)) as JoinTokenObject | undefined;
      if (object === undefined || object.metadata.uid !== binding.uid || object.metadata.deletionTimestamp !== undefined)
        return `the join token ${binding.name} was revoked; ask for a new one (weft token create)`;
      const { spec, status } = object;
      if (spec.serviceAccount !== serviceAccount)
        return `the join token ${binding.name} is for service account ${spec.serviceAccount} now; ask for a new one`;
      const now = this.#clock.now();
      if (Date.parse(spec.expiresAt) <= now)
        return `the join token ${binding.name} expired at ${spec.expiresAt}; ask for a new one (weft token create)`;
      if (purpose === "api") return undefined;
      if (spec.use === "Once" && status?.usedAt !== undefined)
        return `the join token ${binding.name} is good for one certificate and was used at ${status.usedAt}; ask for a new one (weft token create)`;
      const usedAt = `${new Date(now).toISOString().slice(0, 19)}Z`;
      const noted = { ...object, status: { usedAt, uses: (status?.uses ?? 0) + 1 } };
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
