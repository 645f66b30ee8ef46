// Owns: where tokens stand in a request: header fields, parameters of the query, cookies; and taking a parameter out of a query. Judges no token.

import type { JwtProviderConfig } from "../config.ts";
import { equalsIgnoreCase, latin1 } from "../http/bytes.ts";
import { fieldNamed } from "../http/grpc.ts";
import type { Head } from "../http1/head.ts";
import { isTokenCharacter } from "../tokens/token.ts";

export interface FoundToken {
  readonly text: string;
  /** What it is taken out of, once it is known to be good; both null: it stays where it is (a cookie). */
  readonly header: Uint8Array | null;
  readonly param: string | null;
}

/** Looks for the tokens of one rule. The same list in the same order as Envoy's. */
export type FindTokens = (bytes: Uint8Array, head: Head) => readonly FoundToken[];

const cookieName = latin1("cookie");
const none: readonly FoundToken[] = [];

export function compileFinder({ fromHeaders, fromParams: params, fromCookies: cookies }: JwtProviderConfig): FindTokens {
  const headers = fromHeaders.map(({ name, prefix }) => ({ name: latin1(name), prefix: asRead(prefix) }));
  const fromParams = params.map(asRead);
  const fromCookies = cookies.map(asRead);
  return (bytes, head) => {
    let found: FoundToken[] | null = null;
    for (let h = 0; h < headers.length; h++) {
      const { name, prefix } = headers[h] as (typeof headers)[number];
      for (let i = 0; i < head.count; i++) {
        if (!equalsIgnoreCase(bytes, head.nameFrom[i] as number, head.nameTo[i] as number, name)) continue;
        const value = slice(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
        const token = behind(value, prefix);
        if (token === null) continue;
        found ??= [];
        found.push({ text: token, header: name, param: null });
      }
    }
    if (fromParams.length > 0) {
      const query = queryOf(bytes, head);
      if (query !== "")
        for (const param of fromParams) {
          const value = parameter(query, param);
          if (value === null) continue;
          found ??= [];
          found.push({ text: value, header: null, param });
        }
    }
    if (fromCookies.length > 0)
      for (const name of fromCookies) {
        const value = cookie(bytes, head, name);
        if (value === null) continue;
        found ??= [];
        found.push({ text: value, header: null, param: null });
      }
    return found ?? none;
  };
}

/** Requests are read as Latin-1 here, whatever is meant by their bytes. */
function asRead(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

function slice(bytes: Uint8Array, from: number, to: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString("latin1");
}

/** What follows `prefix`, wherever that is, from the first character of a token on; null: the prefix is not there. */
function behind(value: string, prefix: string): string | null {
  if (prefix === "") return value;
  const at = value.indexOf(prefix);
  if (at < 0) return null;
  for (let i = at + prefix.length; i < value.length; i++)
    if (isTokenCharacter(value.charCodeAt(i))) return i === 0 ? value : value.slice(i);
  return value;
}

function queryOf(bytes: Uint8Array, head: Head): string {
  for (let i = head.pathFrom; i < head.pathTo; i++) if (bytes[i] === 63) return slice(bytes, i + 1, head.pathTo);
  return "";
}

/** The first of that name; names and values are taken as they are meant, not as they are written. */
function parameter(query: string, name: string): string | null {
  for (const each of query.split("&")) {
    const equals = each.indexOf("=");
    if (unescaped(equals < 0 ? each : each.slice(0, equals)) === name) return equals < 0 ? "" : unescaped(each.slice(equals + 1));
  }
  return null;
}

/** A path with its query, without the parameters of that name. */
export function withoutParameter(path: string, name: string): string {
  const at = path.indexOf("?");
  if (at < 0) return path;
  const rest = path
    .slice(at + 1)
    .split("&")
    .filter((each) => {
      const equals = each.indexOf("=");
      return unescaped(equals < 0 ? each : each.slice(0, equals)) !== name;
    });
  return rest.length === 0 ? path.slice(0, at) : `${path.slice(0, at)}?${rest.join("&")}`;
}

function unescaped(text: string): string {
  if (!text.includes("%")) return text;
  return text.replaceAll(/%([0-9a-fA-F]{2})/g, (_all, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
}

/** The first of that name (RFC 6265 4.2). */
function cookie(bytes: Uint8Array, head: Head, name: string): string | null {
  const first = fieldNamed(bytes, head, cookieName);
  if (first < 0) return null;
  for (let i = first; i < head.count; i++) {
    if (!equalsIgnoreCase(bytes, head.nameFrom[i] as number, head.nameTo[i] as number, cookieName)) continue;
    for (const each of slice(bytes, head.valueFrom[i] as number, head.valueTo[i] as number).split(";")) {
      const equals = each.indexOf("=");
      if (equals < 0 || each.slice(0, equals).trim() !== name) continue;
      const value = each.slice(equals + 1).trim();
      return value.length > 1 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
    }
  }
  return null;
}
