// Owns: finding the one stretch of a long list of endpoints whose bytes differ from the list before, without reading what is the same: head and tail are
// compared as bytes, and only what lies between is read. For lists of one locality; anything else is the business of endpoint-changes.ts. Decodes nothing.

/** Where the endpoints of a list stand in its bytes. */
export interface Trace {
  /** May be longer than `size`: room for what the next version is longer by. */
  bytes: Buffer;
  size: number;
  /** Where each endpoint's message begins and ends. */
  from: Int32Array;
  to: Int32Array;
  /** Number of endpoints of each locality. */
  counts: readonly number[];
  /** All bytes that belong to no endpoint and to no length of what holds endpoints: names, localities, policy. */
  readonly rest: string;
  /** Of a list of one locality whose endpoints stand side by side; null otherwise. */
  frame: Frame | null;
}

export interface Frame {
  /** Of the locality: its tag, its first byte after its length, and its end. */
  readonly tag: number;
  readonly inner: number;
  readonly end: number;
  /** Of its endpoints: the tag of the first, and the end of the last. */
  readonly first: number;
  readonly last: number;
}

export interface Window {
  /** The endpoints [low, high) of the old list have gone; those of [from, to) stand in their place. */
  readonly low: number;
  readonly high: number;
  readonly from: readonly number[];
  readonly to: readonly number[];
  /** So many bytes longer. */
  readonly longer: number;
}

/** Wider windows are walked through: there is more than one change. */
const widest = 32;
/** So many entries are compared in one go. */
const block = 64;
/** Field 2, length-delimited: ClusterLoadAssignment.endpoints and LocalityLbEndpoints.lb_endpoints are both. */
export const repeated = (2 << 3) | 2;

/** null: not a change that this understands. */
export function windowOf(old: Trace, bytes: Buffer): Window | null {
  const { frame } = old;
  if (frame === null) return null;
  const longer = bytes.length - old.size;
  const same = (from: number, to: number, shift: number): boolean =>
    to + shift <= bytes.length && bytes.compare(old.bytes, from, to, from + shift, to + shift) === 0;
  if (!same(0, frame.tag + 1, 0)) return null;
  const [length, inner] = varintAt(bytes, frame.tag + 1);
  // The length takes as many bytes as before and leads to where the end now is.
  if (inner !== frame.inner || inner + length !== frame.end + longer) return null;
  if (!same(frame.inner, frame.first, 0) || !same(frame.last, old.size, longer)) return null;
  const count = old.from.length;
  const start = (i: number): number => (i === 0 ? frame.first : (old.to[i - 1] as number));
  let low = 0;
  while (low + block <= count && same(start(low), start(low + block), 0)) low += block;
  while (low < count && same(start(low), start(low + 1), 0)) low++;
  let high = count;
  const room = (i: number): boolean => i >= low && start(i) + longer >= start(low);
  while (room(high - block) && same(start(high - block), start(high), longer)) high -= block;
  while (room(high - 1) && same(start(high - 1), start(high), longer)) high--;
  if (high - low > widest) return null;
  const from: number[] = [];
  const to: number[] = [];
  const end = start(high) + longer;
  for (let at = start(low); at < end; ) {
    if (bytes[at] !== repeated || from.length === widest) return null;
    const [size, content] = varintAt(bytes, at + 1);
    at = content + size;
    if (size < 0 || at > end) return null;
    from.push(content);
    to.push(at);
  }
  return { low, high, from, to, longer };
}

/** The trace becomes that of `bytes`, by the window that was found for them; what is the same is not copied. */
export function moveOn(trace: Trace, bytes: Buffer, { low, high, from, to, longer }: Window): void {
  const frame = trace.frame as Frame;
  const begin = low === 0 ? frame.first : (trace.to[low - 1] as number);
  const rest = high === 0 ? frame.first : (trace.to[high - 1] as number);
  const { size } = trace;
  if (size + longer > trace.bytes.length) {
    trace.bytes = Buffer.allocUnsafeSlow(bytes.length + (bytes.length >> 4));
    bytes.copy(trace.bytes);
  } else {
    if (longer !== 0) trace.bytes.copyWithin(rest + longer, rest, size);
    bytes.copy(trace.bytes, frame.tag, frame.tag, frame.inner);
    bytes.copy(trace.bytes, begin, begin, rest + longer);
  }
  trace.size = size + longer;
  const count = trace.from.length - (high - low) + from.length;
  if (count !== trace.from.length) {
    trace.from = spliced(trace.from, low, high, from.length);
    trace.to = spliced(trace.to, low, high, from.length);
  }
  for (let i = 0; i < from.length; i++) {
    trace.from[low + i] = from[i] as number;
    trace.to[low + i] = to[i] as number;
  }
  if (longer !== 0) {
    for (let i = low + from.length; i < count; i++) {
      trace.from[i] = (trace.from[i] as number) + longer;
      trace.to[i] = (trace.to[i] as number) + longer;
    }
  }
  trace.counts = [count];
  trace.frame = { ...frame, end: frame.end + longer, last: frame.last + longer };
}

function spliced(values: Int32Array, low: number, high: number, room: number): Int32Array {
  const made = new Int32Array(values.length - (high - low) + room);
  made.set(values.subarray(0, low));
  made.set(values.subarray(high), low + room);
  return made;
}

/** The number and where it ends; -1: broken. */
function varintAt(bytes: Buffer, from: number): readonly [number, number] {
  let found = 0;
  let at = from;
  for (let shift = 1; shift <= 2 ** 35; shift *= 128) {
    const byte = bytes[at++];
    if (byte === undefined) break;
    found += (byte & 0x7f) * shift;
    if (byte < 0x80) return [found, at];
  }
  return [-1, at];
}
