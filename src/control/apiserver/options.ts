// Owns: the query parameters that every write takes: dryRun, fieldValidation, fieldManager. Throws 400 and 422 in words.

import type { KubeObject } from "../../api/meta.ts";
import { dropUnknown } from "../../api/schema.ts";
import type { ResourceCall } from "./core.ts";
import { badRequest, invalid } from "./status.ts";

export function dryRun(call: ResourceCall): boolean {
  const asked = call.query.getAll("dryRun").filter((each) => each !== "");
  const wrong = asked.find((each) => each !== "All");
  if (wrong !== undefined) throw badRequest(`dryRun is ${JSON.stringify(wrong)}; only "All" is known`);
  return asked.length > 0;
}

/**
 * `fieldValidation`: Strict (the default here) leaves unknown fields to be refused; Warn takes them out and says so in Warning headers;
 * Ignore takes them out. Never done to kinds that say who may do what: a misspelt restriction must not vanish. Fields that the standard
 * has and this version does not build are refused whatever is asked for.
 */
export function dropUnknownFields(call: ResourceCall, object: KubeObject): void {
  const asked = call.query.get("fieldValidation") ?? "";
  if (!["", "Strict", "Warn", "Ignore"].includes(asked))
    throw badRequest(`fieldValidation is ${JSON.stringify(asked)}; use Strict, Warn or Ignore`);
  const { kind } = call.target;
  if (asked === "" || asked === "Strict" || kind.schema === undefined || kind.strictOnly === true) return;
  for (const path of dropUnknown(kind.schema, object, kind.unimplemented ?? {}))
    if (asked === "Warn") call.warnings.push(`unknown field ${JSON.stringify(path)}`);
}

const maxManagerLength = 128;

/** `fieldManager`, or what the program calls itself before the first slash of its User-Agent, as in Kubernetes. */
export function managerName(call: ResourceCall): string {
  const named = call.query.get("fieldManager") ?? "";
  if (named !== "") {
    if (named.length > maxManagerLength || !/^[\x20-\x7e]+$/.test(named)) {
      throw invalid("PatchOptions", "meta.k8s.io", "", [
        { path: "fieldManager", message: `must be at most ${maxManagerLength} printable characters, has ${named.length}` },
      ]);
    }
    return named;
  }
  const agent = (call.request.headers.get("user-agent") ?? "")
    .split("/", 1)[0]!
    .replace(/[^\x20-\x7e]/g, "")
    .slice(0, maxManagerLength);
  return agent === "" ? "unknown" : agent;
}
