// Owns: the objects that the compiler reads, as inputs of the graph: each object a cell, each entry of each index a cell. Who reads an object or
// asks an index is told when that object or that entry changes, and of nothing else. Knows no kind by name (./sources.ts does).

import type { KubeObject } from "../api/meta.ts";
import { Cell, type Graph } from "./graph.ts";

/**
 * One kind that the compiler reads, and what it is looked up by. An index says for an object under which texts it is filed, from the object alone.
 * Besides its own, every kind has the indices `all` (one text, "") and `namespace`.
 */
export interface Source<T extends KubeObject, I extends string = never> {
  /** `Kind.group`, of the core group `Kind.` */
  readonly id: string;
  readonly indices: Readonly<Record<I, (object: T) => readonly string[]>>;
  /** What of its status the compiler reads; a change of anything else there is none. */
  readonly status?: (object: T) => unknown;
}

export function source<T extends KubeObject, I extends string = never>(
  group: string,
  kind: string,
  indices: Readonly<Record<I, (object: T) => readonly string[]>>,
  status?: (object: T) => unknown,
): Source<T, I> {
  return { id: `${kind}.${group}`, indices, ...(status === undefined ? {} : { status }) };
}

export function sourceId(object: Pick<KubeObject, "apiVersion" | "kind">): string {
  const slash = object.apiVersion.indexOf("/");
  return `${object.kind}.${slash < 0 ? "" : object.apiVersion.slice(0, slash)}`;
}

/** What becomes of a change: `unread` is a kind that the compiler does not read, `same` one that no computation can see. */
export type Taken = "unread" | "same" | "changed";

export class Objects {
  readonly #kinds = new Map<string, Filed>();

  constructor(graph: Graph, sources: Iterable<Source<KubeObject, string>>) {
    for (const each of sources) this.#kinds.set(each.id, new Filed(graph, each));
  }

  put(object: KubeObject): Taken {
    return this.#kinds.get(sourceId(object))?.put(keyOf(object), object) ?? "unread";
  }

  /** By what it was: only kind and name are looked at. */
  remove(object: Pick<KubeObject, "apiVersion" | "kind" | "metadata">): Taken {
    return this.#kinds.get(sourceId(object))?.remove(keyOf(object)) ?? "unread";
  }

  of(id: string): Filed {
    const found = this.#kinds.get(id);
    if (found === undefined) throw new Error(`${id} is not in the table of sources`);
    return found;
  }
}

interface Entry {
  readonly members: Set<string>;
  sorted: readonly string[] | undefined;
  readonly cell: Cell<undefined>;
}

const none: readonly string[] = [];

/** The objects of one kind. */
class Filed {
  readonly #graph: Graph;
  readonly #source: Source<KubeObject, string>;
  readonly #objects = new Map<string, Cell<KubeObject | undefined>>();
  readonly #indices: ReadonlyMap<
    string,
    { readonly texts: (object: KubeObject) => readonly string[]; readonly entries: Map<string, Entry> }
  >;

  constructor(graph: Graph, given: Source<KubeObject, string>) {
    this.#graph = graph;
    this.#source = given;
    const all = { all: () => [""], namespace: (object: KubeObject) => [namespaceOf(object)], ...given.indices };
    this.#indices = new Map(Object.entries(all).map(([name, texts]) => [name, { texts, entries: new Map<string, Entry>() }]));
  }

  /** By `NS/NAME`. */
  get(key: string): KubeObject | undefined {
    return this.#cell(key).read();
  }

  /** Keys filed under `text`, sorted. */
  keys(index: string, text: string): readonly string[] {
    const entry = this.#entry(index, text);
    entry.cell.read();
    entry.sorted ??= entry.members.size === 0 ? none : [...entry.members].sort();
    return entry.sorted;
  }

  /** How many keys are filed there, without depending on it: only for choosing between equally right ways. */
  count(index: string, text: string): number {
    return this.#indices.get(index)?.entries.get(text)?.members.size ?? 0;
  }

  put(key: string, object: KubeObject): Taken {
    const cell = this.#cell(key);
    const before = cell.peek();
    if (before !== undefined && this.#readsTheSame(before, object)) {
      cell.replace(object);
      return "same";
    }
    this.#refile(key, before, object);
    cell.set(object);
    return "changed";
  }

  remove(key: string): Taken {
    const cell = this.#objects.get(key);
    const before = cell?.peek();
    if (cell === undefined || before === undefined) return "same";
    this.#refile(key, before, undefined);
    cell.set(undefined);
    this.#graph.loose.add(cell as Cell<unknown>);
    return "changed";
  }

  #cell(key: string): Cell<KubeObject | undefined> {
    let cell = this.#objects.get(key);
    if (cell === undefined) {
      const made: Cell<KubeObject | undefined> = Cell.input<KubeObject | undefined>(this.#graph, undefined, Object.is, () => {
        if (made.peek() === undefined) this.#objects.delete(key);
      });
      cell = made;
      this.#objects.set(key, cell);
    }
    return cell;
  }

  #entry(index: string, text: string): Entry {
    const entries = this.#indices.get(index)?.entries;
    if (entries === undefined) throw new Error(`${this.#source.id} has no index ${index}`);
    let entry = entries.get(text);
    if (entry === undefined) {
      const members = new Set<string>();
      const cell = Cell.input<undefined>(this.#graph, undefined, Object.is, () => {
        if (members.size === 0) entries.delete(text);
      });
      entry = { members, sorted: undefined, cell };
      entries.set(text, entry);
    }
    return entry;
  }

  #refile(key: string, before: KubeObject | undefined, after: KubeObject | undefined): void {
    for (const [name, { texts }] of this.#indices) {
      const olds = before === undefined ? none : texts(before);
      const news = after === undefined ? none : texts(after);
      for (const text of olds) if (!news.includes(text)) this.#file(name, text, key, false);
      for (const text of news) if (!olds.includes(text)) this.#file(name, text, key, true);
    }
  }

  #file(index: string, text: string, key: string, there: boolean): void {
    const entry = this.#entry(index, text);
    if (there) entry.members.add(key);
    else entry.members.delete(key);
    entry.sorted = undefined;
    entry.cell.changed();
    if (entry.members.size === 0) this.#graph.loose.add(entry.cell as Cell<unknown>);
  }

  #readsTheSame(before: KubeObject, after: KubeObject): boolean {
    return Bun.deepEquals(this.#visible(before), this.#visible(after));
  }

  #visible({ metadata, status, ...rest }: KubeObject): unknown {
    const { resourceVersion: _version, managedFields: _fields, ...meta } = metadata;
    return { rest, meta, status: status === undefined ? undefined : this.#source.status?.({ metadata, status, ...rest } as KubeObject) };
  }
}

export type { Filed };

export function namespaceOf(object: Pick<KubeObject, "metadata">): string {
  return object.metadata.namespace ?? "default";
}

/** `NS/NAME` */
export function keyOf(object: Pick<KubeObject, "metadata">): string {
  return `${namespaceOf(object)}/${object.metadata.name}`;
}
