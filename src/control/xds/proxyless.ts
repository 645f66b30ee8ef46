// Owns: what discovery sessions ask of the publisher beyond the snapshots: a word after each publication, and what the resources of a gRPC program leave
// undone. Never compiles: snapshots of proxies and of gRPC programs are the publisher's alike.

import type { Shortfall } from "../../compile/emit/grpc.ts";
import { grpcKey, grpcShortfallsOf } from "../../compile/proxyless.ts";
import type { World } from "../../compile/world.ts";
import { pushOrder, type XdsSnapshot } from "../../wire/xds-types.ts";
import type { MoreResources } from "./on-demand.ts";
import type { Session, SnapshotSource } from "./session.ts";
import { emptyResources } from "./versions.ts";

export class ProxylessSource implements SnapshotSource {
  readonly #publisher: SnapshotSource;
  readonly #world: () => World;
  readonly #watchers = new Set<() => void>();

  constructor(publisher: SnapshotSource, world: () => World) {
    this.#publisher = publisher;
    this.#world = world;
  }

  get(key: string): XdsSnapshot | undefined {
    return this.#publisher.get(key);
  }

  follow(key: string, onSnapshot: (snapshot: XdsSnapshot) => void): () => void {
    return this.#publisher.follow(key, onSnapshot);
  }

  resourcesFor(key: string, names: Iterable<string>): MoreResources {
    return this.#publisher.resourcesFor?.(key, names) ?? { cluster: emptyResources, endpoint: emptyResources };
  }

  demand(key: string, hosts: readonly string[], by: object): void {
    if (!key.startsWith(grpcKey)) this.#publisher.demand?.(key, hosts, by);
  }

  onPublished(run: () => void): () => void {
    this.#watchers.add(run);
    return () => this.#watchers.delete(run);
  }

  /** What the resources that a client asked for leave undone; none for proxies. */
  shortfalls({ node, ledger }: Session): readonly Shortfall[] {
    if (node?.client !== "grpc") return [];
    const known = grpcShortfallsOf(this.#world(), node.snapshotKey.slice(grpcKey.length));
    const out: Shortfall[] = [];
    for (const type of pushOrder)
      for (const [name, { state }] of known.size === 0 ? [] : ledger.type(type).account())
        if (state === "accepted") out.push(...(known.get(`${type} ${name}`) ?? []));
    return out;
  }

  /** The mesh has changed. */
  published(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}
