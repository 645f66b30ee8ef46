// Owns: an object as a person would write it: without what the server adds. Pure.

import type { KubeObject } from "../api/meta.ts";
import { lastAppliedAnnotation } from "./merge.ts";

/** Also without kubectl's memory of what was applied last: it would say the same once more. */
export function asWritten(object: KubeObject): KubeObject {
  const { status: _status, metadata, apiVersion, kind, ...rest } = object;
  const { name, namespace, labels, annotations, finalizers } = metadata;
  const { [lastAppliedAnnotation]: _memory, ...notes } = annotations ?? {};
  const kept = {
    name,
    ...(namespace !== undefined && { namespace }),
    ...(labels !== undefined && { labels }),
    ...(Object.keys(notes).length > 0 && { annotations: notes }),
    ...(finalizers !== undefined && { finalizers }),
  };
  return { apiVersion, kind, metadata: kept, ...rest };
}
