// Owns: header edits of a route, compiled: which names go, and the bytes that are appended. Values that hold commands, and edits that depend on what
// is there, are worked out for each message; all others are bytes made once.

import type { HeaderEdits, HeaderValue } from "../config.ts";
import { equalsIgnoreCase, fieldByte, latin1, tchar } from "../http/bytes.ts";
import type { Exchange } from "../http/exchange.ts";
import { requestHeadOf } from "../http/request-head.ts";
import { field, type Head } from "../http1/head.ts";
import { type CommandContext, compileValue, type Piece } from "./commands.ts";

export interface CompiledEdits {
  /** Lower case: removed, or replaced by what is appended. */
  readonly drop: readonly Uint8Array[];
  /** Complete header lines. */
  readonly append: Uint8Array;
  /** What must be worked out for each message; null = nothing. */
  readonly late: readonly LateEdit[] | null;
}

/** `when`: whether it depends on the message having the header already. `replace`: the old ones go. */
interface LateEdit {
  readonly name: string;
  readonly lowerName: Uint8Array;
  readonly pieces: readonly Piece[];
  readonly when: "always" | "absent" | "present";
  readonly replace: boolean;
}

const largestAppend = 8 * 1024;

/** null when there is nothing to do. Throws on names or values that no header may have, and on framing headers. */
export function compileEdits(edits: HeaderEdits): CompiledEdits | null {
  const lines: string[] = [];
  const late: LateEdit[] = [];
  const drop = new Set(edits.remove.map((name) => name.toLowerCase()));
  for (const name of edits.remove) checkName(name);
  const take = (values: readonly HeaderValue[] | undefined, when: LateEdit["when"], replace: boolean): void => {
    for (const { name, value } of values ?? []) {
      checkName(name);
      const compiled = compileValue(rawValue(name, value));
      const lower = name.toLowerCase();
      if (when === "always" && typeof compiled === "string") {
        if (replace) drop.add(lower);
        lines.push(`${name}: ${compiled}\r\n`);
      } else late.push({ name, lowerName: latin1(lower), pieces: typeof compiled === "string" ? [compiled] : compiled, when, replace });
    }
  };
  take(edits.set, "always", true);
  take(edits.setIfPresent, "present", true);
  take(edits.addIfAbsent, "absent", false);
  take(edits.add, "always", false);
  if (drop.size + lines.length + late.length === 0) return null;
  const append = latin1(lines.join(""));
  if (append.length > largestAppend) throw new Error(`header edits add ${append.length} bytes, more than ${largestAppend}`);
  return { drop: [...drop].map(latin1), append, late: late.length === 0 ? null : late };
}

/** The value as the bytes of UTF-8, one character each. */
function rawValue(name: string, value: string): string {
  let raw = "";
  for (const byte of new TextEncoder().encode(value)) {
    if (fieldByte[byte] !== 1) throw new Error(`header ${name}: the value holds a control character`);
    raw += String.fromCharCode(byte);
  }
  return raw;
}

function checkName(name: string): void {
  const lowered = name.toLowerCase();
  // rule 4: runs when a configuration is compiled, not per request.
  if (name === "" || [...latin1(name)].some((byte) => tchar[byte] !== 1)) throw new Error(`${JSON.stringify(name)} is no header name`);
  if (lowered === "host" || lowered === "content-length" || lowered === "transfer-encoding" || lowered === "connection") {
    throw new Error(`header ${name} cannot be edited: it frames or addresses the message`);
  }
}

/** Both in one, `first` before `then`: what a cluster of a route says, then the route, its virtual host, the table (Envoy's order). */
export function foldEdits(first: HeaderEdits, then: HeaderEdits): HeaderEdits {
  if (isEmpty(then)) return first;
  if (isEmpty(first)) return then;
  const gone = new Set([...then.remove, ...then.set.map((one) => one.name)].map((name) => name.toLowerCase()));
  const stays = (one: HeaderValue): boolean => !gone.has(one.name.toLowerCase());
  const set = first.set.filter(stays);
  const add = first.add.filter(stays);
  const addIfAbsent = (first.addIfAbsent ?? []).filter(stays);
  const setIfPresent = (first.setIfPresent ?? []).filter(stays);
  const has = (list: readonly HeaderValue[], name: string): boolean => list.some((one) => one.name.toLowerCase() === name.toLowerCase());
  for (const one of then.setIfPresent ?? []) {
    if (has(set, one.name) || has(add, one.name)) set.push(one);
    else setIfPresent.push(one);
  }
  for (const one of then.addIfAbsent ?? []) {
    if (!has(set, one.name) && !has(add, one.name)) addIfAbsent.push(one);
  }
  return {
    remove: [...new Set([...first.remove, ...then.remove])],
    set: [...set, ...then.set],
    add: [...add, ...then.add],
    ...(addIfAbsent.length === 0 ? {} : { addIfAbsent }),
    ...(setIfPresent.length === 0 ? {} : { setIfPresent }),
  };
}

function isEmpty(edits: HeaderEdits): boolean {
  return (
    edits.remove.length + edits.set.length + edits.add.length + (edits.addIfAbsent?.length ?? 0) + (edits.setIfPresent?.length ?? 0) === 0
  );
}

/** Marks the fields that the edits remove, and gives the edits whose `append` is to be written. `answer`: the head is an answer's, null for one of our own. */
export function applyEdits(x: Exchange, edits: CompiledEdits, bytes: Uint8Array | null, head: Head | null, answer: boolean): CompiledEdits {
  if (head !== null && bytes !== null) for (let e = 0; e < edits.drop.length; e++) mark(bytes, head, edits.drop[e] as Uint8Array);
  if (edits.late === null) return edits;
  const context: CommandContext = answer
    ? { x, bytes: x.bytes, head: requestHeadOf(x), answerBytes: bytes, answer: head }
    : { x, bytes: bytes ?? x.bytes, head, answerBytes: null, answer: null };
  let lines = "";
  const written = new Set<string>();
  for (const edit of edits.late) {
    const name = edit.name.toLowerCase();
    const present = written.has(name) || (bytes !== null && head !== null && mark(bytes, head, edit.lowerName, false));
    if (edit.when !== "always" && (edit.when === "present") !== present) continue;
    let value = "";
    for (const piece of edit.pieces) value += typeof piece === "string" ? piece : piece(context);
    if (value === "" || lines.length + value.length > largestAppend) continue;
    if (edit.replace && bytes !== null && head !== null) mark(bytes, head, edit.lowerName);
    lines += `${edit.name}: ${value}\r\n`;
    written.add(name);
  }
  if (lines === "") return { ...edits, late: null };
  const append = new Uint8Array(edits.append.length + lines.length);
  append.set(edits.append);
  append.set(latin1(lines), edits.append.length);
  return { drop: edits.drop, append, late: null };
}

/** Marks the fields of this name as removed (unless `asked` only); true: there are such. */
function mark(bytes: Uint8Array, head: Head, name: Uint8Array, doIt = true): boolean {
  let found = false;
  for (let i = 0; i < head.count; i++) {
    if (head.kind[i] === field.edited || !equalsIgnoreCase(bytes, head.nameFrom[i] as number, head.nameTo[i] as number, name)) continue;
    found = true;
    if (doIt) head.kind[i] = field.edited;
  }
  return found;
}
