// Owns: which form of an answer a request's Accept header asks for, and writing it. Never knows what is answered.

import { notAcceptable } from "./status.ts";

/** `table` and `partial` are meta.k8s.io/v1 Table and PartialObjectMetadata, for kubectl and for clients that need names only. */
export type Form = "object" | "table" | "partial";

interface MediaRange {
  readonly type: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** In the order the client wrote them: kubectl lists its favourite first and gives no weights. */
function mediaRanges(header: string | null): readonly MediaRange[] {
  if (header === null || header.trim() === "") return [{ type: "*/*", parameters: new Map() }];
  return header.split(",").map((part) => {
    const [type = "", ...rest] = part.split(";").map((piece) => piece.trim());
    return { type: type.toLowerCase(), parameters: new Map(rest.map((each) => each.split("=", 2) as [string, string])) };
  });
}

const jsonLike: ReadonlySet<string> = new Set(["application/json", "application/*", "*/*"]);

/** Throws 406 when nothing the client takes can be made. */
export function formOf(request: Request): Form {
  const ranges = mediaRanges(request.headers.get("accept"));
  for (const { type, parameters } of ranges) {
    if (!jsonLike.has(type)) continue;
    const as = parameters.get("as");
    if (as === undefined) return "object";
    if (parameters.get("g") !== "meta.k8s.io" || parameters.get("v") !== "v1") continue;
    if (as === "Table") return "table";
    if (as === "PartialObjectMetadata" || as === "PartialObjectMetadataList") return "partial";
  }
  throw notAcceptable(`only application/json is answered here, asked for was ${JSON.stringify(request.headers.get("accept"))}`);
}

/** The aggregated discovery version (`v2`, `v2beta1`) that is asked for before the plain documents; undefined = plain. */
export function aggregatedVersion(request: Request): string | undefined {
  for (const { type, parameters } of mediaRanges(request.headers.get("accept"))) {
    if (!jsonLike.has(type)) continue;
    if (parameters.get("as") !== "APIGroupDiscoveryList") return undefined;
    const version = parameters.get("v");
    if (version === "v2" || version === "v2beta1") return version;
  }
  return undefined;
}

/** True when the client's first choice is the given media type. */
export function prefers(request: Request, type: string): boolean {
  return mediaRanges(request.headers.get("accept"))[0]?.type === type;
}

/** `pretty=true` in the query indents, as in Kubernetes. */
export function json(request: Request, body: unknown, code = 200, contentType = "application/json"): Response {
  const pretty = /[?&]pretty=(true|1)?(&|$)/.test(request.url);
  const text = `${JSON.stringify(body, undefined, pretty ? 2 : undefined)}\n`;
  return new Response(text, { status: code, headers: { "content-type": contentType, "cache-control": "no-cache, private" } });
}
