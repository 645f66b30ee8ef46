// BackendTLSPolicy: what its validation refuses, by path; which of several decides; and that no instance is ever reached unchecked where one speaks.

import { describe, expect, test } from "bun:test";
import { parseAllDocuments } from "yaml";
import { kindOf } from "../api/kinds.ts";
import type { KubeObject } from "../api/meta.ts";
import { buildWorld } from "./compile.ts";
import { portPlan } from "./plan/mesh.ts";
import { statusOf } from "./status.ts";

function object(text: string): KubeObject {
  const made = parseAllDocuments(text)[0]?.toJS() as KubeObject;
  kindOf(made)?.applyDefaults(made);
  return made;
}

function problems(text: string): string[] {
  const made = object(text);
  return (kindOf(made)?.validate(made) ?? []).map(({ path, message }) => `${path}: ${message}`);
}

function policy(name: string, validation: string, more = "", created = "2026-01-01T00:00:00Z"): string {
  return `{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {name: ${name}, namespace: bank, creationTimestamp: "${created}"}, spec: {targetRefs: [{group: "", kind: Service, name: pay${more}}], validation: ${validation}}}`;
}

const system = "wellKnownCACertificates: System";

describe("validation", () => {
  const cases: readonly (readonly [what: string, text: string, wanted: readonly RegExp[]])[] = [
    ["the fields of v1", policy("p", `{hostname: a.example, ${system}}`), []],
    ["an authority by name", policy("p", '{hostname: a.example, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}'), []],
    ["no authority", policy("p", "{hostname: a.example}"), [/^spec\.validation: needs caCertificateRefs or/]],
    [
      "both kinds of authority",
      policy("p", `{hostname: a.example, ${system}, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}`),
      [/^spec\.validation: .*exclude each other/],
    ],
    [
      "an unknown bundle",
      policy("p", "{hostname: a.example, wellKnownCACertificates: Mozilla}"),
      [/wellKnownCACertificates: value "Mozilla"/],
    ],
    ["no hostname", policy("p", `{${system}}`), [/^spec\.validation\.hostname: /]],
    ["a wildcard as SNI", policy("p", `{hostname: "*.a.example", ${system}}`), [/^spec\.validation\.hostname: /]],
    ["an address", policy("p", `{hostname: 10.0.0.1, ${system}}`), [/is an IP address/]],
    [
      "names of the wrong sort",
      policy("p", `{hostname: a.example, ${system}, subjectAltNames: [{type: URI, hostname: b.example}]}`),
      [/subjectAltNames\[0\]\.uri: is required/, /subjectAltNames\[0\]\.hostname: must not be there/],
    ],
    [
      "another target",
      policy("p", `{hostname: a.example, ${system}}`).replace("kind: Service", "kind: ServiceEntry"),
      [/^spec\.targetRefs\[0\]: .*DestinationRule/],
    ],
    ["options", policy("p", `{hostname: a.example, ${system}}`).replace(/}}$/, ", options: {a: b}}}"), [/^spec\.options/]],
    [
      "a key twice",
      "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: bank}, data: {ca.crt: x}, binaryData: {ca.crt: eA==}}",
      [/stands in data too/],
    ],
    [
      "what is not base64",
      "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: bank}, binaryData: {a: '???'}}",
      [/is not base64/],
    ],
  ];
  for (const [what, text, wanted] of cases)
    test(what, () => {
      const found = problems(text);
      expect(found.length).toBe(wanted.length);
      for (const [at, pattern] of wanted.entries()) expect(found[at]).toMatch(pattern);
    });
});

const service =
  "{apiVersion: v1, kind: Service, metadata: {name: pay, namespace: bank}, spec: {selector: {app: pay}, ports: [{name: http, port: 80}]}}";
const plain =
  "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: pay-1, namespace: bank, labels: {app: pay}}, spec: {address: 10.0.0.1, ports: {http: 8443}}}";
const cluster = "outbound|80||pay.bank.svc.cluster.local";

function planned(...texts: readonly string[]) {
  const world = buildWorld([service, plain, ...texts].map(object), "cluster.local");
  const plan = portPlan(world, cluster);
  const reason = (name: string) => {
    const status = statusOf(world, `backendtlspolicies.gateway.networking.k8s.io bank/${name}`)?.status as
      | { ancestors: { conditions: { type: string; reason: string }[] }[] }
      | undefined;
    return status?.ancestors[0]?.conditions.map(({ reason: each }) => each);
  };
  return { tls: plan?.traffic.backendTls, endpoints: plan?.endpoints.length, reason };
}

describe("which policy decides", () => {
  const old = policy("z-old", `{hostname: old.example, ${system}}`, "", "2025-01-01T00:00:00Z");
  const young = policy("a-young", `{hostname: young.example, ${system}}`);
  const same = policy("b-same", `{hostname: same.example, ${system}}`);
  const port = policy("port", `{hostname: port.example, ${system}}`, ", sectionName: http");
  const nowhere = policy(
    "nowhere",
    '{hostname: n.example, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}',
    "",
    "2024-01-01T00:00:00Z",
  );
  const cases: readonly (readonly [what: string, policies: readonly string[], sni: string])[] = [
    ["the only one", [young], "young.example"],
    ["the oldest", [young, old], "old.example"],
    ["of one age the first by name", [same, young], "young.example"],
    ["that of the port, whatever its age", [old, port], "port.example"],
  ];
  for (const [what, policies, sni] of cases)
    test(what, () => {
      for (const order of [policies, [...policies].reverse()]) {
        const { tls, endpoints } = planned(...order);
        expect([tls, endpoints]).toMatchObject([{ kind: "tls", sni, names: [{ kind: "dns", value: sni }] }, 1]);
      }
    });

  test("the losers are told", () => {
    const { reason } = planned(young, old, port);
    expect([reason("a-young"), reason("z-old"), reason("port")]).toEqual([
      ["Conflicted", "ResolvedRefs"],
      ["Accepted", "ResolvedRefs"],
      ["Accepted", "ResolvedRefs"],
    ]);
  });

  test("one without an authority still decides, and nobody is reached", () => {
    const { tls, endpoints, reason } = planned(nowhere, young);
    expect([tls, endpoints]).toEqual([{ kind: "closed" }, 0]);
    expect([reason("nowhere"), reason("a-young")]).toEqual([
      ["NoValidCACertificate", "InvalidCACertificateRef"],
      ["Conflicted", "ResolvedRefs"],
    ]);
  });

  test("a DestinationRule's TLS gives way", () => {
    const rule =
      "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: pay, namespace: bank}, spec: {host: pay, trafficPolicy: {tls: {mode: DISABLE}}}}";
    expect(planned(rule, young).tls).toMatchObject({ kind: "tls", sni: "young.example" });
  });
});
