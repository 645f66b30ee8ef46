// Owns: what an authorization service's answer means: pass with these changes, refuse with this answer, or nothing that could be believed; and making
// the changes to a request that is held. Never talks to anybody.

import type { AuthService } from "../config.ts";
import { text } from "../http/bytes.ts";
import type { Exchange } from "../http/exchange.ts";
import { requestHeadOf } from "../http/request-head.ts";
import type { CallEnd } from "../http/unary-call.ts";
import { field } from "../http1/head.ts";
import { decodeBinary } from "../xds/proto/binary.ts";
import { CheckResponse } from "../xds/proto/types.ts";
import { compileNames, type Names } from "./ext-authz-request.ts";

type Pair = readonly [name: string, value: string];

/** Names in lower case. */
export interface Changes {
  readonly set: readonly Pair[];
  readonly append: readonly Pair[];
  readonly ifAbsent: readonly Pair[];
  readonly ifPresent: readonly Pair[];
  readonly remove: readonly string[];
}

const none: Changes = { set: [], append: [], ifAbsent: [], ifPresent: [], remove: [] };

export type Said =
  | { readonly kind: "yes"; readonly request: Changes; readonly answer: Changes }
  | { readonly kind: "no"; readonly status: number; readonly fields: readonly Pair[]; readonly body: Buffer }
  /** As when it could not be asked. */
  | { readonly kind: "error"; readonly why: string };

interface Option {
  readonly header?: { readonly key: string; readonly value: string };
  readonly append?: boolean;
  readonly appendAction: number;
}

/** Envoy's: unlike everywhere else what is not said is to be set (external_auth.proto: "append … defaults to false when used in this message"). */
function changesOf(options: readonly Option[], remove: readonly string[]): Changes {
  const out = { set: [] as Pair[], append: [] as Pair[], ifAbsent: [] as Pair[], ifPresent: [] as Pair[] };
  for (const { header, append, appendAction } of options) {
    const pair = [header?.key.toLowerCase() ?? "", rawValue(header?.value ?? "")] as const;
    if (append === true) out.append.push(pair);
    else if (appendAction === 1) out.ifAbsent.push(pair);
    else if (appendAction === 3) out.ifPresent.push(pair);
    else out.set.push(pair);
  }
  return { ...out, remove: remove.map((name) => name.toLowerCase()) };
}

/** The bytes of UTF-8, one character each. */
function rawValue(value: string): string {
  return Buffer.from(value, "utf8").toString("latin1");
}

export function readCheckResponse(message: Uint8Array): Said {
  let response: ReturnType<typeof decodeBinary<object>>;
  try {
    // Fields that nobody here knows are none of ours: metadata for other filters of Envoy's.
    response = decodeBinary(CheckResponse, message, () => {});
  } catch (error) {
    return { kind: "error", why: `its answer is no CheckResponse: ${error instanceof Error ? error.message : String(error)}` };
  }
  const { status, httpResponse } = response as unknown as {
    status?: { code: number };
    httpResponse:
      | { case: undefined }
      | { case: "deniedResponse"; value: { status?: { code: number }; headers: Option[]; body: string } }
      | {
          case: "okResponse";
          value: {
            headers: Option[];
            headersToRemove: string[];
            responseHeadersToAdd: Option[];
            queryParametersToSet: unknown[];
            queryParametersToRemove: string[];
          };
        };
  };
  if ((status?.code ?? 0) !== 0) {
    const denied = httpResponse.case === "deniedResponse" ? httpResponse.value : undefined;
    const code = denied?.status?.code ?? 0;
    const changes = changesOf(denied?.headers ?? [], []);
    const fields = [...changes.set, ...changes.append, ...changes.ifAbsent];
    const wrong = badField(fields);
    if (wrong !== null) return { kind: "error", why: wrong };
    return { kind: "no", status: code < 100 || code > 599 ? 403 : code, fields, body: Buffer.from(denied?.body ?? "", "utf8") };
  }
  if (httpResponse.case !== "okResponse") return { kind: "yes", request: none, answer: none };
  const ok = httpResponse.value;
  if (ok.queryParametersToSet.length + ok.queryParametersToRemove.length > 0)
    return { kind: "error", why: "it wants query parameters changed, which is not supported" };
  return yes(changesOf(ok.headers, ok.headersToRemove), changesOf(ok.responseHeadersToAdd, []));
}

function yes(request: Changes, answer: Changes): Said {
  const wrong =
    badField([
      ...request.set,
      ...request.append,
      ...request.ifAbsent,
      ...request.ifPresent,
      ...request.remove.map((name) => [name, ""] as const),
    ]) ?? badField([...answer.set, ...answer.append, ...answer.ifAbsent, ...answer.ifPresent]);
  return wrong === null ? { kind: "yes", request, answer } : { kind: "error", why: wrong };
}

/** What frames or addresses the message is the proxy's; a request that was judged must stay the one that was judged. */
const ownFields = new Set([
  "host",
  "content-length",
  "transfer-encoding",
  "connection",
  "te",
  "trailer",
  "upgrade",
  "keep-alive",
  "proxy-connection",
]);

