// Owns: what our policies that are attached to something have in common: references to targets (Gateway API's policy attachment, GEP-713), and who shares a
// bucket or a queue. Never resolves a reference.

import { notImplemented, type Schema, show } from "../schema.ts";
import { type Add, gatewayGroup, sectionName } from "./gateway-refs.ts";

export interface TargetRef {
  readonly group: string;
  readonly kind: string;
  readonly name: string;
  /** Name of a port of the Service, or of a rule of the route. */
  readonly sectionName?: string;
}

/** Whose requests are counted or queued together. */
export interface SharedBy {
  readonly type: "Identity" | "Header" | "RemoteAddress";
  readonly header?: string;
}

/** HTTP's token (RFC 9110 5.6.2). */
export const headerPattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";

/** `section`: what a target's sectionName names. */
export function targetsWith(section: string): Schema {
  return {
    type: "array",
    description: "What the policy is for, in its own namespace.",
    minItems: 1,
    maxItems: 16,
    items: {
      type: "object",
      required: ["kind", "name"],
      properties: {
        group: { type: "string", maxLength: 253, default: "", description: 'Group of the target: "" (default) for a Service.' },
        kind: { type: "string", minLength: 1, maxLength: 63, description: "Kind of the target, such as Service." },
        name: { type: "string", minLength: 1, maxLength: 253, description: "Name of the target." },
        sectionName: { ...sectionName, description: section },
      },
    },
  };
}

export const targetRefs: Schema = targetsWith("Name of one port of the Service. Absent: all of them.");

export const headerName: Schema = {
  type: "string",
  description: "Name of a header, in any case.",
  minLength: 1,
  maxLength: 256,
  pattern: headerPattern,
};

/** A route of Gateway API. */
export function isRouteTarget({ kind }: Pick<TargetRef, "kind">): boolean {
  return kind === "HTTPRoute" || kind === "GRPCRoute";
}

/** `kinds`: of targets. `instead`: what to do about others. */
export function checkTargets(refs: readonly TargetRef[], kinds: readonly string[], instead: string, add: Add): void {
  const seen = new Map<string, number>();
  for (const [at, ref] of refs.entries()) {
    const path = `spec.targetRefs[${at}]`;
    if (!kinds.includes(ref.kind)) add(`${path}.kind`, notImplemented(`target ${show(ref.kind)}`, instead));
    else {
      const group = ref.kind === "Service" ? "" : gatewayGroup;
      if (ref.group !== group) add(`${path}.group`, `a ${ref.kind} is in group ${show(group)}, got ${show(ref.group)}`);
      if (ref.kind === "Gateway" && ref.sectionName !== undefined)
        add(
          `${path}.sectionName`,
          notImplemented(
            "a single listener of a Gateway",
            "leave it out: the policy is for all that speak HTTP; or name the routes at that listener",
          ),
        );
    }
    const key = `${ref.kind}/${ref.name}/${ref.sectionName ?? ""}`;
    const before = seen.get(key);
    if (before !== undefined) add(path, `is the same as spec.targetRefs[${before}]`);
    else seen.set(key, at);
  }
}

export function checkShared({ type, header }: SharedBy, path: string, add: Add): void {
  if (type === "Header" && header === undefined) add(`${path}.header`, "is required for type Header");
  if (type !== "Header" && header !== undefined) add(`${path}.header`, `must not be there for type ${type}`);
}

/** For `kubectl get`: NAME[/PORT] of each target. */
export function targetNames(refs: readonly TargetRef[] | undefined): string {
  return (refs ?? []).map(({ name, sectionName: port }) => (port === undefined ? name : `${name}/${port}`)).join(",");
}

/** Of refusals: below 400 it would be none. */
export const refusalStatus: Schema = {
  type: "integer",
  minimum: 400,
  maximum: 599,
  description: "HTTP status that a refused request is answered with.",
};

/** The others that Envoy knows end where IANA's list has its gaps; a filter with one it does not know is refused as a whole. */
const unknownStatuses = [418, 419, 420, 425, 427, 430, 509];

export function checkStatus(status: number, add: Add): void {
  if (unknownStatuses.includes(status) || (status > 431 && status < 500) || status > 511)
    add("spec.status", `${status} is no status that proxies can answer with; use 429 or 503`);
}
