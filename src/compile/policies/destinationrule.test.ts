// What is refused of a DestinationRule, with path and way out; how rules lie over each other; what contradicts.

import { describe, expect, test } from "bun:test";
import { destinationRuleKind } from "../../api/kinds/destinationrule.ts";
import { type DestinationRuleObject, parseHealthCheck, ruleDurationMs } from "../../api/kinds/destinationrule-spec.ts";
import { admit } from "../admit.ts";
import { buildWorld } from "../compile.ts";
import { portPlan } from "../plan/mesh.ts";
import { clusterResource } from "../resources.ts";
import { readCredential } from "./credential.ts";
import { foldTraffic, forCaller, ruleCaller, rulesOf } from "./destinationrule.ts";

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

const noSecret = () => readCredential("shop/none", undefined, undefined);

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
    ["a wildcard that is none", { host: "ca*t" }, /^spec\.host: "ca\*t" must be \* or \*\. and a DNS name/],
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
      { host: "cart", trafficPolicy: { connectionPool: { http: { useClientProtocol: true } } } },
      /useClientProtocol.*is not implemented/,
    ],
    [
      "a connection's time that is none",
      { host: "cart", trafficPolicy: { connectionPool: { tcp: { maxConnectionDuration: "0s" } } } },
      /maxConnectionDuration: "0s" must be a duration/,
    ],
    [
      "requests on one connection below none",
      { host: "cart", trafficPolicy: { connectionPool: { http: { maxRequestsPerConnection: -1 } } } },
      /maxRequestsPerConnection: -1 must be 0 to/,
    ],
    [
      "an idle time that is none",
      { host: "cart", trafficPolicy: { connectionPool: { http: { idleTimeout: "later" } } } },
      /idleTimeout: "later" must be a duration/,
    ],
    [
      "keep-alive that no kernel takes",
      { host: "cart", trafficPolicy: { connectionPool: { tcp: { tcpKeepalive: { time: "1.5s" } } } } },
      /tcpKeepalive\.time: "1\.5s" must be a duration of whole seconds/,
    ],
    [
      "a port's settings twice",
      { host: "cart", trafficPolicy: { portLevelSettings: [{ port: { number: 80 } }, { port: { number: 80 } }] } },
      /80 has its settings in portLevelSettings\[0\] already/,
    ],
    [
      "mutual TLS without files",
      { host: "cart", trafficPolicy: { tls: { mode: "MUTUAL" } } },
      /MUTUAL needs credentialName, or clientCertificate/,
    ],
    ["callers of nowhere", { host: "cart", exportTo: ["~"] }, /spec\.exportTo\[0\]: "~" exports to nobody/],
    ["callers of no namespace", { host: "cart", exportTo: ["Bank"] }, /spec\.exportTo\[0\]: must be "\.", "\*" or the name/],
    [
      "some callers, but nobody says which",
      { host: "cart", workloadSelector: {} },
      /workloadSelector\.matchLabels: must name at least one/,
    ],
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
  expect(foldTraffic(rules, 80, "", noSecret)).toEqual({ balancer: { kind: "round_robin" }, limits: { connections: 5 } });
  expect(foldTraffic(rules, 8080, "", noSecret)).toEqual({ balancer: { kind: "random" } });
  expect(foldTraffic(rules, 80, "v2", noSecret)).toEqual({ balancer: { kind: "round_robin" }, limits: { connections: 9 } });
});

test("outliers by success rate and by share of failures come in annotations, with Envoy's defaults, and judge by nothing else", () => {
  const fold = (spec: object, annotations: Readonly<Record<string, string>>) => {
    const one = rule({ host: "cart", ...spec });
    one.metadata.annotations = { ...annotations };
    const rules = rulesOf(buildWorld([service, one], "cluster.local"), host);
    return rules === undefined ? undefined : foldTraffic(rules, 80, "", noSecret).outliers;
  };
  expect(fold({}, { "weft.dev/success-rate-outliers": "1.3,hosts=3,requests=20" })).toEqual({
    consecutive5xx: 0,
    consecutiveGateway: 0,
    splitLocal: false,
    consecutiveLocal: 5,
    intervalMs: 10_000,
    baseEjectionMs: 30_000,
    maxEjectionPercent: 10,
    successRate: { limit: 1.3, hosts: 3, requests: 20 },
  });
  const both = fold({ trafficPolicy: { outlierDetection: {} } }, { "weft.dev/failure-percentage-outliers": "40" });
  expect(both).toMatchObject({ consecutive5xx: 5, failurePercentage: { limit: 40, hosts: 5, requests: 50 } });
  for (const [name, text, wanted] of [
    ["success-rate-outliers", "0", "standard deviations above 0"],
    ["success-rate-outliers", "1.9,hosts=0", '"hosts=0" is none of'],
    ["failure-percentage-outliers", "101", "1 to 100"],
    ["failure-percentage-outliers", "50,volume=3", '"volume=3" is none of'],
  ] as const)
    expect(problems({ host: "cart" }, { [`weft.dev/${name}`]: text }).join()).toContain(wanted);
});

