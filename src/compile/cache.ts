// Owns: encoded resources of the last compile, by everything they were made from, so that a compile encodes only what changed.
// It changes no result: a key holds all inputs of its value (a property test compares cached and fresh compiles). Bounded by one compile's resources.

/** Pass the same one to each `compileAll` of one mesh. Not to be shared between meshes compiled in turn: each would sweep the other's entries. */
export class CompileCache {
  #last = new Map<string, unknown>();
  #next = new Map<string, unknown>();

  /** The value made under `key`, now or in the last compile. `key` must hold everything that `make` reads. */
  of<V>(key: string, make: () => V): V {
    let found = this.#next.get(key) as V | undefined;
    if (found !== undefined) return found;
    found = (this.#last.get(key) as V | undefined) ?? make();
    this.#next.set(key, found);
    return found;
  }

  /**
   * Like `of` for a value made of many parts: reused while every part is the very same object as last time, which is cheaper to tell than to
   * write down.
   */
  joined<P, V>(key: string, parts: readonly P[], make: () => V): V {
    const known = (this.#next.get(key) ?? this.#last.get(key)) as { readonly parts: readonly P[]; readonly value: V } | undefined;
    const same = known !== undefined && known.parts.length === parts.length && known.parts.every((part, at) => part === parts[at]);
    const entry = same ? known : { parts, value: make() };
    this.#next.set(key, entry);
    return entry.value;
  }

  /** End of a compile: forgets what it did not use. */
  sweep(): void {
    this.#last = this.#next;
    this.#next = new Map();
  }
}
