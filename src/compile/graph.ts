// Owns: values that know what they were made from. A cell is either an input, set from outside, or computed; what a computation reads is
// recorded by the reading itself, so that a change makes stale exactly what it can reach, and nobody can forget to declare a dependency.
// Knows nothing of meshes. No clock, no I/O. Nothing is computed before somebody asks for it.
// How it works: a change marks its readers stale and their readers suspect; asking for a suspect value first asks what it was made from, and
// where none of that turned out different the value stands ("early cutoff").

const fresh = 0;
/** Something further up may have changed. */
const suspect = 1;
/** Something it was made from has changed. */
const stale = 2;
type State = typeof fresh | typeof suspect | typeof stale;

/** A value that depends, directly or not, on itself. A bug of whoever wrote the computations. */
export class CircularError extends Error {
  override readonly name = "CircularError";
}

export class Graph {
  /** Whose computation runs now; undefined = a reader whom nobody records. */
  running: Cell<unknown> | undefined;
  /** Watched cells that a change may have reached, in no order. */
  readonly touched = new Set<Cell<unknown>>();
  /** Cells that may have lost their last reader. */
  readonly loose = new Set<Cell<unknown>>();
  /** Computations run so far; tests count them. */
  computations = 0;
  #runs = 0;

  nextRun(): number {
    return ++this.#runs;
  }

  /** Runs `read` without recording what it reads for the computation under way. For words to people, never for a value. */
  untracked<V>(read: () => V): V {
    const outer = this.running;
    this.running = undefined;
    try {
      return read();
    } finally {
      this.running = outer;
    }
  }

  /** Forgets computed values that nobody reads any more. Values read from outside only since the last sweep go too: they are computed again. */
  sweep(): void {
    for (const cell of this.loose) {
      this.loose.delete(cell);
      cell.release();
    }
  }
}

export class Cell<V> {
  readonly #graph: Graph;
  /** undefined = an input. */
  readonly #compute: (() => V) | undefined;
  readonly #same: (a: V, b: V) => boolean;
  /** Takes the cell out of wherever it is kept. */
  readonly #forget: (() => void) | undefined;
  readonly #readers = new Set<Cell<unknown>>();
  #sources: Cell<unknown>[] = [];
  #value: V;
  #state: State;
  #made = false;
  #watched = false;
  /** The computation that has recorded this cell last: reading twice is recorded once. */
  #seenBy = 0;

  private constructor(
    graph: Graph,
    value: V | undefined,
    compute: (() => V) | undefined,
    same: (a: V, b: V) => boolean,
    forget: (() => void) | undefined,
  ) {
    this.#graph = graph;
    this.#compute = compute;
    this.#same = same;
    this.#forget = forget;
    this.#value = value as V;
    this.#state = compute === undefined ? fresh : stale;
    if (forget !== undefined) graph.loose.add(this as Cell<unknown>);
  }

  static input<V>(graph: Graph, value: V, same: (a: V, b: V) => boolean = Object.is, forget?: () => void): Cell<V> {
    return new Cell<V>(graph, value, undefined, same, forget);
  }

  /** `same`: values that nobody needs to tell apart; the older one then stays. */
  static computed<V>(graph: Graph, compute: () => V, same: (a: V, b: V) => boolean = Object.is, forget?: () => void): Cell<V> {
    return new Cell<V>(graph, undefined, compute, same, forget);
  }

  /** The value now. Whoever computes meanwhile depends on it from here on. Throws what the computation throws; the next read tries again. */
  read(): V {
    const reader = this.#graph.running;
    if (reader !== undefined) reader.#record(this as Cell<unknown>);
    this.#refresh();
    return this.#value;
  }

  /** The value now, without depending on it. */
  peek(): V {
    this.#refresh();
    return this.#value;
  }

