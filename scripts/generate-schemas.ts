// Owns: src/api/schemas/*.json, the structural schemas of the kinds whose communities publish one as a Kubernetes CRD.
// They are taken out of the installed @kubernetes-models packages as data, so that starting up neither loads their classes nor compiles
// validators (measured in docs/decisions/0006-kinds-from-published-schemas.md). Run after an update of those packages: `bun scripts/generate-schemas.ts`.
// With `--check` writes nothing and exits 1 when a file differs from what the packages say.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const sources: Readonly<Record<string, string>> = {
  httproute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute.mjs",
  authorizationpolicy: "@kubernetes-models/istio/security.istio.io/v1/AuthorizationPolicy.mjs",
  telemetry: "@kubernetes-models/istio/telemetry.istio.io/v1alpha1/Telemetry.mjs",
  workloadentry: "@kubernetes-models/istio/networking.istio.io/v1beta1/WorkloadEntry.mjs",
};

/** Keywords the walker in src/api/schema.ts understands; `oneOf` and the like hold only "exactly one of these fields", which kinds check in words. */
const kept = new Set([
  "type",
  "properties",
  "additionalProperties",
  "items",
  "enum",
  "pattern",
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
  "minimum",
  "maximum",
  "required",
  "default",
]);

function trim(schema: unknown): unknown {
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) return schema;
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(schema)) {
    if (!kept.has(key)) continue;
    if (key === "properties") {
      const entries = Object.entries(value as Record<string, unknown>).map(([name, child]) => [name, trim(child)] as const);
      if (entries.length > 0) out[key] = Object.fromEntries(entries);
    } else {
      out[key] = key === "items" || key === "additionalProperties" ? trim(value) : value;
    }
  }
  return out;
}

const root = join(import.meta.dir, "..");
const check = process.argv.includes("--check");
let stale = 0;
for (const [name, source] of Object.entries(sources)) {
  const text = readFileSync(join(root, "node_modules", source), "utf8");
  const found = /^const schema = (\{[\s\S]*?^\});/m.exec(text);
  if (found?.[1] === undefined) throw new Error(`${source} no longer holds its schema as one constant; adapt scripts/generate-schemas.ts`);
  const whole = JSON.parse(found[1]) as { properties: Record<string, unknown> };
  const wanted = trim(whole.properties.spec);
  const file = join(root, "src/api/schemas", `${name}.json`);
  const have: unknown = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined;
  if (Bun.deepEquals(have, wanted)) continue;
  stale++;
  if (check) console.error(`${name}.json differs from ${source}`);
  else {
    writeFileSync(file, `${JSON.stringify(wanted, null, 2)}\n`);
    Bun.spawnSync([join(root, "node_modules/.bin/biome"), "format", "--write", file]);
  }
}
if (check && stale > 0) process.exit(1);
