// Owns: the form in which the control plane keeps keys that it has fetched for RequestAuthentications: a ConfigMap of the root namespace for each place, which
// outlives it and is shared by all control planes of a store. Fetches nothing.

import { createHash } from "node:crypto";
import type { KubeObject } from "../meta.ts";
import type { ConfigMapObject } from "./configmap.ts";

export interface FetchedKeys {
  /** A JSON Web Key Set; absent: it never came. */
  readonly keys?: string;
  /** Why the last fetch failed; absent: it did not. */
  readonly error?: string;
}

/** Marks these ConfigMaps, so that those which nobody asks for any more can be found. */
export const fetchedKeysLabel = "weft.dev/fetched-keys";

/** By the place that the keys come from. */
export function fetchedKeysName(uri: string): string {
  return `jwks-${createHash("sha256").update(uri).digest("hex").slice(0, 40)}`;
}

/** undefined: it is about another place. */
export function readFetchedKeys(object: KubeObject, uri: string): FetchedKeys | undefined {
  const { data = {} } = object as ConfigMapObject;
  if (data.uri !== uri) return undefined;
  return {
    ...(data["jwks.json"] === undefined ? {} : { keys: data["jwks.json"] }),
    ...(data.error === undefined ? {} : { error: data.error }),
  };
}

export function writeFetchedKeys(uri: string, { keys, error }: FetchedKeys): Record<string, string> {
  return { uri, ...(keys === undefined ? {} : { "jwks.json": keys }), ...(error === undefined ? {} : { error }) };
}