  /** Of an input. */
  set(value: V): void {
    if (this.#same(this.#value, value)) return;
    this.#value = value;
    this.#mark();
  }

  /** Of an input: a value that says the same to every computation, but should be what is read from now on. */
  replace(value: V): void {
    this.#value = value;
  }

  /** Of an input: readers are told although the value is the same object, for it has changed inside. */
  changed(): void {
    this.#mark();
  }

  /** Has the graph list this cell among `touched` whenever a change may have reached it. */
  watch(): void {
    this.#watched = true;
    if (this.#state !== fresh) this.#graph.touched.add(this as Cell<unknown>);
  }

  unwatch(): void {
    this.#watched = false;
    this.#graph.touched.delete(this as Cell<unknown>);
    this.#loosen();
  }

  /** Nobody reads it and nobody watches it: gives back what it was made from. */
  release(): void {
    if (this.#watched || this.#readers.size > 0) return;
    for (const source of this.#sources) {
      source.#readers.delete(this as Cell<unknown>);
      source.#loosen();
    }
    this.#sources = [];
    if (this.#compute !== undefined) this.#state = stale;
    this.#forget?.();
  }

  #loosen(): void {
    if (this.#forget !== undefined && this.#readers.size === 0 && !this.#watched) this.#graph.loose.add(this as Cell<unknown>);
  }

  #pending: Cell<unknown>[] | undefined;
  #run = 0;

  #record(source: Cell<unknown>): void {
    if (source.#seenBy === this.#run) return;
    source.#seenBy = this.#run;
    this.#pending?.push(source);
  }

  #refresh(): void {
    if (this.#state === fresh) return;
    if (this.#state === suspect) {
      // In the order in which they were read: a later one may only make sense where the earlier ones stand.
      for (const source of this.#sources) {
        source.#refresh();
        if ((this.#state as State) === stale) break;
      }
      if (this.#state === suspect) {
        this.#state = fresh;
        return;
      }
    }
    this.#recompute();
  }

  #recompute(): void {
    if (this.#pending !== undefined) throw new CircularError("a value is made from itself");
    const graph = this.#graph;
    const outer = graph.running;
    const before = this.#sources;
    const sources: Cell<unknown>[] = [];
    this.#pending = sources;
    this.#run = graph.nextRun();
    graph.running = this as Cell<unknown>;
    graph.computations++;
    let value: V;
    try {
      value = this.#compute!();
    } finally {
      // Also after a failure: the next change to what was read so far is what may end it.
      graph.running = outer;
      this.#pending = undefined;
      this.#link(before, sources);
    }
    this.#state = fresh;
    if (this.#made && this.#same(this.#value, value)) return;
    const first = !this.#made;
    this.#made = true;
    this.#value = value;
    if (!first) for (const reader of this.#readers) reader.#state = stale;
  }

  #link(before: readonly Cell<unknown>[], after: Cell<unknown>[]): void {
    this.#sources = after;
    if (before.length === after.length && before.every((source, at) => source === after[at])) return;
    const kept = new Set(after);
    for (const source of after) source.#readers.add(this as Cell<unknown>);
    for (const source of before) {
      if (kept.has(source)) continue;
      source.#readers.delete(this as Cell<unknown>);
      source.#loosen();
    }
  }

  #mark(): void {
    const graph = this.#graph;
    const work: Cell<unknown>[] = [];
    for (const reader of this.#readers) {
      if (reader.#state === fresh) work.push(reader);
      reader.#state = stale;
    }
    for (let cell = work.pop(); cell !== undefined; cell = work.pop()) {
      if (cell.#watched) graph.touched.add(cell);
      for (const reader of cell.#readers) {
        if (reader.#state !== fresh) continue;
        reader.#state = suspect;
        work.push(reader);
      }
    }
  }
}

/** Computed cells of one kind by a text key, made when they are asked for and forgotten when nobody reads them. */
export class Family<V> {
  readonly #graph: Graph;
  readonly #compute: (key: string) => V;
  readonly #same: (a: V, b: V) => boolean;
  readonly #cells = new Map<string, Cell<V>>();

  constructor(graph: Graph, compute: (key: string) => V, same: (a: V, b: V) => boolean = Object.is) {
    this.#graph = graph;
    this.#compute = compute;
    this.#same = same;
  }

  get size(): number {
    return this.#cells.size;
  }

  cell(key: string): Cell<V> {
    let cell = this.#cells.get(key);
    if (cell === undefined) {
      cell = Cell.computed(
        this.#graph,
        () => this.#compute(key),
        this.#same,
        () => this.#cells.delete(key),
      );
      this.#cells.set(key, cell);
    }
    return cell;
  }
}
