// Owns: what every object of the API has in common, and what a kind must say of itself. No kind is named here.

import type { Schema, Unimplemented } from "./schema.ts";

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  /** With foreground deletion: the owner stays until this object is gone. */
  readonly blockOwnerDeletion?: boolean;
}

export interface ObjectMeta {
  name: string;
  namespace?: string;
  generateName?: string;
  uid?: string;
  /** The store's revision at the last write, as a decimal string; opaque to clients. */
  resourceVersion?: string;
  /** Grows when `spec` (anything but metadata and status) changes. */
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: OwnerReference[];
  finalizers?: string[];
  managedFields?: unknown[];
}

/** Any object. Kinds without `spec` (EndpointSlice) keep their fields at the top level. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
  [field: string]: unknown;
}

/** One thing wrong with an object. `path` is like `spec.rules[0].matches[1].path.value`; `message` names value and way out. */
export interface Violation {
  readonly path: string;
  readonly message: string;
}

/** A column of `kubectl get` (meta.k8s.io/v1 Table). `priority` 0 is always shown, 1 with `-o wide`. */
export interface Column {
  readonly name: string;
  readonly type: "string" | "integer" | "date" | "boolean";
  readonly description: string;
  readonly priority: 0 | 1;
  readonly value: (object: KubeObject) => string | number | boolean;
}

export interface KindDefinition {
  /** Empty string for the core group. */
  readonly group: string;
  /** Versions served, the stored (preferred) one first. All served versions have the same shape. */
  readonly versions: readonly string[];
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  readonly hasStatus: boolean;
  /** Virtual kinds are read-only views of live state (proxies, edges); the store never holds them. */
  readonly virtual: boolean;
  readonly columns: readonly Column[];
  /** A deletion is answered with the object instead of a Status, as typed clients expect it of this kind. */
  readonly returnsDeleted?: boolean;
  /** Objects go by themselves after a while: they are not exported, do not keep a namespace from being deleted, and do not count in the history. */
  readonly transient?: boolean;
  /** Paths that a field selector may name beside metadata.name and metadata.namespace. Absent values count as "". */
  readonly selectableFields?: Readonly<Record<string, (object: KubeObject) => string>>;
  /** Of the whole object, with list types: what server-side apply and the OpenAPI documents go by. Absent: every list has one owner. */
  readonly schema?: Schema;
  /** Fields of the standard that are refused, see `schema.ts`. */
  readonly unimplemented?: Unimplemented;
  /** Unknown fields are refused whatever `fieldValidation` asks for: the kind says who may do what. */
  readonly strictOnly?: boolean;
  /** Fills in defaults in place; called once, before `validate`. */
  readonly applyDefaults: (object: KubeObject) => void;
  /** The complete list of what is wrong with the object alone; empty = good. Unknown and unimplemented fields are violations. */
  readonly validate: (object: KubeObject) => readonly Violation[];
}

/** `httproutes.gateway.networking.k8s.io`, `services`: the key of a kind in the store and in messages. */
export function resourceOf(kind: Pick<KindDefinition, "plural" | "group">): string {
  return kind.group === "" ? kind.plural : `${kind.plural}.${kind.group}`;
}

/** A condition as in metav1.Condition. */
export interface Condition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration?: number;
  readonly lastTransitionTime?: string;
}
