// How many proxies before a Gateway are believed: what both kinds of Gateway take for it, and what they refuse.

import { describe, expect, test } from "bun:test";
import type { KubeObject } from "../meta.ts";
import { gatewayKind } from "./gateway.ts";
import { istioGatewayKind } from "./istiogateway.ts";
import { mostTrustedProxies, trustedProxies } from "./trusted-proxies.ts";

const [own, istio] = ["weft.dev/trusted-proxies", "proxy.istio.io/config"];
const kinds = [
  [gatewayKind, { gatewayClassName: "weft", listeners: [{ name: "http", port: 80, protocol: "HTTP" }] }],
  [istioGatewayKind, { servers: [{ port: { number: 80, name: "http", protocol: "HTTP" }, hosts: ["*"] }] }],
] as const;

describe.each(kinds)("a Gateway", (kind, spec) => {
  const gateway = (annotations: Record<string, string>) =>
    ({ apiVersion: "", kind: "Gateway", metadata: { name: "edge", namespace: "shop", annotations }, spec }) as unknown as KubeObject;
  const judged = (annotations: Record<string, string>) =>
    (kind.definedBy.rules?.(gateway(annotations)) ?? []).map(({ path, message }) => `${path}: ${message}`);

  test.each([
    [{}, 0],
    [{ [own]: "0" }, 0],
    [{ [own]: "2" }, 2],
    [{ [own]: String(mostTrustedProxies) }, mostTrustedProxies],
    [{ [istio]: '{"gatewayTopology": {"numTrustedProxies": 3}}' }, 3],
    [{ [istio]: "gatewayTopology:\n  numTrustedProxies: 1\n" }, 1],
    [{ [istio]: "gatewayTopology: {numTrustedProxies: 1}", [own]: "1" }, 1],
  ] as const)("with %j believes %d", (annotations, wanted) => {
    expect(judged(annotations)).toEqual([]);
    expect(trustedProxies(gateway(annotations))).toBe(wanted);
  });

  test.each([
    [{ [own]: "17" }, `metadata.annotations["${own}"]: must be a whole number from 0 to 16, got "17"`],
    [{ [own]: "-1" }, `metadata.annotations["${own}"]: must be a whole number from 0 to 16, got "-1"`],
    [{ [own]: "all" }, `metadata.annotations["${own}"]: must be a whole number from 0 to 16, got "all"`],
    [{ [istio]: "{" }, `metadata.annotations["${istio}"]: must be YAML like "gatewayTopology: {numTrustedProxies: 1}", got "{"`],
    [
      { [istio]: "gatewayTopology: {numTrustedProxies: 1, proxyProtocol: {}}" },
      `metadata.annotations["${istio}"]: field "gatewayTopology.proxyProtocol" is not implemented by this version of Weft, and is refused rather than ignored: at a Gateway only gatewayTopology.numTrustedProxies is read`,
    ],
    [
      { [istio]: "gatewayTopology: {numTrustedProxies: 1}\nconcurrency: 2" },
      `metadata.annotations["${istio}"]: field "concurrency" is not implemented by this version of Weft, and is refused rather than ignored: at a Gateway only gatewayTopology.numTrustedProxies is read`,
    ],
    [
      { [istio]: "gatewayTopology: {numTrustedProxies: 1.5}" },
      `metadata.annotations["${istio}"]: gatewayTopology.numTrustedProxies must be a whole number from 0 to 16, got 1.5`,
    ],
    [
      { [istio]: "gatewayTopology: {numTrustedProxies: 1}", [own]: "2" },
      `metadata.annotations["${istio}"]: says 1, and ${own} says "2"; remove one of them`,
    ],
  ] as const)("with %j is refused", (annotations, wanted) => {
    expect(judged(annotations)).toEqual([wanted]);
  });
});
