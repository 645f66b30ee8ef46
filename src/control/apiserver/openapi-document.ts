// Owns: one OpenAPI v3 document a group and version: paths, operations and schemas of its kinds, in the form that kubectl explain and
// client generators read. Built from the kinds alone. Of what a kind refuses, fields say so in a word, without what would be in them;
// values are left out.
// Never serves anything: that is `openapi.ts`.

import type { KindDefinition } from "../../api/meta.ts";
import type { Schema } from "../../api/schema.ts";
import { ownWords } from "./field-words.ts";
import { statusSchema } from "./openapi-status.ts";
import { apiVersionOf, type Registry } from "./registry.ts";

/** Descriptions by kind and generic path (`spec.rules[].matches`), as `scripts/generate-schemas.ts` took them from the published types. */
export type Words = Readonly<Record<string, Readonly<Record<string, string>>>>;

type Json = Record<string, unknown>;

const meta = "io.k8s.apimachinery.pkg.apis.meta.v1";
const ref = (name: string): Json => ({ $ref: `#/components/schemas/${name}` });
// A description beside a reference is only kept by readers when the reference stands in allOf.
const described = (name: string, description: string): Json => ({ description, default: {}, allOf: [ref(name)] });

export function openapiDocument(registry: Registry, group: string, version: string, weftVersion: string, words: Words): Json {
  const kinds = registry.kinds.filter((kind) => kind.group === group && kind.versions.includes(version));
  return {
    openapi: "3.0.0",
    info: { title: "Weft", version: weftVersion },
    paths: Object.fromEntries(kinds.flatMap((kind) => pathsOf(kind, version))),
    components: {
      schemas: {
        ...Object.fromEntries(kinds.flatMap((kind) => schemasOf(kind, version, wordsOf(kind, words)))),
        ...shared,
      },
      securitySchemes: { BearerToken: { type: "http", scheme: "bearer", description: "The administrator's token, or a join token." } },
    },
  };
}

function typeOf(kind: KindDefinition, version: string, suffix = ""): Json {
  return { group: kind.group, kind: `${kind.kind}${suffix}`, version };
}

function schemaName(kind: KindDefinition, version: string): string {
  const reversed = kind.group === "" ? "io.k8s.api.core" : kind.group.split(".").reverse().join(".");
  return `${reversed}.${version}.${kind.kind}`;
}

const patchTypes = ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];
const query = (name: string, type: string, description: string): Json => ({
  name,
  in: "query",
  description,
  schema: { type, uniqueItems: true },
});
const writing = [
  query("dryRun", "string", "All: nothing is stored."),
  query("fieldManager", "string", "Who writes, for managedFields."),
  query("fieldValidation", "string", "Strict (default), Warn or Ignore: what becomes of unknown fields."),
];
const listing = [
  query("labelSelector", "string", "Only objects with these labels."),
  query("fieldSelector", "string", "Only objects with these fields."),
  query("limit", "integer", "At most so many, and a token for the rest."),
  query("continue", "string", "The token of the chunk before."),
  query("resourceVersion", "string", "Not older than this revision, or with resourceVersionMatch exactly this one."),
  query("resourceVersionMatch", "string", "NotOlderThan or Exact."),
  query("timeoutSeconds", "integer", "Ends a watch after so long."),
  query("watch", "boolean", "Follow changes instead of listing."),
  query("allowWatchBookmarks", "boolean", "Send BOOKMARK events in a watch."),
  query("sendInitialEvents", "boolean", "Begin a watch with what is there, and mark its end by a bookmark."),
];
const deleting = [
  query("propagationPolicy", "string", "Background (default), Foreground or Orphan: what becomes of objects that this one owns."),
];

