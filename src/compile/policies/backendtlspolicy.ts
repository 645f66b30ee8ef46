// Owns: how BackendTLSPolicies (GEP-1897) fold into the treatment of one port of a Service: which of them decides, its authorities, the names to look
// for. Never writes a status: status-backendtls.ts says what became of each.

import type { BackendTlsPolicyObject, PolicyTargetRef } from "../../api/kinds/backendtlspolicy-spec.ts";
import type { BackendTlsPlan } from "../plan/traffic.ts";
import { backendTlsSource, configMapSource, secretSource } from "../route-sources.ts";
import { byAge, derived, equal, keyOf, namespaceOf, type World } from "../world.ts";
import { authoritiesProblem } from "./pem.ts";

export interface Authorities {
  /** PEM; empty = those of the caller's machine. undefined = there is none that could be believed. */
  readonly pem: string | undefined;
  /** Of references that lead nowhere. */
  readonly problems: readonly { readonly reason: "InvalidCACertificateRef" | "InvalidKind"; readonly message: string }[];
}

/** What a policy's references to authorities come to. By `NS/NAME`. */
export const authoritiesOf = derived<Authorities | undefined>((world, key) => {
  const policy = world.objects(backendTlsSource).get(key);
  if (policy === undefined) return undefined;
  const { caCertificateRefs = [], wellKnownCACertificates } = policy.spec.validation;
  if (wellKnownCACertificates !== undefined) return { pem: "", problems: [] };
  const found: string[] = [];
  const problems: Authorities["problems"][number][] = [];
  for (const [at, { kind, name }] of caCertificateRefs.entries()) {
    const where = `spec.validation.caCertificateRefs[${at}]`;
    if (kind !== "ConfigMap" && kind !== "Secret") {
      problems.push({ reason: "InvalidKind", message: `${where}: authorities come from a ConfigMap or a Secret, not from a ${kind}` });
      continue;
    }
    const text =
      kind === "ConfigMap" ? ofConfigMap(world, `${namespaceOf(policy)}/${name}`) : ofSecret(world, `${namespaceOf(policy)}/${name}`);
    const wrong =
      text === undefined
        ? `there is no ${kind} ${namespaceOf(policy)}/${name} with an entry ca.crt`
        : authoritiesProblem(text, `ca.crt of ${kind} ${namespaceOf(policy)}/${name}`);
    if (wrong === undefined) found.push((text as string).trim());
    else problems.push({ reason: "InvalidCACertificateRef", message: `${where}: ${wrong}` });
  }
  return { pem: found.length === 0 ? undefined : `${found.join("\n")}\n`, problems };
}, equal);

function ofConfigMap(world: World, key: string): string | undefined {
  const object = world.objects(configMapSource).get(key);
  const binary = object?.binaryData?.["ca.crt"];
  return object?.data?.["ca.crt"] ?? (binary === undefined ? undefined : Buffer.from(binary, "base64").toString("utf8"));
}

function ofSecret(world: World, key: string): string | undefined {
  const text = world.objects(secretSource).get(key)?.data?.["ca.crt"];
  return text === undefined ? undefined : Buffer.from(text, "base64").toString("utf8");
}

/** Policies that name a Service (and a port of it, or empty = the whole), in the order in which they decide. */
export function policiesFor(world: World, service: string, section: string): readonly BackendTlsPolicyObject[] {
  const [, name = ""] = service.split("/");
  return [...world.objects(backendTlsSource).by("target", service)]
    .sort(byAge)
    .filter(({ spec }) => spec.targetRefs.some((ref) => targets(ref, name, section)));
}

function targets(ref: PolicyTargetRef, name: string, section: string): boolean {
  return ref.kind === "Service" && ref.group === "" && ref.name === name && (ref.sectionName ?? "") === section;
}

/** By key of the Service, blank, name of the port; undefined = no policy speaks about it. */
export const backendTls = derived<BackendTlsPlan | undefined>((world, text) => {
  const [service = "", port = ""] = text.split(" ");
  const policy = (port === "" ? undefined : policiesFor(world, service, port)[0]) ?? policiesFor(world, service, "")[0];
  if (policy === undefined) return undefined;
  const { pem } = authoritiesOf(world, keyOf(policy)) ?? {};
  if (pem === undefined) return { kind: "closed" };
  const { hostname, subjectAltNames = [] } = policy.spec.validation;
  const names =
    subjectAltNames.length === 0
      ? [{ kind: "dns" as const, value: hostname }]
      : subjectAltNames.map((san) =>
          san.type === "URI" ? { kind: "uri" as const, value: san.uri ?? "" } : { kind: "dns" as const, value: san.hostname ?? "" },
        );
  return { kind: "tls", sni: hostname, authorities: pem, names };
}, equal);
