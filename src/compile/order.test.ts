// Properties: the order of the input does not show in the output, and neither does a cache.

import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import type { KubeObject } from "../api/meta.ts";
import { buildWorld, compileAll } from "./compile.ts";
import { fingerprint, objectsOf, violationsOf } from "./testing/objects.ts";

const folder = join(import.meta.dir, "testdata");

/** All golden cases as one mesh; names that stand in two cases are kept once. */
const goldens: readonly KubeObject[] = (() => {
  const byKey = new Map<string, KubeObject>();
  for (const name of readdirSync(folder).sort()) {
    for (const object of objectsOf(readFileSync(join(folder, name, "input.yaml"), "utf8")))
      byKey.set(`${object.kind} ${object.metadata.namespace} ${object.metadata.name}`, object);
  }
  return [...byKey.values()];
})();

const name = fc.constantFrom("a", "b", "c");
const namespace = fc.constantFrom("n1", "n2", "weft-system");
const port = fc.constantFrom(80, 8080);
const labels = fc.dictionary(fc.constantFrom("app", "version"), fc.constantFrom("x", "y"), { maxKeys: 2 });
const meta = fc.record({ name, namespace });

const service = fc
  .record({ metadata: meta, selector: labels, protocol: fc.constantFrom("http", "tcp"), ports: fc.uniqueArray(port, { minLength: 1 }) })
  .map(({ metadata, selector, protocol, ports }) => ({
    apiVersion: "v1",
    kind: "Service",
    metadata,
    spec: { selector, ports: ports.map((number) => ({ name: `${protocol}-${number}`, port: number })) },
  }));

const entry = fc
  .record({ metadata: meta, labels, mutual: fc.boolean(), healthy: fc.boolean(), port: fc.integer({ min: 1, max: 9 }), account: name })
  .map((given) => ({
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadEntry",
    metadata: {
      ...given.metadata,
      labels: { ...given.labels, ...(given.mutual ? { "security.istio.io/tlsMode": "istio" } : {}) },
      annotations: {
        "weft.dev/inbound": "http-80=8000,tcp-80=8001",
        "weft.dev/http-proxy-port": "41001",
        "weft.dev/upstreams": "a=9001,b.n1=9002,a:8080=9003",
      },
    },
    spec: { address: "127.0.0.1", ports: { "http-80": 40000 + given.port, "tcp-80": 41000 + given.port }, serviceAccount: given.account },
    status: { conditions: [{ type: "Healthy", status: given.healthy ? "True" : "False", reason: "Test", message: "" }] },
  }));

const route = fc
  .record({
    metadata: meta,
    parent: name,
    parentNamespace: namespace,
    path: fc.constantFrom("/", "/x", "/x/y"),
    backends: fc.uniqueArray(fc.tuple(name, fc.integer({ min: 1, max: 3 })), { minLength: 1, maxLength: 2, selector: ([of]) => of }),
  })
  .map((given) => ({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "HTTPRoute",
    metadata: given.metadata,
    spec: {
      parentRefs: [{ group: "", kind: "Service", name: given.parent, namespace: given.parentNamespace }],
      rules: [
        { matches: [{ path: { value: given.path } }], backendRefs: given.backends.map(([of, weight]) => ({ name: of, port: 80, weight })) },
      ],
    },
  }));

const policy = fc
  .record({
    metadata: meta,
    matchLabels: labels,
    action: fc.constantFrom("ALLOW", "DENY"),
    methods: fc.option(fc.constant(["GET"])),
    principal: name,
  })
  .map((given) => ({
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: given.metadata,
    spec: {
      selector: { matchLabels: given.matchLabels },
      action: given.action,
      rules: [
        {
          from: [{ source: { principals: [`cluster.local/ns/n1/sa/${given.principal}`] } }],
          ...(given.methods === null ? {} : { to: [{ operation: { methods: given.methods } }] }),
        },
      ],
    },
  }));

const telemetry = fc.record({ metadata: meta, disabled: fc.boolean() }).map((given) => ({
  apiVersion: "telemetry.istio.io/v1",
  kind: "Telemetry",
  metadata: given.metadata,
  spec: { accessLogging: [{ disabled: given.disabled }] },
}));

const mesh = fc.uniqueArray(fc.oneof(service, entry, route, policy, telemetry) as fc.Arbitrary<KubeObject>, {
  maxLength: 25,
  selector: (object) => `${object.kind} ${object.metadata.namespace} ${object.metadata.name}`,
});

function compiledText(objects: readonly KubeObject[]): string {
  return fingerprint(compileAll(buildWorld(objects, "cluster.local")));
}

describe("the compiler", () => {
  test("gives the same bytes for the goldens in any order", () => {
    const wanted = compiledText(goldens);
    fc.assert(
      fc.property(fc.shuffledSubarray([...goldens], { minLength: goldens.length }), (shuffled) => {
        expect(compiledText(shuffled)).toBe(wanted);
      }),
      { numRuns: 15 },
    );
  });

  test("gives the same bytes for any mesh in any order, and never an open snapshot", () => {
    fc.assert(
      fc.property(
        mesh.chain((objects) => fc.tuple(fc.constant(objects), fc.shuffledSubarray(objects, { minLength: objects.length }))),
        ([objects, shuffled]) => {
          for (const object of objects) expect(violationsOf(object)).toEqual([]);
          expect(compiledText(shuffled)).toBe(compiledText(objects));
        },
      ),
      { numRuns: 60 },
    );
  });

  test("leaves its input alone", () => {
    const before = JSON.stringify(goldens);
    compiledText(goldens);
    expect(JSON.stringify(goldens)).toBe(before);
  });
});
