import { expect, test } from "bun:test";
import { nodeId, outboundCluster, parseNodeId, serviceHost, upstreamListener } from "./names.ts";
import { formatIdentity, parseIdentity } from "./spiffe.ts";
import { pushOrder, typeUrl, xdsTypeOf } from "./xds-types.ts";

test("a node id is read back, and nothing else is taken for one", () => {
  expect(parseNodeId(nodeId("shop", "web-1"))).toEqual({ namespace: "shop", workload: "web-1" });
  for (const bad of ["", "sidecar~shop", "sidecar~~web", "router~shop~web", "sidecar~shop~web~more"])
    expect(parseNodeId(bad)).toBeUndefined();
});

test("cluster names follow Istio's form", () => {
  expect(outboundCluster(80, serviceHost("reviews", "shop"))).toBe("outbound|80||reviews.shop.svc.cluster.local");
  expect(outboundCluster(53, serviceHost("dns", "shop"), "udp")).toBe("outbound|53|udp|dns.shop.svc.cluster.local");
  expect(upstreamListener(serviceHost("dns", "shop"), 53)).toBe("upstream|53||dns.shop.svc.cluster.local");
  expect(upstreamListener(serviceHost("dns", "shop"), 53, "udp")).toBe("upstream|53|udp|dns.shop.svc.cluster.local");
});

test("an identity is read back, and look-alikes are refused", () => {
  const id = { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "web" };
  expect(parseIdentity(formatIdentity(id))).toEqual(id);
  for (const bad of [
    "spiffe://cluster.local/ns/shop/sa/",
    "spiffe://cluster.local/ns/shop/sa/web/more",
    "spiffe://cluster.local/sa/web/ns/shop",
    "spiffe:///ns/shop/sa/web",
    "spiffe://CLUSTER/ns/shop/sa/web",
    "spiffe://cluster.local/ns/sh op/sa/web",
    "http://cluster.local/ns/shop/sa/web",
  ]) {
    expect(parseIdentity(bad)).toBeUndefined();
  }
});

test("every resource type has its URL and its place in the push order", () => {
  expect([...pushOrder].sort()).toEqual(["cluster", "endpoint", "listener", "route"]);
  for (const type of pushOrder) expect(xdsTypeOf(typeUrl[type])).toBe(type);
  expect(xdsTypeOf("type.googleapis.com/envoy.config.core.v3.Unknown")).toBeUndefined();
});
