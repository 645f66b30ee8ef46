// Owns: serving the OpenAPI documents: v3 by group and version under hashed addresses, cached; v2 as far as kubectl before 1.27 needs it.
// What is in them is `openapi-document.ts`. Never used to validate: that is `api/`.

import { join } from "node:path";
import { packageRoot } from "../../base/root.ts";
import { json, prefers } from "./negotiate.ts";
import type { Words } from "./openapi-document.ts";
import type { Registry } from "./registry.ts";
import { pathNotFound } from "./status.ts";

// Older clients ask for a name with "@", which is no media type in Go's eyes when it comes back.
const protobufV2Asked = [
  "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
  "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];
const protobufV2Answered = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/** `/openapi/v2`: kubectl before 1.27 asks for it in protobuf and takes a kind that is not in it as it is. */
export function openapiV2(request: Request, version: string): Response {
  if (!protobufV2Asked.some((type) => prefers(request, type))) {
    return json(request, { swagger: "2.0", info: { title: "Weft", version }, paths: {}, definitions: {} });
  }
  // openapi.v2.Document: swagger = 1, info = 2 {title = 1, version = 2}, paths = 8, definitions = 9 (github.com/google/gnostic-models).
  const info = Buffer.concat([field(1, Buffer.from("Weft")), field(2, Buffer.from(version))]);
  const document = Buffer.concat([field(1, Buffer.from("2.0")), field(2, info), field(8, Buffer.alloc(0)), field(9, Buffer.alloc(0))]);
  return new Response(document, { headers: { "content-type": protobufV2Answered } });
}

function field(number: number, bytes: Buffer): Buffer {
  if (bytes.length > 127) throw new Error("one length byte is enough for what is written here");
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
}

interface Made {
  readonly text: string;
  /** SHA-512 in hex, in the address as Kubernetes has it: what it leads to never changes. */
  readonly hash: string;
}

/** Kept for the process' life: there is one a group and version, and clients ask for all of them at once. */
const made = new WeakMap<Registry, Map<string, Made>>();

/** `/openapi/v3` and `/openapi/v3/apis/GROUP/VERSION?hash=...`. Throws 404. */
export async function openapiV3(registry: Registry, request: Request, path: string, version: string): Promise<Response> {
  const documents = new Map<string, { readonly group: string; readonly version: string }>();
  for (const [group, versions] of registry.groups) {
    for (const each of versions) documents.set(group === "" ? `api/${each}` : `apis/${group}/${each}`, { group, version: each });
  }
  const known = made.get(registry) ?? new Map<string, Made>();
  made.set(registry, known);
  const make = async (name: string, of: { readonly group: string; readonly version: string }): Promise<Made> => {
    const there = known.get(name);
    if (there !== undefined) return there;
    // Loaded when somebody asks for it: 50 KB of words and the code that weaves them in.
    const [{ openapiDocument }, words] = await Promise.all([import("./openapi-document.ts"), loadWords()]);
    const text = JSON.stringify(openapiDocument(registry, of.group, of.version, version, words));
    const fresh = { text, hash: new Bun.CryptoHasher("sha512").update(text).digest("hex").toUpperCase() };
    known.set(name, fresh);
    return fresh;
  };

  const name = path.slice("/openapi/v3".length).replace(/^\//, "");
  if (name === "") {
    const paths: Record<string, unknown> = {};
    for (const [each, of] of documents) paths[each] = { serverRelativeURL: `/openapi/v3/${each}?hash=${(await make(each, of)).hash}` };
    return json(request, { paths });
  }
  const found = documents.get(name);
  if (found === undefined) throw pathNotFound(`there is no OpenAPI document for ${JSON.stringify(name)}; /openapi/v3 lists them`);
  const { text, hash } = await make(name, found);
  const asked = new URL(request.url).searchParams.get("hash") ?? "";
  if (asked !== "" && asked !== hash) {
    return new Response(null, { status: 301, headers: { location: `/openapi/v3/${name}?hash=${hash}`, vary: "Accept" } });
  }
  const headers = {
    "content-type": "application/json",
    etag: `"${hash}"`,
    vary: "Accept",
    "cache-control": asked === "" ? "no-cache, private" : "public, immutable, max-age=31536000",
  };
  if (request.headers.get("if-none-match")?.includes(`"${hash}"`)) return new Response(null, { status: 304, headers });
  return new Response(text, { headers });
}

async function loadWords(): Promise<Words> {
  try {
    return (await Bun.file(join(packageRoot(), "src/api/schemas/words.json")).json()) as Words;
  } catch {
    // The fields are there all the same, without words.
    return {};
  }
}
