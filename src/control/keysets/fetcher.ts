// Owns: the keys that RequestAuthentications name by URL: fetched when a policy first names them and again while it does, kept in the store as they last were,
// so that neither proxies nor a control plane that starts depend on the issuer being there. Runs on one control plane at a time (its store is fenced where
// there are several). Never takes keys away because they cannot be fetched.

import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import { type FetchedKeys, fetchedKeysLabel, fetchedKeysName, readFetchedKeys, writeFetchedKeys } from "../../api/kinds/fetched-keys.ts";
import { durationMs } from "../../api/kinds/gateway-refs.ts";
import { defaultFetchMs, requestAuthenticationKind } from "../../api/kinds/requestauthentication.ts";
import type { RequestAuthenticationObject } from "../../api/kinds/requestauthentication-spec.ts";
import { type KubeObject, resourceOf } from "../../api/meta.ts";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Happening } from "../events.ts";
import { Rounds } from "../rounds.ts";
import type { ObjectKey, Store } from "../store/store.ts";
import type { FetchKeys } from "./fetch.ts";

/** The name under which its writes stand in the history. */
export const fetcherName = "system:key-sets";

export interface KeyFetcherDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  readonly uid: () => string;
  readonly fetchKeys: FetchKeys;
  readonly record: (happening: Happening) => void;
}

const lookMs = 1_000;
/** As Envoy's default for keys that it fetches itself. */
export const refreshMs = 300_000;
/** After failures: twice as long each time, with jitter. */
const firstRetryMs = 2_000;
const longestRetryMs = 60_000;
/** Places that are asked; what is beyond stays unknown, so that its tokens are refused. */
export const mostPlaces = 200;
const atOnce = 4;
/** A policy that is replaced by deleting it finds the keys again. */
const keptUnusedMs = 3_600_000;

const policies = resourceOf(requestAuthenticationKind);
const configMaps = "configmaps";

interface Place {
  nextAtMs: number;
  failures: number;
  unusedSinceMs: number | undefined;
}

interface Wanted {
  readonly timeoutMs: number;
  readonly by: readonly RequestAuthenticationObject[];
}

export class KeyFetcher {
  readonly #deps: KeyFetcherDeps;
  readonly #rounds: Rounds;
  readonly #places = new Map<string, Place>();

  constructor(deps: KeyFetcherDeps) {
    this.#deps = deps;
    this.#rounds = new Rounds(deps.clock, lookMs, () => this.look());
  }

  /** Ends, with what is under way. */
  stop(): Promise<void> {
    return this.#rounds.stop();
  }

  /** One round: what is due is fetched, what nobody names any more forgotten. Never rejects. */
  async look(): Promise<void> {
    try {
      const wanted = await this.#wanted();
      const now = this.#deps.clock.now();
      const due: string[] = [];
      for (const uri of wanted.keys()) {
        const place = this.#places.get(uri) ?? { nextAtMs: now, failures: 0, unusedSinceMs: undefined };
        place.unusedSinceMs = undefined;
        this.#places.set(uri, place);
        if (place.nextAtMs <= now) due.push(uri);
      }
      for (let at = 0; at < due.length && !this.#rounds.stopped; at += atOnce)
        await Promise.all(due.slice(at, at + atOnce).map((uri) => this.#one(uri, wanted.get(uri) as Wanted)));
      await this.#tidy(wanted, now);
    } catch (cause) {
      this.#deps.log.error({ cause }, "Keys of token issuers could not be looked after; it is tried again");
    }
  }

  async #wanted(): Promise<Map<string, Wanted>> {
    const { items } = await this.#deps.store.list(policies);
    const wanted = new Map<string, Wanted>();
    for (const object of items as readonly RequestAuthenticationObject[])
      for (const { jwksUri, timeout } of object.spec?.jwtRules ?? []) {
        if (jwksUri === undefined) continue;
        const timeoutMs = timeout === undefined ? defaultFetchMs : durationMs(timeout);
        const before = wanted.get(jwksUri);
        if (before === undefined && wanted.size >= mostPlaces) continue;
        const by = before?.by ?? [];
        wanted.set(jwksUri, { timeoutMs: Math.max(timeoutMs, before?.timeoutMs ?? 0), by: by.includes(object) ? by : [...by, object] });
      }
    return wanted;
  }

  async #one(uri: string, { timeoutMs, by }: Wanted): Promise<void> {
    const { clock, random, store, log } = this.#deps;
    const place = this.#places.get(uri) as Place;
    const got = await this.#deps.fetchKeys(uri, timeoutMs);
    const failed = "error" in got;
    place.failures = failed ? place.failures + 1 : 0;
    const waitMs = failed ? Math.min(longestRetryMs, firstRetryMs * 2 ** Math.min(place.failures - 1, 10)) : refreshMs;
    place.nextAtMs = clock.now() + waitMs * (0.8 + 0.4 * random());
    const key: ObjectKey = { resource: configMaps, namespace: rootNamespace, name: fetchedKeysName(uri) };
    const object = await store.get(key);
    const before = object === undefined ? undefined : readFetchedKeys(object, uri);
    const after: FetchedKeys = failed
      ? { ...(before?.keys === undefined ? {} : { keys: before.keys }), error: got.error }
      : { keys: got.keys };
    // Nothing is written that says the same: what is written every proxy is compiled for again.
    if (before !== undefined && before.keys === after.keys && before.error === after.error) return;
    const result =
      object === undefined
        ? await store.create(key, this.#made(uri, after), fetcherName)
        : await store.update(
            key,
            { ...object, data: writeFetchedKeys(uri, after) } as KubeObject,
            Number(object.metadata.resourceVersion),
            fetcherName,
          );
    if (!result.ok) {
      place.nextAtMs = clock.now();
      return;
    }
    const message = failed
      ? `${uri}: ${got.error}; ${after.keys === undefined ? "tokens of its issuer are refused" : "the last good keys are used"}`
      : `${uri}: keys fetched`;
    if (failed) log.warn({ uri, error: got.error }, "Keys of a token issuer could not be fetched");
    for (const { apiVersion, kind, metadata } of by)
      this.#deps.record({
        regarding: { apiVersion, kind, metadata },
        type: failed ? "Warning" : "Normal",
        reason: failed ? "KeysNotFetched" : "KeysFetched",
        message,
      });
  }

  #made(uri: string, keys: FetchedKeys): KubeObject {
    const object = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: {
        name: fetchedKeysName(uri),
        namespace: rootNamespace,
        labels: { [fetchedKeysLabel]: "true" },
        uid: this.#deps.uid(),
        creationTimestamp: `${new Date(this.#deps.clock.now()).toISOString().slice(0, 19)}Z`,
        generation: 1,
      },
      data: writeFetchedKeys(uri, keys),
    };
    return object;
  }

  async #tidy(wanted: ReadonlyMap<string, Wanted>, now: number): Promise<void> {
    const unused = [...this.#places].filter(([uri]) => !wanted.has(uri));
    for (const [uri, place] of unused) {
      place.unusedSinceMs ??= now;
      if (now - place.unusedSinceMs < keptUnusedMs) continue;
      const key: ObjectKey = { resource: configMaps, namespace: rootNamespace, name: fetchedKeysName(uri) };
      const object = await this.#deps.store.get(key);
      if (object?.metadata.labels?.[fetchedKeysLabel] === "true")
        await this.#deps.store.delete(key, Number(object.metadata.resourceVersion), fetcherName);
      this.#places.delete(uri);
    }
  }
}
