// What is accepted with a warning: policies nobody enforces, mutual TLS asked of those who have none, backends without instances.

import { describe, expect, test } from "bun:test";
import type { EdgeObject } from "../api/live.ts";
import type { KubeObject } from "../api/meta.ts";
import { buildWorld } from "../compile/world.ts";
import { advise } from "./advice.ts";

const entry = (name: string, sidecar: boolean): KubeObject => ({
  apiVersion: "networking.istio.io/v1",
  kind: "WorkloadEntry",
  metadata: { name, namespace: "shop", labels: { app: name, ...(sidecar && { "security.istio.io/tlsMode": "istio" }) } },
  spec: { address: "127.0.0.1", ports: { http: 40123 }, serviceAccount: name },
});
const service = (name: string): KubeObject => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "shop" },
  spec: { selector: { app: name }, ports: [{ name: "http", port: 80, protocol: "TCP" }] },
});
const world = buildWorld([entry("cart", true), entry("old", false), service("cart"), service("none")], "cluster.local");
const security = (kind: string, spec: unknown): KubeObject => ({
  apiVersion: "security.istio.io/v1",
  kind,
  metadata: { name: "x", namespace: "shop" },
  spec,
});
const selector = (app: string) => ({ selector: { matchLabels: { app } } });
const none = () => [];

test("a selector that finds nobody", () => {
  expect(advise(world, security("AuthorizationPolicy", selector("crat")), none)).toEqual([
    "spec.selector: no workload of namespace shop has the labels app=crat: nobody enforces this until one does",
  ]);
  expect(advise(world, security("AuthorizationPolicy", selector("cart")), none)).toEqual([]);
  expect(advise(world, security("AuthorizationPolicy", {}), none)).toEqual([]);
});

test("STRICT where callers are known to be plain", () => {
  const strict = { ...selector("cart"), mtls: { mode: "STRICT" } };
  expect(advise(world, security("PeerAuthentication", strict), none)).toEqual([
    "mtls STRICT: shop/old is registered without a sidecar and cannot call these workloads",
  ]);
  const end = { namespace: "shop", app: "", version: "" };
  const edge = {
    status: { mutualTls: false, source: { ...end, workload: "old" }, destination: { ...end, workload: "cart", service: "" } },
  } as EdgeObject;
  expect(advise(world, security("PeerAuthentication", strict), () => [edge])).toEqual([
    "mtls STRICT: shop/old called these workloads in plain text just now and will be refused",
  ]);
  expect(advise(world, security("PeerAuthentication", { ...strict, mtls: { mode: "PERMISSIVE" } }), () => [edge])).toEqual([]);
});

test("backends without instances", () => {
  const route = (...names: string[]): KubeObject => ({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "HTTPRoute",
    metadata: { name: "r", namespace: "shop" },
    spec: { rules: [{ backendRefs: names.map((name) => ({ name, port: 80 })) }] },
  });
  expect(advise(world, route("cart", "none"), none)).toEqual([
    "backendRefs: shop/none has no instance now: requests that go there get 503 until one is there",
  ]);
});

test("parents, backends and targets that are not there", () => {
  const route = (kind: string, parents: object[], ...backends: object[]): KubeObject => ({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind,
    metadata: { name: "r", namespace: "shop" },
    spec: { parentRefs: parents, rules: [{ backendRefs: backends }] },
  });
  const parent = (name: string) => ({ group: "", kind: "Service", name });
  const cart = { name: "cart", port: 80 };
  expect(advise(world, route("HTTPRoute", [parent("cart")], cart), none)).toEqual([]);
  expect(advise(world, route("HTTPRoute", [parent("cat")], cart), none)).toEqual([
    "spec.parentRefs[0]: there is no Service shop/cat; the route takes effect when it is created",
  ]);
  expect(advise(world, route("HTTPRoute", [{ name: "edge" }], cart), none)).toEqual([
    "spec.parentRefs[0]: there is no Gateway shop/edge that Weft serves; the route takes effect when it is created",
  ]);
  expect(
    advise(world, route("GRPCRoute", [parent("cart")], cart, { name: "cat", port: 80 }, { name: "dog", port: 80, weight: 0 }), none),
  ).toEqual(["spec.rules[0].backendRefs[1]: there is no Service shop/cat: requests that go there get 500 until there is"]);
  expect(advise(world, route("TCPRoute", [parent("cart")], { name: "cart", port: 81 }), none)).toEqual([
    "spec.rules[0].backendRefs[0]: Service shop/cart has no port 81, it has 80: what goes there is closed until there is",
  ]);
  const policy = { ...route("BackendTLSPolicy", []), spec: { targetRefs: [parent("cat")] } };
  expect(advise(world, policy, none)).toEqual([
    "spec.targetRefs[0]: there is no Service shop/cat; the policy takes effect when it is created",
  ]);
});

test("policies attached to what is not there, or to what has one already", () => {
  const limit = (name: string, target: string, created?: string): KubeObject => ({
    apiVersion: "weft.dev/v1alpha1",
    kind: "RateLimitPolicy",
    metadata: { name, namespace: "shop", ...(created !== undefined && { creationTimestamp: created }) },
    spec: { targetRefs: [{ group: "", kind: "Service", name: target }], rules: [] },
  });
  const held = buildWorld([service("cart"), limit("first", "cart", "2026-02-01T00:00:00Z")], "cluster.local");
  expect(advise(held, limit("new", "cart"), none)).toEqual([
    expect.stringMatching(/^spec\.targetRefs\[0\]: RateLimitPolicy shop\/first is for the same Service/),
  ]);
  expect(advise(held, limit("new", "nobody"), none)).toEqual([expect.stringMatching(/there is no Service shop\/nobody/)]);
  expect(advise(held, limit("first", "cart", "2026-02-01T00:00:00Z"), none)).toEqual([]);
  expect(advise(held, limit("older", "cart", "2026-01-01T00:00:00Z"), none)).toEqual([]);
});

