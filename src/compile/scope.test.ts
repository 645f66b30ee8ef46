// What each proxy is given of a large mesh: what it uses.

import { describe, expect, test } from "bun:test";
import type { KubeObject } from "../api/meta.ts";
import { pushOrder, type XdsSnapshot } from "../wire/xds-types.ts";
import { MeshCompiler } from "./compile.ts";
import { resourceToJson } from "./decode.ts";

const service = (name: string, more: object = {}): KubeObject => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "shop" },
  spec: { selector: { app: name }, ports: [{ name: "http", port: 80 }], ...more },
});
const entry = (name: string, annotations: Record<string, string> = {}): KubeObject => ({
  apiVersion: "networking.istio.io/v1",
  kind: "WorkloadEntry",
  metadata: { name: `${name}-1`, namespace: "shop", labels: { app: name }, annotations },
  spec: { address: "10.0.0.1", ports: { http: 8080 } },
});
const route: KubeObject = {
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "HTTPRoute",
  metadata: { name: "split", namespace: "shop" },
  spec: {
    parentRefs: [{ group: "", kind: "Service", name: "s1" }],
    rules: [{ backendRefs: [{ group: "", kind: "Service", name: "s7", port: 80 }] }],
  },
};

function meshOf(services: number): MeshCompiler {
  const compiler = new MeshCompiler("cluster.local");
  for (let at = 1; at <= services; at++) {
    compiler.put(service(`s${at}`));
    compiler.put(entry(`s${at}`));
  }
  compiler.put(route);
  return compiler;
}

function bytes(snapshot: XdsSnapshot): number {
  return pushOrder.reduce((sum, type) => sum + [...snapshot.resources[type].values()].reduce((all, { value }) => all + value.length, 0), 0);
}

const clusters = (snapshot: XdsSnapshot | undefined) =>
  [...(snapshot?.resources.cluster.keys() ?? [])].map((name) => name.split("|")[3]?.split(".")[0]).join(" ");

function hosts(snapshot: XdsSnapshot | undefined): string[] {
  const table = resourceToJson(snapshot!.resources.route.get("outbound-http-proxy")!) as { virtual_hosts: { name: string }[] };
  return table.virtual_hosts.map(({ name }) => name);
}

