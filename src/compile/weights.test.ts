// Rules whose backends all have weight 0: Gateway API takes them, and nothing is forwarded; a VirtualService is refused, as Istio does.

import { expect, test } from "bun:test";
import { parse } from "yaml";
import type { KubeObject } from "../api/meta.ts";
import { compileAll } from "./compile.ts";
import { resourceToJson } from "./decode.ts";
import { gatewayPlan } from "./policies/gateway-plan.ts";
import { routesFor } from "./policies/httproute.ts";
import { connectionsFor } from "./policies/layer4route.ts";
import { objectsOf, violationsOf } from "./testing/objects.ts";
import { buildWorld } from "./world.ts";

const mesh = `
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80}, {name: grpc, port: 90, appProtocol: grpc}, {name: tcp, port: 7000}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: front, namespace: shop, annotations: {weft.dev/http-proxy-port: "15001", weft.dev/upstreams: "cart:7000=7000"}}
spec: {address: 10.0.0.1}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: weft, listeners: [{name: raw, port: 7000, protocol: TCP}]}
---
`;

const off = (kind: string, version: string, port: number, parent: string) => `
apiVersion: gateway.networking.k8s.io/${version}
kind: ${kind}
metadata: {name: off, namespace: shop}
spec: {parentRefs: [${parent}], rules: [{backendRefs: [{name: cart, port: ${port}, weight: 0}]}]}
`;
const onService = '{group: "", kind: Service, name: cart}';

const worldOf = (yaml: string) => buildWorld(objectsOf(mesh + yaml), "cluster.local");

for (const [kind, port] of [
  ["HTTPRoute", 80],
  ["GRPCRoute", 90],
] as const)
  test(`${kind}: answered with 500, and the route is accepted with every reference resolved`, () => {
    const world = worldOf(off(kind, "v1", port, onService));
    const routes = routesFor(world, `outbound|${port}||cart.shop.svc.cluster.local`, "");
    expect(routes?.map(({ action }) => action)).toEqual([
      { kind: "direct", status: 500, body: `Every backend of ${kind} rule shop/off/0 has weight 0.` },
    ]);
    const status = compileAll(world).statuses.find(({ name }) => name === "off")?.status as {
      parents: { conditions: { type: string; status: string }[] }[];
    };
    expect(status.parents[0]?.conditions.map((each) => `${each.type}=${each.status}`)).toEqual(["Accepted=True", "ResolvedRefs=True"]);
  });

test("TCPRoute: connections are closed, at a Service and at a Gateway; they do not go to the Service after all", () => {
  const there = worldOf(off("TCPRoute", "v1alpha2", 7000, onService));
  expect(
    connectionsFor(there, "outbound|7000||cart.shop.svc.cluster.local", "shop")?.backends.map(({ cluster, weight }) => [cluster, weight]),
  ).toEqual([["unresolved|7000||cart.shop.svc.cluster.local", 1]]);
  const listeners = compileAll(there).snapshots.get("shop/front")?.resources.listener;
  expect(JSON.stringify([...(listeners?.values() ?? [])].map(resourceToJson))).toContain("unresolved|7000||cart.shop.svc.cluster.local");
  const here = worldOf(off("TCPRoute", "v1alpha2", 7000, "{name: edge}"));
  expect(gatewayPlan(here, "shop/edge")?.ports).toMatchObject([
    { kind: "tcp", port: 7000, backends: [{ cluster: "unresolved|7000||cart.shop.svc.cluster.local" }] },
  ]);
});

test("VirtualService: refused", () => {
  const said = violationsOf(
    parse(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: off, namespace: shop}
spec: {hosts: [cart], http: [{route: [{destination: {host: cart}, weight: 0}, {destination: {host: other}, weight: 0}]}]}
`) as KubeObject,
  );
  expect(said.map(({ message }) => message)).toEqual(["the weights add up to 0: give at least one destination a weight above 0"]);
});
