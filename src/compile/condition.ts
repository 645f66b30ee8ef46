// Owns: how a condition of an object's status is put together. Times of transition are the publisher's.

import type { Condition, KubeObject } from "../api/meta.ts";

export function condition(object: KubeObject, type: string, holds: boolean, reason: string, message: string): Condition {
  return { type, status: holds ? "True" : "False", reason, message, observedGeneration: object.metadata.generation ?? 1 };
}