test("how long connections are kept", () => {
  const connectionPool = {
    http: { idleTimeout: "0s", maxRequestsPerConnection: 100 },
    tcp: { tcpKeepalive: { time: "1m", probes: 3 }, maxConnectionDuration: "1h" },
  };
  const fold = (pool: object) => {
    const rules = rulesOf(buildWorld([service, rule({ host: "cart", trafficPolicy: { connectionPool: pool } })], "cluster.local"), host);
    return rules === undefined ? undefined : foldTraffic(rules, 80, "", noSecret);
  };
  expect(fold(connectionPool)).toEqual({
    connections: { maxAgeMs: 3_600_000, idleMs: 0, maxRequests: 100, keepalive: { probes: 3, timeSeconds: 60 } },
  });
  // Istio's 0 of requests is no limit, and an empty tcpKeepalive is as the kernel has it.
  expect(fold({ http: { maxRequestsPerConnection: 0 }, tcp: { tcpKeepalive: {} } })).toEqual({ connections: { keepalive: {} } });
  expect(fold({ http: { maxRequestsPerConnection: 0 } })).toEqual({});
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

describe("callers told apart", () => {
  const simple = (choice: string, more: object = {}) => ({ host, trafficPolicy: { loadBalancer: { simple: choice } }, ...more });
  const seen = (rules: readonly DestinationRuleObject[], caller: string) => {
    const world = buildWorld([service, ...rules], "cluster.local");
    return rulesOf(world, forCaller(world, ruleCaller(world, caller), host, host))?.policy?.loadBalancer?.simple;
  };

  test("a caller's own namespace goes before the service's, and that before the root's", () => {
    const rules = [
      rule(simple("RANDOM"), "r", "weft-system"),
      rule(simple("ROUND_ROBIN"), "r", "shop"),
      rule(simple("LEAST_REQUEST"), "r", "bank"),
    ];
    expect([seen(rules, "bank"), seen(rules, "shop"), seen(rules, "other")]).toEqual(["LEAST_REQUEST", "ROUND_ROBIN", "ROUND_ROBIN"]);
    expect(seen(rules.slice(0, 1), "other")).toBe("RANDOM");
  });

  test("* is every host, not every host of the rule's namespace", () => {
    const rules = [rule(simple("RANDOM", { host: "*" }), "a", "weft-system"), rule(simple("ROUND_ROBIN", { host: "*" }), "bb", "bank")];
    expect([seen(rules, "shop"), seen(rules, "bank")]).toEqual(["RANDOM", "ROUND_ROBIN"]);
  });

  test("exportTo and workloadSelector say who is meant; a name goes before a wildcard", () => {
    const rules = [
      rule(simple("RANDOM", { exportTo: ["bank"] }), "a", "shop"),
      rule(simple("ROUND_ROBIN", { host: "*.shop.svc.cluster.local" }), "bb", "shop"),
      rule(simple("LEAST_REQUEST", { workloadSelector: { matchLabels: { tier: "gold" } } }), "ccc", "shop"),
    ];
    expect(["bank", "other", "shop", 'shop{"tier":"gold"}', 'bank{"tier":"gold"}'].map((caller) => seen(rules, caller))).toEqual([
      "RANDOM",
      "ROUND_ROBIN",
      "ROUND_ROBIN",
      "LEAST_REQUEST",
      "RANDOM",
    ]);
  });

  test("who is told the same shares one cluster, and a subset of some callers alone has no instances for others", () => {
    const rules = [rule(simple("RANDOM"), "a", "shop"), rule({ host, subsets: [{ name: "v1", labels: { version: "v1" } }] }, "b", "bank")];
    const entry = {
      apiVersion: "networking.istio.io/v1",
      kind: "WorkloadEntry",
      metadata: { name: "w", namespace: "shop", labels: { app: "cart", version: "v1" } },
      spec: { address: "127.0.0.1", ports: { http: 4000 } },
    };
    const selecting = { ...service, spec: { ...service.spec, selector: { app: "cart" } } };
    const world = buildWorld([selecting, entry, ...rules], "cluster.local");
    const at = (caller: string, cluster: string) => forCaller(world, ruleCaller(world, caller), host, cluster);
    const all = `outbound|80||${host}`;
    expect(["shop", "other", "bank"].map((caller) => at(caller, all))).toEqual([all, all, `bank\u0000${all}`]);
    const subset = `outbound|80|v1|${host}`;
    expect([portPlan(world, at("bank", subset))?.endpoints.length, portPlan(world, at("shop", subset))?.endpoints.length]).toEqual([1, 0]);
  });

  test("two for the same host contradict each other only where they speak to the same callers", () => {
    const world = buildWorld([service, rule(simple("RANDOM", { exportTo: ["bank"] }), "a")], "cluster.local");
    expect(admit(world, rule(simple("ROUND_ROBIN", { exportTo: ["."] }), "b"))).toEqual([]);
    expect(admit(world, rule(simple("ROUND_ROBIN", { workloadSelector: { matchLabels: { a: "b" } } }), "b"))).toEqual([]);
    expect(admit(world, rule(simple("ROUND_ROBIN"), "b")).map(({ path }) => path)).toEqual(["spec.trafficPolicy"]);
  });
});