function pathsOf(kind: KindDefinition, version: string): [string, Json][] {
  const root = kind.group === "" ? `/api/${version}` : `/apis/${apiVersionOf(kind.group, version)}`;
  const collection = `${root}${kind.namespaced ? "/namespaces/{namespace}" : ""}/${kind.plural}`;
  const name = schemaName(kind, version);
  const idEnd = `${camel(kind.group === "" ? "core" : (kind.group.split(".")[0] ?? ""))}${camel(version)}${kind.namespaced ? "Namespaced" : ""}${kind.kind}`;
  const content = (schema: Json) => ({ "application/json": { schema }, "application/yaml": { schema } });
  const answer = (schema: Json, ...codes: number[]) =>
    Object.fromEntries(codes.map((code) => [code, { description: code === 201 ? "Created" : "OK", content: content(schema) }]));
  const operation = (action: string, verb: string, idSuffix: string, parameters: readonly Json[], responses: Json, body?: Json) => ({
    operationId: `${verb}${idEnd}${idSuffix}`,
    tags: [apiVersionOf(kind.group, version).replace(/[/.]/g, "_")],
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": typeOf(kind, version),
    parameters,
    ...(body !== undefined && { requestBody: { required: true, content: body } }),
    responses: { ...responses, default: { description: "Refused", content: content(ref(`${meta}.Status`)) } },
  });
  const inPath = (parameter: string, description: string): Json => ({
    name: parameter,
    in: "path",
    required: true,
    description,
    schema: { type: "string" },
  });
  const place = kind.namespaced ? [inPath("namespace", "Namespace of the object.")] : [];
  const self = ref(name);
  const list = ref(`${name}List`);
  const patchBody = Object.fromEntries(patchTypes.map((type) => [type, { schema: ref(`${meta}.Patch`) }]));
  const force = query("force", "boolean", "With an apply patch: take fields from other managers.");
  const writable = !kind.virtual;
  const paths: [string, Json][] = [
    [
      collection,
      {
        parameters: place,
        get: operation("list", "list", "", listing, answer(list, 200)),
        ...(writable && {
          post: operation("post", "create", "", writing, answer(self, 200, 201), content(self)),
          delete: operation(
            "deletecollection",
            "deleteCollection",
            "",
            [...listing.slice(0, 2), ...deleting, writing[0]!],
            answer(list, 200),
          ),
        }),
      },
    ],
    [
      `${collection}/{name}`,
      {
        parameters: [inPath("name", `Name of the ${kind.kind}.`), ...place],
        get: operation("get", "read", "", [], answer(self, 200)),
        ...(writable && {
          put: operation("put", "replace", "", writing, answer(self, 200), content(self)),
          patch: operation("patch", "patch", "", [...writing, force], answer(self, 200, 201), patchBody),
          delete: operation(
            "delete",
            "delete",
            "",
            [...deleting, writing[0]!],
            answer(kind.returnsDeleted === true ? self : ref(`${meta}.Status`), 200),
          ),
        }),
      },
    ],
  ];
  if (kind.hasStatus && writable)
    paths.push([
      `${collection}/{name}/status`,
      {
        parameters: [inPath("name", `Name of the ${kind.kind}.`), ...place],
        get: operation("get", "read", "Status", [], answer(self, 200)),
        put: operation("put", "replace", "Status", writing, answer(self, 200), content(self)),
        patch: operation("patch", "patch", "Status", [...writing, force], answer(self, 200), patchBody),
      },
    ]);
  if (kind.namespaced)
    paths.push([`${root}/${kind.plural}`, { get: operation("list", "list", "ForAllNamespaces", listing, answer(list, 200)) }]);
  return paths;
}

function camel(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The published words that say nothing of a field. */
const sayNothing = /^(Optional|Required|\$hide_from_docs|REQUIRED)?[.:]?$/i;

/** What `kubectl explain` says of a field: what stands beside it, else our words, else the published ones. */
function saysOf(schema: Schema, path: string, kind: KindDefinition, words: Readonly<Record<string, string>>): string | undefined {
  // Elements of a list have what is said of the list.
  const said = schema.description ?? (/[\]}]$/.test(path) ? undefined : ownWords(kind.group, kind.kind, path));
  if (said !== undefined) return said;
  const published = Object.hasOwn(words, path) ? words[path] : undefined;
  // A sentence that leads to a list is cut off with it.
  const whole = published?.replace(/(?<=^|\. )[^.]*:$/, "").trim();
  return whole === undefined || sayNothing.test(whole) ? undefined : whole;
}

/** A field that is known and refused. What would be in it is not told. */
function notSupported(schema: Schema | undefined, wayOut: string): Json {
  const description = `Not supported: refused where it is set${wayOut === "" ? "" : `. Instead: ${wayOut}`}.`;
  switch (schema?.type) {
    case "string":
    case "integer":
    case "boolean":
      return { type: schema.type, description };
    case "array":
      return { type: "array", description, items: { type: "object", "x-kubernetes-preserve-unknown-fields": true } };
    case "object":
      return { type: "object", description, "x-kubernetes-preserve-unknown-fields": true };
    default:
      return { description, "x-kubernetes-preserve-unknown-fields": true };
  }
}

/** The properties of an object, and those that the kind refuses whether the schema has them or not. */
function propertiesOf(
  properties: Readonly<Record<string, Schema>>,
  generic: string,
  path: string,
  kind: KindDefinition,
  words: Readonly<Record<string, string>>,
): Json {
  const left = kind.unimplemented ?? {};
  const at = (place: string, name: string) => (place === "" ? name : `${place}.${name}`);
  const out: Json = {};
  for (const [name, child] of Object.entries(properties)) {
    const here = at(generic, name);
    out[name] = Object.hasOwn(left, here) ? notSupported(child, left[here] ?? "") : published(child, here, at(path, name), kind, words);
  }
  for (const [key, wayOut] of Object.entries(left)) {
    const dot = key.lastIndexOf(".");
    const name = key.slice(dot + 1);
    if (key.slice(0, Math.max(dot, 0)) === generic && /^\w+$/.test(name) && out[name] === undefined)
      out[name] = notSupported(undefined, wayOut);
  }
  return out;
}

