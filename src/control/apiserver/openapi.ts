// Owns: the OpenAPI documents, as far as kubectl needs them: that they are there, that objects are checked by the server
// (`fieldValidation`) and that a dry run is possible. Fields are described where a kind carries its schema.
// Never used to validate: that is `api/`.

import type { KindDefinition } from "../../api/meta.ts";
import { json, prefers } from "./negotiate.ts";
import { apiVersionOf, type Registry } from "./registry.ts";
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

/** `/openapi/v3` and `/openapi/v3/apis/GROUP/VERSION`. Throws 404. */
export function openapiV3(registry: Registry, request: Request, path: string, version: string): Response {
  const documents = new Map<string, { readonly group: string; readonly version: string }>();
  for (const [group, versions] of registry.groups) {
    for (const each of versions) documents.set(group === "" ? `api/${each}` : `apis/${group}/${each}`, { group, version: each });
  }
  const name = path.slice("/openapi/v3".length).replace(/^\//, "");
  if (name === "") {
    const paths = [...documents.keys()].map((key) => [
      key,
      { serverRelativeURL: `/openapi/v3/${key}?hash=${encodeURIComponent(version)}` },
    ]);
    return json(request, { paths: Object.fromEntries(paths) });
  }
  const found = documents.get(name);
  if (found === undefined) throw pathNotFound(`there is no OpenAPI document for ${JSON.stringify(name)}`);
  const kinds = registry.kinds.filter((kind) => kind.group === found.group && kind.versions.includes(found.version));
  return json(request, {
    openapi: "3.0.0",
    info: { title: "Weft", version },
    paths: Object.fromEntries(kinds.flatMap((kind) => pathsOf(kind, found.version))),
    components: { schemas: Object.fromEntries(kinds.map((kind) => [schemaName(kind, found.version), schemaOf(kind, found.version)])) },
  });
}

function typeOf(kind: KindDefinition, version: string): Record<string, string> {
  return { group: kind.group, version, kind: kind.kind };
}

function schemaName(kind: KindDefinition, version: string): string {
  const reversed = (kind.group === "" ? "core.weft.dev" : kind.group).split(".").reverse().join(".");
  return `${reversed}.${version}.${kind.kind}`;
}

function pathsOf(kind: KindDefinition, version: string): [string, unknown][] {
  const root = kind.group === "" ? `/api/${version}` : `/apis/${apiVersionOf(kind.group, version)}`;
  const collection = `${root}${kind.namespaced ? "/namespaces/{namespace}" : ""}/${kind.plural}`;
  const type = { "x-kubernetes-group-version-kind": typeOf(kind, version) };
  const ok = {
    description: "OK",
    content: { "application/json": { schema: { $ref: `#/components/schemas/${schemaName(kind, version)}` } } },
  };
  const operation = (action: string, writes: boolean) => ({
    ...type,
    "x-kubernetes-action": action,
    ...(writes && {
      parameters: ["dryRun", "fieldValidation"].map((name) => ({ name, in: "query", schema: { type: "string", uniqueItems: true } })),
    }),
    responses: { "200": ok },
  });
  const writable = !kind.virtual;
  return [
    [collection, { get: operation("list", false), ...(writable && { post: operation("post", true) }) }],
    [
      `${collection}/{name}`,
      {
        get: operation("get", false),
        ...(writable && { put: operation("put", true), patch: operation("patch", true), delete: operation("delete", true) }),
      },
    ],
  ];
}

function schemaOf(kind: KindDefinition, version: string): unknown {
  const fields = fieldSchemas(kind);
  return {
    type: "object",
    description: `${kind.kind} of ${apiVersionOf(kind.group, version)}.`,
    properties: {
      apiVersion: { type: "string", description: "Group and version of the object's form." },
      kind: { type: "string", description: "Kind of the object." },
      metadata: {
        type: "object",
        description: "Standard metadata: name, namespace, labels, annotations.",
        "x-kubernetes-preserve-unknown-fields": true,
      },
      ...fields,
      ...(kind.hasStatus && {
        status: { type: "object", description: "Written by the control plane.", "x-kubernetes-preserve-unknown-fields": true },
      }),
    },
    ...(fields === undefined && { "x-kubernetes-preserve-unknown-fields": true }),
    "x-kubernetes-group-version-kind": [typeOf(kind, version)],
  };
}

/** Schemas of the top-level fields, when the kind was made from some (`api/define.ts` keeps them under `definedBy`). */
function fieldSchemas(kind: KindDefinition): Record<string, unknown> | undefined {
  const fields = (kind as { definedBy?: { fields?: Record<string, unknown> } }).definedBy?.fields;
  if (fields === undefined) return undefined;
  return Object.fromEntries(Object.entries(fields).map(([name, schema]) => [name, published(schema)]));
}

// Our schemas name one type more than OpenAPI has.
function published(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(published);
  if (typeof schema !== "object" || schema === null) return schema;
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(schema)) {
    if (key === "type" && value === "int-or-string") {
      out["x-kubernetes-int-or-string"] = true;
      out.oneOf = [{ type: "integer" }, { type: "string" }];
    } else {
      out[key] = published(value);
    }
  }
  return out;
}
