// Owns: reading YAML into checked objects, and comparing snapshots; for this room's tests only.

import { parseAllDocuments } from "yaml";
import { kindOf } from "../../api/kinds.ts";
import type { KubeObject, Violation } from "../../api/meta.ts";
import type { XdsSnapshot } from "../../wire/xds-types.ts";
import { pushOrder } from "../../wire/xds-types.ts";
import type { Compiled } from "../compile.ts";

/** Every document, with defaults filled in. Throws if one is not valid. */
export function objectsOf(yaml: string): KubeObject[] {
  return parseAllDocuments(yaml)
    .map((document) => document.toJS() as KubeObject | null)
    .filter((object) => object !== null)
    .map((object) => {
      const violations = violationsOf(object);
      if (violations.length > 0) throw new Error(`${object.kind} ${object.metadata.name}: ${JSON.stringify(violations)}`);
      return object;
    });
}

/** Defaults, then validation, as the server does it. */
export function violationsOf(object: KubeObject): readonly Violation[] {
  const kind = kindOf(object);
  if (kind === undefined) throw new Error(`no kind ${object.apiVersion} ${object.kind}`);
  kind.applyDefaults(object);
  return kind.validate(object);
}

/** Everything that a compile says, as text: equal texts mean equal bytes. */
export function fingerprint(compiled: Compiled): string {
  const lines = [...compiled.snapshots].map(([key, snapshot]) => `${key} ${snapshotText(snapshot)}`);
  return `${lines.join("\n")}\n${JSON.stringify(compiled.statuses)}`;
}

function snapshotText(snapshot: XdsSnapshot): string {
  return pushOrder
    .map((type) => `${type}: ${[...snapshot.resources[type].values()].map((resource) => `${resource.name}@${resource.version}`).join(" ")}`)
    .join("; ");
}
