// Owns: what may stand where configuration becomes part of a message: names and values of header fields, hosts, paths, expressions. A proxy refuses the
// rest, and with it the whole table that it stands in, so that it is refused where it is written. Gives sentences; never says where.

import { parseExpression, parseSubstitution } from "../wire/expression.ts";
import { show } from "./schema.ts";

/** Framing and connection handling (RFC 9110 section 7.6.1, RFC 9112 section 6). */
const ofProxy = ["host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "proxy-connection"];

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** RFC 9110, token. */
export function isToken(text: string): boolean {
  return token.test(text);
}

/** Of a field that is set, added or removed; undefined = it may be. */
export function wrongFieldName(name: string): string | undefined {
  if (!token.test(name)) return `${show(name)} is no header name`;
  return ofProxy.includes(name.toLowerCase())
    ? `header ${show(name)} belongs to the proxy${name.toLowerCase() === "host" ? "; rewrite the host instead" : ""}`
    : undefined;
}

export function wrongFieldValue(value: string): string | undefined {
  if (value === "") return "must not be empty; to take the header out, remove it";
  for (let n = 0; n < value.length; n++) {
    const code = value.charCodeAt(n);
    if (code < 32 ? code !== 9 : code === 127) return `${show(value)} must not contain line breaks or other control characters`;
  }
  return undefined;
}

/** A host, perhaps with a port, as it stands in a message. */
export function wrongHost(host: string): string | undefined {
  return /^[!$&'()*+,;=%A-Za-z0-9._~:[\]-]+$/.test(host) ? undefined : `${show(host)} must be a host, or a host and a port`;
}

/** A path that replaces another, or a beginning of one. */
export function wrongPath(path: string): string | undefined {
  if (!path.startsWith("/")) return `${show(path)} must begin with "/"`;
  return /^[\x21\x22\x24-\x7e]+$/.test(path)
    ? undefined
    : `${show(path)} must be a path without blanks, line breaks and #; write such characters %XX`;
}

/** The same for all that the proxies run; the library is loaded with the first expression: it would add 7 ms to every start. */
export function wrongExpression(source: string): string | undefined {
  return sentence(() => parseExpression(source));
}

export function wrongSubstitution(source: string, substitution: string): string | undefined {
  if (source === "") return "needs an expression: what it matches is replaced";
  return sentence(() => parseSubstitution(substitution, parseExpression(source)));
}

function sentence(attempt: () => unknown): string | undefined {
  try {
    attempt();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
