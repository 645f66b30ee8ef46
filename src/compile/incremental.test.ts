// Property: a compiler that has lived through a history says what one says that was only told how it ended; and no more is computed than a change can reach.

import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { parseAllDocuments } from "yaml";
import type { KubeObject } from "../api/meta.ts";
import { pushOrder, type XdsSnapshot } from "../wire/xds-types.ts";
import { buildWorld, type Compiled, compileAll, MeshCompiler, type World } from "./compile.ts";
import { resourceToJson } from "./decode.ts";
import { grpcKey, grpcSnapshotOf } from "./proxyless.ts";
import { statusKey } from "./status.ts";
import { anyObject, idOf, mesh } from "./testing/arbitrary.ts";
import { violationsOf } from "./testing/objects.ts";

const trustDomain = "cluster.local";

function text(snapshot: XdsSnapshot | undefined): string {
  if (snapshot === undefined) return "none";
  return pushOrder
    .map((type) => `${type}: ${[...snapshot.resources[type].values()].map(({ name, version }) => `${name}@${version}`).join(" ")}`)
    .join("\n");
}

/** The objects of all golden cases, valid as the server has them. */
function goldens(): readonly KubeObject[] {
  const folder = join(import.meta.dir, "testdata");
  return readdirSync(folder)
    .sort()
    .flatMap((name) => parseAllDocuments(readFileSync(join(folder, name, "input.yaml"), "utf8")).map((one) => one.toJS() as KubeObject))
    .filter((object) => object !== null && violationsOf(object).length === 0);
}

type Step =
  | { readonly kind: "put"; readonly object: KubeObject }
  | { readonly kind: "remove" | "hold" | "drop"; readonly which: number }
  | { readonly kind: "round" };

const step: fc.Arbitrary<Step> = fc.oneof(
  { arbitrary: anyObject.map((object): Step => ({ kind: "put", object })), weight: 5 },
  { arbitrary: fc.nat(99).map((which): Step => ({ kind: "remove", which })), weight: 2 },
  { arbitrary: fc.nat(99).map((which): Step => ({ kind: "hold", which })), weight: 2 },
  fc.nat(99).map((which): Step => ({ kind: "drop", which })),
  { arbitrary: fc.constant<Step>({ kind: "round" }), weight: 2 },
);

/** Every workload that the random objects can name, and one that they cannot. */
const workloads = ["n1", "n2", "weft-system"].flatMap((namespace) => ["a", "b", "c", "z"].map((name) => `${namespace}/${name}`));

