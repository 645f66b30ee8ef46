// Owns: turning messages into content-addressed resources, telling resources and maps of them apart, and joining maps. Never publishes.

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { toBinary } from "@bufbuild/protobuf";
import type { StreamType, XdsResource } from "../wire/xds-types.ts";

/** 96 bits of SHA-256: equal versions mean equal bytes, also against someone who tries. */
const versionChars = 24;

export function resourceOfBytes(type: StreamType, name: string, value: Uint8Array): XdsResource {
  const version = new Bun.CryptoHasher("sha256").update(value).digest("hex").slice(0, versionChars);
  return { type, name, version, value };
}

export function resourceOfMessage<D extends DescMessage>(type: StreamType, name: string, schema: D, message: MessageShape<D>): XdsResource {
  return resourceOfBytes(type, name, toBinary(schema, message));
}

/** The compiler contradicts itself: a resource names another that is not in the snapshot. A bug of ours, never of the user's. */
export class OpenSnapshotError extends Error {
  override readonly name = "OpenSnapshotError";
}

/** The same bytes under the same name. */
export function sameResource(a: XdsResource | undefined, b: XdsResource | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && a.version === b.version && a.name === b.name);
}

/** The same resources under the same names, in any order. */
export function sameMap(a: ReadonlyMap<string, XdsResource>, b: ReadonlyMap<string, XdsResource>): boolean {
  if (a === b) return true;
  if (a instanceof JoinedMap && b instanceof JoinedMap) {
    const [first, second] = [a.parts, b.parts] as readonly (readonly ReadonlyMap<string, XdsResource>[])[];
    return first!.every((part, at) => sameMap(part, second![at]!));
  }
  if (a.size !== b.size) return false;
  for (const [name, resource] of a) if (!sameResource(resource, b.get(name))) return false;
  return true;
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