/** By kind, whatever its group; Istio's Gateway has none of its own, and must not get those of Gateway API's. */
function wordsOf({ group, kind }: KindDefinition, words: Words): Readonly<Record<string, string>> {
  return group === "networking.istio.io" && kind === "Gateway" ? {} : (words[kind] ?? {});
}

function schemasOf(kind: KindDefinition, version: string, words: Readonly<Record<string, string>>): [string, Json][] {
  const name = schemaName(kind, version);
  const own = Object.entries(kind.schema?.properties ?? {}).filter(
    ([field]) => !["apiVersion", "kind", "metadata", "status"].includes(field),
  );
  const fields = propertiesOf(Object.fromEntries(own), "", "", kind, words);
  const properties: Json = {
    ...typeFields,
    metadata: described(`${meta}.ObjectMeta`, "Standard object metadata."),
    ...fields,
    ...(kind.hasStatus && {
      status: statusSchema(kind, {
        ...listOf(ref(`${meta}.Condition`)),
        description: "What holds now, one entry for each aspect.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
      }),
    }),
  };
  const notes = (kind as { definedBy?: { notes?: readonly string[] } }).definedBy?.notes ?? [];
  const required = (kind.schema?.required ?? []).filter((field) => own.some(([each]) => each === field));
  return [
    [
      name,
      {
        type: "object",
        description: [
          ownWords(kind.group, kind.kind, "") ?? (words[""] || `${kind.kind} of ${apiVersionOf(kind.group, version)}.`),
          ...notes,
        ].join("\n\n"),
        properties,
        ...(required.length > 0 && { required }),
        ...(kind.schema === undefined && { "x-kubernetes-preserve-unknown-fields": true }),
        "x-kubernetes-group-version-kind": [typeOf(kind, version)],
      },
    ],
    [
      `${name}List`,
      {
        type: "object",
        description: `A list of ${kind.kind} objects.`,
        required: ["items"],
        properties: {
          ...typeFields,
          metadata: described(`${meta}.ListMeta`, "Standard list metadata."),
          items: { ...listOf(ref(name)), description: "The objects." },
        },
        "x-kubernetes-group-version-kind": [typeOf(kind, version, "List")],
      },
    ],
  ];
}

const listOf = (items: Json): Json => ({ type: "array", items });

/** `generic` is the path in the tables of what is not built, `path` the one in the words. */
function published(schema: Schema, generic: string, path: string, kind: KindDefinition, words: Readonly<Record<string, string>>): Json {
  const left = kind.unimplemented ?? {};
  const { type, properties, additionalProperties, items, listType, listMapKeys, mapType, enum: values, ...rest } = schema;
  const out: Json = { ...rest };
  const said = saysOf(schema, path, kind, words);
  if (said !== undefined) out.description = said;
  if (type === "int-or-string") {
    out["x-kubernetes-int-or-string"] = true;
    out.oneOf = [{ type: "integer" }, { type: "string" }];
  } else if (type === "any" || (type === "object" && properties === undefined && additionalProperties === undefined)) {
    out["x-kubernetes-preserve-unknown-fields"] = true;
    if (type === "object") out.type = "object";
  } else {
    out.type = type ?? "object";
  }
  if (values !== undefined) out.enum = values.filter((value) => !Object.hasOwn(left, `${generic}=${String(value)}`));
  if (properties !== undefined) out.properties = propertiesOf(properties, generic, path, kind, words);
  if (additionalProperties !== undefined)
    out.additionalProperties = published(additionalProperties, `${generic}{}`, `${path}{}`, kind, words);
  if (items !== undefined) out.items = published(items, `${generic}[]`, `${path}[]`, kind, words);
  if (type === "array") out["x-kubernetes-list-type"] = listType ?? "atomic";
  if (listMapKeys !== undefined) out["x-kubernetes-list-map-keys"] = listMapKeys;
  if (mapType !== undefined) out["x-kubernetes-map-type"] = mapType;
  return out;
}

const text = (description: string): Json => ({ type: "string", description });
const textMap = (description: string): Json => ({ type: "object", description, additionalProperties: { type: "string", default: "" } });
const typeFields: Json = { apiVersion: text("Group and version of the object's form."), kind: text("Kind of the object.") };

