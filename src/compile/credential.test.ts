// credentialName of a DestinationRule: what its validation refuses, by path; who is given a private key and who is not; that nobody is ever called
// unchecked where the Secret cannot be used; and that no change takes it away from a rule that goes by it.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import type { SecretObject } from "../api/kinds/gateway-secret.ts";
import { kindOf } from "../api/kinds.ts";
import type { KubeObject } from "../api/meta.ts";
import { admit } from "./admit.ts";
import { buildWorld, MeshCompiler } from "./compile.ts";
import { portPlan } from "./plan/mesh.ts";
import { forCaller, ruleCaller } from "./policies/destinationrule.ts";
import { statusKey, statusOf } from "./status.ts";
import type { World } from "./world.ts";

function read(text: string): KubeObject[] {
  return parseAllDocuments(text).map((each) => {
    const made = each.toJS() as KubeObject;
    kindOf(made)?.applyDefaults(made);
    return made;
  });
}

const given = read(readFileSync(join(import.meta.dir, "testdata", "egress-tls", "input.yaml"), "utf8"));
const whole = given.find(({ kind, metadata }) => kind === "Secret" && metadata.name === "pay") as SecretObject;
const [certificate, key] = [whole.data?.["tls.crt"] ?? "", whole.data?.["tls.key"] ?? ""];

const secret = (name: string, data: Record<string, string>, namespace = "shop"): KubeObject =>
  ({ apiVersion: "v1", kind: "Secret", metadata: { name, namespace }, type: "Opaque", data }) as KubeObject;
const rule = (tls: string, more = ""): KubeObject =>
  read(
    `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: pay, namespace: shop}, spec: {host: pay.example, trafficPolicy: {tls: ${tls}}${more}}}`,
  )[0] as KubeObject;
const entry = read(
  "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: pay, namespace: shop}, spec: {hosts: [pay.example], resolution: STATIC, endpoints: [{address: 192.0.2.1}], ports: [{number: 80, name: http, protocol: HTTP}]}}",
)[0] as KubeObject;

/** How callers of a namespace call pay.example. */
function calls(world: World, namespace: string) {
  const plan = portPlan(world, forCaller(world, ruleCaller(world, namespace), "pay.example", "outbound|80||pay.example"));
  return { tls: plan?.traffic.tls, endpoints: plan?.endpoints.length };
}

const closed = { tls: { kind: "closed" }, endpoints: 0 } as const;
const mutual = "{mode: MUTUAL, credentialName: pay}";
const simple = "{mode: SIMPLE, credentialName: pay}";

describe("validation", () => {
  const problems = (tls: string) => (kindOf(rule(tls))?.validate(rule(tls)) ?? []).map(({ path, message }) => `${path}: ${message}`);
  const at = "spec.trafficPolicy.tls";
  const cases: readonly (readonly [tls: string, wanted: readonly string[]])[] = [
    [simple, []],
    [mutual, []],
    ["{mode: MUTUAL, credentialName: pay, insecureSkipVerify: true}", []],
    ["{mode: ISTIO_MUTUAL, credentialName: pay}", [`${at}.credentialName: ISTIO_MUTUAL takes no credentialName; say SIMPLE or MUTUAL`]],
    ["{mode: SIMPLE, credentialName: pay, caCertificates: /ca.pem}", [`${at}.caCertificates: credentialName has it; keep one of the two`]],
    [
      "{mode: SIMPLE, credentialName: pay, insecureSkipVerify: true}",
      [`${at}.insecureSkipVerify: has nobody look at the authorities of credentialName; keep one of the two`],
    ],
    [
      "{mode: SIMPLE, credentialName: 'configmap://pay'}",
      [
        `${at}.credentialName: "configmap://pay" must be the name of a Secret of the rule's namespace; authorities of a ConfigMap are for a BackendTLSPolicy`,
      ],
    ],
    [
      "{mode: SIMPLE, credentialName: 'bank/pay'}",
      [`${at}.credentialName: "bank/pay" must be the name of a Secret of the rule's namespace`],
    ],
  ];
  for (const [tls, wanted] of cases) test(tls, () => expect(problems(tls)).toEqual([...wanted]));
});

