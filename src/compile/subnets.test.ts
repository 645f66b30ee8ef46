// Connections at a Gateway told apart by the networks they come from and to, as a VirtualService says: the chains, and what is refused.

import { expect, test } from "bun:test";
import { parse } from "yaml";
import { parseSubnet } from "../api/kinds/subnet.ts";
import type { KubeObject } from "../api/meta.ts";
import { compileAll } from "./compile.ts";
import { resourceToJson } from "./decode.ts";
import { objectsOf, violationsOf } from "./testing/objects.ts";
import { buildWorld } from "./world.ts";

const mesh = `
apiVersion: v1
kind: Service
metadata: {name: lines, namespace: shop}
spec: {selector: {app: lines}, ports: [{name: tcp, port: 7000}]}
---
apiVersion: v1
kind: Service
metadata: {name: others, namespace: shop}
spec: {selector: {app: others}, ports: [{name: tcp, port: 7000}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: edge-1, namespace: shop, annotations: {weft.dev/gateway: edge}}
spec: {address: 10.0.0.1}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: weft, listeners: [{name: raw, port: 7000, protocol: TCP}]}
---
`;

const virtual = (tcp: string, gateways = "[edge]") => `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: lines, namespace: shop}
spec: {hosts: ["*"], gateways: ${gateways}, tcp: [${tcp}]}
`;
const to = (service: string) => `route: [{destination: {host: ${service}}}]`;

interface ListenerJson {
  readonly filter_chains: readonly {
    readonly filter_chain_match?: Readonly<Record<string, readonly { address_prefix: string; prefix_len: number }[]>>;
    readonly filters: readonly unknown[];
  }[];
}

/** `source > destination: cluster` of each chain. */
function chains(tcp: string, more = ""): string[] {
  const world = buildWorld(objectsOf(mesh + virtual(tcp) + more), "cluster.local");
  const listener = compileAll(world).snapshots.get("shop/edge-1")?.resources.listener.get("gateway|7000");
  if (listener === undefined) return [];
  const { filter_chains: all } = resourceToJson(listener) as unknown as ListenerJson;
  const text = (ranges?: readonly { address_prefix: string; prefix_len: number }[]) =>
    (ranges ?? []).map(({ address_prefix, prefix_len }) => `${address_prefix}/${prefix_len}`).join(",");
  return all.map(({ filter_chain_match: match, filters }) => {
    const cluster = /outbound\|\d+\|\|([a-z]+)/.exec(JSON.stringify(filters.at(-1)))?.[1] ?? "-";
    return `${text(match?.source_prefix_ranges)} > ${text(match?.prefix_ranges)}: ${cluster}`;
  });
}

test("a chain for each network, and one for the rest; of two routes for the same network the first holds", () => {
  expect(
    chains(`
      {match: [{sourceSubnet: 192.0.2.7/24}, {sourceSubnet: "2001:DB8::1/32", destinationSubnets: [10.0.0.0/8, 10.0.0.1]}], ${to("lines")}},
      {match: [{sourceSubnet: 192.0.2.0/24}, {sourceSubnet: 198.51.100.1}], ${to("others")}},
      {${to("others")}}`),
  ).toEqual([
    "192.0.2.0/24 > : lines",
    "2001:db8::/32 > 10.0.0.0/8: lines",
    "2001:db8::/32 > 10.0.0.1/32: lines",
    "198.51.100.1/32 > : others",
    " > : others",
  ]);
});

test("without a rule for the rest there is no chain for it, and a TCPRoute has all connections", () => {
  const some = `{match: [{sourceSubnet: 192.0.2.0/24}], ${to("lines")}}`;
  expect(chains(some)).toEqual(["192.0.2.0/24 > : lines"]);
  const route = `
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: raw, namespace: shop}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: others, port: 7000}]}]}
`;
  expect(chains(some, route)).toEqual([" > : others"]);
});

test("sidecars see their own application alone, and what is no network is refused", () => {
  const said = (tcp: string, gateways?: string) =>
    violationsOf(parse(virtual(tcp, gateways)) as KubeObject).map(({ path, message }) => `${path}: ${message}`);
  expect(said(`{match: [{sourceSubnet: 10.0.0.0/8}], ${to("lines")}}`, "[mesh, edge]").join()).toContain(
    "spec.tcp[0].match[0].sourceSubnet: is for Gateways: name them in gateways, without mesh",
  );
  expect(said(`{match: [{sourceSubnet: 10.0.0.0/8, gateways: [edge]}], ${to("lines")}}`, "[mesh, edge]")).toEqual([]);
  expect(said(`{match: [{sourceSubnet: somewhere, destinationSubnets: [10.0.0.0/33]}], ${to("lines")}}`)).toEqual([
    'spec.tcp[0].match[0].sourceSubnet: "somewhere" must be an IP address or a network such as 192.0.2.0/24',
    'spec.tcp[0].match[0].destinationSubnets[0]: "10.0.0.0/33" must be an IP address or a network such as 192.0.2.0/24',
  ]);
});

test("networks in their canonical form", () => {
  const text = (words: string) => {
    const { prefix, length } = parseSubnet(words) ?? { prefix: "-", length: 0 };
    return `${prefix}/${length}`;
  };
  expect(["10.1.2.3", "10.1.2.3/9", "255.255.255.255/0", "::1", "2001:db8:ffff::1/33", "::ffff:10.0.0.1/120"].map(text)).toEqual([
    "10.1.2.3/32",
    "10.0.0.0/9",
    "0.0.0.0/0",
    "::1/128",
    "2001:db8:8000::/33",
    "::ffff:a00:0/120",
  ]);
});
