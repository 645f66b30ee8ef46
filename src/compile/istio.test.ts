// What is refused of Istio's Sidecar and Gateway, with path and way out; what stands against what is there.

import { describe, expect, test } from "bun:test";
import { kindOf } from "../api/kinds.ts";
import type { KubeObject } from "../api/meta.ts";
import { admit } from "./admit.ts";
import { buildWorld } from "./compile.ts";
import { gatewayPlan } from "./policies/gateway-plan.ts";

function object(kind: string, spec: unknown, name = "x", namespace = "shop", group = "networking.istio.io/v1"): KubeObject {
  return { apiVersion: group, kind, metadata: { name, namespace }, spec } as KubeObject;
}

const said = (each: KubeObject) => (kindOf(each)?.validate(each) ?? []).map(({ path, message }) => `${path}: ${message}`);

describe("a Sidecar", () => {
  const cases: readonly [string, unknown, RegExp][] = [
    ["nothing", {}, /^spec: says nothing/],
    ["a host without namespace", { egress: [{ hosts: ["cart.shop.svc.cluster.local"] }] }, /hosts\[0\]: .* must be NAMESPACE\/HOST/],
    ["a short name", { egress: [{ hosts: ["./cart"] }] }, /"cart" must be a whole name, such as cart\.shop\.svc\.cluster\.local/],
    ["half of nothing", { egress: [{ hosts: ["~/cart.shop"] }] }, /write ~\/\*/],
    ["no host", { egress: [{ hosts: [] }] }, /egress\[0\]\.hosts: must name at least one host/],
    ["several", { egress: [{ hosts: ["*/*"] }, { hosts: ["./*"] }] }, /egress\[1\]: several entries/],
    ["a port", { egress: [{ port: { number: 80 }, hosts: ["*/*"] }] }, /egress\[0\]\.port: .*is not implemented/],
    ["ingress", { ingress: [] }, /spec\.ingress: .*is not implemented/],
    [
      "a proxy for what goes out",
      { outboundTrafficPolicy: { mode: "ALLOW_ANY", egressProxy: { host: "a" } } },
      /egressProxy: .*VirtualService/,
    ],
    ["an unknown field", { egres: [] }, /did you mean "egress"/],
    ["a selector without labels", { workloadSelector: {}, egress: [{ hosts: ["*/*"] }] }, /workloadSelector\.labels: must name/],
  ];
  for (const [name, spec, words] of cases)
    test(name, () =>
      expect(said(object("Sidecar", spec)).filter((each) => words.test(each)).length, said(object("Sidecar", spec)).join("\n")).toBe(1),
    );

  test("in weft-system selects nobody", () => {
    const spec = { workloadSelector: { labels: { a: "b" } }, egress: [{ hosts: ["*/*"] }] };
    expect(said(object("Sidecar", spec, "x", "weft-system"))[0]).toStartWith("spec.workloadSelector: cannot stand in weft-system");
    expect(said(object("Sidecar", spec))).toEqual([]);
  });

  test("a second one for the same workloads is refused, naming the first", () => {
    const all = { egress: [{ hosts: ["*/*"] }] };
    const some = { ...all, workloadSelector: { labels: { a: "b" } } };
    const world = buildWorld([object("Sidecar", all, "all"), object("Sidecar", some, "some")], "cluster.local");
    const words = (spec: unknown) => admit(world, object("Sidecar", spec, "new")).map(({ path, message }) => `${path}: ${message}`);
    expect(words(all)[0]).toContain("spec.workloadSelector: is missing, and Sidecar shop/all speaks for the whole namespace");
    expect(words(some)[0]).toContain("are those of Sidecar shop/some too");
    expect(words({ ...all, workloadSelector: { labels: { a: "c" } } })).toEqual([]);
  });
});

