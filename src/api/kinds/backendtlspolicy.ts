// Owns: gateway.networking.k8s.io BackendTLSPolicy (GEP-1897, the fields of v1): how instances that speak TLS themselves are reached and recognised.

import { acceptedColumn, ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { notImplemented, type Schema, show } from "../schema.ts";
import type { BackendTlsPolicyObject } from "./backendtlspolicy-spec.ts";
import { type Add, gatewayGroup, gather, sectionName } from "./gateway-refs.ts";

const hostname: Schema = {
  type: "string",
  minLength: 1,
  maxLength: 253,
  pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
};
/** In a name to look for the first label may be `*`. */
const hostnameOrWildcard: Schema = { ...hostname, pattern: `^(\\*\\.)?${hostname.pattern?.slice(1) ?? ""}` };
const objectRef: Readonly<Record<string, Schema>> = {
  group: { type: "string", maxLength: 253 },
  kind: { type: "string", minLength: 1, maxLength: 63 },
  name: { type: "string", minLength: 1, maxLength: 253 },
};

/** The package publishes the fields of v1alpha2 only, which no implementation takes any more. */
const spec: Schema = {
  type: "object",
  required: ["targetRefs", "validation"],
  properties: {
    targetRefs: {
      type: "array",
      minItems: 1,
      maxItems: 16,
      items: { type: "object", required: ["group", "kind", "name"], properties: { ...objectRef, sectionName } },
    },
    validation: {
      type: "object",
      required: ["hostname"],
      properties: {
        hostname,
        caCertificateRefs: {
          type: "array",
          maxItems: 8,
          items: { type: "object", required: ["group", "kind", "name"], properties: objectRef },
        },
        wellKnownCACertificates: { type: "string", minLength: 1, maxLength: 253 },
        subjectAltNames: {
          type: "array",
          maxItems: 5,
          items: {
            type: "object",
            required: ["type"],
            properties: {
              type: { type: "string", enum: ["Hostname", "URI"] },
              hostname: hostnameOrWildcard,
              uri: { type: "string", minLength: 1, maxLength: 253, pattern: "^(([^:/?#]+):)(//([^/?#]*))([^?#]*)(\\?([^#]*))?(#(.*))?$" },
            },
          },
        },
      },
    },
    options: { type: "object", additionalProperties: { type: "string" } },
  },
};

export const backendTlsPolicyKind = defineKind({
  group: gatewayGroup,
  versions: ["v1", "v1alpha3"],
  kind: "BackendTLSPolicy",
  plural: "backendtlspolicies",
  shortNames: ["btlspolicy"],
  categories: ["gateway-api"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec },
  unimplemented: { "spec.options": "Weft has no options of its own here; remove them" },
  notes: [
    "Whoever leads to the Service, sidecars and gateways alike, speaks TLS to its instances that have no sidecar: `hostname` goes into SNI, and the certificate must be signed by one of the authorities and carry `hostname`, or where `subjectAltNames` are given one of those. Clients speak plain HTTP to the Service.",
    "Instances with a sidecar are reached by the mesh's mutual TLS as before. A DestinationRule's `trafficPolicy.tls` for the same port gives way.",
    "Authorities are ConfigMaps or Secrets of the policy's namespace with certificates in PEM under `ca.crt`, sent to proxies inline; or `wellKnownCACertificates: System`, those of the machine where the caller's proxy runs.",
    "While no authority can be resolved the instances get no requests at all (503): nothing is sent in plain text or unchecked in their place.",
    "A policy with `sectionName` goes before one for the whole Service at that port. Of several for the same the oldest decides, then the first by name; the others are told `Conflicted`.",
    "gRPC clients without a proxy cannot follow it, and get no instances without sidecar from such a Service.",
  ],
  rules: (object: KubeObject): Violation[] => gather((add) => checkPolicy(object as BackendTlsPolicyObject, add)),
  columns: [
    textColumn("Targets", "Services (and their ports) that it is for.", (object) =>
      ((object as BackendTlsPolicyObject).spec?.targetRefs ?? [])
        .map(({ name, sectionName: port }) => `${name}${port === undefined ? "" : `/${port}`}`)
        .join(","),
    ),
    textColumn(
      "Hostname",
      "Name that certificates must carry.",
      (object) => (object as BackendTlsPolicyObject).spec?.validation?.hostname ?? "",
    ),
    acceptedColumn,
    ageColumn,
  ],
});

function checkPolicy({ spec: { targetRefs, validation } }: BackendTlsPolicyObject, add: Add): void {
  const seen = new Map<string, number>();
  for (const [at, ref] of targetRefs.entries()) {
    const path = `spec.targetRefs[${at}]`;
    if (ref.kind !== "Service" || ref.group !== "")
      add(
        path,
        notImplemented(
          `target ${show(ref.kind)} in group ${show(ref.group)}`,
          'name a Service (group: ""); TLS to a host of a ServiceEntry is said by a DestinationRule',
        ),
      );
    const key = `${ref.kind}/${ref.name}/${ref.sectionName ?? ""}`;
    const before = seen.get(key);
    if (before !== undefined) add(path, `is the same as spec.targetRefs[${before}]`);
    else seen.set(key, at);
  }
  const { caCertificateRefs = [], wellKnownCACertificates: known, subjectAltNames = [], hostname: name } = validation;
  const path = "spec.validation";
  if (/^[0-9]{1,3}(\.[0-9]{1,3}){3}$/.test(name)) add(`${path}.hostname`, `${show(name)} is an IP address; it must be a DNS name`);
  if (known !== undefined && known !== "System")
    add(
      `${path}.wellKnownCACertificates`,
      notImplemented(`value ${show(known)}`, "write System, or name authorities in caCertificateRefs"),
    );
  if ((known === undefined) === (caCertificateRefs.length === 0))
    add(
      path,
      known === undefined
        ? "needs caCertificateRefs or wellKnownCACertificates: without an authority no certificate could be believed"
        : "caCertificateRefs and wellKnownCACertificates exclude each other; remove one",
    );
  for (const [at, ref] of caCertificateRefs.entries())
    if (ref.group !== "")
      add(
        `${path}.caCertificateRefs[${at}].group`,
        `ConfigMaps and Secrets are in the core group: write group: "" (got ${show(ref.group)})`,
      );
  for (const [at, san] of subjectAltNames.entries()) {
    const where = `${path}.subjectAltNames[${at}]`;
    const [wanted, other] = san.type === "Hostname" ? (["hostname", "uri"] as const) : (["uri", "hostname"] as const);
    if (san[wanted] === undefined) add(`${where}.${wanted}`, `is required for type ${san.type}`);
    if (san[other] !== undefined) add(`${where}.${other}`, `must not be there for type ${san.type}`);
  }
}
