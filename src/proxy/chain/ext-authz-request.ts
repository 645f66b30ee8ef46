// Owns: what an authorization service is told of a request: Envoy's CheckRequest, or an HTTP request that looks like it. Never sends it.

import type { AuthBody, AuthService, ExtAuthzFilter, StringMatch } from "../config.ts";
import { text } from "../http/bytes.ts";
import type { Exchange } from "../http/exchange.ts";
import { field, form, type Head } from "../http1/head.ts";
import { compileString } from "../route/match.ts";
import { encodeBinary } from "../xds/proto/encode.ts";
import { CheckRequest } from "../xds/proto/types.ts";

export type Names = (name: string) => boolean;

/** Fits where one of the matchers does, which are for names in lower case. */
export function compileNames(matchers: readonly StringMatch[]): Names {
  const compiled = matchers.map((one) => compileString(one));
  return (name) => compiled.some((matches) => matches(name));
}

export interface Told {
  readonly names: Names;
  readonly not: Names;
}

export function tellNames(filter: ExtAuthzFilter, service: AuthService): Told {
  const not = compileNames(filter.disallowed);
  if (service.kind === "grpc") return { names: filter.allowed === null ? () => true : compileNames(filter.allowed), not };
  const own = compileNames([...(filter.allowed ?? []), ...service.allowed]);
  // Envoy sends it unasked: without it there is little to judge by.
  return { names: (name) => name === "authorization" || own(name), not };
}

/** Fields of one connection, and those that the message to the service has of its own. */
const ownFields = new Set([
  "host",
  "content-length",
  "transfer-encoding",
  "te",
  "trailer",
  "upgrade",
  "connection",
  "expect",
  "keep-alive",
]);

/** Header fields that are told, in their order; names in lower case. */
function* toldFields(bytes: Uint8Array, head: Head, told: Told): Generator<[string, string]> {
  for (let i = 0; i < head.count; i++) {
    if ((head.kind[i] as number) >= field.dropFrom) continue;
    const name = text(bytes, head.nameFrom[i] as number, head.nameTo[i] as number).toLowerCase();
    if (ownFields.has(name) || told.not(name) || !told.names(name)) continue;
    yield [name, text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number)];
  }
}

/** The request's target as it is routed and forwarded. */
function targetOf(x: Exchange, bytes: Uint8Array, head: Head): string {
  if (x.path !== null) return text(x.path, 0, x.path.length);
  return text(bytes, head.pathFrom, head.pathTo) || (head.form === form.authority ? "" : "/");
}

/** What there is of the body, up to the limit; empty where it is not told. */
export function bodyOf(x: Exchange, settings: AuthBody | null): Buffer {
  if (settings === null || x.bodySize === 0) return Buffer.alloc(0);
  const whole = x.body.length === 1 ? Buffer.from(x.body[0] as Uint8Array) : Buffer.concat(x.body);
  return whole.subarray(0, settings.maxBytes);
}

/** A request without a body has nothing that could be left out. */
function hasBody(x: Exchange): boolean {
  return !x.requestDone || x.bodySize > 0;
}

/** More of it is there, or to come, than is told. */
function isPart(x: Exchange, settings: AuthBody): boolean {
  return !x.requestDone || x.bodySize > settings.maxBytes;
}

export const partialHeader = "x-envoy-auth-partial-body";

/** A CheckRequest in protobuf's binary form. */
export function checkRequest(
  x: Exchange,
  bytes: Uint8Array,
  head: Head,
  told: Told,
  context: Readonly<Record<string, string>>,
  settings: AuthBody | null,
): Uint8Array {
  const { core, peer } = x.down;
  const [remote, local] = [x.down.remote(), x.down.local()];
  const path = targetOf(x, bytes, head);
  const method = text(bytes, head.from, head.methodTo);
  const host = text(bytes, head.authorityFrom, head.authorityTo);
  const scheme = x.chain.tls === null ? "http" : "https";
  const headers: Record<string, string> = {};
  for (const [name, value] of toldFields(bytes, head, told))
    headers[name] = Object.hasOwn(headers, name) ? `${headers[name]},${value}` : value;
  for (const [name, value] of [
    [":method", method],
    [":path", path],
    [":authority", host],
    [":scheme", scheme],
  ] as const)
    if (told.names(name) && !told.not(name)) headers[name] = value;
  const body = bodyOf(x, settings);
  if (settings !== null && hasBody(x)) headers[partialHeader] = String(isPart(x, settings));
  const wallMs = core.wallMs();
  const { trustDomain, namespace, serviceAccount } = core.local;
  const own = x.chain.inbound && trustDomain !== "" ? `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}` : "";
  const socket = (one: { readonly host: string; readonly port: number }) => ({
    address: { case: "socketAddress", value: { address: one.host, portSpecifier: { case: "portValue", value: one.port } } },
  });
  const id = head.requestId < 0 ? "" : text(bytes, head.valueFrom[head.requestId] as number, head.valueTo[head.requestId] as number);
  return encodeBinary(CheckRequest, {
    attributes: {
      source: { address: socket(remote), principal: peer?.principal ?? "" },
      destination: { address: socket(local), principal: peer === null ? "" : own },
      request: {
        time: { seconds: BigInt(Math.floor(wallMs / 1_000)), nanos: Math.floor(wallMs % 1_000) * 1_000_000 },
        http: {
          id,
          method,
          headers,
          path,
          host,
          scheme,
          // Of the body, as far as it is known.
          size: BigInt(x.requestDone ? x.bodySize : head.contentLength > 0 ? head.contentLength : -1),
          protocol: x.ownHalf.version === 2 ? "HTTP/2" : x.minor === 0 ? "HTTP/1.0" : "HTTP/1.1",
          ...(settings === null ? {} : settings.asBytes ? { rawBody: body } : { body: body.toString("utf8") }),
        },
      },
      contextExtensions: { ...context },
    },
  } as unknown as Parameters<typeof encodeBinary<object>>[1]);
}

/** The head of the HTTP form; null: the request cannot be told so (CONNECT has no target that a server would take). */
export function httpHead(
  x: Exchange,
  bytes: Uint8Array,
  head: Head,
  told: Told,
  service: Extract<AuthService, { kind: "http" }>,
  settings: AuthBody | null,
  bodySize: number,
): Buffer | null {
  if (x.isConnect) return null;
  const method = text(bytes, head.from, head.methodTo);
  const host = text(bytes, head.authorityFrom, head.authorityTo) || service.cluster;
  let lines = `${method} ${service.pathPrefix}${targetOf(x, bytes, head)} HTTP/1.1\r\nhost: ${host}\r\n`;
  const added = new Set(service.addHeaders.map(({ name }) => name));
  for (const [name, value] of toldFields(bytes, head, told)) if (!added.has(name)) lines += `${name}: ${value}\r\n`;
  for (const { name, value } of service.addHeaders) lines += `${name}: ${value}\r\n`;
  if (settings !== null && hasBody(x)) lines += `${partialHeader}: ${isPart(x, settings)}\r\n`;
  return Buffer.from(`${lines}content-length: ${bodySize}\r\n\r\n`, "latin1");
}