/** What every kind refers to, under Kubernetes' names, so that generated clients map them to their own types. */
const shared: Json = {
  [`${meta}.Time`]: { type: "string", format: "date-time", description: "RFC 3339." },
  [`${meta}.FieldsV1`]: {
    type: "object",
    description: "A set of fields as a tree, https://kubernetes.io/docs/reference/using-api/server-side-apply/",
  },
  [`${meta}.ManagedFieldsEntry`]: {
    type: "object",
    description: "The fields that one manager has written or applied.",
    properties: {
      manager: text("Name of the manager."),
      operation: text("Apply or Update."),
      apiVersion: text("The version in which the fields are told."),
      time: ref(`${meta}.Time`),
      fieldsType: text("FieldsV1."),
      fieldsV1: ref(`${meta}.FieldsV1`),
      subresource: text("status, or empty."),
    },
  },
  [`${meta}.OwnerReference`]: {
    type: "object",
    description: "An object without which this one is deleted too.",
    required: ["apiVersion", "kind", "name", "uid"],
    properties: {
      apiVersion: text("Of the owner."),
      kind: text("Of the owner."),
      name: text("Of the owner, in the same namespace or in none."),
      uid: text("Of the owner."),
      controller: { type: "boolean", description: "The owner manages this object." },
      blockOwnerDeletion: { type: "boolean", description: "A foreground deletion of the owner waits for this object." },
    },
    "x-kubernetes-map-type": "atomic",
  },
  [`${meta}.ObjectMeta`]: {
    type: "object",
    description: "Metadata that every object has.",
    properties: {
      name: text("Unique among objects of its kind in its namespace; cannot be changed."),
      generateName: text("A prefix to which the server adds five letters, when name is empty."),
      namespace: text("Where the object lives; cannot be changed."),
      uid: text("The server's own name for this object, never used again."),
      resourceVersion: text("Revision of the last write. Sent back with an update, it makes sure that nobody wrote in between."),
      generation: { type: "integer", format: "int64", description: "Grows when anything but metadata and status changes." },
      creationTimestamp: ref(`${meta}.Time`),
      deletionTimestamp: ref(`${meta}.Time`),
      deletionGracePeriodSeconds: { type: "integer", format: "int64", description: "Always 0 here." },
      selfLink: text("Not set."),
      labels: textMap("For selectors."),
      annotations: textMap("For notes of any kind."),
      finalizers: {
        ...listOf({ type: "string", default: "" }),
        description: "The object stays until they are gone.",
        "x-kubernetes-list-type": "set",
      },
      ownerReferences: {
        ...listOf(ref(`${meta}.OwnerReference`)),
        description: "Objects without which this one is deleted.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["uid"],
      },
      managedFields: {
        ...listOf(ref(`${meta}.ManagedFieldsEntry`)),
        description: "Who manages which fields; the server's account.",
        "x-kubernetes-list-type": "atomic",
      },
    },
  },
  [`${meta}.ListMeta`]: {
    type: "object",
    description: "Metadata of a list.",
    properties: {
      resourceVersion: text("The revision at which the list is true; watch from there."),
      continue: text("Where the next chunk begins."),
      remainingItemCount: { type: "integer", format: "int64", description: "Objects behind this chunk." },
      selfLink: text("Not set."),
    },
  },
  [`${meta}.Condition`]: {
    type: "object",
    description: "One aspect of the object's state.",
    required: ["type", "status"],
    properties: {
      type: text("Which aspect."),
      status: text("True, False or Unknown."),
      reason: text("One word for programs."),
      message: text("A sentence for people."),
      lastTransitionTime: ref(`${meta}.Time`),
      observedGeneration: { type: "integer", format: "int64", description: "The generation that was judged." },
    },
  },
  [`${meta}.Patch`]: { type: "object", description: "A patch in the form that its media type says." },
  [`${meta}.StatusCause`]: {
    type: "object",
    description: "One thing that was wrong.",
    properties: { field: text("Path of the field."), message: text("What is wrong."), reason: text("One word.") },
  },
  [`${meta}.StatusDetails`]: {
    type: "object",
    description: "What it is about.",
    properties: {
      name: text("Of the object."),
      group: text("Of the object."),
      kind: text("Of the object."),
      uid: text("Of the object."),
      causes: { ...listOf(ref(`${meta}.StatusCause`)), description: "Each thing that was wrong." },
      retryAfterSeconds: { type: "integer", format: "int32", description: "Ask again after so many seconds." },
    },
  },
  [`${meta}.Status`]: {
    type: "object",
    description: "An answer that is no object.",
    properties: {
      ...typeFields,
      metadata: ref(`${meta}.ListMeta`),
      status: text("Success or Failure."),
      message: text("What happened, for people."),
      reason: text("What happened, for programs."),
      details: ref(`${meta}.StatusDetails`),
      code: { type: "integer", format: "int32", description: "HTTP status." },
    },
    "x-kubernetes-group-version-kind": [{ group: "", kind: "Status", version: "v1" }],
  },
};
