// Owns: who is refused (Revocation objects), in memory and in step with the store: for tokens, certificates and streams here, and as the list that proxies are
// told. Never writes but to forget what has had its time.

import { createHash } from "node:crypto";
import { type RevocationObject, revocationKind } from "../../api/kinds/revocation.ts";
import { resourceOf } from "../../api/meta.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { formatIdentity, type Identity } from "../../wire/spiffe.ts";
import { type DeniedIdentity, type DenyList, mostDenied, plainSerial } from "../../wire/trust.ts";
import type { Store, StoreEvent, WatchHandle, Write } from "../store/store.ts";

export const revocationsResource = resourceOf(revocationKind);
const sweepEveryMs = 60_000;

/** What of a token is signed, and cannot be written in another way that is as good: all but its signature. */
export function tokenHash(token: string): string {
  return createHash("sha256").update(token.split(".").slice(0, 2).join(".")).digest("hex");
}

export class Revocations {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #trustDomain: string;
  readonly #objects = new Map<string, RevocationObject>();
  readonly #changed = new Set<() => void>();
  readonly #sweeper: Timer;
  #watch: WatchHandle | undefined;
  #list: DenyList | undefined;

  private constructor(clock: Clock, log: Logger, trustDomain: string, tidier: () => Store | undefined) {
    this.#clock = clock;
    this.#log = log;
    this.#trustDomain = trustDomain;
    this.#sweeper = clock.every(sweepEveryMs, () => {
      this.#sweep(tidier()).catch((cause: unknown) => this.#log.error({ cause }, "Expired revocations could not be forgotten"));
    });
  }

  /** `tidier`: by which store expired ones are deleted; undefined from it = that is another control plane's work now. */
  static async open(store: Store, clock: Clock, log: Logger, trustDomain: string, tidier: () => Store | undefined): Promise<Revocations> {
    const index = new Revocations(clock, log, trustDomain, tidier);
    // Events since then come again, which changes nothing.
    const from = await store.revision();
    for (const object of (await store.list(revocationsResource)).items)
      index.#objects.set(object.metadata.name, object as RevocationObject);
    index.#watch = await store.watch(from, undefined, (event) => index.#onEvent(event));
    return index;
  }

  stop(): void {
    this.#sweeper.cancel();
    this.#watch?.stop();
  }

  onChange(run: () => void): void {
    this.#changed.add(run);
  }

  /** Whom proxies refuse. The oldest go first where there are more than a list may hold; that is said in the log. */
  list(): DenyList {
    if (this.#list !== undefined) return this.#list;
    const serials: string[] = [];
    const identities: DeniedIdentity[] = [];
    for (const { spec } of this.#live()) {
      if (spec.serial !== undefined) serials.push(plainSerial(spec.serial));
      if (spec.serviceAccount === undefined) continue;
      const { namespace, name, issuedBefore } = spec.serviceAccount;
      const uri = formatIdentity({ trustDomain: this.#trustDomain, namespace, serviceAccount: name });
      identities.push({ uri, issuedBefore: issuedBefore === undefined ? null : Math.floor(Date.parse(issuedBefore) / 1000) });
    }
    const over = serials.length + identities.length - mostDenied;
    if (over > 0)
      this.#log.error(
        { over },
        "There are more revocations than proxies can be told; revoke service accounts instead of single certificates",
      );
    this.#list = { serials: serials.slice(Math.max(0, over)), identities };
    return this.#list;
  }

  /** Why nothing is issued to this identity, and no stream of it is taken; undefined: it is not refused. */
  whyIdentity(identity: Identity): string | undefined {
    for (const { metadata, spec } of this.#live()) {
      const { namespace, name, issuedBefore } = spec.serviceAccount ?? {};
      if (namespace === identity.namespace && name === identity.serviceAccount && issuedBefore === undefined)
        return `service account ${name} in ${namespace} has been revoked (${metadata.name}${spec.reason === undefined ? "" : `: ${spec.reason}`}); weft ca revocations lists it, and an administrator may lift it`;
    }
    return undefined;
  }

  /** Why a certificate of this mesh counts for nothing. `issuedAtMs`: when it was issued, not from when it is good. */
  whyCertificate(serial: string, identity: Identity, issuedAtMs: number): string | undefined {
    const own = plainSerial(serial);
    for (const { metadata, spec } of this.#live()) {
      if (spec.serial !== undefined && plainSerial(spec.serial) === own)
        return `the certificate ${own} has been revoked (${metadata.name}); come with a join token`;
      const { namespace, name, issuedBefore } = spec.serviceAccount ?? {};
      if (namespace !== identity.namespace || name !== identity.serviceAccount || issuedBefore === undefined) continue;
      if (issuedAtMs < Date.parse(issuedBefore))
        return `certificates of service account ${name} in ${namespace} issued before ${issuedBefore} have been revoked (${metadata.name}); come with a join token`;
    }
    return this.whyIdentity(identity);
  }

  whyToken(token: string): string | undefined {
    let hash: string | undefined;
    for (const { metadata, spec } of this.#live()) {
      if (spec.tokenSha256 === undefined) continue;
      hash ??= tokenHash(token);
      if (spec.tokenSha256 === hash) return `the join token has been revoked (${metadata.name}); ask for a new one`;
    }
    return undefined;
  }

  *#live(): Generator<RevocationObject> {
    const now = this.#clock.now();
    for (const object of this.#objects.values()) {
      if (object.metadata.deletionTimestamp === undefined && !(Date.parse(object.spec.expiresAt ?? "") <= now)) yield object;
    }
  }

  #onEvent(event: StoreEvent): void {
    if (event.key.resource !== revocationsResource) return;
    if (event.type === "deleted") this.#objects.delete(event.key.name);
    else this.#objects.set(event.key.name, event.object as RevocationObject);
    this.#again();
  }

  #again(): void {
    this.#list = undefined;
    for (const run of [...this.#changed]) run();
  }

  async #sweep(store: Store | undefined): Promise<void> {
    const now = this.#clock.now();
    const gone = [...this.#objects.values()].filter(({ spec }) => Date.parse(spec.expiresAt ?? "") <= now);
    if (gone.length === 0) return;
    this.#again();
    await store?.transact(
      gone.map(
        ({ metadata }): Write => ({
          verb: "delete",
          key: { resource: revocationsResource, namespace: "", name: metadata.name },
          expected: Number(metadata.resourceVersion),
        }),
      ),
    );
  }
}
