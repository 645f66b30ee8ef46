// Owns: discovery.k8s.io/v1 EndpointSlice: addresses of a Service that has no selector.

import { isIP } from "node:net";
import { ageColumn, defineKind, dnsSubdomain, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { show } from "../schema.ts";

export interface SliceEndpoint {
  readonly addresses: readonly string[];
  readonly conditions?: { readonly ready?: boolean; readonly serving?: boolean; readonly terminating?: boolean };
}

export interface EndpointSliceObject extends KubeObject {
  addressType: string;
  endpoints?: SliceEndpoint[];
  ports?: { name?: string; port?: number; protocol?: string; appProtocol?: string }[];
}

/** The label that says whose endpoints these are. */
export const sliceServiceLabel = "kubernetes.io/service-name";

/** Annotation: comma-separated service accounts of the slice's namespace that its endpoints run as; needed with mutual TLS, so that callers know whom to expect. */
export const sliceServiceAccounts = "weft.dev/service-accounts";

/** The service accounts named by the annotation, sorted. */
export function accountsOfSlice(object: KubeObject): readonly string[] {
  const text = object.metadata.annotations?.[sliceServiceAccounts] ?? "";
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .sort();
}

export const endpointSliceKind = defineKind({
  group: "discovery.k8s.io",
  versions: ["v1"],
  kind: "EndpointSlice",
  plural: "endpointslices",
  namespaced: true,
  hasStatus: false,
  requiredFields: ["addressType", "endpoints"],
  fields: {
    addressType: { type: "string", enum: ["IPv4", "IPv6", "FQDN"] },
    endpoints: {
      type: "array",
      maxItems: 1000,
      items: {
        type: "object",
        required: ["addresses"],
        properties: {
          addresses: { type: "array", minItems: 1, maxItems: 100, items: { type: "string" } },
          conditions: {
            type: "object",
            properties: { ready: { type: "boolean" }, serving: { type: "boolean" }, terminating: { type: "boolean" } },
          },
          hostname: { type: "string" },
          nodeName: { type: "string" },
          targetRef: { type: "object" },
          zone: { type: "string" },
          deprecatedTopology: { type: "object", additionalProperties: { type: "string" } },
        },
      },
    },
    ports: {
      type: "array",
      maxItems: 100,
      items: {
        type: "object",
        properties: {
          name: { type: "string" },
          port: { type: "integer", minimum: 1, maximum: 65535 },
          protocol: { type: "string", enum: ["TCP", "UDP", "SCTP"], default: "TCP" },
          appProtocol: { type: "string" },
        },
      },
    },
  },
  unimplemented: {
    "addressType=FQDN": "give IP addresses; names are not resolved yet",
    "ports[].protocol=SCTP": "only TCP and UDP are carried",
    "endpoints[].hints": "balancing by zone is not built",
  },
  informational: [
    "endpoints[].conditions.serving",
    "endpoints[].conditions.terminating",
    "endpoints[].hostname",
    "endpoints[].nodeName",
    "endpoints[].targetRef",
    "endpoints[].zone",
    "endpoints[].deprecatedTopology",
    "ports[].appProtocol",
  ],
  notes: [
    "Gives the endpoints of the Service named by the label `kubernetes.io/service-name`, if that Service has no selector; a slice's port goes with the service's port of the same name.",
    "`conditions.ready: false` takes an endpoint out.",
    "Endpoints are called in plain text, unless the slice has the label `security.istio.io/tlsMode: istio`; then the annotation `weft.dev/service-accounts` must name the service accounts they may present.",
  ],
  rules: sliceRules,
  columns: [
    textColumn("AddressType", "IPv4 or IPv6.", (object) => (object as EndpointSliceObject).addressType),
    textColumn(
      "Ports",
      "Port numbers.",
      (object) => ((object as EndpointSliceObject).ports ?? []).map((port) => port.port ?? "*").join(",") || "<unset>",
    ),
    textColumn(
      "Endpoints",
      "Addresses.",
      (object) => ((object as EndpointSliceObject).endpoints ?? []).flatMap((each) => each.addresses).join(",") || "<unset>",
    ),
    ageColumn,
  ],
});

function sliceRules(object: KubeObject): Violation[] {
  const slice = object as EndpointSliceObject;
  const out: Violation[] = [];
  const service = slice.metadata.labels?.[sliceServiceLabel];
  if (service === undefined)
    out.push({ path: `metadata.labels["${sliceServiceLabel}"]`, message: "is required: without it the slice belongs to no Service" });
  const family = slice.addressType === "IPv6" ? 6 : 4;
  for (const [at, endpoint] of (slice.endpoints ?? []).entries()) {
    for (const [which, address] of endpoint.addresses.entries()) {
      if (slice.addressType !== "FQDN" && (isIP(address) !== family || address.includes("%")))
        out.push({ path: `endpoints[${at}].addresses[${which}]`, message: `${show(address)} is no ${slice.addressType} address` });
    }
  }
  const names = new Set<string>();
  for (const [at, port] of (slice.ports ?? []).entries()) {
    if (port.port === undefined) out.push({ path: `ports[${at}].port`, message: "is required" });
    if (names.has(port.name ?? ""))
      out.push({ path: `ports[${at}].name`, message: `${show(port.name ?? "")} is taken by an earlier port` });
    names.add(port.name ?? "");
  }
  const mode = slice.metadata.labels?.["security.istio.io/tlsMode"];
  const path = 'metadata.labels["security.istio.io/tlsMode"]';
  if (mode !== undefined && mode !== "istio" && mode !== "disabled")
    out.push({ path, message: `must be istio or disabled, got ${show(mode)}` });
  const accounts = accountsOfSlice(object);
  if (mode === "istio" && accounts.length === 0)
    out.push({ path, message: `needs the annotation ${sliceServiceAccounts}: callers must know which service accounts to expect` });
  for (const account of accounts)
    if (!dnsSubdomain.test(account))
      out.push({ path: `metadata.annotations["${sliceServiceAccounts}"]`, message: `${show(account)} is no service account name` });
  return out;
}
