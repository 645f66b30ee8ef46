// Owns: running a compiled regular expression over bytes: a deterministic automaton whose states are made when a request first needs them, so that
// each byte costs one table look, and a byte that leads to a new state at most one walk over the program. Never backtracks: the time is linear in
// the input whatever the pattern (docs/decisions/0021). Never parses an expression: that is regex.ts.

/** An instruction of an RE2 program, as re2js has them. */
export interface Instruction {
  readonly op: number;
  readonly out: number;
  readonly arg: number;
  readonly runes: Int32Array;
  matchRune(rune: number): boolean;
}

export interface Program {
  readonly inst: readonly Instruction[];
  readonly start: number;
}

/** re2js's numbers (its `Inst`), and those of the conditions of `empty` (its `Utils.EMPTY_…`). */
export const op = { alt: 1, altMatch: 2, capture: 3, empty: 4, fail: 5, match: 6, nop: 7, firstRune: 8, lastRune: 11 } as const;
const empty = { beginLine: 1, endLine: 2, beginText: 4, endText: 8, word: 16, noWord: 32 } as const;

/** What stood before the next character. */
const context = { other: 0, start: 1, newline: 2, word: 3 } as const;
const endOfText = -1;

/**
 * Bytes that the states of one expression may take. Real expressions have a dozen states of some hundred bytes. When they are full all are forgotten, once
 * in a value; when they are full again within it, the rest of the value is walked without keeping states, which is linear too (`#simulate`).
 */
const largestMemory = 256 * 1024;

const dead = 0;
const unknown = -1;

function isWord(rune: number): boolean {
  return (rune >= 48 && rune <= 57) || (rune >= 65 && rune <= 90) || rune === 95 || (rune >= 97 && rune <= 122);
}

export class Automaton {
  readonly #program: Program;
  /** ASCII byte -> its class: bytes that no instruction tells apart are one. */
  readonly #classOf = new Uint8Array(128);
  readonly #classes: number;
  readonly #conditional: boolean;
  readonly #lines: boolean;
  readonly #words: boolean;
  #next = new Int32Array(0);
  #sets: Int32Array[] = [];
  #contexts: number[] = [];
  /** -1: not asked yet. */
  #accepts: number[] = [];
  #known = new Map<string, number>();
  #memory = 0;
  #full = false;
  /** Instruction -> where it leads, captures and empty steps skipped. */
  readonly #outs: Int32Array;
  /** Instruction * classes + class -> 1 where it takes the byte. Made for the first value that is walked. */
  #takes: Uint8Array | null = null;
  /** Walks of the program: marks of what was seen in this walk. */
  readonly #seen: Int32Array;
  #walk = 0;
  readonly #stack: Int32Array;

  constructor(program: Program) {
    this.#program = program;
    let conditions = 0;
    for (const one of program.inst) if (one.op === op.empty) conditions |= one.arg;
    this.#conditional = conditions !== 0;
    this.#lines = (conditions & (empty.beginLine | empty.endLine)) !== 0;
    this.#words = (conditions & (empty.word | empty.noWord)) !== 0;
    this.#seen = new Int32Array(program.inst.length);
    this.#stack = new Int32Array(program.inst.length * 2 + 2);
    this.#outs = Int32Array.from(program.inst, (one) => this.#skip(one.out));
    this.#classes = this.#classify();
    this.#reset();
  }

  /** Does the whole of bytes[from, to) match? The bytes are taken as UTF-8; what is none matches nothing, as in RE2. */
  matches(bytes: Uint8Array, from: number, to: number): boolean {
    const classOf = this.#classOf;
    const classes = this.#classes;
    let state = 1;
    let resets = 0;
    for (let i = from; i < to; i++) {
      const byte = bytes[i] as number;
      if (byte < 128) {
        const next = this.#next[state * classes + (classOf[byte] as number)] as number;
        state = next >= 0 ? next : this.#learn(state, byte);
      } else {
        const rune = runeAt(bytes, i, to);
        if (rune < 0) return false;
        i += extra(rune);
        state = this.#step(state, rune);
      }
      if (state === dead) return false;
      if (this.#full) {
        this.#full = false;
        const set = this.#sets[state] as Int32Array;
        const before = this.#contexts[state] as number;
        if (++resets > 1) return this.#simulate(set, before, bytes, i + 1, to);
        this.#reset();
        state = this.#intern(set, before);
      }
    }
    const accepts = this.#accepts[state] as number;
    return (accepts === unknown ? this.#ask(state) : accepts) === 1;
  }

  #skip(from: number): number {
    let pc = from;
    for (;;) {
      const one = this.#program.inst[pc] as Instruction;
      if (one.op !== op.capture && one.op !== op.nop) return pc;
      pc = one.out;
    }
  }