function badField(pairs: readonly Pair[]): string | null {
  for (const [name, value] of pairs) {
    if (!/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name)) return `it changes "${name.slice(0, 100)}", which is no header name that may be changed`;
    if (ownFields.has(name)) return `it changes the header ${name}, which belongs to the proxy`;
    if (/[^\t\x20-\x7e\x80-\xff]/.test(value)) return `its value of the header ${name} holds a control character`;
  }
  return null;
}

/** Makes the names that an HTTP service's answer may bring. */
export function compileHttpAnswer(service: Extract<AuthService, { kind: "http" }>): (end: Extract<CallEnd, { ok: true }>) => Said {
  const names = (list: Parameters<typeof compileNames>[0] | null): Names | null => (list === null ? null : compileNames(list));
  const set = compileNames(service.upstreamSet);
  const append = compileNames(service.upstreamAppend);
  const client = names(service.client);
  const success = compileNames(service.clientOnSuccess);
  /** Envoy adds these to whatever list there is. */
  const always = new Set(["www-authenticate", "location"]);
  return ({ status, fields, body }) => {
    if (status >= 500) return { kind: "error", why: `it answers ${status}` };
    // No answer may bring what frames it, nor what tells of the connection that it came by.
    const free = fields.filter(([name]) => !ownFields.has(name) && name !== "date" && name !== "server");
    if (status === 200)
      return yes(
        { ...none, set: free.filter(([name]) => set(name)), append: free.filter(([name]) => append(name)) },
        { ...none, append: free.filter(([name]) => success(name)) },
      );
    if (status < 200) return { kind: "error", why: `it answers ${status}` };
    return {
      kind: "no",
      status,
      fields: free.filter(([name]) => client === null || always.has(name) || client(name)),
      body: Buffer.from(body),
    };
  };
}

/** Changes the held request's head. false: what came out is no request any more. */
export function changeRequest(x: Exchange, changes: Changes, more: readonly Pair[]): boolean {
  const { set, append, ifAbsent, ifPresent, remove } = changes;
  if (set.length + append.length + ifAbsent.length + ifPresent.length + remove.length + more.length === 0) return true;
  const head = requestHeadOf(x);
  if (head === null) return false;
  const bytes = x.bytes;
  const present = new Set<string>();
  for (let i = 0; i < head.count; i++) present.add(nameAt(bytes, head, i));
  const replaced = [...set, ...ifPresent.filter(([name]) => present.has(name)), ...more];
  const gone = new Set([...remove, ...replaced.map(([name]) => name)]);
  let lines = text(bytes, head.from, head.count === 0 ? head.to - 2 : (head.nameFrom[0] as number));
  for (let i = 0; i < head.count; i++)
    if (!gone.has(nameAt(bytes, head, i)))
      lines += text(bytes, head.nameFrom[i] as number, i === head.count - 1 ? head.to - 2 : (head.nameFrom[i + 1] as number));
  // Envoy: where there is nothing, nothing is appended.
  const appended = append.filter(([name]) => present.has(name) && !gone.has(name));
  for (const [name, value] of [...replaced, ...appended, ...ifAbsent.filter(([name]) => !present.has(name))])
    lines += `${name}: ${value}\r\n`;
  const changed = Buffer.from(`${lines}\r\n`, "latin1");
  if (changed.length > head.limits.headBytes) return false;
  x.bytes = changed;
  x.headFrom = 0;
  x.headTo = changed.length;
  const again = requestHeadOf(x);
  return again !== null && again.to === changed.length;
}

function nameAt(bytes: Uint8Array, head: { readonly nameFrom: Int32Array; readonly nameTo: Int32Array }, i: number): string {
  return text(bytes, head.nameFrom[i] as number, head.nameTo[i] as number).toLowerCase();
}

/** Lines to add to the answer of the request, whose own fields give way where they are replaced. `head` null: a reply of ours. */
export function changeAnswer(
  changes: Changes,
  bytes: Uint8Array | null,
  head: { readonly count: number; readonly nameFrom: Int32Array; readonly nameTo: Int32Array; readonly kind: Uint8Array } | null,
): string {
  const present = new Map<string, number[]>();
  if (bytes !== null && head !== null)
    for (let i = 0; i < head.count; i++) {
      const name = nameAt(bytes, head, i);
      present.set(name, [...(present.get(name) ?? []), i]);
    }
  let lines = "";
  for (const [name, value] of [...changes.set, ...changes.ifPresent.filter(([name]) => present.has(name))]) {
    for (const i of present.get(name) ?? []) if (head !== null) head.kind[i] = field.edited;
    lines += `${name}: ${value}\r\n`;
  }
  for (const [name, value] of [...changes.append, ...changes.ifAbsent.filter(([name]) => !present.has(name))])
    lines += `${name}: ${value}\r\n`;
  return lines;
}
