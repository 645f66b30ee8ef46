// Owns: what becomes of objects whose owner is gone or going (metadata.ownerReferences), and the two finalizers by which a deletion asks for
// more than that: `orphan` and `foregroundDeletion`. As Kubernetes' garbage collector does it.
// Never deletes an object while one of its owners is there, or is of a kind that is not served here.

import { type KindDefinition, type KubeObject, type OwnerReference, resourceOf } from "../api/meta.ts";
import type { Clock, Timer } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { ObjectKey, Store, StoreEvent, WatchHandle } from "./store/store.ts";

/** The deletion leaves dependents alive and takes their reference to this object away. */
export const orphanFinalizer = "orphan";
/** The object stays until the dependents that block its deletion are gone. */
export const foregroundFinalizer = "foregroundDeletion";

/** The name under which its writes stand in the history. */
export const collectorName = "system:garbage-collector";

export interface CollectorDeps {
  readonly store: Store;
  readonly kinds: readonly KindDefinition[];
  readonly clock: Clock;
  readonly log: Logger;
}

/** After a failed write (the medium): everything is looked at again so much later. */
const retryMs = 5_000;
const maxTries = 8;

export class Collector {
  readonly #deps: CollectorDeps;
  /** Keys of dependents by their owners' uids. Only objects with owners stand here. */
  readonly #dependents = new Map<string, Map<string, ObjectKey>>();
  readonly #ownersOf = new Map<string, readonly string[]>();
  /** To be looked at, each once; in order. */
  readonly #queue = new Map<string, ObjectKey>();
  #watch: WatchHandle | undefined;
  #retry: Timer | undefined;
  #working: Promise<void> = Promise.resolve();
  #busy = false;
  #stopped = false;

  constructor(deps: CollectorDeps) {
    this.#deps = deps;
  }

  /** Looks at everything once, then follows the store. */
  async start(): Promise<void> {
    const { items, revision } = await this.#deps.store.listAll();
    for (const { key, object } of items) this.#note(key, object);
    this.#watch = await this.#deps.store.watch(revision, undefined, (event) => this.#onEvent(event));
    this.#work();
  }

