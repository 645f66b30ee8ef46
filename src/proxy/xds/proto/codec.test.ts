import { describe, expect, test } from "bun:test";
import {
  create,
  createRegistry,
  type DescFile,
  type DescMessage,
  equals,
  fromBinary,
  fromJson,
  type JsonValue,
  toBinary,
} from "@bufbuild/protobuf";
import { Glob } from "bun";
import fc from "fast-check";
import { decodeBinary, WireError } from "./binary.ts";
import { encodeBinary } from "./encode.ts";
import { generateSchema } from "./generate.ts";
import { decodeJson } from "./json.ts";
import { absent, findMessage, messageDesc } from "./message.ts";
import { schemaText } from "./schema.ts";

const genFolder = new URL("../../../wire/gen/", import.meta.url).pathname;
const files: DescFile[] = [];
for (const path of new Glob("**/*_pb.ts").scanSync(genFolder)) {
  const loaded = (await import(genFolder + path)) as Record<string, unknown>;
  for (const [name, value] of Object.entries(loaded)) if (name.startsWith("file_")) files.push(value as DescFile);
}
const registry = createRegistry(...files);
const schemaOf = (name: string): DescMessage => registry.getMessage(name) as DescMessage;

test("schema.ts says what wire/gen says", async () => {
  expect(await generateSchema(genFolder)).toContain(schemaText);
  expect(await Bun.file(new URL("schema.ts", import.meta.url)).text()).toBe(await generateSchema(genFolder));
});

const listener: JsonValue = {
  name: "l",
  address: { socketAddress: { address: "::1", portValue: 0 } },
  trafficDirection: "OUTBOUND",
  enableReusePort: false,
  listenerFiltersTimeout: "0.250s",
  metadata: { filterMetadata: { a: { text: "x", number: -1.5, yes: true, nothing: null, list: [1, "2", { three: [] }] }, empty: {} } },
  filterChains: [
    {
      filterChainMatch: { destinationPort: 0, applicationProtocols: ["h2", "é"], transportProtocol: "tls" },
      filters: [
        {
          name: "rbac",
          typedConfig: {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
            statPrefix: "p",
            rules: {
              action: "DENY",
              policies: { one: { permissions: [{ destinationPort: 0 }, { notRule: { any: true } }], principals: [{ any: false }] } },
            },
          },
        },
      ],
    },
  ],
};
const cases: Record<string, JsonValue[]> = {
  "envoy.config.listener.v3.Listener": [{}, listener],
  "envoy.config.route.v3.RouteConfiguration": [
    {
      name: "r",
      validateClusters: true,
      virtualHosts: [
        {
          name: "v",
          domains: ["*"],
          routes: [
            {
              match: { prefix: "" },
              route: {
                weightedClusters: { clusters: [{ name: "a", weight: 0 }, { name: "b" }] },
                timeout: "0s",
                retryPolicy: { retriableStatusCodes: [503, 70000], numRetries: 4294967295 },
              },
            },
            { match: { connectMatcher: {} }, directResponse: { status: 200, body: { inlineBytes: "AAH/" } } },
          ],
        },
      ],
    },
  ],
  "envoy.service.metrics.v3.StreamMetricsMessage": [
    {
      envoyMetrics: [
        {
          name: "m",
          type: "HISTOGRAM",
          metric: [
            {
              timestampMs: "-1",
              histogram: { sampleCount: "18446744073709551615", sampleSum: 1e300, bucket: [{ upperBound: 0.5, cumulativeCount: "0" }] },
            },
            { counter: { value: 0 }, gauge: { value: -0.1 } },
          ],
        },
      ],
    },
  ],
  "envoy.service.discovery.v3.DeltaDiscoveryRequest": [
    { node: { id: "x", metadata: {} }, initialResourceVersions: { a: "1", "": "2" }, errorDetail: { code: -3, message: "no" } },
  ],
  "istio.v1.auth.IstioCertificateRequest": [{ csr: "x", validityDuration: "86400" }],
};

