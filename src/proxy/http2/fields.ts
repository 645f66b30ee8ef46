// Owns: what makes a response's header or trailer section malformed (RFC 9113 sections 8.1.1, 8.2, 8.3). Pure.

import type { HeaderField } from "./hpack.ts";

/** Section 8.2.2: these belong to HTTP/1.1 connections. */
const connectionFields = new Set(["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"]);

/** Why a section is malformed, or "" when it is not. `kind` says which pseudo-header fields may stand in it. */
export function malformed(fields: readonly HeaderField[], kind: "response" | "trailers"): string {
  let pseudoAllowed = true;
  let statuses = 0;
  for (const { name, value } of fields) {
    if (name.startsWith(":")) {
      if (kind === "trailers") return `pseudo-header ${name} in trailers`;
      if (!pseudoAllowed) return `pseudo-header ${name} after a header`;
      if (name !== ":status") return `pseudo-header ${name} in a response`;
      if (++statuses > 1 || !/^[1-9][0-9][0-9]$/.test(value)) return "a bad :status";
      continue;
    }
    pseudoAllowed = false;
    if (!isFieldName(name)) return "a field name that is empty, not lower case or not a token";
    if (connectionFields.has(name)) return `the connection-specific field ${name}`;
    if (!isFieldValue(value)) return `a bad value of ${name}`;
  }
  return kind === "response" && statuses === 0 ? "no :status" : "";
}

function isFieldName(name: string): boolean {
  if (name === "") return false;
  for (let n = 0; n < name.length; n++) {
    const code = name.charCodeAt(n);
    // 8.2.1: 0x00-0x20, upper case, 0x7f and above.
    if (code <= 0x20 || (code >= 0x41 && code <= 0x5a) || code >= 0x7f || code === 0x3a) return false;
  }
  return true;
}

function isFieldValue(value: string): boolean {
  // 8.2.1: NUL, LF, CR anywhere; space or tab at either end.
  for (let n = 0; n < value.length; n++) {
    const code = value.charCodeAt(n);
    if (code === 0 || code === 10 || code === 13) return false;
  }
  return value === value.trim() || !/^[ \t]|[ \t]$/.test(value);
}
