// gRPC-Web is translated at the listeners of a Gateway where a GRPCRoute is, and nowhere else.

import { expect, test } from "bun:test";
import { buildWorld, compileAll } from "./compile.ts";
import { snapshotToJson } from "./decode.ts";
import { objectsOf } from "./testing/objects.ts";

const mesh = `
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: shop}, spec: {gatewayClassName: weft, listeners: [
  {name: web, port: 80, protocol: HTTP}, {name: other, port: 81, protocol: HTTP}]}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: edge-1, namespace: shop, labels: {app: edge}, annotations: {weft.dev/gateway: edge}}, spec: {address: 10.0.0.1}}
---
{apiVersion: v1, kind: Service, metadata: {name: app, namespace: shop}, spec: {ports: [{name: http, port: 80}, {name: grpc, port: 90}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: pages, namespace: shop}, spec: {parentRefs: [{name: edge}], hostnames: [pages.example.com], rules: [{backendRefs: [{name: app, port: 80}]}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: calls, namespace: shop}, spec: {parentRefs: [{name: edge, sectionName: web}], hostnames: [api.example.com], rules: [{backendRefs: [{name: app, port: 90}]}]}}
`;

interface Json {
  readonly listener: Record<
    string,
    {
      readonly address: { socket_address: { port_value: number } };
      readonly filter_chains: { filters: { typed_config: { http_filters: { name: string }[] } }[] }[];
    }
  >;
}

test("a listener with a GRPCRoute translates gRPC-Web before all else; one with HTTPRoutes alone leaves it to the server", () => {
  const snapshot = compileAll(buildWorld(objectsOf(mesh), "cluster.local")).snapshots.get("shop/edge-1");
  if (snapshot === undefined) throw new Error("no snapshot");
  const { listener } = snapshotToJson(snapshot) as unknown as Json;
  const filters = Object.fromEntries(
    Object.values(listener)
      .filter((each) => [80, 81].includes(each.address.socket_address.port_value))
      .map((each) => [
        each.address.socket_address.port_value,
        each.filter_chains[0]?.filters[0]?.typed_config.http_filters.map(({ name }) => name) ?? [],
      ]),
  );
  expect(filters[80]?.[0]).toBe("envoy.filters.http.grpc_web");
  expect(filters[81]?.length).toBeGreaterThan(0);
  expect(filters[81]).not.toContain("envoy.filters.http.grpc_web");
});
