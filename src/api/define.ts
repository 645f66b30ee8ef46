// Owns: how a kind is put together from a schema, a table of what is left out, and its own rules; and what every object's metadata must be.
// Never names a kind.

import type { Column, Condition, KindDefinition, KubeObject, Violation } from "./meta.ts";
import { fillDefaults, isRecord, type Schema, show, suggest, type Unimplemented, walkSchema } from "./schema.ts";

export interface KindSpec {
  readonly group: string;
  readonly versions: readonly string[];
  readonly kind: string;
  readonly plural: string;
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
  readonly namespaced: boolean;
  readonly hasStatus: boolean;
  readonly virtual?: boolean;
  /** See KindDefinition. */
  readonly strictOnly?: boolean;
  /** See KindDefinition. */
  readonly transient?: boolean;
  /** See KindDefinition. */
  readonly returnsDeleted?: boolean;
  /** See KindDefinition. */
  readonly selectableFields?: KindDefinition["selectableFields"];
  readonly columns: readonly Column[];
  /** What `metadata.name` must be; default a DNS subdomain name. */
  readonly nameForm?: "dns-label" | "dns-1035-label" | "path-segment";
  /** Schemas of the top-level fields beside apiVersion, kind, metadata and status. */
  readonly fields: Readonly<Record<string, Schema>>;
  /** Top-level fields that must be there. */
  readonly requiredFields?: readonly string[];
  readonly unimplemented?: Unimplemented;
  /** Generic paths of fields that are kept and shown but say nothing to the mesh (node names and the like). For the documentation. */
  readonly informational?: readonly string[];
  /** How the kind behaves beyond its fields, a sentence or two each. For the documentation. */
  readonly notes?: readonly string[];
  /** Defaults that depend on other fields; runs after the schema's own. Must bear any input. */
  readonly moreDefaults?: (object: KubeObject) => void;
  /** Rules beyond the schema. Called only when the object's shape is right. */
  readonly rules?: (object: KubeObject) => readonly Violation[];
}

/** Registered kinds carry what they were made of, so that the reference documentation is generated from the same tables. */
export interface DefinedKind extends KindDefinition {
  readonly definedBy: KindSpec;
}

export function defineKind(spec: KindSpec): DefinedKind {
  const root: Schema = {
    type: "object",
    properties: {
      apiVersion: { type: "string" },
      kind: { type: "string" },
      metadata: metadataSchema,
      status: statusSchema,
      ...spec.fields,
    },
    required: ["apiVersion", "kind", "metadata", ...(spec.requiredFields ?? [])],
  };
  return {
    definedBy: spec,
    group: spec.group,
    versions: spec.versions,
    kind: spec.kind,
    plural: spec.plural,
    singular: spec.kind.toLowerCase(),
    shortNames: spec.shortNames ?? [],
    categories: spec.categories ?? [],
    namespaced: spec.namespaced,
    hasStatus: spec.hasStatus,
    virtual: spec.virtual ?? false,
    columns: spec.columns,
    schema: root,
    unimplemented: spec.unimplemented ?? {},
    strictOnly: spec.strictOnly ?? false,
    transient: spec.transient ?? false,
    returnsDeleted: spec.returnsDeleted ?? false,
    selectableFields: spec.selectableFields ?? {},
    applyDefaults(object) {
      for (const [name, schema] of Object.entries(spec.fields)) {
        if (object[name] === null) delete object[name];
        if (object[name] === undefined && schema.default !== undefined) object[name] = structuredClone(schema.default);
        if (object[name] !== undefined) fillDefaults(schema, object[name]);
      }
      spec.moreDefaults?.(object);
    },
    validate(object) {
      const walked = walkSchema(root, object, "", spec.unimplemented ?? {});
      const violations = [...walked.violations];
      if (isRecord(object.metadata)) violations.push(...metadataProblems(spec, object));
      violations.push(...typeProblems(spec, object));
      if (walked.shapeOk && spec.rules !== undefined) violations.push(...spec.rules(object));
      return violations;
    },
  };
}

const stringMap: Schema = { type: "object", additionalProperties: { type: "string" } };

const metadataSchema: Schema = {
  type: "object",
  properties: {
    name: { type: "string" },
    namespace: { type: "string" },
    generateName: { type: "string" },
    uid: { type: "string" },
    resourceVersion: { type: "string" },
    generation: { type: "integer" },
    creationTimestamp: { type: "string" },
    deletionTimestamp: { type: "string" },
    deletionGracePeriodSeconds: { type: "integer" },
    selfLink: { type: "string" },
    labels: stringMap,
    annotations: stringMap,
    ownerReferences: {
      type: "array",
      listType: "map",
      listMapKeys: ["uid"],
      items: {
        type: "object",
        mapType: "atomic",
        required: ["apiVersion", "kind", "name", "uid"],
        properties: {
          apiVersion: { type: "string" },
          kind: { type: "string" },
          name: { type: "string" },
          uid: { type: "string" },
          controller: { type: "boolean" },
          blockOwnerDeletion: { type: "boolean" },
        },
      },
    },
    finalizers: { type: "array", listType: "set", items: { type: "string" } },
    managedFields: { type: "array", items: { type: "object" } },
  },
};

