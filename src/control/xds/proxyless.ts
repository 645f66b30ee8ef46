// Owns: the snapshots of gRPC programs that have no proxy, made for those who ask and no others, beside the snapshots of proxies. Compiled again after a
// publication, while anybody follows; where nobody does it costs nothing. Never compiles for proxies.

import { CompileCache } from "../../compile/cache.ts";
import type { Shortfall } from "../../compile/emit/grpc.ts";
import { compileProxyless, type Proxyless } from "../../compile/proxyless.ts";
import type { World } from "../../compile/world.ts";
import { pushOrder, type XdsSnapshot } from "../../wire/xds-types.ts";
import { grpcKey } from "./admission.ts";
import type { MoreResources } from "./on-demand.ts";
import type { Session, SnapshotSource } from "./session.ts";
import { changedNames, emptyResources } from "./versions.ts";

type Follower = (snapshot: XdsSnapshot) => void;

interface Followed {
  readonly followers: Set<Follower>;
  now: Proxyless;
}

export class ProxylessSource implements SnapshotSource {
  readonly #proxies: SnapshotSource;
  readonly #world: () => World;
  readonly #cache = new CompileCache();
  readonly #watchers = new Set<() => void>();
  readonly #followed = new Map<string, Followed>();
  #compiled: ReturnType<typeof compileProxyless> | undefined;

  /** `proxies`: where every other key is asked. */
  constructor(proxies: SnapshotSource, world: () => World) {
    this.#proxies = proxies;
    this.#world = world;
  }

  get(key: string): XdsSnapshot | undefined {
    if (!key.startsWith(grpcKey)) return this.#proxies.get(key);
    return (this.#followed.get(key)?.now ?? this.#make(key)).snapshot;
  }

  follow(key: string, onSnapshot: Follower): () => void {
    if (!key.startsWith(grpcKey)) return this.#proxies.follow(key, onSnapshot);
    const entry = this.#followed.get(key) ?? { followers: new Set<Follower>(), now: this.#make(key) };
    entry.followers.add(onSnapshot);
    this.#followed.set(key, entry);
    return () => {
      entry.followers.delete(onSnapshot);
      if (entry.followers.size === 0 && this.#followed.get(key) === entry) this.#followed.delete(key);
    };
  }

  resourcesFor(key: string, names: Iterable<string>): MoreResources {
    return this.#proxies.resourcesFor?.(key, names) ?? { cluster: emptyResources, endpoint: emptyResources };
  }

  demand(key: string, hosts: readonly string[], by: object): void {
    if (!key.startsWith(grpcKey)) this.#proxies.demand?.(key, hosts, by);
  }

  onPublished(run: () => void): () => void {
    this.#watchers.add(run);
    return () => this.#watchers.delete(run);
  }

  /** What the resources that a client asked for leave undone; none for proxies. */
  shortfalls({ node, ledger }: Session): readonly Shortfall[] {
    const known = node?.client === "grpc" ? this.#followed.get(node.snapshotKey)?.now.shortfalls : undefined;
    if (known === undefined) return [];
    const out: Shortfall[] = [];
    for (const type of pushOrder)
      for (const [name, { state }] of known.size === 0 ? [] : ledger.type(type).account())
        if (state === "accepted") out.push(...(known.get(`${type} ${name}`) ?? []));
    return out;
  }

  /** The mesh has changed. */
  published(): void {
    this.#compiled = undefined;
    for (const watcher of [...this.#watchers]) watcher();
    if (this.#followed.size === 0) {
      this.#cache.sweep();
      return;
    }
    for (const [key, entry] of this.#followed) {
      const next = this.#make(key);
      const before = entry.now;
      // An equal snapshot keeps its identity, so that nobody looks at it again; what is told of it may be new.
      const same = pushOrder.every((type) => changedNames(before.snapshot.resources[type], next.snapshot.resources[type]).length === 0);
      entry.now = same ? { snapshot: before.snapshot, shortfalls: next.shortfalls } : next;
      if (!same) for (const follower of [...entry.followers]) follower(next.snapshot);
    }
    this.#cache.sweep();
  }

  #make(key: string): Proxyless {
    this.#compiled ??= compileProxyless(this.#world(), this.#cache);
    return this.#compiled.forWorkload(key.slice(grpcKey.length));
  }
}