describe("whom a Secret reaches", () => {
  const names: readonly (readonly [what: string, secrets: readonly KubeObject[]])[] = [
    ["kubernetes.io/tls", [secret("pay", { "tls.crt": certificate, "tls.key": key, "ca.crt": certificate })]],
    ["Istio's generic names", [secret("pay", { cert: certificate, key, cacert: certificate })]],
    ["authorities beside it", [secret("pay", { cert: certificate, key }), secret("pay-cacert", { cacert: certificate })]],
  ];
  for (const [what, secrets] of names)
    test(`${what}: the private key is for callers of its namespace, others reach nobody`, () => {
      const world = buildWorld([entry, rule(mutual), ...secrets], "cluster.local");
      const own = calls(world, "shop");
      expect(own).toMatchObject({
        endpoints: 1,
        tls: { kind: "tls", inline: true, certificate: { key: expect.stringContaining("PRIVATE KEY") } },
      });
      expect(calls(world, "bank")).toEqual(closed);
      expect(calls(world, "")).toEqual(closed);
    });

  test("authorities are for everybody whom the rule speaks to", () => {
    const world = buildWorld([entry, rule(simple), secret("pay", { "ca.crt": certificate })], "cluster.local");
    for (const namespace of ["shop", "bank"]) {
      const { tls, endpoints } = calls(world, namespace);
      expect(endpoints).toBe(1);
      expect(tls).toEqual({ kind: "tls", sni: "", names: [], authorities: expect.stringContaining("BEGIN CERTIFICATE"), inline: true });
    }
  });

  test("of a mesh-wide rule a private key stays in weft-system", () => {
    const everywhere = rule(mutual);
    everywhere.metadata.namespace = "weft-system";
    const data = { cert: certificate, key, cacert: certificate };
    const world = buildWorld([entry, everywhere, secret("pay", data, "weft-system"), secret("pay", data)], "cluster.local");
    expect(calls(world, "shop")).toEqual(closed);
    expect(calls(world, "weft-system")).toMatchObject({ endpoints: 1 });
  });

  test("a Secret of another namespace is not looked at", () => {
    const world = buildWorld(
      [entry, rule(mutual), secret("pay", { cert: certificate, key, cacert: certificate }, "bank")],
      "cluster.local",
    );
    for (const namespace of ["shop", "bank"]) expect(calls(world, namespace)).toEqual(closed);
  });
});

describe("a Secret that cannot be used", () => {
  const good = { "tls.crt": certificate, "tls.key": key, "ca.crt": certificate };
  const nothing = Buffer.from("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n").toString("base64");
  const cases: readonly (readonly [what: string, tls: string, data: Record<string, string> | undefined, wanted: string])[] = [
    ["missing", simple, undefined, "there is no Secret shop/pay"],
    ["no authorities", simple, { "tls.crt": certificate, "tls.key": key }, "Secret shop/pay has no entry ca.crt (or cacert)"],
    ["broken authorities", simple, { "ca.crt": nothing }, "certificate 1 in ca.crt of Secret shop/pay cannot be read"],
    ["no certificate", mutual, { "ca.crt": certificate }, "Secret shop/pay has no entry tls.crt"],
    ["no key", mutual, { cert: certificate, cacert: certificate }, "Secret shop/pay has no entry key"],
    ["a broken key", mutual, { ...good, "tls.key": nothing }, "Secret shop/pay: tls.key holds no private key that can be read"],
    [
      "a chain with a broken end",
      mutual,
      { ...good, "tls.crt": Buffer.from(atob(certificate) + atob(nothing)).toString("base64") },
      "Secret shop/pay: tls.crt holds no certificate that can be read",
    ],
    [
      "a revocation list",
      simple,
      { ...good, "ca.crl": nothing },
      "Secret shop/pay: ca.crl: revocation lists of foreign authorities are not enforced; take the entry out",
    ],
  ];
  for (const [what, tls, data, wanted] of cases)
    test(`${what}: nobody is called, and the status says why`, () => {
      const world = buildWorld([entry, rule(tls), ...(data === undefined ? [] : [secret("pay", data)])], "cluster.local");
      expect(calls(world, "shop")).toEqual(closed);
      const status = statusOf(world, statusKey(rule(tls)) as string)?.status as {
        conditions: { reason: string; message: string }[];
      };
      expect(status.conditions.at(-1)).toMatchObject({
        type: "ResolvedRefs",
        status: "False",
        reason: "InvalidCertificateRef",
        message: `spec.trafficPolicy.tls.credentialName: ${wanted}: calls are answered with 503`,
      });
    });

  test("a change that would take it from a rule is refused, with both names; one that takes nothing away is not", () => {
    const world = buildWorld([entry, rule(mutual), secret("pay", good)], "cluster.local");
    const change = (object: KubeObject) => admit(world, object).map(({ path, message }) => `${path}: ${message}`);
    expect(change(secret("pay", { ...good, "tls.key": nothing }))).toEqual([
      "data: Secret shop/pay: tls.key holds no private key that can be read, and spec.trafficPolicy.tls.credentialName of DestinationRule shop/pay goes by it: its calls would be answered with 503; mend it, or change the rule first",
    ]);
    expect(change(secret("pay-cacert", { cacert: nothing }))).toHaveLength(1);
    expect(change(secret("pay", { cert: certificate, key, cacert: certificate }))).toEqual([]);
    expect(change(secret("pay", { cert: "" }, "bank"))).toEqual([]);
    expect(admit(buildWorld([entry, rule(mutual)], "cluster.local"), secret("pay", { cert: "" }))).toEqual([]);
  });
});

test("a Secret's change is for those to whom it speaks: one that is rotated costs no other namespace a snapshot", () => {
  const compiler = new MeshCompiler("cluster.local");
  for (const object of given) compiler.put(object);
  for (const key of ["shop/caller-1", "bank/teller-1"]) compiler.hold(key);
  compiler.round();
  const change = (data: Record<string, string>) => {
    compiler.put({ ...whole, data } as KubeObject);
    return [...compiler.round().snapshots.keys()];
  };
  const { "tls.crt": _chain, "tls.key": _key, ...authorities } = whole.data ?? {};
  expect(change(authorities)).toEqual(["shop/caller-1"]);
  expect(change(whole.data ?? {})).toEqual(["shop/caller-1"]);
  expect(change({ ...whole.data, more: "" })).toEqual([]);
});