/** Statuses are the control plane's and are not validated; conditions have one owner each, as everywhere in Kubernetes. */
const statusSchema: Schema = {
  type: "object",
  properties: { conditions: { type: "array", listType: "map", listMapKeys: ["type"], items: { type: "object" } } },
  additionalProperties: { type: "any" },
};

/** RFC 1123 label: namespaces. */
export const dnsLabel = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** RFC 1035 label: services; they become host names and must not begin with a digit. */
export const dns1035Label = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** RFC 1123 subdomain: everything else. */
export const dnsSubdomain = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

const nameForms = {
  "dns-label": { pattern: dnsLabel, words: "lower-case letters, digits and '-', at most 63, beginning and ending with a letter or digit" },
  "dns-1035-label": {
    pattern: dns1035Label,
    words: "lower-case letters, digits and '-', at most 63, beginning with a letter and ending with a letter or digit",
  },
  // Kubernetes's ValidatePathSegmentName: names of roles, `system:discovery`.
  "path-segment": {
    pattern: /^(?!\.\.?$)[^/%]{1,253}$/,
    words: "at most 253 characters without '/' and '%'",
  },
  "dns-subdomain": {
    pattern: dnsSubdomain,
    words: "lower-case letters, digits, '-' and '.', at most 253, each part beginning and ending with a letter or digit",
  },
} as const;

const qualifiedName = /^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

/** 253 for the DNS name, a slash, 63 for the name. Checked before the pattern, whose effort grows with the square of a text's length. */
const maxQualifiedName = 317;

function isQualifiedName(text: string): boolean {
  return text.length <= maxQualifiedName && qualifiedName.test(text);
}

const labelValue = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

function metadataProblems(spec: KindSpec, object: KubeObject): Violation[] {
  const out: Violation[] = [];
  const { name, namespace, labels, annotations } = object.metadata;
  const form = nameForms[spec.nameForm ?? "dns-subdomain"];
  if (name === undefined || name === null || name === "") out.push({ path: "metadata.name", message: "is required" });
  else if (typeof name === "string" && !form.pattern.test(name))
    out.push({ path: "metadata.name", message: `${show(name)} is no name for a ${spec.kind}: use ${form.words}` });
  if (typeof namespace === "string" && namespace !== "") {
    if (!spec.namespaced) out.push({ path: "metadata.namespace", message: `${spec.kind} belongs to no namespace; remove it` });
    else if (!dnsLabel.test(namespace))
      out.push({ path: "metadata.namespace", message: `${show(namespace)} is no namespace name: use ${nameForms["dns-label"].words}` });
  }
  for (const [key, value] of Object.entries(isRecord(labels) ? labels : {})) {
    if (!isQualifiedName(key))
      out.push({ path: `metadata.labels["${key}"]`, message: "is no label name: [DNS name/]at most 63 letters, digits, '-', '_', '.'" });
    if (typeof value === "string" && !labelValue.test(value))
      out.push({
        path: `metadata.labels["${key}"]`,
        message: `${show(value)} is no label value: at most 63 letters, digits, '-', '_', '.', beginning and ending with a letter or digit`,
      });
  }
  for (const key of Object.keys(isRecord(annotations) ? annotations : {})) {
    if (!isQualifiedName(key))
      out.push({
        path: `metadata.annotations["${key}"]`,
        message: "is no annotation name: [DNS name/]at most 63 letters, digits, '-', '_', '.'",
      });
  }
  return out;
}

function typeProblems(spec: KindSpec, object: KubeObject): Violation[] {
  const out: Violation[] = [];
  const served = spec.versions.map((version) => (spec.group === "" ? version : `${spec.group}/${version}`));
  if (typeof object.apiVersion === "string" && !served.includes(object.apiVersion)) {
    out.push({
      path: "apiVersion",
      message: `${spec.kind} is served as ${served.join(" and ")}, got ${show(object.apiVersion)}${suggest(object.apiVersion, served)}`,
    });
  }
  if (typeof object.kind === "string" && object.kind !== spec.kind)
    out.push({ path: "kind", message: `must be ${spec.kind}, got ${show(object.kind)}` });
  return out;
}

/** The column every kind ends with. The value is the RFC 3339 time of creation; the server turns columns of type `date` into an age. */
export const ageColumn: Column = {
  name: "Age",
  type: "date",
  description: "Time since the object was created.",
  priority: 0,
  value: (object) => object.metadata.creationTimestamp ?? "",
};

/** A column of type string. */
export function textColumn(name: string, description: string, value: (object: KubeObject) => string, priority: 0 | 1 = 0): Column {
  return { name, type: "string", description, priority, value };
}

/**
 * Whether everything that an object is attached to takes it: `True`, `False` when one of them does not, `Unknown` while nobody has said.
 * Of policies (`status.ancestors`, GEP-713) and of objects with conditions of their own.
 */
export const acceptedColumn: Column = textColumn(
  "Accepted",
  "Whether what it is attached to takes it; the conditions say why not.",
  (object) => {
    const status = (isRecord(object.status) ? object.status : {}) as {
      conditions?: Condition[];
      ancestors?: { conditions?: Condition[] }[];
    };
    const all = status.ancestors?.map(({ conditions }) => conditions ?? []) ?? [status.conditions ?? []];
    const said = all.map((conditions) => conditions.find(({ type }) => type === "Accepted")?.status ?? "Unknown");
    return said.find((each) => each !== "True") ?? said[0] ?? "Unknown";
  },
);
