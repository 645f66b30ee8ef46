// failoverPriority of DestinationRules: who is ranked where for which caller, in the resources that sidecars and Envoys get alike; and h2UpgradePolicy.

import { expect, test } from "bun:test";
import { fromBinary } from "@bufbuild/protobuf";
import { parse } from "yaml";
import type { KubeObject } from "../api/meta.ts";
import { ClusterLoadAssignmentSchema } from "../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { sidecarMetadata } from "../wire/names.ts";
import { MeshCompiler } from "./compile.ts";
import { outbound } from "./emit/cluster.ts";
import { planTargets, portPlan } from "./plan/mesh.ts";
import { objectsOf, violationsOf } from "./testing/objects.ts";

const instance = (name: string, address: string, labels: string, locality = "") => `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: ${name}, namespace: shop, annotations: {weft.dev/http-proxy-port: "15001"}}
spec: {address: ${address}, ports: {http: 80}, labels: {${labels}}${locality === "" ? "" : `, locality: ${locality}`}}
---`;

const rule = (setting: string) => `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec: {host: cart, trafficPolicy: {loadBalancer: {localityLbSetting: ${setting}}, outlierDetection: {consecutive5xxErrors: 5}}}
---`;

const mesh = `
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80}]}
---
${instance("near-v1", "10.0.0.1", "app: cart, version: v1", "eu/a")}
${instance("near-v2", "10.0.0.2", "app: cart, version: v2", "eu/a")}
${instance("far-v1", "10.0.0.3", "app: cart, version: v1", "us/b")}
${instance("far-v2", "10.0.0.4", "app: cart, version: v2", "us/b")}
${instance("front", "10.0.1.1", "app: front, version: v2", "eu/a")}
${instance("back", "10.0.1.2", "app: back, version: v1", "us/b")}
`;

/** Address -> priority, as a workload's proxy is told. */
function ranks(compiler: MeshCompiler, workload: string): Record<string, number> {
  const found = compiler.snapshot(workload)?.resources.endpoint.get("outbound|80||cart.shop.svc.cluster.local");
  if (found === undefined) throw new Error(`nothing for ${workload}`);
  const { endpoints } = fromBinary(ClusterLoadAssignmentSchema, found.value);
  const out: Record<string, number> = {};
  for (const { priority, lbEndpoints } of endpoints)
    for (const { hostIdentifier } of lbEndpoints) {
      const address = hostIdentifier.case === "endpoint" ? hostIdentifier.value.address?.address : undefined;
      out[address?.case === "socketAddress" ? address.value.address : "?"] = priority;
    }
  return out;
}

function compiled(...parts: string[]): MeshCompiler {
  const compiler = new MeshCompiler("cluster.local");
  for (const object of parts.flatMap((part) => objectsOf(part))) compiler.put(object);
  return compiler;
}

const region = "topology.kubernetes.io/region";

test("instances with all of the caller's labels come first, then those that lack the last one, and so on, for each caller by its own", () => {
  const compiler = compiled(mesh, rule(`{failoverPriority: [${region}, version]}`));
  expect(ranks(compiler, "shop/front")).toEqual({ "10.0.0.2": 0, "10.0.0.1": 1, "10.0.0.3": 2, "10.0.0.4": 2 });
  expect(ranks(compiler, "shop/back")).toEqual({ "10.0.0.3": 0, "10.0.0.4": 1, "10.0.0.1": 2, "10.0.0.2": 2 });
});

test("a value of its own is the same for every caller, and no rank is left out", () => {
  const compiler = compiled(mesh, rule(`{failoverPriority: ["version=v2", team, nobody=has]}`));
  // Nobody has `nobody`, and neither callers nor instances say `team`: two ranks of four are left.
  for (const caller of ["shop/front", "shop/back"])
    expect(ranks(compiler, caller)).toEqual({ "10.0.0.2": 0, "10.0.0.4": 0, "10.0.0.1": 1, "10.0.0.3": 1 });
});

test("a caller that moves is told anew, and one that is not ranked for is not", () => {
  const compiler = compiled(mesh, rule(`{failoverPriority: [${region}]}`));
  compiler.hold("shop/front");
  compiler.hold("shop/back");
  compiler.round();
  const [moved] = objectsOf(instance("front", "10.0.1.1", "app: front, version: v2", "us/b"));
  compiler.put(moved as KubeObject);
  expect([...compiler.round().snapshots.keys()]).toEqual(["shop/front"]);
  expect(ranks(compiler, "shop/front")["10.0.0.3"]).toBe(0);
  // Without the rule nothing is ranked.
  const [over] = objectsOf(rule(`{failoverPriority: [${region}]}`));
  compiler.remove(over as KubeObject);
  expect(new Set(Object.values(ranks(compiler, "shop/front")))).toEqual(new Set([0]));
});

test("what cannot be ranked by is refused", () => {
  const said = (setting: string) =>
    violationsOf(parse(rule(setting).replace("---", "")) as KubeObject)
      .map(({ message }) => message)
      .join("\n");
  expect(said("{failoverPriority: [version], failover: [{from: a, to: b}]}")).toContain("failover and failoverPriority exclude each other");
  expect(said('{failoverPriority: ["=v1"]}')).toContain('"=v1" must be the name of a label, or NAME=VALUE');
  expect(said("{failoverPriority: [a, a=b]}")).toContain('"a" stands there twice');
  expect(said(`{failoverPriority: [${Array.from({ length: 17 }, (_, n) => `l${n}`).join(", ")}]}`)).toContain(
    "has 17 labels, and may have 16",
  );
});

test("h2UpgradePolicy has a port of HTTP/1.1 spoken to by HTTP/2, or keeps sidecars from it", () => {
  const told = (policy: string) => {
    const { world } = compiled(
      mesh,
      `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec: {host: cart, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: ${policy}}}}}
`,
    );
    const [name = ""] = planTargets(world).keys();
    const plan = portPlan(world, name);
    if (plan === undefined) throw new Error("no port");
    const cluster = outbound(plan, "cluster.local");
    return [
      Object.keys(cluster.typedExtensionProtocolOptions).length,
      cluster.metadata?.filterMetadata[sidecarMetadata.filter]?.[sidecarMetadata.protocol] ?? "-",
    ];
  };
  expect([told("DEFAULT"), told("UPGRADE"), told("DO_NOT_UPGRADE")]).toEqual([
    [0, "auto"],
    [1, "-"],
    [0, "-"],
  ]);
});

test("maxRetries: 0 is as if it were not there, as in Istio", () => {
  const retries = (words: string) => {
    const { world } = compiled(
      mesh,
      `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec: {host: cart, trafficPolicy: {connectionPool: {http: {${words}}}}}
`,
    );
    const [name = ""] = planTargets(world).keys();
    return portPlan(world, name)?.traffic.limits?.retries;
  };
  expect([retries("maxRetries: 0"), retries("maxRetries: 7")]).toEqual([undefined, 7]);
});
