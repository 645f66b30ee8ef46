// Owns: turning messages into content-addressed resources, putting a workload's resources together, and checking that the set is closed:
// whatever a resource names is there too. Never publishes.

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { toBinary } from "@bufbuild/protobuf";
import type { XdsResource, XdsSnapshot, XdsType } from "../wire/xds-types.ts";

/** 96 bits of SHA-256: equal versions mean equal bytes, also against someone who tries. */
const versionChars = 24;

export function resourceOfBytes(type: XdsType, name: string, value: Uint8Array): XdsResource {
  const version = new Bun.CryptoHasher("sha256").update(value).digest("hex").slice(0, versionChars);
  return { type, name, version, value };
}

export function resourceOfMessage<D extends DescMessage>(type: XdsType, name: string, schema: D, message: MessageShape<D>): XdsResource {
  return resourceOfBytes(type, name, toBinary(schema, message));
}

/** What one resource needs of others, by name. */
export interface References {
  readonly clusters?: readonly string[];
  readonly routes?: readonly string[];
}

/** The compiler contradicts itself: a resource names another that is not in the snapshot. A bug of ours, never of the user's. */
export class OpenSnapshotError extends Error {
  override readonly name = "OpenSnapshotError";
}

/** Throws OpenSnapshotError unless every reference of `references` is in `snapshot`. */
export function checkClosed(snapshot: XdsSnapshot, references: readonly References[]): void {
  const { cluster, route } = snapshot.resources;
  for (const { clusters = [], routes = [] } of references) {
    for (const name of clusters)
      if (!cluster.has(name)) throw new OpenSnapshotError(`snapshot of ${snapshot.workload} names cluster ${name}, which is not in it`);
    for (const name of routes)
      if (!route.has(name))
        throw new OpenSnapshotError(`snapshot of ${snapshot.workload} names route configuration ${name}, which is not in it`);
  }
}

/** Throws OpenSnapshotError unless every backend of a route has its cluster, or is known to have none. */
export function checkBackends(
  route: string,
  backends: readonly { readonly cluster: string; readonly missing: boolean }[],
  clusters: ReadonlyMap<string, unknown>,
): void {
  for (const { cluster, missing } of backends) {
    if (clusters.has(cluster) === missing)
      throw new OpenSnapshotError(
        `route ${route} names cluster ${cluster}, which is ${missing ? "there but must not be used" : "not there"}`,
      );
  }
}

/**
 * Two maps seen as one, `first` before `second`; their keys must not overlap. Thousands of workloads share the mesh's clusters: copying
 * them for each would cost a thousand entries a workload.
 */
export class JoinedMap<V> implements ReadonlyMap<string, V> {
  readonly #first: ReadonlyMap<string, V>;
  readonly #second: ReadonlyMap<string, V>;

  constructor(first: ReadonlyMap<string, V>, second: ReadonlyMap<string, V>) {
    this.#first = first;
    this.#second = second;
  }

  /** The two, for those who can work on each alone and remember it. */
  get parts(): readonly [ReadonlyMap<string, V>, ReadonlyMap<string, V>] {
    return [this.#first, this.#second];
  }

  get size(): number {
    return this.#first.size + this.#second.size;
  }

  get(key: string): V | undefined {
    return this.#first.get(key) ?? this.#second.get(key);
  }

  has(key: string): boolean {
    return this.#first.has(key) || this.#second.has(key);
  }

  forEach(run: (value: V, key: string, map: ReadonlyMap<string, V>) => void): void {
    for (const [key, value] of this) run(value, key, this);
  }

  *entries(): MapIterator<[string, V]> {
    yield* this.#first.entries();
    yield* this.#second.entries();
  }

  *keys(): MapIterator<string> {
    yield* this.#first.keys();
    yield* this.#second.keys();
  }

  *values(): MapIterator<V> {
    yield* this.#first.values();
    yield* this.#second.values();
  }

  [Symbol.iterator](): MapIterator<[string, V]> {
    return this.entries();
  }
}
