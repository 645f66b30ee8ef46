// What is refused of a DestinationRule, with path and way out; how rules lie over each other; what contradicts.

import { describe, expect, test } from "bun:test";
import { destinationRuleKind } from "../../api/kinds/destinationrule.ts";
import { type DestinationRuleObject, parseHealthCheck, ruleDurationMs } from "../../api/kinds/destinationrule-spec.ts";
import { admit } from "../admit.ts";
import { buildWorld } from "../compile.ts";
import { clusterResource } from "../resources.ts";
import { foldTraffic, rulesOf } from "./destinationrule.ts";

function rule(spec: unknown, name = "r", namespace = "shop", annotations: Record<string, string> = {}): DestinationRuleObject {
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "DestinationRule",
    metadata: { name, namespace, annotations, creationTimestamp: `2026-01-01T00:00:0${name.length}Z` },
    spec,
  } as DestinationRuleObject;
}

const problems = (spec: unknown, annotations: Record<string, string> = {}, namespace = "shop") =>
  destinationRuleKind.validate(rule(spec, "r", namespace, annotations)).map(({ path, message }) => `${path}: ${message}`);

const service = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "cart", namespace: "shop" },
  spec: { ports: [{ name: "http", port: 80 }] },
};
const host = "cart.shop.svc.cluster.local";

describe("bad input", () => {
  const cases: readonly [string, unknown, RegExp][] = [
    ["no host", {}, /^spec\.host: /],
    ["a wildcard", { host: "*.shop" }, /^spec\.host: a wildcard is not implemented/],
    [
      "another namespace",
      { host: "cart.bank.svc.cluster.local" },
      /^spec\.host: a rule in namespace shop for a Service of bank .* put it into namespace bank/,
    ],
    ["an unknown field", { host: "cart", trafficPolcy: {} }, /did you mean "trafficPolicy"/],
    [
      "two ways to choose",
      { host: "cart", trafficPolicy: { loadBalancer: { simple: "RANDOM", consistentHash: { useSourceIp: true } } } },
      /exclude each other/,
    ],
    ["no key", { host: "cart", trafficPolicy: { loadBalancer: { consistentHash: {} } } }, /exactly one of httpHeaderName/],
    [
      "a table that is no prime",
      { host: "cart", trafficPolicy: { loadBalancer: { consistentHash: { useSourceIp: true, maglev: { tableSize: 1000 } } } } },
      /1000 must be a prime/,
    ],
    [
      "a limit of zero",
      { host: "cart", trafficPolicy: { connectionPool: { tcp: { maxConnections: 0 } } } },
      /maxConnections: 0 must be 1 to/,
    ],
    ["an absurd share", { host: "cart", trafficPolicy: { outlierDetection: { maxEjectionPercent: 101 } } }, /101 must be 0 to 100/],
    [
      "a time that is none",
      { host: "cart", trafficPolicy: { outlierDetection: { interval: "soon" } } },
      /interval: "soon" must be a duration/,
    ],
    [
      "shares that do not add up",
      { host: "cart", trafficPolicy: { loadBalancer: { localityLbSetting: { distribute: [{ from: "a", to: { a: 50 } }] } } } },
      /make 100 together/,
    ],
    [
      "a subset twice",
      {
        host: "cart",
        subsets: [
          { name: "a", labels: { v: "1" } },
          { name: "a", labels: { v: "2" } },
        ],
      },
      /"a" is the name of spec\.subsets\[0\] already/,
    ],
    ["a subset of everybody", { host: "cart", subsets: [{ name: "a" }] }, /labels: is missing/],
    ["a subset called udp", { host: "cart", subsets: [{ name: "udp", labels: { v: "1" } }] }, /UDP ports/],
    [
      "what is not built",
      { host: "cart", trafficPolicy: { connectionPool: { http: { idleTimeout: "1s" } } } },
      /idleTimeout.*is not implemented/,
    ],
    [
      "a port's settings twice",
      { host: "cart", trafficPolicy: { portLevelSettings: [{ port: { number: 80 } }, { port: { number: 80 } }] } },
      /80 has its settings in portLevelSettings\[0\] already/,
    ],
    ["mutual TLS without files", { host: "cart", trafficPolicy: { tls: { mode: "MUTUAL" } } }, /MUTUAL needs clientCertificate/],
    ["callers of one namespace", { host: "cart", exportTo: ["."] }, /spec\.exportTo\[0\]: "\." is not implemented/],
    ["some callers", { host: "cart", workloadSelector: { matchLabels: { a: "b" } } }, /workloadSelector.*is not implemented/],
  ];
  for (const [name, spec, wanted] of cases) test(name, () => expect(problems(spec).join("\n")).toMatch(wanted));
  test("annotations are checked like fields", () => {
    expect(problems({ host: "cart" }, { "weft.dev/load-balancer": "COIN" })).toEqual([
      'metadata.annotations["weft.dev/load-balancer"]: "COIN" must be one of PEAK_EWMA, LEAST_CONNECTIONS, LOAD_REPORTS',
    ]);
    expect(problems({ host: "cart" }, { "weft.dev/health-check": "http:healthz" })[0]).toContain("needs a path that begins with /");
    expect(
      problems({ host: "cart", trafficPolicy: { loadBalancer: { simple: "RANDOM" } } }, { "weft.dev/load-balancer": "PEAK_EWMA" })[0],
    ).toContain("remove those");
    expect(problems({ host: "cart" }, { "weft.dev/load-balancer": "PEAK_EWMA", "weft.dev/heed-rate-limits": "true" })).toEqual([]);
  });
  test("the whole of Istio's own words that are built is taken", () => {
    expect(
      problems({ host: "cart", trafficPolicy: { loadBalancer: { warmup: { duration: "30s" } }, tls: { mode: "ISTIO_MUTUAL" } } }),
    ).toEqual([]);
    expect(problems({ host: host }, {}, "weft-system")).toEqual([]);
  });
});