  #reset(): void {
    this.#next = new Int32Array(16 * this.#classes).fill(unknown);
    this.#next.fill(dead, 0, this.#classes);
    this.#sets = [];
    this.#contexts = [];
    this.#accepts = [];
    this.#known = new Map();
    this.#memory = 0;
    this.#add("", new Int32Array(0), context.other);
    this.#accepts[dead] = 0;
    const start = this.#leaves(Int32Array.of(this.#program.start), 0);
    this.#add("start", start, context.start);
  }

  #add(key: string, set: Int32Array, before: number): number {
    const id = this.#sets.length;
    this.#sets.push(set);
    this.#contexts.push(before);
    this.#accepts.push(unknown);
    this.#known.set(key, id);
    this.#memory += set.byteLength + key.length + 4 * this.#classes + 100;
    if ((id + 1) * this.#classes > this.#next.length) {
      const larger = new Int32Array(this.#next.length * 2).fill(unknown);
      larger.set(this.#next);
      this.#next = larger;
    }
    return id;
  }

  /** The state after an ASCII byte, noted for the next time. */
  #learn(state: number, byte: number): number {
    const states = this.#sets;
    const next = this.#step(state, byte);
    // Unless all was forgotten on the way.
    if (states === this.#sets) this.#next[state * this.#classes + (this.#classOf[byte] as number)] = next;
    return next;
  }

  #step(state: number, rune: number): number {
    const inst = this.#program.inst;
    const from = this.#resolved(state, rune);
    const outs = new Int32Array(from.length);
    let count = 0;
    for (let i = 0; i < from.length; i++) {
      const one = inst[from[i] as number] as Instruction;
      if (takesRune(one, rune)) outs[count++] = this.#outs[from[i] as number] as number;
    }
    const set = this.#leaves(outs.subarray(0, count), 0);
    if (set.length === 0) return dead;
    return this.#intern(set, this.#contextAfter(rune));
  }

  #contextAfter(rune: number): number {
    return this.#lines && rune === 10 ? context.newline : this.#words && isWord(rune) ? context.word : context.other;
  }

  #intern(set: Int32Array, before: number): number {
    const key = `${before}:${set.join(",")}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const id = this.#add(key, set, before);
    this.#full = this.#memory > largestMemory;
    return id;
  }

  /** The rest of a value whose states are too many to keep: the same steps, into two lists that are used again. */
  #simulate(first: Int32Array, contextOfFirst: number, bytes: Uint8Array, from: number, to: number): boolean {
    const inst = this.#program.inst;
    const classOf = this.#classOf;
    const classes = this.#classes;
    this.#takes ??= this.#takesOf();
    const takes = this.#takes;
    let current = new Int32Array(inst.length);
    let next = new Int32Array(inst.length);
    let count = first.length;
    current.set(first);
    let before = contextOfFirst;
    for (let i = from; ; i++) {
      const byte = i < to ? (bytes[i] as number) : endOfText;
      const rune = byte < 128 ? byte : runeAt(bytes, i, to);
      if (rune < 0 && byte >= 0) return false;
      if (this.#conditional) {
        const set = this.#leaves(current.subarray(0, count), this.#holds(before, rune));
        count = set.length;
        current.set(set);
      }
      if (rune === endOfText) {
        for (let n = 0; n < count; n++) if ((inst[current[n] as number] as Instruction).op === op.match) return true;
        return false;
      }
      if (rune >= 128) i += extra(rune);
      const walk = ++this.#walk;
      let found = 0;
      for (let n = 0; n < count; n++) {
        const pc = current[n] as number;
        if (rune < 128) {
          if (takes[pc * classes + (classOf[rune] as number)] === 0) continue;
        } else if (!takesRune(inst[pc] as Instruction, rune)) continue;
        const out = this.#outs[pc] as number;
        if (this.#seen[out] !== walk) found = this.#walkFrom(out, 0, walk, next, found);
      }
      if (found === 0) return false;
      const last = current;
      current = next;
      next = last;
      count = found;
      before = this.#contextAfter(rune);
    }
  }

  #takesOf(): Uint8Array {
    const inst = this.#program.inst;
    const takes = new Uint8Array(inst.length * this.#classes);
    for (let rune = 0; rune < 128; rune++) {
      const cls = this.#classOf[rune] as number;
      for (let pc = 0; pc < inst.length; pc++) if (takesRune(inst[pc] as Instruction, rune)) takes[pc * this.#classes + cls] = 1;
    }
    return takes;
  }

  #ask(state: number): number {
    const set = this.#resolved(state, endOfText);
    let accepts = 0;
    for (let i = 0; i < set.length; i++) if ((this.#program.inst[set[i] as number] as Instruction).op === op.match) accepts = 1;
    this.#accepts[state] = accepts;
    return accepts;
  }

  /** A state's instructions, those behind conditions that hold before `rune` included. */
  #resolved(state: number, rune: number): Int32Array {
    const set = this.#sets[state] as Int32Array;
    if (!this.#conditional) return set;
    return this.#leaves(set, this.#holds(this.#contexts[state] as number, rune));
  }

  /** The conditions that hold between what stood before and `rune`. */
  #holds(before: number, rune: number): number {
    let holds = 0;
    if (before === context.start) holds |= empty.beginText | empty.beginLine;
    if (before === context.newline) holds |= empty.beginLine;
    if (rune === 10) holds |= empty.endLine;
    if (rune === endOfText) holds |= empty.endLine | empty.endText;
    holds |= (before === context.word) === (rune !== endOfText && isWord(rune)) ? empty.noWord : empty.word;
    return holds;
  }

  /** What can be reached from `from` without a character, where the conditions in `holds` hold: characters, matches and open conditions, sorted. */
  #leaves(from: Int32Array, holds: number): Int32Array {
    const found = new Int32Array(this.#seen.length);
    const walk = ++this.#walk;
    let count = 0;
    for (let i = 0; i < from.length; i++) count = this.#walkFrom(from[i] as number, holds, walk, found, count);
    return found.slice(0, count).sort();
  }

  #walkFrom(start: number, holds: number, walk: number, found: Int32Array, before: number): number {
    const inst = this.#program.inst;
    const seen = this.#seen;
    const stack = this.#stack;
    let count = before;
    let top = 0;
    stack[top++] = start;
    while (top > 0) {
      const pc = stack[--top] as number;
      if (seen[pc] === walk) continue;
      seen[pc] = walk;
      const one = inst[pc] as Instruction;
      switch (one.op) {
        case op.alt:
        case op.altMatch:
          stack[top++] = this.#outs[pc] as number;
          stack[top++] = one.arg;
          break;
        case op.capture:
        case op.nop:
          stack[top++] = one.out;
          break;
        case op.empty:
          found[count++] = pc;
          if ((one.arg & ~holds) === 0) stack[top++] = one.out;
          break;
        case op.fail:
          break;
        default:
          found[count++] = pc;
      }
    }
    return count;
  }

  /** Splits the ASCII bytes into classes that no instruction, and no condition, tells apart. */
  #classify(): number {
    const classOf = this.#classOf;
    let count = 1;
    const split = (has: (rune: number) => boolean): void => {
      const moved = new Map<number, number>();
      const stays = new Set<number>();
      for (let rune = 0; rune < 128; rune++) if (!has(rune)) stays.add(classOf[rune] as number);
      for (let rune = 0; rune < 128; rune++) {
        const old = classOf[rune] as number;
        if (!has(rune) || !stays.has(old)) continue;
        let to = moved.get(old);
        if (to === undefined) {
          to = count++;
          moved.set(old, to);
        }
        classOf[rune] = to;
      }
    };
    const done = new Set<string>();
    for (const one of this.#program.inst) {
      if (one.op < op.firstRune || one.op > op.lastRune) continue;
      const key = `${one.arg & 1}:${one.runes.join(",")}`;
      if (done.has(key)) continue;
      done.add(key);
      split((rune) => one.matchRune(rune));
    }
    if (this.#lines) split((rune) => rune === 10);
    if (this.#words) split(isWord);
    return count;
  }
}

function takesRune(one: Instruction, rune: number): boolean {
  return one.op >= op.firstRune && one.op <= op.lastRune && one.matchRune(rune);
}

/** Bytes of a code point of UTF-8 after its first. */
function extra(rune: number): number {
  return rune < 0x80 ? 0 : rune < 0x800 ? 1 : rune < 0x1_0000 ? 2 : 3;
}

/** The code point at bytes[i], or -1 where the bytes are no UTF-8 (RFC 3629 3). */
function runeAt(bytes: Uint8Array, i: number, to: number): number {
  const first = bytes[i] as number;
  const size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || i + size > to) return -1;
  let rune = first & (0xff >> (size + 1));
  for (let n = 1; n < size; n++) {
    const byte = bytes[i + n] as number;
    if ((byte & 0xc0) !== 0x80) return -1;
    rune = (rune << 6) | (byte & 0x3f);
  }
  if (size === 3 && (rune < 0x800 || (rune >= 0xd800 && rune <= 0xdfff))) return -1;
  if (size === 4 && (rune < 0x1_0000 || rune > 0x10_ffff)) return -1;
  return rune;
}