describe("a compiler with a history", () => {
  test("says what a new one says, to proxies and in statuses", () => {
    fc.assert(
      fc.property(mesh, fc.array(step, { minLength: 5, maxLength: 40 }), (start, steps) => {
        const compiler = new MeshCompiler(trustDomain);
        const objects = new Map<string, KubeObject>();
        const held = new Map<string, XdsSnapshot | undefined>();
        const statuses = new Map<string, string>();
        const put = (object: KubeObject) => {
          violationsOf(object);
          objects.set(idOf(object), object);
          compiler.put(object);
        };
        const compare = () => {
          const round = compiler.round();
          expect(round.failures).toEqual([]);
          for (const [key, snapshot] of round.snapshots) held.set(key, snapshot);
          for (const { resource, namespace, name, status } of round.statuses)
            statuses.set(`${resource} ${namespace}/${name}`, JSON.stringify(status));
          const world = buildWorld(objects.values(), trustDomain);
          const fresh = compileAll(world);
          for (const [key, snapshot] of held) expect(`${key} ${text(snapshot)}`).toBe(`${key} ${text(freshOf(world, fresh, key))}`);
          for (const each of fresh.statuses)
            expect(statuses.get(`${each.resource} ${each.namespace}/${each.name}`)).toBe(JSON.stringify(each.status));
        };
        for (const object of start) put(object);
        for (const each of steps) {
          // Some as gRPC programs without a proxy.
          const of = (which: number) => `${which % 3 === 0 ? grpcKey : ""}${workloads[which % workloads.length] ?? ""}`;
          switch (each.kind) {
            case "put":
              put(each.object);
              break;
            case "remove": {
              const object = [...objects.values()][each.which % Math.max(1, objects.size)];
              if (object === undefined) break;
              objects.delete(idOf(object));
              compiler.remove(object);
              break;
            }
            case "hold":
              if (!held.has(of(each.which))) held.set(of(each.which), compiler.hold(of(each.which)));
              break;
            case "drop":
              if (held.delete(of(each.which))) compiler.drop(of(each.which));
              break;
            case "round":
              compare();
          }
        }
        compare();
      }),
      { numRuns: 120 },
    );
  }, 60_000);

  test("does so with every kind that has a golden, taken away and put back", () => {
    const population = goldens();
    const entries = population.filter(({ kind }) => kind === "WorkloadEntry");
    expect(new Set(population.map(({ kind }) => kind)).size).toBeGreaterThan(7);
    fc.assert(
      fc.property(fc.array(fc.array(fc.nat(9999), { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 5 }), (rounds) => {
        const compiler = new MeshCompiler(trustDomain);
        const objects = new Map<string, KubeObject>();
        const put = (object: KubeObject) => {
          objects.set(idOf(object), object);
          compiler.put(object);
        };
        for (const object of population) put(object);
        const held = new Map<string, XdsSnapshot | undefined>();
        for (const { metadata } of entries) {
          const own = `${metadata.namespace ?? "default"}/${metadata.name}`;
          for (const key of [own, `${grpcKey}${own}`]) held.set(key, compiler.hold(key));
        }
        for (const picks of rounds) {
          for (const pick of picks) {
            // A name that stands in several cases has as many shapes; every third pick takes one away that is there.
            const object = population[pick % population.length]!;
            if (pick % 3 !== 0 || !objects.delete(idOf(object))) put(object);
            else compiler.remove(object);
          }
          const { snapshots, failures } = compiler.round();
          expect(failures).toEqual([]);
          for (const [key, snapshot] of snapshots) held.set(key, snapshot);
          const world = buildWorld(objects.values(), trustDomain);
          const fresh = compileAll(world);
          for (const [key, snapshot] of held) expect(`${key} ${text(snapshot)}`).toBe(`${key} ${text(freshOf(world, fresh, key))}`);
          for (const each of fresh.statuses) {
            const object = [...objects.values()].find((one) => statusKey(one) === `${each.resource} ${each.namespace}/${each.name}`);
            expect(compiler.status(object!)).toEqual(each);
          }
        }
      }),
      { numRuns: 12 },
    );
  }, 60_000);

  test("names in every snapshot only clusters that are in it", () => {
    fc.assert(
      fc.property(mesh, (objects) => {
        for (const object of objects) violationsOf(object);
        for (const { resources } of compileAll(buildWorld(objects, trustDomain)).snapshots.values()) {
          const named = new Set<string>();
          for (const type of ["listener", "route"] as const)
            for (const resource of resources[type].values()) collect(resourceToJson(resource), named);
          for (const name of named) expect(resources.cluster.has(name)).toBe(true);
          for (const name of resources.endpoint.keys()) expect(resources.cluster.has(name)).toBe(true);
        }
      }),
      { numRuns: 40 },
    );
  }, 60_000);
});

/** Of a compile from scratch. */
function freshOf(world: World, fresh: Compiled, key: string): XdsSnapshot | undefined {
  return key.startsWith(grpcKey) ? grpcSnapshotOf(world, key.slice(grpcKey.length)) : fresh.snapshots.get(key);
}

/** `services` services with two instances each; instance i of a service calls the next ten services. */
function fleet(services: number, portName = "http"): KubeObject[] {
  const name = (at: number) => `s${(at % services) + 1}`;
  return Array.from({ length: services }, (_, at): KubeObject[] => [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: name(at), namespace: "n1" },
      spec: { selector: { app: name(at) }, ports: [{ name: portName, port: 80 }] },
    },
    ...[1, 2].map((instance) =>
      entry(
        name(at),
        instance,
        "True",
        Array.from({ length: 10 }, (_each, to) => `${name(at + to + 1)}=${9000 + to}`),
      ),
    ),
  ]).flat();
}