  /** Ends the watch and waits for the write under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#watch?.stop();
    this.#retry?.cancel();
    await this.#working;
  }

  #onEvent({ type, key, object }: StoreEvent): void {
    if (type !== "deleted") this.#note(key, object);
    else {
      this.#forget(key);
      const { uid } = object.metadata;
      for (const [text, dependent] of this.#dependents.get(uid ?? "") ?? []) this.#queue.set(text, dependent);
      // Whoever waits for this one to go.
      for (const owner of object.metadata.ownerReferences ?? []) this.#queueOwner(owner, key.namespace);
    }
    this.#work();
  }

  #note(key: ObjectKey, object: KubeObject): void {
    const { ownerReferences = [], deletionTimestamp, finalizers = [] } = object.metadata;
    this.#forget(key);
    if (ownerReferences.length > 0) {
      const text = textKey(key);
      this.#ownersOf.set(
        text,
        ownerReferences.map(({ uid }) => uid),
      );
      for (const { uid } of ownerReferences) {
        const known = this.#dependents.get(uid) ?? new Map<string, ObjectKey>();
        this.#dependents.set(uid, known.set(text, key));
      }
      this.#queue.set(text, key);
    }
    if (deletionTimestamp !== undefined && finalizers.some((each) => each === orphanFinalizer || each === foregroundFinalizer))
      this.#queue.set(textKey(key), key);
  }

  #forget(key: ObjectKey): void {
    const text = textKey(key);
    for (const uid of this.#ownersOf.get(text) ?? []) {
      const known = this.#dependents.get(uid);
      known?.delete(text);
      if (known?.size === 0) this.#dependents.delete(uid);
    }
    this.#ownersOf.delete(text);
  }

  #queueOwner(owner: OwnerReference, namespace: string): void {
    const key = this.#keyOf(owner, namespace);
    if (key !== undefined) this.#queue.set(textKey(key), key);
  }

  #work(): void {
    if (this.#busy || this.#stopped || this.#queue.size === 0) return;
    this.#busy = true;
    this.#working = this.#drain().finally(() => {
      this.#busy = false;
      if (this.#retry === undefined) this.#work();
    });
  }

  async #drain(): Promise<void> {
    for (const [text, key] of this.#queue) {
      if (this.#stopped) return;
      this.#queue.delete(text);
      try {
        await this.#look(key);
      } catch (cause) {
        this.#deps.log.error({ cause, ...key }, "An object could not be looked at for its owners; it is tried again");
        this.#queue.set(text, key);
        this.#retry ??= this.#deps.clock.after(retryMs, () => {
          this.#retry = undefined;
          this.#work();
        });
        return;
      }
    }
  }

  async #look(key: ObjectKey): Promise<void> {
    const object = await this.#deps.store.get(key);
    if (object === undefined) return;
    const finalizers = object.metadata.finalizers ?? [];
    if (object.metadata.deletionTimestamp !== undefined) {
      if (finalizers.includes(orphanFinalizer)) return this.#orphan(key, object);
      if (finalizers.includes(foregroundFinalizer)) return this.#foreground(key, object);
      return;
    }
    const owners = object.metadata.ownerReferences ?? [];
    if (owners.length === 0) return;
    const states = await Promise.all(owners.map((owner) => this.#stateOf(owner, key.namespace)));
    const gone = owners.filter((_, at) => states[at] === "gone");
    const waiting = owners.some((owner, at) => states[at] === "waiting" && owner.blockOwnerDeletion === true);
    if (gone.length > 0 && gone.length < owners.length) {
      // Others still own it.
      const left = new Set(gone.map(({ uid }) => uid));
      await this.#change(key, (now) => withoutOwners(now, left));
      return;
    }
    if (gone.length === owners.length || (waiting && states.every((state) => state === "waiting" || state === "gone"))) {
      const has = (this.#dependents.get(object.metadata.uid ?? "")?.size ?? 0) > 0;
      await this.#delete(key, object.metadata.uid, waiting && has);
    }
  }

  /** `waiting` = there, being deleted, and held until its dependents are gone. A kind that is not served here is never gone. */
  async #stateOf(owner: OwnerReference, namespace: string): Promise<"there" | "waiting" | "gone"> {
    const key = this.#keyOf(owner, namespace);
    if (key === undefined) return "there";
    const found = await this.#deps.store.get(key);
    if (found === undefined || found.metadata.uid !== owner.uid) return "gone";
    const held = found.metadata.deletionTimestamp !== undefined && found.metadata.finalizers?.includes(foregroundFinalizer) === true;
    return held ? "waiting" : "there";
  }

  /** Owners live in the dependent's namespace, or in none. */
  #keyOf(owner: OwnerReference, namespace: string): ObjectKey | undefined {
    const slash = owner.apiVersion.indexOf("/");
    const group = slash < 0 ? "" : owner.apiVersion.slice(0, slash);
    const kind = this.#deps.kinds.find((each) => each.kind === owner.kind && each.group === group && !each.virtual);
    if (kind === undefined) return undefined;
    return { resource: resourceOf(kind), namespace: kind.namespaced ? namespace : "", name: owner.name };
  }

  async #orphan(key: ObjectKey, owner: KubeObject): Promise<void> {
    const uids = new Set([owner.metadata.uid ?? ""]);
    for (const dependent of [...(this.#dependents.get(owner.metadata.uid ?? "")?.values() ?? [])])
      await this.#change(dependent, (now) => withoutOwners(now, uids));
    await this.#change(key, (now) => withoutFinalizer(now, orphanFinalizer));
  }

  async #foreground(key: ObjectKey, owner: KubeObject): Promise<void> {
    const { uid = "" } = owner.metadata;
    let blocked = false;
    for (const [text, dependent] of [...(this.#dependents.get(uid) ?? [])]) {
      const object = await this.#deps.store.get(dependent);
      const reference = object?.metadata.ownerReferences?.find((each) => each.uid === uid);
      if (object === undefined || reference === undefined) continue;
      if (reference.blockOwnerDeletion === true) blocked = true;
      if (object.metadata.deletionTimestamp === undefined) this.#queue.set(text, dependent);
    }
    if (!blocked) await this.#change(key, (now) => withoutFinalizer(now, foregroundFinalizer));
  }

  async #delete(key: ObjectKey, uid: string | undefined, foreground: boolean): Promise<void> {
    await this.#change(key, (now) => {
      if (now.metadata.uid !== uid || now.metadata.deletionTimestamp !== undefined) return undefined;
      const finalizers = [...(now.metadata.finalizers ?? []), ...(foreground ? [foregroundFinalizer] : [])];
      const at = `${new Date(this.#deps.clock.now()).toISOString().slice(0, 19)}Z`;
      return { ...now, metadata: { ...now.metadata, finalizers, deletionTimestamp: at, deletionGracePeriodSeconds: 0 } };
    });
  }

  /** Writes what `make` says; an object that is being deleted and that no finalizer holds goes. undefined = leave it. */
  async #change(key: ObjectKey, make: (now: KubeObject) => KubeObject | undefined): Promise<void> {
    const { store } = this.#deps;
    for (let attempt = 1; attempt <= maxTries; attempt++) {
      const now = await store.get(key);
      const next = now === undefined ? undefined : make(now);
      if (now === undefined || next === undefined) return;
      const expected = Number(now.metadata.resourceVersion);
      const gone = next.metadata.deletionTimestamp !== undefined && (next.metadata.finalizers?.length ?? 0) === 0;
      const result = gone ? await store.delete(key, expected, collectorName) : await store.update(key, next, expected, collectorName);
      if (result.ok || result.reason !== "conflict") return;
    }
    throw new Error(`${key.resource} ${key.namespace}/${key.name} changes faster than it can be written`);
  }
}

function withoutOwners(object: KubeObject, uids: ReadonlySet<string>): KubeObject {
  const { ownerReferences = [], ...metadata } = object.metadata;
  const left = ownerReferences.filter(({ uid }) => !uids.has(uid));
  return { ...object, metadata: { ...metadata, ...(left.length > 0 && { ownerReferences: left }) } };
}

function withoutFinalizer(object: KubeObject, name: string): KubeObject {
  const { finalizers = [], ...metadata } = object.metadata;
  const left = finalizers.filter((each) => each !== name);
  return { ...object, metadata: { ...metadata, ...(left.length > 0 && { finalizers: left }) } };
}

function textKey(key: ObjectKey): string {
  return `${key.resource}/${key.namespace}/${key.name}`;
}
