// Owns: what `%COMMANDS%` in header values stand for (Envoy, "Custom request/response headers"): one table, and the compilation of a value to pieces.
// Only routes whose values hold commands come here. Never writes a head.

import { equalsIgnoreCase, latin1, text } from "../http/bytes.ts";
import { loggedClient } from "../http/client-address.ts";
import type { Exchange } from "../http/exchange.ts";
import { toldScheme } from "../http/forwarded.ts";
import type { Head } from "../http1/head.ts";

/** What a command may look at. `head` is the request's, in `bytes`; `answer` the answer's where there is one. */
export interface CommandContext {
  readonly x: Exchange;
  readonly bytes: Uint8Array;
  readonly head: Head | null;
  readonly answerBytes: Uint8Array | null;
  readonly answer: Head | null;
}

/** Empty: nothing is known, and the header is left out. */
export type Read = (context: CommandContext) => string;

function bracket(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

const commands: Readonly<Record<string, Read>> = {
  DOWNSTREAM_REMOTE_ADDRESS: ({ x, bytes, head }) => address(loggedClient(x, bytes, head)),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: ({ x, bytes, head }) => loggedClient(x, bytes, head).host,
  DOWNSTREAM_REMOTE_PORT: ({ x, bytes, head }) => String(loggedClient(x, bytes, head).port),
  DOWNSTREAM_LOCAL_ADDRESS: ({ x }) => address(x.down.local()),
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: ({ x }) => x.down.local().host,
  DOWNSTREAM_LOCAL_PORT: ({ x }) => String(x.down.local().port),
  DOWNSTREAM_PEER_URI_SAN: ({ x }) => x.down.peer?.principal ?? "",
  DOWNSTREAM_TLS_VERSION: ({ x }) => x.down.peer?.tlsVersion ?? "",
  PROTOCOL: ({ x }) => (x.ownHalf.version === 2 ? "HTTP/2" : x.minor === 0 ? "HTTP/1.0" : "HTTP/1.1"),
  ROUTE_NAME: ({ x }) => x.route?.name ?? "",
  UPSTREAM_CLUSTER: ({ x }) => x.cluster?.config.name ?? "",
  UPSTREAM_HOST: ({ x }) => (x.endpoint === null ? "" : address(x.endpoint)),
  UPSTREAM_REMOTE_ADDRESS: ({ x }) => (x.endpoint === null ? "" : address(x.endpoint)),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: ({ x }) => String(x.attempts),
  RESPONSE_CODE: ({ x }) => (x.status === 0 ? "" : String(x.status)),
  RESPONSE_CODE_DETAILS: ({ x }) => x.details,
  RESPONSE_FLAGS: ({ x }) => x.flag ?? "-",
  START_TIME: ({ x }) => new Date(x.down.core.wallMs() - (x.down.core.ticker.now() - x.startMs)).toISOString(),
};

function address(at: { readonly host: string; readonly port: number }): string {
  return `${bracket(at.host)}:${at.port}`;
}

/** A literal, or a reader. */
export type Piece = string | Read;

/** The pieces of a value; one string where it holds no command. Throws a sentence on what is none. */
export function compileValue(value: string): string | readonly Piece[] {
  const pieces: Piece[] = [];
  let literal = "";
  for (let at = 0; at < value.length; ) {
    const open = value.indexOf("%", at);
    if (open < 0) {
      literal += value.slice(at);
      break;
    }
    literal += value.slice(at, open);
    if (value[open + 1] === "%") {
      literal += "%";
      at = open + 2;
      continue;
    }
    const close = value.indexOf("%", open + 1);
    if (close < 0) throw new Error(`"${value}" has no closing %: write %% for a percent sign`);
    if (literal !== "") pieces.push(literal);
    literal = "";
    pieces.push(compileCommand(value.slice(open + 1, close)));
    at = close + 1;
  }
  if (pieces.length === 0) return literal;
  if (literal !== "") pieces.push(literal);
  return pieces;
}

function compileCommand(source: string): Read {
  const match = /^([A-Z_]+)(?:\(([^()]*)\))?(?::(\d+))?$/.exec(source);
  const name = match?.[1] ?? "";
  const argument = match?.[2];
  const most = match?.[3] === undefined ? Number.POSITIVE_INFINITY : Number(match[3]);
  if (argument !== undefined && (name === "REQ" || name === "RESP")) return cut(headerRead(source, argument, name === "RESP"), most);
  const read = argument === undefined && Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (read === undefined) {
    throw new Error(
      `%${source}% is not supported; supported: REQ(NAME), RESP(NAME), ${Object.keys(commands).join(", ")}; %% is a percent sign`,
    );
  }
  return cut(read, most);
}

function cut(read: Read, most: number): Read {
  return most === Number.POSITIVE_INFINITY ? read : (context) => read(context).slice(0, most);
}

/** `NAME` or `NAME?OTHER`, as Envoy has it: the other where the first is not there. */
function headerRead(source: string, argument: string, ofAnswer: boolean): Read {
  const names = argument.split("?");
  if (names.length > 2 || names.some((name) => !/^:?[!#$&'*+.^_`|~0-9A-Za-z-]+$/.test(name)))
    throw new Error(`%${source}%: ${argument} is no header name`);
  const reads = names.map((name) => oneHeader(source, name.toLowerCase(), ofAnswer));
  const [first, second] = reads as [Read, Read | undefined];
  return second === undefined ? first : (context) => first(context) || second(context);
}

function oneHeader(source: string, name: string, ofAnswer: boolean): Read {
  if (ofAnswer) {
    if (name.startsWith(":")) throw new Error(`%${source}%: use %RESPONSE_CODE%`);
    const wanted = latin1(name);
    return ({ answerBytes, answer }) => (answer === null || answerBytes === null ? "" : fieldText(answerBytes, answer, wanted));
  }
  switch (name) {
    case ":method":
      return ({ bytes, head }) => (head === null ? "" : text(bytes, head.from, head.methodTo));
    case ":path":
      return ({ bytes, head }) => (head === null ? "" : text(bytes, head.pathFrom, head.pathTo));
    case ":authority":
    case "host":
      return ({ bytes, head }) => (head === null ? "" : text(bytes, head.authorityFrom, head.authorityTo));
    case ":scheme":
      return ({ bytes, head }) => (head !== null && toldScheme(bytes, head, false) ? "https" : "http");
    default: {
      if (name.startsWith(":")) throw new Error(`%${source}%: there is no ${name}`);
      const wanted = latin1(name);
      return ({ bytes, head }) => (head === null ? "" : fieldText(bytes, head, wanted));
    }
  }
}

function fieldText(bytes: Uint8Array, head: Head, name: Uint8Array): string {
  let out = "";
  for (let i = 0; i < head.count; i++) {
    if (!equalsIgnoreCase(bytes, head.nameFrom[i] as number, head.nameTo[i] as number, name)) continue;
    out += (out === "" ? "" : ",") + text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
  }
  return out;
}
