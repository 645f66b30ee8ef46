// Owns: decoding a large ClusterLoadAssignment again when a few of its endpoints have changed: what has the same bytes keeps its decoded form (the same
// object), so that one replaced endpoint of 5 000 costs one endpoint and a pass over the bytes. Falls back to nothing by answering null: the caller then
// decodes everything, by the same functions. Never accepts what that would refuse.

import type { EndpointConfig } from "../../config.ts";
import { LbEndpoint } from "../proto/types.ts";
import { decodeEndpoint } from "./endpoint.ts";
import { type Frame, moveOn, repeated, type Trace, type Window, windowOf } from "./endpoint-window.ts";
import { decodeStrict, type Gate } from "./gate.ts";

/** Smaller lists are decoded whole; nothing is kept of them. */
const worthwhile = 64;

/** So many entries are compared in one go. */
const block = 64;

/** How far apart two lists may drift before endpoints are looked up by their bytes. */
const lookahead = 8;

/** By the list that was decoded. A list that nobody holds any more takes its bytes with it. */
const traces = new WeakMap<readonly EndpointConfig[], Trace>();

/** Notes where the endpoints of a list stand that was decoded from `bytes`, which this keeps. */
export function remember(configs: readonly EndpointConfig[], bytes: Uint8Array): void {
  if (configs.length < worthwhile) return;
  const trace = walk(bytes.slice());
  if (trace !== null && trace.from.length === configs.length) traces.set(configs, trace);
}

/** The list that `bytes` hold, made from the one before; null: decode it whole. */
export function decodeAgain(gate: Gate, before: readonly EndpointConfig[], bytes: Uint8Array): readonly EndpointConfig[] | null {
  const old = traces.get(before);
  if (old === undefined) return null;
  const quick = decodeWindow(gate, before, old, bytes);
  if (quick !== null) return quick;
  const trace = walk(bytes.slice());
  if (trace === null || trace.rest !== old.rest || trace.counts.length !== old.counts.length) return null;
  const made: EndpointConfig[] = [];
  let i = 0;
  let j = 0;
  for (const [l, count] of trace.counts.entries()) {
    const startOld = j;
    const endOld = j + (old.counts[l] as number);
    /** Where each old endpoint is, by its bytes; made when the lists differ in long runs. */
    let places: Map<bigint, number> | null = null;
    let strangers = 0;
    const sample = before[j];
    // A locality that was empty: nothing is known of its priority here.
    if (sample === undefined || j === endOld) return null;
    const end = i + count;
    const first = i;
    while (i < end) {
      const some = Math.min(block, end - i, endOld - j);
      if (some > 0 && same(trace, i, old, j, some)) {
        for (let n = 0; n < some; n++) made.push(before[j + n] as EndpointConfig);
        i += some;
        j += some;
        continue;
      }
      // Somewhere in this block: one by one, with what stands a little further on in the old list as the place to fall into step again.
      const stop = Math.min(end, i + block);
      for (; i < stop; i++) {
        let found = -1;
        if (places !== null) found = places.get(hashOf(trace, i)) ?? -1;
        else for (let k = j; found < 0 && k < endOld && k <= j + lookahead; k++) if (same(trace, i, old, k, 1)) found = k;
        if (found >= 0 && same(trace, i, old, found, 1)) {
          made.push(before[found] as EndpointConfig);
          j = found + 1;
          strangers = 0;
          continue;
        }
        const where = `endpoints[${l}].lb_endpoints[${i - first}]`;
        const message = decodeStrict(gate, LbEndpoint, trace.bytes.subarray(trace.from[i] as number, trace.to[i] as number), where);
        if (message === undefined) return null;
        made.push(decodeEndpoint(gate, message, sample.priority, sample.locality, true, where));
        // Put between, if the old one comes soon; else it stands in the old one's place.
        let between = false;
        for (let d = 1; !between && i + d < end && d <= lookahead; d++) between = j < endOld && same(trace, i + d, old, j, 1);
        if (!between && j < endOld) j++;
        if (places === null && ++strangers > lookahead) {
          places = new Map();
          for (let k = startOld; k < endOld; k++) places.set(hashOf(old, k), k);
        }
      }
    }
    j = endOld;
  }
  if (gate.clean) traces.set(made, trace);
  return made;
}