describe("bytes and messages are protobuf-es's", () => {
  for (const [name, list] of Object.entries(cases)) {
    list.forEach((json, n) => {
      test(`${name} ${n}`, () => {
        const schema = schemaOf(name);
        const theirs = fromJson(schema, json, { registry });
        const wire = toBinary(schema, theirs);
        const unknown: string[] = [];
        const mine = decodeBinary<object>({ name }, wire, (message, field) => unknown.push(`${message}#${field}`));
        expect(unknown).toEqual([]);
        // Our bytes read by them, and theirs by us, are the same message.
        expect(equals(schema, fromBinary(schema, encodeBinary({ name }, mine)), theirs)).toBe(true);
        const problems: string[] = [];
        const fromOurJson = decodeJson<object>(
          { name },
          json,
          "",
          (path, message) => problems.push(`${path}: ${message}`),
          () => false,
        );
        expect(problems).toEqual([]);
        expect(equals(schema, fromBinary(schema, encodeBinary({ name }, fromOurJson)), theirs)).toBe(true);
        const setKeys = (message: object): string[] =>
          Object.entries(message)
            .filter(([key, value]) => key !== "$typeName" && value !== undefined)
            .map(([key]) => key)
            .sort();
        expect(setKeys(mine)).toEqual(setKeys(theirs));
        for (const field of messageDesc(name).fields) {
          if (field.oneof === "")
            expect(absent(field)).toEqual((create(schema) as unknown as Record<string, unknown>)[field.local] as never);
        }
      });
    });
  }
});

describe("bad bytes", () => {
  const type = { name: "envoy.config.listener.v3.Listener" };
  const wire = toBinary(schemaOf(type.name), fromJson(schemaOf(type.name), listener, { registry }));

  test("every prefix is refused or a smaller message; nothing else is thrown", () => {
    for (let n = 0; n < wire.length; n++) {
      try {
        decodeBinary(type, wire.subarray(0, n), () => {});
      } catch (error) {
        expect(error).toBeInstanceOf(WireError);
      }
    }
  });

  test("random bytes and random changes never throw anything but WireError", () => {
    const attempt = (bytes: Uint8Array): void => {
      try {
        decodeBinary(type, bytes, () => {});
      } catch (error) {
        expect(error).toBeInstanceOf(WireError);
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), attempt), { numRuns: 1000 });
    fc.assert(
      fc.property(fc.nat(wire.length - 1), fc.nat(255), (at, value) => {
        const changed = wire.slice();
        changed[at] = value;
        attempt(changed);
      }),
      { numRuns: 1000 },
    );
  });

  test("nesting has an end", () => {
    const name = "envoy.config.rbac.v3.Permission";
    let deep: object = { rule: { case: "any", value: true } };
    for (let n = 0; n < 150; n++) deep = { rule: { case: "notRule", value: deep } };
    expect(() => decodeBinary({ name }, encodeBinary({ name }, deep), () => {})).toThrow(/nested deeper/);
  });

  test("unknown fields are reported with their place", () => {
    const seen: string[] = [];
    // filter_chains[0] { filter_chain_match { 4: "x" } }, 77: 1
    const bytes = Uint8Array.of(0x1a, 0x05, 0x0a, 0x03, 0x22, 0x01, 0x78, 0xe8, 0x04, 0x01);
    decodeBinary(type, bytes, (message, field, path) => seen.push(`${path}|${message}|${field}`));
    expect(seen).toEqual([
      "filter_chains[0].filter_chain_match|envoy.config.listener.v3.FilterChainMatch|4",
      "|envoy.config.listener.v3.Listener|77",
    ]);
  });

  test("map keys cannot reach the prototype", () => {
    const request = { initialResourceVersions: JSON.parse('{"__proto__":"1"}') as object };
    const name = "envoy.service.discovery.v3.DeltaDiscoveryRequest";
    const back = decodeBinary<{ initialResourceVersions: object }>({ name }, encodeBinary({ name }, request), () => {});
    expect(Object.keys(back.initialResourceVersions)).toEqual(["__proto__"]);
    expect(Object.getPrototypeOf(back.initialResourceVersions)).toBe(Object.prototype);
  });
});