describe("Istio's Gateway", () => {
  const server = (more: object) => ({ servers: [{ port: { number: 80, name: "web", protocol: "HTTP" }, hosts: ["a.example"], ...more }] });
  const secure = { port: { number: 443, name: "tls", protocol: "HTTPS" } };
  const cases: readonly [string, unknown, RegExp][] = [
    ["no server", { servers: [] }, /spec\.servers: must have at least one/],
    [
      "somebody else's processes",
      { ...server({}), selector: { istio: "ingressgateway" } },
      /spec\.selector: must be left out or be \{app: x\}/,
    ],
    ["no host", server({ hosts: [] }), /servers\[0\]\.hosts: must name at least one/],
    ["a host that is none", server({ hosts: ["a*b"] }), /hosts\[0\]: "a\*b" must be a DNS name/],
    ["a protocol that nobody has", server({ port: { number: 80, name: "q", protocol: "QUIC" } }), /port\.protocol: must be one of HTTP/],
    ["a port that is none", server({ port: { number: 0, name: "q", protocol: "HTTP" } }), /port\.number: must be from 1 to 65535/],
    ["HTTPS without a certificate", server({ ...secure, tls: { mode: "SIMPLE" } }), /tls: SIMPLE needs credentialName/],
    ["HTTPS without a mode", server({ ...secure, tls: {} }), /tls\.mode: is required/],
    ["clients' certificates", server({ ...secure, tls: { mode: "MUTUAL", credentialName: "a" } }), /"MUTUAL" is not implemented/],
    ["TLS on a plain port", server({ tls: { mode: "SIMPLE" } }), /tls: needs protocol HTTPS or TLS/],
    ["a redirect", server({ tls: { httpsRedirect: true } }), /httpsRedirect: .*is not implemented.*redirect\.scheme/],
    ["a name on a port of bytes", server({ port: { number: 70, name: "t", protocol: "TCP" } }), /cannot be told on a port of opaque bytes/],
  ];
  for (const [name, spec, words] of cases)
    test(name, () =>
      expect(
        said(object("Gateway", spec)).some((each) => words.test(each)),
        said(object("Gateway", spec)).join("\n"),
      ).toBe(true),
    );

  test("a plain one, and one of a name that Gateway API's has", () => {
    const own = object("Gateway", { ...server({}), selector: { app: "x" } });
    expect(said(own)).toEqual([]);
    const standard = object(
      "Gateway",
      { gatewayClassName: "weft", listeners: [{ name: "web", port: 80, protocol: "HTTP" }] },
      "x",
      "shop",
      "gateway.networking.k8s.io/v1",
    );
    const words = admit(buildWorld([standard], "cluster.local"), own).map(({ path, message }) => `${path}: ${message}`);
    expect(words).toEqual([
      "metadata.name: Gateway shop/x of gateway.networking.k8s.io/v1 has this name already, and weft gateway x opens one; delete that one, or take another name",
    ]);
    expect(admit(buildWorld([own], "cluster.local"), standard).length).toBe(1);
    expect(admit(buildWorld([], "cluster.local"), own)).toEqual([]);
  });
});

test("a VirtualService for * speaks for every host of its Gateway: it spoke for *.shop.svc.cluster.local", () => {
  const gateway = object("Gateway", { servers: [{ port: { number: 80, name: "http", protocol: "HTTP" }, hosts: ["*"] }] }, "edge");
  const cart = object("Service", { ports: [{ name: "http", port: 80 }] }, "cart", "shop", "v1");
  const routed = object("VirtualService", {
    hosts: ["*"],
    gateways: ["edge"],
    http: [{ route: [{ destination: { host: "cart", port: { number: 80 } } }] }],
  });
  for (const each of [gateway, cart, routed]) kindOf(each)?.applyDefaults(each);
  expect(said(routed)).toEqual([]);
  const hosts = gatewayPlan(buildWorld([gateway, cart, routed], "cluster.local"), "shop/edge")?.tables[0]?.hosts;
  expect(hosts?.map(({ domain, routes }) => [domain, routes.length])).toEqual([["*", 1]]);
});