/** One stretch has changed, and only that is read; null: it is not so simple. The old list's trace becomes the new one's. */
function decodeWindow(gate: Gate, before: readonly EndpointConfig[], old: Trace, bytes: Uint8Array): readonly EndpointConfig[] | null {
  const sample = before[0];
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const window = sample === undefined ? null : windowOf(old, buffer);
  if (window === null || sample === undefined) return null;
  const made: EndpointConfig[] = [];
  for (const [n, from] of window.from.entries()) {
    const kept = keptIn(old, window, buffer, n);
    if (kept >= 0) {
      made.push(before[kept] as EndpointConfig);
      continue;
    }
    const where = `endpoints[0].lb_endpoints[${window.low + n}]`;
    const message = decodeStrict(gate, LbEndpoint, buffer.subarray(from, window.to[n] as number), where);
    if (message === undefined) return null;
    made.push(decodeEndpoint(gate, message, sample.priority, sample.locality, true, where));
  }
  const { low, high } = window;
  const list = before.slice();
  if (made.length === high - low) for (const [n, one] of made.entries()) list[low + n] = one;
  else list.splice(low, high - low, ...made);
  if (!gate.clean) return list;
  if (list.length === 0) return list;
  moveOn(old, buffer, window);
  traces.delete(before);
  traces.set(list, old);
  return list;
}

/** Which of the old endpoints of the window this one is, byte by byte; -1: none. */
function keptIn(old: Trace, { low, high, from, to }: Window, bytes: Buffer, n: number): number {
  const size = (to[n] as number) - (from[n] as number);
  for (let k = low; k < high; k++) {
    if ((old.to[k] as number) - (old.from[k] as number) !== size) continue;
    if (bytes.compare(old.bytes, old.from[k], old.to[k], from[n], to[n]) === 0) return k;
  }
  return -1;
}

function hashOf({ bytes, from, to }: Trace, at: number): bigint {
  return Bun.hash(bytes.subarray(from[at] as number, to[at] as number)) as bigint;
}

/** Are `count` endpoints from `i` on the same bytes as those from `j` on? */
function same(a: Trace, i: number, b: Trace, j: number, count: number): boolean {
  const from = a.from[i] as number;
  const to = a.to[i + count - 1] as number;
  const oldFrom = b.from[j] as number;
  const oldTo = b.to[j + count - 1] as number;
  return to - from === oldTo - oldFrom && a.bytes.compare(b.bytes, oldFrom, oldTo, from, to) === 0;
}

/** Finds the endpoints by the tags alone; null: not a message that this understands. */
function walk(slice: Uint8Array): Trace | null {
  const bytes = Buffer.from(slice.buffer, slice.byteOffset, slice.length);
  let from = new Int32Array(1_024);
  let to = new Int32Array(1_024);
  let total = 0;
  const counts: number[] = [];
  let rest = "";
  let at = 0;
  const varint = (): number => {
    let found = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++];
      if (byte === undefined || shift > 2 ** 35) return -1;
      found += (byte & 0x7f) * shift;
      if (byte < 0x80) return found;
    }
  };
  /** Past one field whose tag is read; false: broken. */
  const skip = (wire: number): boolean => {
    if (wire === 0) return varint() >= 0;
    if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === 2) {
      const size = varint();
      if (size < 0) return false;
      at += size;
    } else return false;
    return at <= bytes.length;
  };
  let frame: Frame | null = null;
  while (at < bytes.length) {
    const start = at;
    if (bytes[at] !== repeated) {
      if (!skip(varint() & 7)) return null;
      rest += bytes.toString("latin1", start, at);
      continue;
    }
    at++;
    const size = varint();
    const inner = at;
    const end = at + size;
    let first = -1;
    let last = -1;
    let together = true;
    if (size < 0 || end > bytes.length) return null;
    rest += "|";
    let count = 0;
    while (at < end) {
      const field = at;
      if (bytes[at] !== repeated) {
        if (!skip(varint() & 7) || at > end) return null;
        rest += bytes.toString("latin1", field, at);
        continue;
      }
      if (first < 0) first = at;
      else if (at !== last) together = false;
      at++;
      const length = varint();
      if (length < 0 || at + length > end) return null;
      if (total === from.length) {
        [from, to] = [larger(from), larger(to)];
      }
      from[total] = at;
      at += length;
      to[total++] = at;
      last = at;
      count++;
    }
    counts.push(count);
    frame = counts.length === 1 && together && first >= 0 ? { tag: start, inner, end, first, last } : null;
  }
  return { bytes, size: bytes.length, from: from.slice(0, total), to: to.slice(0, total), counts, rest, frame };
}

function larger(values: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const made = new Int32Array(values.length * 2);
  made.set(values);
  return made;
}
