// Owns: a store that keeps writes to itself over another store, so that several requests are judged as one and written in one transaction.
// Reads see what was staged. Never writes to the store below: who made it does, with `writes`.

import type { KubeObject } from "../../api/meta.ts";
import type { ObjectKey, Revision, Store, Write, WriteResult } from "../store/store.ts";

interface Slot {
  readonly key: ObjectKey;
  /** As it is in the store below; undefined = not there. */
  readonly before: KubeObject | undefined;
  /** undefined = deleted. */
  after: KubeObject | undefined;
}

/** What becomes of one object. */
export interface StagedChange {
  readonly key: ObjectKey;
  readonly before: KubeObject | undefined;
  readonly after: KubeObject | undefined;
}

export class StagedStore {
  readonly #below: Store;
  readonly #slots = new Map<string, Slot>();
  /** Staged objects carry revisions beyond all real ones, so that compare-and-set works among them. */
  #revision: Revision = Number.MAX_SAFE_INTEGER / 2;

  constructor(below: Store) {
    this.#below = below;
  }

  /** A view with the whole interface; history and watches are those of the store below. */
  asStore(): Store {
    const below = this.#below;
    return {
      revision: () => below.revision(),
      get: async (key) => (await this.#slot(key)).after,
      list: async (resource, namespace) => {
        const { items, revision } = await below.list(resource, namespace);
        return { items: this.#over(items, resource, namespace), revision };
      },
      listAll: async () => {
        const { items, revision } = await below.listAll();
        const staged = [...this.#slots.values()];
        const kept = items.filter(({ key }) => !this.#slots.has(textKey(key)));
        return { items: [...kept, ...staged.flatMap(({ key, after }) => (after === undefined ? [] : [{ key, object: after }]))], revision };
      },
      listAt: (revision, resource, namespace, after) => below.listAt(revision, resource, namespace, after),
      listAllAt: (revision) => below.listAllAt(revision),
      history: (query) => below.history(query),
      oldest: () => below.oldest(),
      create: async (key, object) => {
        const slot = await this.#slot(key);
        return slot.after === undefined ? this.#put(slot, object) : { ok: false, reason: "exists" };
      },
      update: (key, object, expected) => this.#replace(key, object, expected),
      delete: (key, expected) => this.#replace(key, undefined, expected),
      transact: () => Promise.reject(new Error("a staged store takes single writes")),
      backup: () => Promise.reject(new Error("a staged store has nothing to copy")),
      watch: (from, resource, onEvent) => below.watch(from, resource, onEvent),
      compact: () => Promise.resolve(),
      close: () => Promise.resolve(),
    };
  }

  /** Objects that differ from the store below, in the order in which they were first touched. */
  changes(): readonly StagedChange[] {
    return [...this.#slots.values()].filter(({ before, after }) => before !== after);
  }

  /** What to write below; each write expects what was read. */
  writes(): readonly Write[] {
    return this.changes().flatMap(({ key, before, after }): Write[] => {
      const expected = Number(before?.metadata.resourceVersion);
      if (after === undefined) return before === undefined ? [] : [{ verb: "delete", key, expected }];
      return [before === undefined ? { verb: "create", key, object: after } : { verb: "update", key, object: after, expected }];
    });
  }

  async #slot(key: ObjectKey): Promise<Slot> {
    const text = textKey(key);
    let slot = this.#slots.get(text);
    if (slot === undefined) {
      const before = await this.#below.get(key);
      slot = { key, before, after: before };
      this.#slots.set(text, slot);
    }
    return slot;
  }

  #put(slot: Slot, object: KubeObject): WriteResult {
    const revision = ++this.#revision;
    slot.after = { ...structuredClone(object), metadata: { ...structuredClone(object.metadata), resourceVersion: String(revision) } };
    return { ok: true, object: structuredClone(slot.after), revision };
  }

  async #replace(key: ObjectKey, object: KubeObject | undefined, expected: Revision | undefined): Promise<WriteResult> {
    const slot = await this.#slot(key);
    if (slot.after === undefined) return { ok: false, reason: "missing" };
    const current = Number(slot.after.metadata.resourceVersion);
    if (expected !== undefined && expected !== current) return { ok: false, reason: "conflict", current };
    if (object !== undefined) return this.#put(slot, object);
    const gone = slot.after;
    slot.after = undefined;
    return { ok: true, object: gone, revision: ++this.#revision };
  }

  #over(items: readonly KubeObject[], resource: string, namespace: string | undefined): KubeObject[] {
    const key = (object: KubeObject) => textKey({ resource, namespace: object.metadata.namespace ?? "", name: object.metadata.name });
    const kept = items.filter((object) => !this.#slots.has(key(object)));
    for (const slot of this.#slots.values()) {
      if (slot.key.resource !== resource || (namespace !== undefined && slot.key.namespace !== namespace)) continue;
      if (slot.after !== undefined) kept.push(slot.after);
    }
    return kept;
  }
}

function textKey(key: ObjectKey): string {
  return `${key.resource}/${key.namespace}/${key.name}`;
}
