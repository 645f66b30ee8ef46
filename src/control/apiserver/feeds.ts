// Owns: where objects are read from: the store's feed, and the mirror that gives live state (virtual kinds) revisions and events.
// Never writes.

import { type KindDefinition, type KubeObject, resourceOf } from "../../api/meta.ts";
import { CompactedError, type ObjectKey, type Revision, type Store, type StoreEvent, type WatchHandle } from "../store/store.ts";
import type { Feed } from "./core.ts";
import type { VirtualSource } from "./deps.ts";

export function storeFeed(store: Store, resource: string): Feed {
  return {
    list: (namespace) => store.list(resource, namespace),
    listAt: async (revision, namespace, after) => (await store.listAt(revision, resource, namespace, after)).items,
    get: (namespace, name) => store.get({ resource, namespace, name }),
    revision: () => store.revision(),
    watch: (from, onEvent, onProgress) =>
      store.watch(from, undefined, (event) => {
        if (event.key.resource === resource) onEvent(event);
        onProgress(event.revision);
      }),
  };
}

/** A feed with objects that are part of the program before those of the store. They never change, and no store object has such a name. */
export function withBuiltins(feed: Feed, builtin: readonly KubeObject[]): Feed {
  const merged = (items: readonly KubeObject[]) => [...builtin, ...items].sort((a, b) => compare(a.metadata.name, b.metadata.name));
  return {
    list: async (namespace) => {
      const { items, revision } = await feed.list(namespace);
      return { items: merged(items), revision };
    },
    listAt: async (revision, namespace, after) => {
      const items = await feed.listAt(revision, namespace, after);
      return merged(items).filter((each) => after === undefined || each.metadata.name > after.name);
    },
    get: async (namespace, name) => builtin.find((each) => each.metadata.name === name) ?? (await feed.get(namespace, name)),
    revision: () => feed.revision(),
    watch: (from, onEvent, onProgress) => feed.watch(from, onEvent, onProgress),
  };
}

/** How many changes of live state are kept for a client that lists and then watches. */
const mirrorHistory = 2000;

interface Mirrored {
  readonly text: string;
  readonly object: KubeObject;
}

/** Numbers the changes of one virtual kind. Compares only while somebody looks. */
export class VirtualMirror implements Feed {
  readonly #source: VirtualSource;
  readonly #kind: KindDefinition;
  readonly #resource: string;
  readonly #watchers = new Set<(event: StoreEvent) => void>();
  #objects = new Map<string, Mirrored>();
  #history: StoreEvent[] = [];
  #revision: Revision;
  #oldest: Revision;
  #unsubscribe: (() => void) | undefined;

  /** `start`: larger than any revision an earlier process may have given out, so that its watchers are told to list anew. */
  constructor(source: VirtualSource, kind: KindDefinition, start: Revision) {
    this.#source = source;
    this.#kind = kind;
    this.#resource = resourceOf(kind);
    this.#revision = start;
    this.#oldest = start + 1;
  }

  async list(namespace: string | undefined): Promise<{ items: readonly KubeObject[]; revision: Revision }> {
    this.#refresh();
    const items = [...this.#objects.values()]
      .map((each) => each.object)
      .filter((each) => namespace === undefined || (each.metadata.namespace ?? "") === namespace);
    items.sort((a, b) => compare(a.metadata.namespace ?? "", b.metadata.namespace ?? "") || compare(a.metadata.name, b.metadata.name));
    return { items, revision: this.#revision };
  }

  async listAt(
    _revision: Revision,
    namespace: string | undefined,
    after: { readonly namespace: string; readonly name: string } | undefined,
  ): Promise<readonly KubeObject[]> {
    const { items } = await this.list(namespace);
    if (after === undefined) return items;
    return items.filter(({ metadata }) => (compare(metadata.namespace ?? "", after.namespace) || compare(metadata.name, after.name)) > 0);
  }

  async get(namespace: string, name: string): Promise<KubeObject | undefined> {
    this.#refresh();
    return this.#objects.get(`${namespace}/${name}`)?.object;
  }

  async revision(): Promise<Revision> {
    this.#refresh();
    return this.#revision;
  }

  async watch(from: Revision, onEvent: (event: StoreEvent) => void, onProgress: (revision: Revision) => void): Promise<WatchHandle> {
    this.#refresh();
    if (from + 1 < this.#oldest) throw new CompactedError(this.#oldest);
    const deliver = (event: StoreEvent) => {
      onEvent(event);
      onProgress(event.revision);
    };
    for (const event of this.#history) if (event.revision > from) deliver(event);
    this.#watchers.add(deliver);
    this.#unsubscribe ??= this.#source.subscribe(this.#resource, () => this.#refresh());
    return {
      stop: () => {
        this.#watchers.delete(deliver);
        if (this.#watchers.size > 0) return;
        this.#unsubscribe?.();
        this.#unsubscribe = undefined;
      },
    };
  }

  #refresh(): void {
    const events: StoreEvent[] = [];
    const now = new Map<string, Mirrored>();
    for (const raw of this.#source.list(this.#resource)) {
      const id = `${raw.metadata.namespace ?? ""}/${raw.metadata.name}`;
      const text = JSON.stringify(raw);
      const was = this.#objects.get(id);
      if (was?.text === text) {
        now.set(id, was);
        continue;
      }
      const event = this.#event(was === undefined ? "added" : "modified", raw);
      events.push(event);
      now.set(id, { text, object: event.object });
    }
    for (const [id, was] of this.#objects) if (!now.has(id)) events.push(this.#event("deleted", was.object));
    this.#objects = now;
    if (events.length === 0) return;
    this.#history.push(...events);
    if (this.#history.length > mirrorHistory) {
      const dropped = this.#history.splice(0, this.#history.length - mirrorHistory);
      this.#oldest = (dropped.at(-1)?.revision ?? 0) + 1;
    }
    for (const event of events) for (const deliver of [...this.#watchers]) deliver(event);
  }

  #event(type: StoreEvent["type"], raw: KubeObject): StoreEvent {
    const revision = ++this.#revision;
    const key: ObjectKey = { resource: this.#resource, namespace: raw.metadata.namespace ?? "", name: raw.metadata.name };
    const object = { ...raw, kind: this.#kind.kind, metadata: { ...raw.metadata, resourceVersion: String(revision) } };
    return { type, key, object, revision };
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
