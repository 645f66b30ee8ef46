// Owns: Envoy's access log operators (Envoy docs, "Access logging: command operators"), as far as the proxy knows the answer: one table, and the
// compilation of a format string to a list of pieces. Never writes lines.

import type { AccessRecord } from "./record.ts";

/** A value as it goes into JSON; null where there is none, as Envoy prints in JSON logs. */
export type FieldValue = string | number | null;

type Read = (record: AccessRecord) => FieldValue;

const orNull = (text: string | null): string | null => (text === "" ? null : text);

const operators: Readonly<Record<string, Read>> = {
  START_TIME: (r) => new Date(r.startTimeMs).toISOString(),
  DURATION: (r) => Math.round(r.durationMs),
  PROTOCOL: (r) => (r.kind === "http" ? r.protocol : null),
  RESPONSE_CODE: (r) => r.status,
  RESPONSE_CODE_DETAILS: (r) => orNull(r.details),
  RESPONSE_FLAGS: (r) => (r.flags.length === 0 ? "-" : r.flags.join(",")),
  BYTES_RECEIVED: (r) => r.requestBytes,
  BYTES_SENT: (r) => r.responseBytes,
  UPSTREAM_HOST: (r) => (r.upstreamAddress === null ? null : `${bracket(r.upstreamAddress.host)}:${r.upstreamAddress.port}`),
  UPSTREAM_CLUSTER: (r) => orNull(r.upstreamCluster),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: (r) => r.attempts,
  UPSTREAM_PEER_URI_SAN: (r) => r.upstreamPeer,
  ROUTE_NAME: (r) => orNull(r.routeName),
  DOWNSTREAM_REMOTE_ADDRESS: (r) => `${bracket(r.downstreamRemote.host)}:${r.downstreamRemote.port}`,
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: (r) => r.downstreamRemote.host,
  DOWNSTREAM_LOCAL_ADDRESS: (r) => `${bracket(r.downstreamLocal.host)}:${r.downstreamLocal.port}`,
  DOWNSTREAM_LOCAL_PORT: (r) => r.downstreamLocal.port,
  DOWNSTREAM_PEER_URI_SAN: (r) => r.downstreamPeer,
  DOWNSTREAM_TLS_VERSION: (r) => r.tlsVersion,
};

/** Request headers that a record keeps. */
const requestHeaders: Readonly<Record<string, Read>> = {
  ":METHOD": (r) => orNull(r.method),
  ":PATH": (r) => orNull(r.path),
  ":AUTHORITY": (r) => orNull(r.authority),
  ":SCHEME": (r) => orNull(r.scheme),
  "USER-AGENT": (r) => orNull(r.userAgent),
  "X-REQUEST-ID": (r) => orNull(r.requestId),
  // Envoy sets it when it rewrites a path; a record keeps the path as it came, so there is never another one.
  "X-ENVOY-ORIGINAL-PATH": () => null,
};

/** A literal, or a reader. */
export type Piece = string | Read;

/** Compiles a format string; what is not supported goes to `problem` and reads as null. */
export function compileFormat(format: string, problem: (message: string) => void): readonly Piece[] {
  const pieces: Piece[] = [];
  let literal = "";
  let at = 0;
  while (at < format.length) {
    const open = format.indexOf("%", at);
    if (open < 0) {
      literal += format.slice(at);
      break;
    }
    literal += format.slice(at, open);
    if (format[open + 1] === "%") {
      literal += "%";
      at = open + 2;
      continue;
    }
    const close = format.indexOf("%", open + 1);
    if (close < 0) {
      problem(`"${format.slice(open)}" has no closing % (write %% for a percent sign)`);
      break;
    }
    if (literal !== "") pieces.push(literal);
    literal = "";
    pieces.push(compileOperator(format.slice(open + 1, close), problem));
    at = close + 1;
  }
  if (literal !== "" || pieces.length === 0) pieces.push(literal);
  return pieces;
}

/** Everything wrong with a format string; empty = fine. */
export function checkFormat(format: string): readonly string[] {
  const problems: string[] = [];
  compileFormat(format, (message) => problems.push(message));
  return problems;
}

function compileOperator(text: string, problem: (message: string) => void): Read {
  const none: Read = () => null;
  const match = /^([A-Z_]+)(?:\(([^()]*)\))?$/.exec(text);
  if (match === null) {
    problem(`%${text}% is not an operator`);
    return none;
  }
  const [, name, argument] = match as unknown as [string, string, string | undefined];
  if (name === "REQ") return compileRequestHeader(text, argument, problem);
  const read = Object.hasOwn(operators, name) ? operators[name] : undefined;
  if (read === undefined) {
    problem(`%${text}% is not supported; supported: REQ(...), ${Object.keys(operators).join(", ")}`);
    return none;
  }
  if (argument !== undefined) problem(`%${text}%: ${name} takes no argument here`);
  return read;
}

function compileRequestHeader(text: string, argument: string | undefined, problem: (message: string) => void): Read {
  const names = (argument ?? "").toUpperCase().split("?");
  const reads = names.map((name) => (Object.hasOwn(requestHeaders, name) ? requestHeaders[name] : undefined));
  const known = Object.keys(requestHeaders).join(", ");
  if (names.length > 2 || reads.some((read) => read === undefined)) {
    problem(`%${text}%: only these request headers are kept for logs: ${known}`);
    return () => null;
  }
  const [first, second] = reads as [Read, Read | undefined];
  return second === undefined ? first : (record) => first(record) ?? second(record);
}

function bracket(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
