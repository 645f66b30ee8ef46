// Owns: telemetry.istio.io Telemetry, of which access logging is built. Metrics are always on; tracing is refused until it is built.

import { ageColumn, defineKind } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { type Schema, show } from "../schema.ts";
import telemetrySchema from "../schemas/telemetry.json" with { type: "json" };

export interface AccessLogging {
  readonly match?: { readonly mode?: "CLIENT_AND_SERVER" | "CLIENT" | "SERVER" };
  readonly providers?: readonly { readonly name?: string }[];
  readonly disabled?: boolean;
}

export interface TelemetryObject extends KubeObject {
  spec?: {
    selector?: { matchLabels?: Record<string, string> };
    accessLogging?: AccessLogging[];
  };
}

/** Both mean JSON lines on the sidecar's standard output; `envoy` is what Istio's own documentation uses. */
export const accessLogProviders = ["weft", "envoy"] as const;

export const telemetryKind = defineKind({
  group: "telemetry.istio.io",
  versions: ["v1", "v1alpha1"],
  kind: "Telemetry",
  plural: "telemetries",
  shortNames: ["telemetry"],
  categories: ["istio-io", "telemetry-istio-io"],
  namespaced: true,
  hasStatus: true,
  fields: { spec: telemetrySchema as Schema },
  unimplemented: {
    "spec.metrics": "metrics are always collected and cannot be reshaped",
    "spec.tracing": "remove it",
    "spec.targetRef": "use selector",
    "spec.targetRefs": "use selector",
    "spec.accessLogging[].filter": "every request is logged, or none",
  },
  notes: [
    "Access logs are JSON lines on the standard output of the sidecar, off by default. `match.mode` CLIENT is what the application asks of others, SERVER what others ask of it.",
    "The most specific object that speaks about a side decides: selector in the namespace, namespace, selector in `weft-system`, `weft-system`.",
    "Refused beside another of the same namespace and selector that decides differently.",
  ],
  rules: telemetryRules,
  columns: [ageColumn],
});

function telemetryRules(object: KubeObject): Violation[] {
  const out: Violation[] = [];
  const spec = (object as TelemetryObject).spec ?? {};
  for (const [key, value] of Object.entries(spec.selector?.matchLabels ?? {})) {
    if (key === "" || key.includes("*") || value.includes("*"))
      out.push({ path: `spec.selector.matchLabels["${key}"]`, message: "wildcards are not allowed in labels" });
  }
  const modes = new Map<string, number>();
  for (const [at, entry] of (spec.accessLogging ?? []).entries()) {
    const path = `spec.accessLogging[${at}]`;
    for (const [which, provider] of (entry.providers ?? []).entries()) {
      if (!(accessLogProviders as readonly (string | undefined)[]).includes(provider.name)) {
        out.push({
          path: `${path}.providers[${which}].name`,
          message: `must be ${accessLogProviders.map(show).join(" or ")}, got ${show(provider.name ?? "")}; other providers are not implemented by this version of Weft`,
        });
      }
    }
    for (const mode of modesOf(entry)) {
      const before = modes.get(mode);
      if (before !== undefined)
        out.push({ path, message: `says again about ${mode} what spec.accessLogging[${before}] says; put both into one` });
      else modes.set(mode, at);
    }
  }
  return out;
}

/** The sides an entry speaks about: the caller's sidecar (CLIENT), the called one (SERVER). */
export function modesOf(entry: AccessLogging): readonly ("CLIENT" | "SERVER")[] {
  const mode = entry.match?.mode ?? "CLIENT_AND_SERVER";
  return mode === "CLIENT_AND_SERVER" ? ["CLIENT", "SERVER"] : [mode];
}
