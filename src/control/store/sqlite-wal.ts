// Owns: reading SQLite's write-ahead log by its file format, before SQLite does: SQLite takes the first frame that does not fit for the end of the log, and
// what was acknowledged behind it is gone without a word. Tells damage from the end that a crash leaves. Never writes.
//
// The format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log. A header of 32 bytes, then frames: 24 bytes and a page. Each frame has the two salts
// of the header and a checksum over itself and all before it; a frame that ends a transaction has the size of the database. Behind the last transaction may
// stand what a crash left of one that was never acknowledged, and frames of an earlier round of the log, with other salts.
//
// Why a frame that does not fit is damage only where a frame stands behind it that was written after the end of a later, or of its own, transaction (its checksum goes on
// from that end's): we write one transaction after the other, and each is synced before the next begins (synchronous = FULL). A power cut may leave any part of the
// last one, so a hole in it says nothing; a hole in one with another behind it was acknowledged whole. What was rolled back or left by crashes before may stand behind
// the end with the same salts, one layer over another, but never goes on from an end that stands there.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";

export interface LogState {
  /** Frames up to the end of the last whole transaction, and what they are long, header included: what SQLite will take. */
  readonly frames: number;
  readonly bytes: number;
  /** Transactions in them. */
  readonly transactions: number;
  /** What is wrong, in a few words; undefined: nothing, as far as a log can tell. */
  readonly damage: string | undefined;
  /** Transactions from the damage on, at least: they were acknowledged, and SQLite drops them. 0: nobody can tell. */
  readonly lost: number;
  /** The last transaction has a hole, which a power cut leaves of one that was not acknowledged yet, and damage of one that was: it is dropped. */
  readonly doubt: boolean;
}

const headerBytes = 32;
const frameHeaderBytes = 24;
const magicLittle = 0x377f0682;
const magicBig = 0x377f0683;
/** The only one there is, SQLite 3.7.0. */
const formatVersion = 3_007_000;
const pageSizes: ReadonlySet<number> = new Set([512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536]);
/** Pages read at once. */
const framesTogether = 256;

/**
 * Reads the log of a database file. undefined: there is none. Throws what the file system throws. Also of a log that is being written to: a doubt is looked
 * into again. Some 2 ms a MiB.
 */
export function readLog(path: string): LogState | undefined {
  const first = readOnce(path);
  // Whoever writes meanwhile makes what is read early older than what is read late.
  if (first?.damage === undefined) return first;
  const second = readOnce(path);
  return second?.damage === first.damage && second.lost === first.lost ? second : readOnce(path);
}

function readOnce(path: string): LogState | undefined {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return read(file, fstatSync(file).size);
  } finally {
    closeSync(file);
  }
}

const nothing: LogState = { frames: 0, bytes: 0, transactions: 0, damage: undefined, lost: 0, doubt: false };

function read(file: number, size: number): LogState {
  const header = new DataView(new ArrayBuffer(headerBytes));
  if (size < headerBytes || readSync(file, new Uint8Array(header.buffer), 0, headerBytes, 0) < headerBytes) return nothing;
  const magic = header.getUint32(0);
  const pageBytes = header.getUint32(8);
  const little = magic === magicLittle;
  const known = (little || magic === magicBig) && header.getUint32(4) === formatVersion && pageSizes.has(pageBytes);
  const sum: Sum = { a: 0, b: 0 };
  add(sum, header, 0, 24, little);
  const { length: empty } = [0, 4, 8, 12, 16, 20, 24, 28].filter((at) => header.getUint32(at) === 0);
  if (!known || sum.a !== header.getUint32(24) || sum.b !== header.getUint32(28)) {
    // The header is synced before the first frame is written. One of zeros, or the beginning of a file that never got that far, is a crash.
    if (size <= headerBytes || empty === 8) return nothing;
    return { ...nothing, damage: "the header of its log (-wal) is not the one that was written" };
  }
  const frameBytes = frameHeaderBytes + pageBytes;
  const salts = [header.getUint32(16), header.getUint32(20)] as const;
  const chunk = new Uint8Array(frameBytes * framesTogether);
  const state = { frames: 0, transactions: 0, bad: 0, lost: 0, behind: false, doubt: false };
  const before = { own: false, ends: false, a: 0, b: 0 };
  const all = Math.floor((size - headerBytes) / frameBytes);
  for (let at = 0; at < all; ) {
    const got = readSync(file, chunk, 0, Math.min(framesTogether, all - at) * frameBytes, headerBytes + at * frameBytes);
    const frames = Math.floor(got / frameBytes);
    if (frames === 0) break;
    for (let n = 0; n < frames; n++) {
      at++;
      const frame = new DataView(chunk.buffer, n * frameBytes, frameBytes);
      const own = frame.getUint32(8) === salts[0] && frame.getUint32(12) === salts[1];
      const ends = own && frame.getUint32(4) !== 0;
      // Behind a bad frame each is compared with what the one before it says of itself.
      if (state.bad !== 0) Object.assign(sum, { a: before.a, b: before.b });
      add(sum, frame, 0, 8, little);
      add(sum, frame, frameHeaderBytes, pageBytes, little);
      const [a, b] = [frame.getUint32(16), frame.getUint32(20)];
      const fits = own && frame.getUint32(0) !== 0 && sum.a === a && sum.b === b;
      if (state.bad === 0 && fits) {
        if (!ends) continue;
        state.frames = at;
        state.transactions++;
        continue;
      }
      if (state.bad !== 0 && fits && before.own) {
        // It was written behind the end of a transaction that is not whole any more, which was synced by then.
        if (before.ends) {
          state.behind = true;
          state.lost++;
        }
        if (ends) state.doubt = true;
      }
      if (state.bad === 0) state.bad = at;
      Object.assign(before, { own, ends, a, b });
    }
  }
  const { frames, transactions, bad, behind, lost, doubt } = state;
  const taken = { frames, bytes: headerBytes + frames * frameBytes, transactions };
  if (!behind) return { ...taken, damage: undefined, lost: 0, doubt };
  return {
    ...taken,
    damage: `frame ${bad} of its log (-wal) is not the one that was written, and later changes stand behind it`,
    // The last one ends the log.
    lost: lost + 1,
    doubt: false,
  };
}

interface Sum {
  a: number;
  b: number;
}

/** Goes on with a checksum over `length` bytes, a multiple of 8. */
function add(sum: Sum, view: DataView, from: number, length: number, little: boolean): void {
  let { a, b } = sum;
  for (let at = from; at < from + length; at += 8) {
    a = (a + view.getUint32(at, little) + b) >>> 0;
    b = (b + view.getUint32(at + 4, little) + a) >>> 0;
  }
  sum.a = a;
  sum.b = b;
}
