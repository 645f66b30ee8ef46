// Owns: the bytes of answers this proxy gives itself: local replies, redirects, direct answers. Template strings are fine here: none of this is the
// path of a request that goes well. Answers are written to the scratch buffer; each function returns the size.

import { notDeliveredHeader, reasonHeader } from "../../wire/names.ts";
import type { DirectAction } from "../config.ts";
import type { Head } from "../http1/head.ts";
import { scratch } from "../net/outbox.ts";
import type { CompiledEdits } from "../route/edit.ts";
import type { CompiledRedirect } from "../route/table.ts";
import { text } from "./bytes.ts";
import { reasonPhrase } from "./failure.ts";

/** A local reply: the reason as header and as plain text. `undelivered`: no application can have seen the request. */
export function writeReply(
  status: number,
  flag: string,
  sentence: string,
  undelivered: boolean,
  isHead: boolean,
  close: boolean,
  lines: Uint8Array | null = null,
): number {
  const clean = printable(sentence);
  const body = `${clean}\n`;
  return put(
    `HTTP/1.1 ${status} ${reasonPhrase(status)}\r\n${reasonHeader}: ${flag} ${clean}\r\n${undelivered ? `${notDeliveredHeader}: 1\r\n` : ""}` +
      `content-type: text/plain\r\ncontent-length: ${body.length}\r\n${added(lines)}${close ? "connection: close\r\n" : ""}\r\n${isHead ? "" : body}`,
  );
}

/** A direct answer. `%REQ(:AUTHORITY)%` in its body is the request's host (Envoy's `body_format` has the same command). */
export function writeDirect(
  action: DirectAction,
  authority: string,
  edits: CompiledEdits | null,
  isHead: boolean,
  close: boolean,
  lines: Uint8Array | null = null,
): number {
  const body = Buffer.from(action.body.replaceAll("%REQ(:AUTHORITY)%", printable(authority)), "utf8");
  const bodyless = isHead || action.status === 204 || action.status === 304;
  const length = action.status === 204 ? "" : `content-length: ${body.length}\r\n`;
  const kind = body.length > 0 ? "content-type: text/plain\r\n" : "";
  const size = put(
    `HTTP/1.1 ${action.status} ${reasonPhrase(action.status)}\r\n${kind}${length}${appended(edits)}${added(lines)}${close ? "connection: close\r\n" : ""}\r\n`,
  );
  if (bodyless) return size;
  scratch.set(body, size);
  return size + body.length;
}

/** `matchedSize`: length of the route's path prefix, -1 for none. `secure`: the request came by TLS. */
export function writeRedirect(
  redirect: CompiledRedirect,
  matchedSize: number,
  bytes: Uint8Array,
  head: Head,
  edits: CompiledEdits | null,
  close: boolean,
  lines: Uint8Array | null = null,
  secure = false,
): number {
  const { action, rewrite } = redirect;
  const authority = text(bytes, head.authorityFrom, head.authorityTo);
  const target = text(bytes, head.pathFrom, head.pathTo) || "/";
  const question = target.indexOf("?");
  const path = question < 0 ? target : target.slice(0, question);
  const query = question < 0 ? "" : target.slice(question);
  const scheme = action.scheme ?? (secure ? "https" : "http");
  const colon = authority.lastIndexOf(":");
  const hasPort = colon > authority.lastIndexOf("]");
  const host = action.host ?? (hasPort ? authority.slice(0, colon) : authority);
  const asked = hasPort ? Number(authority.slice(colon + 1)) : null;
  // The port that was asked for stays only while scheme and host do (as Envoy and Gateway API have it).
  const port = action.port ?? (action.scheme === null && action.host === null ? asked : null);
  const usual = scheme === "https" ? 443 : 80;
  let newPath = path;
  if (rewrite !== null) newPath = rewrite(bytes, head.pathFrom, question < 0 ? head.pathTo : head.pathFrom + question) ?? path;
  else if (action.path?.kind === "full") newPath = action.path.value;
  else if (action.path?.kind === "prefix") newPath = joinPath(action.path.value, path.slice(Math.max(0, matchedSize)));
  const ownQuery = action.path?.kind === "full" && newPath.includes("?");
  const location = printable(
    `${scheme}://${host}${port === null || port === usual ? "" : `:${port}`}${newPath}${ownQuery || action.stripQuery === true ? "" : query}`,
  );
  return put(
    `HTTP/1.1 ${action.status} ${reasonPhrase(action.status)}\r\nlocation: ${location}\r\ncontent-length: 0\r\n${appended(edits)}${added(lines)}${close ? "connection: close\r\n" : ""}\r\n`,
  );
}

function joinPath(prefix: string, rest: string): string {
  if (prefix.endsWith("/") && rest.startsWith("/")) return prefix + rest.slice(1);
  return prefix + rest === "" ? "/" : prefix + rest;
}

/** An answer without a body that consists of `lines`, each with its CRLF. */
export function writeLines(status: number, lines: string, close: boolean): number {
  return put(`HTTP/1.1 ${status} ${reasonPhrase(status)}\r\n${lines}content-length: 0\r\n${close ? "connection: close\r\n" : ""}\r\n`);
}

/** What stages of the chain add. */
function added(lines: Uint8Array | null): string {
  return lines === null ? "" : text(lines, 0, lines.length);
}

function appended(edits: CompiledEdits | null): string {
  return edits === null ? "" : text(edits.append, 0, edits.append.length);
}

/** Nothing of a request may break out of a header line. */
function printable(sentence: string): string {
  let out = "";
  for (let i = 0; i < sentence.length && out.length < 1_024; i++) {
    const code = sentence.charCodeAt(i);
    out += code < 32 || code > 126 ? "?" : sentence[i];
  }
  return out;
}

function put(answer: string): number {
  return scratch.write(answer, 0, "latin1");
}