describe("a proxy", () => {
  test("of declared upstreams holds as much in a mesh of 1000 services as in one of 20", () => {
    const given = [20, 1000].map((services) => {
      const compiler = meshOf(services);
      compiler.put(entry("caller", { "weft.dev/upstreams": "s1=9001,s2=9002" }));
      return compiler.hold("shop/caller-1")!;
    });
    expect(given.map(clusters)).toEqual(["s1 s2 s7", "s1 s2 s7"]);
    expect([...given[1]!.resources.endpoint.keys()]).toEqual([...given[1]!.resources.cluster.keys()]);
    expect(bytes(given[1]!)).toBe(bytes(given[0]!));
  });

  test("that can ask is given what it asked for, and the whole mesh if it cannot", () => {
    const compiler = meshOf(1000);
    compiler.put(entry("caller", { "weft.dev/http-proxy-port": "4000", "weft.dev/upstreams": "s3=9003" }));
    const whole = compiler.hold("shop/caller-1")!;
    expect(whole.resources.cluster.size).toBe(1000);
    const ask = (names: string[] | undefined) => {
      compiler.demand("shop/caller-1", names);
      return compiler.round().snapshots.get("shop/caller-1");
    };
    expect(clusters(ask([]))).toBe("s3");
    const asked = ask(["s1", "s2.shop:80", "s4.shop.svc.cluster.local", "s5:81", "nobody", "s6.elsewhere"]);
    expect(clusters(asked)).toBe("s1 s2 s3 s4 s7");
    expect(hosts(asked)).toEqual([
      "s1.shop.svc.cluster.local:80",
      "s2.shop.svc.cluster.local:80",
      "s3.shop.svc.cluster.local:80",
      "s4.shop.svc.cluster.local:80",
      "unknown-host",
    ]);
    expect(bytes(asked!)).toBeLessThan(bytes(whole) / 50);
    expect(ask(undefined)!.resources.cluster.size).toBe(1000);
  });

  test("that declares what it uses is given that, also through the forward proxy", () => {
    const given = [20, 1000].map((services) => {
      const compiler = meshOf(services);
      const uses = { "weft.dev/uses": "s1, s2.shop:80,nobody", "weft.dev/http-proxy-port": "4000", "weft.dev/upstreams": "s3=9003" };
      compiler.put(entry("caller", uses));
      return compiler.hold("shop/caller-1")!;
    });
    expect(given.map(clusters)).toEqual(["s1 s2 s3 s7", "s1 s2 s3 s7"]);
    expect(bytes(given[1]!)).toBe(bytes(given[0]!));
    expect(hosts(given[1]).length).toBe(4);
    expect(JSON.stringify(resourceToJson(given[1]!.resources.route.get("outbound-http-proxy")!))).toContain("weft run --uses");
  });

  test("may ask for resources by name", () => {
    const compiler = meshOf(20);
    compiler.put(entry("caller", {}));
    const { cluster, endpoint } = compiler.resourcesFor("shop/caller-1", [
      "s1",
      "outbound|80||s9.shop.svc.cluster.local",
      "outbound|80||x.y",
    ]);
    expect([...cluster.keys()].map((name) => name.split("|")[3]?.split(".")[0])).toEqual(["s1", "s7", "s9"]);
    expect([...endpoint.keys()]).toEqual([...cluster.keys()]);
  });

  test("shares its resources with every other that holds them", () => {
    const compiler = meshOf(5);
    for (const name of ["x", "y"]) compiler.put(entry(name, { "weft.dev/upstreams": "s1=9001,s2=9002" }));
    const [x, y] = ["shop/x-1", "shop/y-1"].map((key) => compiler.hold(key)!);
    for (const type of pushOrder) for (const [name, resource] of x!.resources[type]) expect(y!.resources[type].get(name)).toBe(resource);
  });

  test("that asks for others when they are first called holds the names it asked for, one by one, and gives back what it no longer asks for", () => {
    for (const services of [20, 1000]) {
      const compiler = meshOf(services);
      compiler.put(entry("caller", { "weft.dev/uses": "s1,*", "weft.dev/http-proxy-port": "15001" }));
      const before = compiler.hold("shop/caller-1")!;
      expect(clusters(before)).toBe("s1 s7");
      expect(hosts(before)).toEqual(["s1.shop.svc.cluster.local:80"]);
      expect(before.hosts).toEqual({ asked: [], found: new Map() });
      const listener = JSON.stringify(resourceToJson(before.resources.listener.get("outbound-http-proxy")!));
      expect(listener).toContain("envoy.filters.http.on_demand");

      compiler.demand("shop/caller-1", ["s3", "s4.shop:80", "nobody", "s1"]);
      const asked = compiler.round().snapshots.get("shop/caller-1")!;
      expect(clusters(asked)).toBe("s1 s3 s4 s7");
      // Its table stands still: what is asked for comes beside it.
      expect(asked.resources.route).toBe(before.resources.route);
      expect(asked.hosts?.asked).toEqual(["nobody", "s1", "s3", "s4.shop:80"].map((each) => `outbound-http-proxy/${each}`));
      expect([...asked.hosts!.found.keys()]).toEqual(["outbound-http-proxy/s3", "outbound-http-proxy/s4.shop:80"]);
      const host = resourceToJson(asked.hosts!.found.get("outbound-http-proxy/s3")!) as { name: string; domains: string[] };
      expect([host.name, host.domains]).toEqual(["outbound-http-proxy/s3", ["s3"]]);

      compiler.put(service("nobody"));
      expect([...compiler.round().snapshots.get("shop/caller-1")!.hosts!.found.keys()]).toContain("outbound-http-proxy/nobody");
      compiler.demand("shop/caller-1", ["s3"]);
      expect(clusters(compiler.round().snapshots.get("shop/caller-1"))).toBe("s1 s3 s7");
    }
  });
});
