// Owns: src/api/schemas/*.json, the structural schemas of the kinds whose communities publish one as a Kubernetes CRD.
// They are taken out of the installed @kubernetes-models packages as data, so that starting up neither loads their classes nor compiles
// validators (measured in docs/decisions/0006-kinds-from-published-schemas.md). Run after an update of those packages: `bun scripts/generate-schemas.ts`.
// With `--check` writes nothing and exits 1 when a file differs from what the packages say.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const sources: Readonly<Record<string, string>> = {
  httproute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute.mjs",
  grpcroute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1alpha2/GRPCRoute.mjs",
  tlsroute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1alpha2/TLSRoute.mjs",
  tcproute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1alpha2/TCPRoute.mjs",
  udproute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1alpha2/UDPRoute.mjs",
  gateway: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/Gateway.mjs",
  gatewayclass: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/GatewayClass.mjs",
  referencegrant: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1beta1/ReferenceGrant.mjs",
  serviceentry: "@kubernetes-models/istio/networking.istio.io/v1beta1/ServiceEntry.mjs",
  authorizationpolicy: "@kubernetes-models/istio/security.istio.io/v1/AuthorizationPolicy.mjs",
  requestauthentication: "@kubernetes-models/istio/security.istio.io/v1/RequestAuthentication.mjs",
  istiogateway: "@kubernetes-models/istio/networking.istio.io/v1beta1/Gateway.mjs",
  sidecar: "@kubernetes-models/istio/networking.istio.io/v1beta1/Sidecar.mjs",
  destinationrule: "@kubernetes-models/istio/networking.istio.io/v1beta1/DestinationRule.mjs",
  peerauthentication: "@kubernetes-models/istio/security.istio.io/v1beta1/PeerAuthentication.mjs",
  virtualservice: "@kubernetes-models/istio/networking.istio.io/v1beta1/VirtualService.mjs",
  telemetry: "@kubernetes-models/istio/telemetry.istio.io/v1alpha1/Telemetry.mjs",
  workloadentry: "@kubernetes-models/istio/networking.istio.io/v1beta1/WorkloadEntry.mjs",
  workloadgroup: "@kubernetes-models/istio/networking.istio.io/v1beta1/WorkloadGroup.mjs",
  proxyconfig: "@kubernetes-models/istio/networking.istio.io/v1beta1/ProxyConfig.mjs",
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

/** What the packages say of each field in words, by kind and generic path (`spec.rules[].matches`): for `kubectl explain`. */
const described: Readonly<Record<string, string>> = {
  Namespace: "kubernetes-models/v1/Namespace",
  Service: "kubernetes-models/v1/Service",
  EndpointSlice: "kubernetes-models/discovery.k8s.io/v1/EndpointSlice",
  HTTPRoute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute",
  GRPCRoute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1alpha2/GRPCRoute",
  TLSRoute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1alpha2/TLSRoute",
  TCPRoute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1alpha2/TCPRoute",
  UDPRoute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1alpha2/UDPRoute",
  Gateway: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/Gateway",
  GatewayClass: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/GatewayClass",
  ReferenceGrant: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1beta1/ReferenceGrant",
  ServiceEntry: "@kubernetes-models/istio/networking.istio.io/v1beta1/ServiceEntry",
  AuthorizationPolicy: "@kubernetes-models/istio/security.istio.io/v1/AuthorizationPolicy",
  RequestAuthentication: "@kubernetes-models/istio/security.istio.io/v1/RequestAuthentication",
  Sidecar: "@kubernetes-models/istio/networking.istio.io/v1beta1/Sidecar",
  DestinationRule: "@kubernetes-models/istio/networking.istio.io/v1beta1/DestinationRule",
  PeerAuthentication: "@kubernetes-models/istio/security.istio.io/v1beta1/PeerAuthentication",
  VirtualService: "@kubernetes-models/istio/networking.istio.io/v1beta1/VirtualService",
  Telemetry: "@kubernetes-models/istio/telemetry.istio.io/v1alpha1/Telemetry",
  WorkloadEntry: "@kubernetes-models/istio/networking.istio.io/v1beta1/WorkloadEntry",
  WorkloadGroup: "@kubernetes-models/istio/networking.istio.io/v1beta1/WorkloadGroup",
  ProxyConfig: "@kubernetes-models/istio/networking.istio.io/v1beta1/ProxyConfig",
};

/** A first paragraph is what one line of a terminal's help can bear. */
const mostWords = 600;

/** Reads a declaration file by its lines, which the packages' generator writes one property each. */
function readWords(module: string, prefix: string, out: Record<string, string>): void {
  const text = readFileSync(join(root, "node_modules", `${module}.d.ts`), "utf8");
  const imports = new Map([...text.matchAll(/import \{ (\w+) \} from "(\.[^"]+)"/g)].map(([, name = "", from = ""]) => [name, from]));
  // With how far it is indented: a type that is an intersection of others does not close as it opens.
  const stack: { readonly path: string; readonly indent: number }[] = [{ path: prefix, indent: -1 }];
  let comment: string[] = [];
  let inside = false;
  for (const line of text.split("\n")) {
    const doc = /^\s*\*(?!\/) ?(.*)$/.exec(line)?.[1];
    if (/^\s*\/\*\*/.test(line)) comment = [];
    else if (doc !== undefined) comment.push(doc.trim());
    else if (/^export (interface|declare type|type) /.test(line)) {
      inside = true;
      if (prefix === "") out[""] = first(comment);
    } else if (inside && /^\}/.test(line)) return;
    const [, name, optional] = /^\s*"([^"]+)"(\??): /.exec(line) ?? [];
    if (inside && name !== undefined && optional !== undefined) {
      const type = line.slice(line.indexOf(": ") + 2);
      const indent = line.search(/\S/);
      while ((stack.at(-1)?.indent ?? -1) >= indent) stack.pop();
      const path = [stack.at(-1)?.path, `${name}${type.startsWith("Array<") ? "[]" : ""}`].filter((part) => part !== "").join(".");
      if (comment.length > 0 && !["apiVersion", "kind", "metadata"].includes(path)) out[path.replace(/\[\]$/, "")] = first(comment);
      comment = [];
      if (type.endsWith("{")) stack.push({ path, indent });
      const named = /^(?:Array<)?(\w+)/.exec(type)?.[1];
      const from = named === undefined ? undefined : imports.get(named);
      if (from !== undefined && path !== "status") readWords(join(module, "..", from), path, out);
    }
  }
}

function first(comment: readonly string[]): string {
  const words = (comment.find((line) => line !== "") ?? "").replaceAll("\\*", "*").replaceAll(/\s+/g, " ");
  return words.length <= mostWords ? words : `${words.slice(0, words.lastIndexOf(". ", mostWords) + 1 || mostWords)}`;
}

const words = Object.fromEntries(
  Object.entries(described).map(([kind, module]) => {
    const out: Record<string, string> = {};
    readWords(module, "", out);
    for (const path of Object.keys(out)) if (path.startsWith("status")) delete out[path];
    return [kind, out];
  }),
);
const wordsFile = join(root, "src/api/schemas/words.json");
const wordsText = `${JSON.stringify(words, null, 2)}\n`;
if (!existsSync(wordsFile) || readFileSync(wordsFile, "utf8") !== wordsText) {
  stale++;
  if (check) console.error("words.json differs from the packages");
  else writeFileSync(wordsFile, wordsText);
}
if (check && stale > 0) process.exit(1);