test("durations", () => {
  for (const [text, ms] of [
    ["1s", 1_000],
    ["1m30s", 90_000],
    ["1.5s", 1_500],
    ["100ms", 100],
    ["0s", 0],
    ["1", undefined],
    ["-1s", undefined],
    ["25h", undefined],
  ] as const)
    expect(ruleDurationMs(text)).toBe(ms);
  expect(parseHealthCheck("grpc:cart.Cart,interval=2s,failures=2")).toMatchObject({
    type: "grpc",
    target: "cart.Cart",
    intervalMs: 2_000,
    failures: 2,
  });
});

test("a port's settings stand alone, a subset replaces sections", () => {
  const world = buildWorld(
    [
      service,
      rule({
        host: "cart",
        trafficPolicy: {
          loadBalancer: { simple: "ROUND_ROBIN" },
          connectionPool: { tcp: { maxConnections: 5 } },
          portLevelSettings: [{ port: { number: 8080 }, loadBalancer: { simple: "RANDOM" } }],
        },
        subsets: [{ name: "v2", labels: { version: "v2" }, trafficPolicy: { connectionPool: { tcp: { maxConnections: 9 } } } }],
      }),
    ],
    "cluster.local",
  );
  const rules = rulesOf(world, host);
  if (rules === undefined) throw new Error("no rules");
  expect(foldTraffic(rules, 80, "")).toEqual({ balancer: { kind: "round_robin" }, limits: { connections: 5 } });
  expect(foldTraffic(rules, 8080, "")).toEqual({ balancer: { kind: "random" } });
  expect(foldTraffic(rules, 80, "v2")).toEqual({ balancer: { kind: "round_robin" }, limits: { connections: 9 } });
});

test("rules of the service's namespace stand before those of the root namespace; the oldest policy decides, subsets add up", () => {
  const root = rule({ host, trafficPolicy: { loadBalancer: { simple: "RANDOM" } } }, "root", "weft-system");
  expect(rulesOf(buildWorld([service, root], "cluster.local"), host)?.policy?.loadBalancer?.simple).toBe("RANDOM");
  const own = [
    rule({ host: "cart", subsets: [{ name: "a", labels: { v: "1" } }] }, "aa"),
    rule({ host: "cart", trafficPolicy: { loadBalancer: { simple: "ROUND_ROBIN" } }, subsets: [{ name: "b", labels: { v: "2" } }] }, "aaa"),
  ];
  const rules = rulesOf(buildWorld([service, root, ...own], "cluster.local"), host);
  expect(rules?.policy?.loadBalancer?.simple).toBe("ROUND_ROBIN");
  expect(rules?.subsets.map((each) => each.name)).toEqual(["a", "b"]);
});

test("two rules that decide the same thing differently are refused, by name", () => {
  const first = rule(
    { host: "cart", trafficPolicy: { loadBalancer: { simple: "RANDOM" } }, subsets: [{ name: "a", labels: { v: "1" } }] },
    "first",
  );
  const world = buildWorld([service, first], "cluster.local");
  const second = rule(
    { host, trafficPolicy: { loadBalancer: { simple: "ROUND_ROBIN" } }, subsets: [{ name: "a", labels: { v: "2" } }] },
    "second",
  );
  expect(admit(world, second).map(({ path, message }) => `${path}: ${message}`)).toEqual([
    expect.stringContaining("spec.trafficPolicy: decides otherwise than spec.trafficPolicy of DestinationRule shop/first"),
    expect.stringContaining('spec.subsets[0]: "a" is another subset in DestinationRule shop/first'),
  ]);
  expect(admit(world, rule({ host, subsets: [{ name: "b", labels: { v: "2" } }] }, "third"))).toEqual([]);
});

test("a change of a rule makes its cluster anew, and no other", () => {
  const other = { ...service, metadata: { ...service.metadata, name: "stock" } };
  const world = buildWorld([service, other], "cluster.local");
  const names = ["outbound|80||cart.shop.svc.cluster.local", "outbound|80||stock.shop.svc.cluster.local"] as const;
  const before = names.map((name) => clusterResource(world, name)?.version);
  world.put(rule({ host: "cart", trafficPolicy: { loadBalancer: { simple: "RANDOM" } } }));
  const after = names.map((name) => clusterResource(world, name)?.version);
  expect(after[0]).not.toBe(before[0]);
  expect(after[1]).toBe(before[1]);
});