function entry(service: string, instance: number, healthy: string, upstreams: readonly string[]): KubeObject {
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadEntry",
    metadata: {
      name: `${service}-${instance}`,
      namespace: "n1",
      labels: { app: service, "security.istio.io/tlsMode": "istio" },
      annotations: { "weft.dev/inbound": "http=8080", "weft.dev/upstreams": upstreams.join(",") },
    },
    spec: { address: `10.0.${instance}.1`, ports: { http: 15000 } },
    status: { conditions: [{ type: "Healthy", status: healthy, reason: "Test", message: "" }] },
  };
}

describe("the cost of a change", () => {
  const costs = (services: number) => {
    const compiler = new MeshCompiler(trustDomain);
    const objects = fleet(services);
    for (const object of objects) compiler.put(object);
    for (const object of objects) if (object.kind === "WorkloadEntry") compiler.hold(`n1/${object.metadata.name}`);
    compiler.round();
    const measure = (object: KubeObject) => {
      const before = compiler.computations;
      expect(compiler.put(object)).toBe("changed");
      const { snapshots } = compiler.round();
      return { computations: compiler.computations - before, proxies: snapshots.size };
    };
    const first = objects[1] as KubeObject;
    const ill = measure({ ...first, status: { conditions: [{ type: "Healthy", status: "False", reason: "Test", message: "" }] } });
    const route = measure({
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "HTTPRoute",
      metadata: { name: "split", namespace: "n1" },
      spec: {
        parentRefs: [{ group: "", kind: "Service", name: "s1" }],
        rules: [{ backendRefs: [{ group: "", kind: "Service", name: "s2", port: 80 }] }],
      },
    });
    return { ill, route };
  };

  test("is the same in a mesh ten times as large", () => {
    const small = costs(20);
    expect(costs(200)).toEqual(small);
    // Ten services call this one, with two instances each.
    expect(small.ill.proxies).toBe(20);
    expect(small.route.proxies).toBe(20);
  });
});

describe("the cost of a change for a gRPC program without a proxy", () => {
  const costs = (services: number) => {
    const compiler = new MeshCompiler(trustDomain);
    const objects = fleet(services, "grpc");
    for (const object of objects) compiler.put(object);
    for (const name of ["s1-1", "s2-1"]) compiler.hold(`${grpcKey}n1/${name}`);
    compiler.round();
    const before = compiler.computations;
    const first = objects[1] as KubeObject;
    compiler.put({ ...first, status: { conditions: [{ type: "Healthy", status: "False", reason: "Test", message: "" }] } });
    const { snapshots } = compiler.round();
    const [one, other] = [...snapshots.values()];
    expect(one?.resources.route).toBe(other?.resources.route);
    return { computations: compiler.computations - before, programs: [...snapshots.keys()] };
  };

  test("is the same in a mesh ten times as large, and is paid once for all of them", () => {
    const small = costs(20);
    expect(costs(200)).toEqual(small);
    expect(small.programs).toEqual([`${grpcKey}n1/s1-1`, `${grpcKey}n1/s2-1`]);
  });
});

/** Every text in a decoded resource that is a cluster's name. */
function collect(value: unknown, into: Set<string>): void {
  if (typeof value === "string") {
    if (/^(outbound\|\d+\||inbound\|\d+\|)/.test(value)) into.add(value);
  } else if (Array.isArray(value)) for (const each of value) collect(each, into);
  else if (typeof value === "object" && value !== null) for (const each of Object.values(value)) collect(each, into);
}
