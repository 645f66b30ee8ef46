// Owns: header edits of a route, compiled: which names go, and the bytes that are appended.

import type { HeaderEdits } from "../config.ts";
import { equalsIgnoreCase, fieldByte, latin1, tchar } from "../http/bytes.ts";
import { field, type Head } from "../http1/head.ts";

export interface CompiledEdits {
  /** Lower case: removed, or replaced by what is appended. */
  readonly drop: readonly Uint8Array[];
  /** Complete header lines. */
  readonly append: Uint8Array;
}

const largestAppend = 8 * 1024;

/** null when there is nothing to do. Throws on names or values that no header may have, and on framing headers. */
export function compileEdits(edits: HeaderEdits): CompiledEdits | null {
  if (edits.remove.length + edits.set.length + edits.add.length === 0) return null;
  const lines: string[] = [];
  for (const { name, value } of [...edits.set, ...edits.add]) {
    checkName(name);
    const bytes = new TextEncoder().encode(value);
    for (const byte of bytes) if (fieldByte[byte] !== 1) throw new Error(`header ${name}: the value holds a control character`);
    if (/%[A-Z_]+(\(.*\))?%/.test(value)) throw new Error(`header ${name}: format commands such as ${value} are not supported`);
    let raw = "";
    for (const byte of bytes) raw += String.fromCharCode(byte);
    lines.push(`${name}: ${raw.replaceAll("%%", "%")}\r\n`);
  }
  for (const name of edits.remove) checkName(name);
  const append = latin1(lines.join(""));
  if (append.length > largestAppend) throw new Error(`header edits add ${append.length} bytes, more than ${largestAppend}`);
  return { drop: [...edits.remove, ...edits.set.map((edit) => edit.name)].map((name) => latin1(name.toLowerCase())), append };
}

function checkName(name: string): void {
  const lowered = name.toLowerCase();
  // rule 4: runs when a configuration is compiled, not per request.
  if (name === "" || [...latin1(name)].some((byte) => tchar[byte] !== 1)) throw new Error(`${JSON.stringify(name)} is no header name`);
  if (lowered === "host" || lowered === "content-length" || lowered === "transfer-encoding" || lowered === "connection") {
    throw new Error(`header ${name} cannot be edited: it frames or addresses the message`);
  }
}

/** Marks the fields that the edits remove. */
export function markEdited(bytes: Uint8Array, head: Head, edits: CompiledEdits): void {
  for (let e = 0; e < edits.drop.length; e++) {
    const name = edits.drop[e] as Uint8Array;
    for (let i = 0; i < head.count; i++) {
      if (equalsIgnoreCase(bytes, head.nameFrom[i] as number, head.nameTo[i] as number, name)) head.kind[i] = field.edited;
    }
  }
}