describe("what Istio accepts, and what then fails", () => {
  const istio = (kind: string, name: string, spec: unknown): KubeObject => ({
    apiVersion: "networking.istio.io/v1",
    kind,
    metadata: { name, namespace: "shop" },
    spec,
  });
  const rule = (host: string, more: object = {}) => istio("DestinationRule", "rule", { host, ...more });
  const to = (host: string, subset?: string) => ({ destination: { host, ...(subset !== undefined && { subset }) } });
  const virtual = (host: string, ...route: object[]) => istio("VirtualService", "virtual", { hosts: [host], http: [{ route }] });
  const subsets = { subsets: [{ name: "v1", labels: { version: "v1" } }, { name: "all" }] };
  const held = buildWorld([entry("cart", true), service("cart"), rule("cart", subsets)], "cluster.local");

  test("a host nobody serves, a destination that is missing, a subset nobody defines and one without instances", () => {
    expect(advise(held, virtual("cart", to("cart"), to("cart", "all")), none)).toEqual([]);
    expect(advise(held, virtual("ghost", to("cart")), none)).toEqual([
      "spec.hosts: there is no Service ghost.shop.svc.cluster.local: the routes take effect when one appears",
    ]);
    expect(advise(held, virtual("cart", to("ghost"), to("cart", "v9"), to("cart", "v1")), none)).toEqual([
      expect.stringContaining("spec.http[0].route[0].destination: there is no Service ghost.shop.svc.cluster.local"),
      expect.stringContaining('spec.http[0].route[1].destination: no DestinationRule for cart.shop.svc.cluster.local has a subset "v9"'),
      expect.stringContaining(
        'route[2].destination: no instance of cart.shop.svc.cluster.local fits subset "v1" of DestinationRule shop/rule',
      ),
    ]);
    expect(advise(held, virtual("cart", ...[1, 2, 3, 4, 5].map(() => to("ghost"))), none).at(-1)).toBe(
      "and 2 more of the kind: see the object's conditions",
    );
    expect(advise(held, rule("cart", subsets), none)).toEqual([
      expect.stringContaining("spec.subsets: no instance of cart.shop.svc.cluster.local fits v1:"),
    ]);
    expect(advise(held, rule("ghost"), none)).toEqual([
      expect.stringContaining("spec.host: there is no Service ghost.shop.svc.cluster.local"),
    ]);
    expect(advise(held, rule("*.example.com"), none)).toEqual([]);
  });

  test("files that a rule names are told to be for an Envoy alone, each with its place", () => {
    const tls = { mode: "MUTUAL", caCertificates: "/ca.pem", clientCertificate: "/c.pem", privateKey: "/k.pem" };
    const named = advise(held, rule("*.example.com", { trafficPolicy: { tls } }), none);
    expect(named.map((words) => words.split(":")[0])).toEqual([
      "spec.trafficPolicy.tls.caCertificates",
      "spec.trafficPolicy.tls.clientCertificate",
      "spec.trafficPolicy.tls.privateKey",
    ]);
    expect(named[0]).toContain("Weft's sidecar get 503");
    const port = { portLevelSettings: [{ port: { number: 443 }, tls: { mode: "SIMPLE", caCertificates: "/ca.pem" } }] };
    expect(advise(held, rule("cart", { trafficPolicy: port }), none)).toEqual([
      expect.stringContaining("spec.trafficPolicy.portLevelSettings[0].tls.caCertificates"),
    ]);
    expect(advise(held, rule("*.example.com", { trafficPolicy: { tls: { mode: "SIMPLE" } } }), none)).toEqual([]);
  });

  test("a Secret that is not there is told, and whom a private key does not reach where others are meant", () => {
    const mutual = { trafficPolicy: { tls: { mode: "MUTUAL", credentialName: "pay" } } };
    const missing = "spec.trafficPolicy.tls.credentialName: there is no Secret shop/pay: calls are answered with 503 until it is there";
    expect(advise(held, rule("*.example.com", mutual), none)).toEqual([missing]);
    expect(advise(held, rule("*.example.com", { ...mutual, exportTo: ["."] }), none)).toEqual([missing]);
    expect(advise(held, rule("*.example.com", { ...mutual, exportTo: ["bank"] }), none)).toEqual([
      missing,
      expect.stringContaining("is given to callers of namespace shop alone"),
    ]);
  });

  test("plain text to who demands mutual TLS is told from both sides, with both names", () => {
    const plain = rule("cart", { trafficPolicy: { tls: { mode: "DISABLE" } } });
    const strict = { ...security("PeerAuthentication", { mtls: { mode: "STRICT" } }) };
    const permissive = { ...security("PeerAuthentication", { mtls: { mode: "PERMISSIVE" } }) };
    const at = (...objects: KubeObject[]) => buildWorld([entry("cart", true), service("cart"), ...objects], "cluster.local");
    expect(advise(at(strict), plain, none)).toEqual([
      expect.stringMatching(/^spec\.trafficPolicy\.tls\.mode: DISABLE .* shop\/cart, where PeerAuthentication shop\/x demands mutual TLS/),
    ]);
    expect(advise(at(), plain, none)).toEqual([expect.stringContaining("the default (no PeerAuthentication) demands")]);
    expect(advise(at(permissive), plain, none)).toEqual([]);
    expect(advise(at(plain), strict, none)).toEqual([
      expect.stringMatching(/^mtls STRICT: DestinationRule shop\/rule, spec\.trafficPolicy\.tls\.mode, has callers of cart\.shop/),
    ]);
    expect(advise(at(plain), permissive, none)).toEqual([]);
  });
});
