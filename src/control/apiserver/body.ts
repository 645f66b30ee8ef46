// Owns: reading a request's body under a limit and decoding it to plain data. Never knows what the data means.

import { badRequest, bodyTooLarge, bodyTooSlow, unsupportedMediaType } from "./status.ts";

/** Kubernetes' limit for a request body. */
export const maxBodyBytes = 3 * 1024 * 1024;

/** Deeper nesting than any real object has; recursion over it must not be a way to overflow the stack. */
const maxDepth = 100;
const tooDeep = `the body is nested deeper than ${maxDepth} levels`;

/** Reading YAML takes 6 us a node, on the thread that answers everybody: as much as this is a second and a half at worst. JSON takes a twentieth. */
export const maxYamlBytes = 256 * 1024;

/** A body that comes by drops holds memory and a connection: 3 MiB in a minute is slow for any real link. */
export const bodyWithinMs = 60_000;

/** The media type without parameters, lower case; empty when the header is missing. */
export function mediaTypeOf(request: Request): string {
  return (request.headers.get("content-type") ?? "").split(";", 1)[0]!.trim().toLowerCase();
}

/** The body's bytes. Throws 413 over the limit, 408 when they do not come in time. */
async function readBytes(request: Request, withinMs: number): Promise<Buffer> {
  const announced = Number(request.headers.get("content-length") ?? 0);
  if (announced > maxBodyBytes) throw tooLarge();
  const reader = request.body?.getReader();
  if (reader === undefined) return Buffer.alloc(0);
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    reader.cancel().catch(() => undefined);
  }, withinMs);
  const parts: Uint8Array[] = [];
  let size = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (late) throw bodyTooSlow(`the body did not come within ${withinMs / 1000} s`);
      if (done) return Buffer.concat(parts);
      size += value.byteLength;
      if (size > maxBodyBytes) throw tooLarge();
      parts.push(value);
    }
  } finally {
    clearTimeout(timer);
    reader.releaseLock();
  }
}

/** The body as text. Throws 413 over the limit, 408 when it is late, 400 when it is not UTF-8. */
export async function readText(request: Request, withinMs = bodyWithinMs): Promise<string> {
  const bytes = await readBytes(request, withinMs);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw badRequest("the body is not UTF-8 text");
  }
}

function tooLarge(): Error {
  return bodyTooLarge(`the body is larger than ${maxBodyBytes} bytes (3 MiB), the most this server reads`);
}

/** JSON, YAML or, for the few kinds kubectl sends so, protobuf; by content type (none = JSON). An empty body is undefined. */
export async function readData(request: Request): Promise<unknown> {
  const type = mediaTypeOf(request);
  if (type === "application/yaml" || type === "application/x-yaml" || type === "text/yaml") return parseYaml(await readText(request));
  if (type === "" || type === "application/json" || type === "text/json") return parseJson(await readText(request));
  if (type === "application/vnd.kubernetes.protobuf") {
    const bytes = await readBytes(request, bodyWithinMs);
    const { decodeProtobuf } = await import("./protobuf.ts");
    return bytes.length === 0 ? undefined : decodeProtobuf(bytes);
  }
  throw unsupportedMediaType(`the body's media type ${JSON.stringify(type)} is not read here; send application/json or application/yaml`);
}

export function parseJson(text: string): unknown {
  if (text.trim() === "") return undefined;
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw badRequest(`the body is not valid JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  checkTree(data, 0);
  return data;
}

export async function parseYaml(text: string): Promise<unknown> {
  // Programs send JSON, which is YAML, under YAML's name (client-go's applies): half the cost of one is the YAML reader.
  if (text.startsWith("{")) {
    try {
      const data: unknown = JSON.parse(text);
      checkTree(data, 0);
      return data;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  if (text.length > maxYamlBytes)
    throw bodyTooLarge(
      `YAML is read up to ${maxYamlBytes / 1024} KiB, and this is ${Math.ceil(text.length / 1024)}; send it as JSON, which may have 3 MiB`,
    );
  // Loaded on first use: most clients send JSON, and start-up is budgeted.
  const { parseAllDocuments } = await import("yaml");
  let documents: ReturnType<typeof parseAllDocuments>;
  try {
    documents = parseAllDocuments(text, { prettyErrors: true });
  } catch (thrown) {
    throw unreadable(thrown);
  }
  const list = Array.isArray(documents) ? documents : [];
  if (list.length === 0) return undefined;
  if (list.length > 1) throw badRequest(`the body has ${list.length} YAML documents; send one object in a request`);
  const [document] = list;
  const error = document?.errors[0];
  if (error !== undefined) throw unreadable(error);
  let data: unknown;
  try {
    data = document?.toJS({ maxAliasCount: 50 });
  } catch (thrown) {
    throw unreadable(thrown);
  }
  checkTree(data, 0);
  return data;
}

/** The YAML reader goes down a level for each level of the text: what it has no stack for is far deeper than is taken. */
function unreadable(thrown: unknown): Error {
  if (thrown instanceof RangeError || (thrown as { code?: unknown }).code === "RESOURCE_EXHAUSTION") return badRequest(tooDeep);
  return badRequest(`the body is not valid YAML: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
}

// `__proto__` as a key would reach an object's prototype where patches assign fields.
function checkTree(value: unknown, depth: number): void {
  if (typeof value !== "object" || value === null) return;
  if (depth > maxDepth) throw badRequest(tooDeep);
  if (Array.isArray(value)) {
    for (const item of value) checkTree(item, depth + 1);
    return;
  }
  for (const key of Object.keys(value)) {
    if (key === "__proto__") throw badRequest('"__proto__" is no field name');
    checkTree((value as Record<string, unknown>)[key], depth + 1);
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