describe("JSON is read strictly, and every mistake is told", () => {
  const read = (name: string, json: unknown): string[] => {
    const problems: string[] = [];
    decodeJson(
      { name },
      json,
      "",
      (path, message) => problems.push(`${path}: ${message}`),
      () => false,
    );
    return problems;
  };
  const table: readonly (readonly [string, string, unknown, (string | RegExp)[]])[] = [
    ["not an object", "envoy.config.core.v3.Node", 5, [/^: must be an object \(envoy.config.core.v3.Node\), not 5$/]],
    ["a wrong type", "envoy.config.core.v3.Node", { id: 5 }, ["id: must be a string, not 5 (quote it)"]],
    [
      "an unknown field",
      "envoy.config.core.v3.Locality",
      { zon: "a" },
      ["zon: is not supported; envoy.config.core.v3.Locality has here: region, sub_zone, zone"],
    ],
    [
      "both spellings",
      "envoy.config.core.v3.Locality",
      { sub_zone: "a", subZone: "b" },
      ["sub_zone: is given twice, as sub_zone and as subZone"],
    ],
    ["both spellings work", "envoy.config.core.v3.Locality", { subZone: "b" }, []],
    [
      "an enum value",
      "envoy.config.cluster.v3.Cluster",
      { type: "STRICT" },
      ['type: "STRICT" is not one of STATIC, STRICT_DNS, LOGICAL_DNS, EDS, ORIGINAL_DST'],
    ],
    ["an enum number", "envoy.config.cluster.v3.Cluster", { type: 3 }, []],
    [
      "two of a oneof",
      "envoy.config.route.v3.RouteMatch",
      { prefix: "/", path: "/" },
      ["path: cannot stand beside prefix: one of them at most"],
    ],
    [
      "durations",
      "envoy.config.cluster.v3.Cluster",
      { connect_timeout: "5" },
      ['connect_timeout: "5" is not a duration such as "5s" or "0.25s"'],
    ],
    [
      "a list",
      "envoy.config.route.v3.VirtualHost",
      { domains: "*", routes: [5] },
      ['domains: must be a list, not "*"', /^routes\[0\]: must be an object/],
    ],
    [
      "numbers",
      "envoy.config.core.v3.SocketAddress",
      { port_value: 1.5 },
      ["port_value: must be a whole number from 0 to 4294967295, not 1.5"],
    ],
    ["numbers as text", "envoy.config.core.v3.SocketAddress", { port_value: "80" }, []],
    ["null is absent", "envoy.config.core.v3.SocketAddress", { port_value: null, address: null }, []],
    ["an Any without a type", "envoy.config.listener.v3.Filter", { typed_config: {} }, [/^typed_config: needs "@type"/]],
    [
      "fields in an Any",
      "envoy.config.listener.v3.Filter",
      { typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", foo: 1 } },
      [/^typed_config.foo: is not supported/],
    ],
  ];
  for (const [name, type, json, wanted] of table) {
    test(name, () => {
      const found = read(type, json);
      expect(found.length).toBe(wanted.length);
      for (const [n, one] of wanted.entries()) {
        if (typeof one === "string") expect(found[n]).toBe(one);
        else expect(found[n]).toMatch(one);
      }
    });
  }
});

test("a name outside the subset is undefined, not an error", () => {
  expect(findMessage("envoy.config.core.v3.Nope")).toBeUndefined();
  expect(findMessage("envoy.config.core.v3.HealthStatus")).toBeUndefined();
});
