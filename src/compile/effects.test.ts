import { describe, expect, test } from "bun:test";
import type { KubeObject } from "../api/meta.ts";
import { buildWorld } from "./compile.ts";
import { effects } from "./effects.ts";

const service = (name: string, selector: Record<string, string>): KubeObject => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "shop" },
  spec: { selector, ports: [{ name: "http", port: 80, targetPort: 80, protocol: "TCP" }] },
});
const entry = (name: string, app: string, namespace = "shop"): KubeObject => ({
  apiVersion: "networking.istio.io/v1",
  kind: "WorkloadEntry",
  metadata: { name, namespace, labels: { app }, annotations: { "weft.dev/inbound": "http=8080", "weft.dev/http-proxy-port": "15001" } },
  spec: { address: "127.0.0.1", ports: { http: 9080 } },
});
const policy = (principal: string): KubeObject => ({
  apiVersion: "security.istio.io/v1",
  kind: "AuthorizationPolicy",
  metadata: { name: "p", namespace: "shop" },
  spec: { selector: { matchLabels: { app: "cart" } }, action: "ALLOW", rules: [{ from: [{ source: { principals: [principal] } }] }] },
});
const base = [service("cart", { app: "cart" }), entry("cart-1", "cart"), entry("web-1", "web", "front")];
const told = (before: readonly KubeObject[], after: readonly KubeObject[]) =>
  effects(buildWorld(before, "cluster.local"), buildWorld(after, "cluster.local")).map(
    ({ change, kind, what, proxies, all }) => `${change === "appears" ? "+" : "-"} ${kind} ${what} @ ${all ? "all" : proxies.join(",")}`,
  );

describe("what proxies do otherwise", () => {
  test("nothing between equal worlds, whatever the order of objects", () => {
    expect(told(base, [...base].reverse())).toEqual([]);
  });

  test("a new service is a cluster and a route for everybody", () => {
    expect(told(base, [...base, service("pay", { app: "pay" })])).toEqual([
      "+ cluster shop/pay:80 (http) @ all",
      "+ route shop/pay:80 everything -> shop/pay:80 @ all",
    ]);
  });

  test("a proxy of declared upstreams hears of these only", () => {
    const caller = entry("caller", "caller");
    caller.metadata.annotations = { "weft.dev/upstreams": "cart=9001" };
    const before = [...base, service("pay", { app: "pay" }), caller];
    const pay = entry("pay-1", "pay");
    expect(
      told(
        before,
        [...before, pay].map((each) => (each === pay ? { ...pay, spec: { address: "127.0.0.3", ports: { http: 9080 } } } : each)),
      ),
    ).toEqual([expect.stringMatching(/^\+ endpoint shop\/pay:80 at 127\.0\.0\.3:9080.* @ front\/web-1,shop\/cart-1$/)]);
    const cart = entry("cart-2", "cart");
    expect(
      told(
        before,
        [...before, cart].map((each) => (each === cart ? { ...cart, spec: { address: "127.0.0.4", ports: { http: 9080 } } } : each)),
      ),
    ).toEqual([expect.stringMatching(/^\+ endpoint shop\/cart:80 at 127\.0\.0\.4:9080.* @ all$/)]);
  });

  test("a policy changes the permissions of the workloads it selects, and of nobody else", () => {
    const before = told(base, [...base, policy("cluster.local/ns/front/sa/web")]);
    expect(before).toEqual([
      "- permission port http: allow everybody in the mesh @ shop/cart-1",
      "+ permission port http: allow principal spiffe://cluster.local/ns/front/sa/web [ns[shop]-policy[p]-rule[0]] @ shop/cart-1",
    ]);
  });

  test("an endpoint that goes is told; a workload that comes or goes has no before and after of its own", () => {
    expect(
      told(
        base,
        [...base, entry("cart-2", "cart")].map((each) =>
          each.metadata.name === "cart-2" ? { ...each, spec: { address: "127.0.0.2", ports: { http: 9080 } } } : each,
        ),
      ),
    ).toEqual([expect.stringMatching(/^\+ endpoint shop\/cart:80 at 127\.0\.0\.2:9080.* @ all$/)]);
  });
});
