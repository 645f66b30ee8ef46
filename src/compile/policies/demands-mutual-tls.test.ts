// Which endpoints are marked as takers of plain text: that is what may be called past a sidecar that is down.

import { describe, expect, test } from "bun:test";
import { plainMark } from "../../wire/direct.ts";
import { buildWorld, compileAll } from "../compile.ts";
import { resourceToJson } from "../decode.ts";
import { objectsOf } from "../testing/objects.ts";

const base = `
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80}, {name: tcp, port: 5432}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: cart-1
  namespace: shop
  labels: {app: cart, version: v1, security.istio.io/tlsMode: istio}
  annotations: {weft.dev/inbound: "http=8000,tcp=8001", weft.dev/http-proxy-port: "41001"}
spec: {address: 127.0.0.1, ports: {http: 40001, tcp: 40002}, serviceAccount: cart}
---
`;
const permissive = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: cart, namespace: shop}
spec: {mtls: {mode: PERMISSIVE}}
---
`;
const rule = (policy: string) => `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec: {host: cart, ${policy}}
`;

/** Ports whose endpoint is marked. */
function marked(yaml: string, clusters = ["80|", "5432|"]): string[] {
  const { snapshots } = compileAll(buildWorld(objectsOf(base + yaml), "cluster.local"));
  const endpoints = snapshots.get("shop/cart-1")!.resources.endpoint;
  return clusters.filter((each) =>
    JSON.stringify(resourceToJson(endpoints.get(`outbound|${each}|cart.shop.svc.cluster.local`)!)).includes(plainMark),
  );
}

describe("endpoints that may be called in plain text", () => {
  test("none under STRICT, which is the default", () => expect(marked("")).toEqual([]));
  test("those of PERMISSIVE workloads", () => expect(marked(permissive)).toEqual(["80|", "5432|"]));
  test("none where a DestinationRule says ISTIO_MUTUAL", () => {
    expect(marked(permissive + rule("trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"))).toEqual([]);
  });
  test("not the port for which it says so", () => {
    expect(marked(permissive + rule("trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}]}"))).toEqual([
      "5432|",
    ]);
  });
  test("not the subset for which it says so", () => {
    const yaml = permissive + rule("subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}]");
    expect(marked(yaml, ["80|", "80|v1"])).toEqual(["80|"]);
  });
});
