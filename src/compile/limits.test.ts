// RateLimitPolicy, OverloadPolicy and HedgingPolicy: what validation refuses, by path; which of several decides; and what becomes of a path in a rule.

import { describe, expect, test } from "bun:test";
import { fromBinary } from "@bufbuild/protobuf";
import { parseAllDocuments } from "yaml";
import { kindOf } from "../api/kinds.ts";
import type { KubeObject } from "../api/meta.ts";
import { RateLimitSchema } from "../wire/gen/envoy/extensions/filters/http/ratelimit/v3/rate_limit_pb.ts";
import { buildWorld } from "./compile.ts";
import { limitFilters } from "./emit/limits.ts";
import { defaultRetry, noEdits, type RoutePlan } from "./plan/routes.ts";
import { hedgeAfterMs, withHedge } from "./policies/hedging.ts";
import { workloadLimits } from "./policies/limits.ts";
import { statusOf } from "./status.ts";
import type { WorkloadModel } from "./world.ts";

function objects(text: string): KubeObject[] {
  return parseAllDocuments(text).flatMap((document) => {
    const made = document.toJS() as KubeObject | null;
    if (made === null) return [];
    kindOf(made)?.applyDefaults(made);
    return [made];
  });
}

function problems(kind: string, spec: string): string[] {
  const [made] = objects(`{apiVersion: weft.dev/v1alpha1, kind: ${kind}, metadata: {name: p, namespace: shop}, spec: ${spec}}`);
  return (kindOf(made as KubeObject)?.validate(made as KubeObject) ?? []).map(({ path }) => path);
}

const at = "targetRefs: [{kind: Service, name: api}]";
const rules = (text: string) => `{${at}, rules: [${text}]}`;

describe("validation", () => {
  const cases: readonly (readonly [what: string, kind: string, spec: string, paths: readonly string[]])[] = [
    ["a rule", "RateLimitPolicy", rules("{requests: 5, per: 1s}"), []],
    ["no rule", "RateLimitPolicy", `{${at}, rules: []}`, ["spec.rules"]],
    ["no target", "RateLimitPolicy", "{targetRefs: [], rules: [{requests: 5, per: 1s}]}", ["spec.targetRefs"]],
    [
      "a target that is none",
      "RateLimitPolicy",
      "{targetRefs: [{kind: TCPRoute, name: a}], rules: [{requests: 5, per: 1s}]}",
      ["spec.targetRefs[0].kind"],
    ],
    [
      "a target in another group",
      "RateLimitPolicy",
      "{targetRefs: [{kind: Gateway, name: a}], rules: [{requests: 5, per: 1s}]}",
      ["spec.targetRefs[0].group"],
    ],
    [
      "a target twice",
      "RateLimitPolicy",
      "{targetRefs: [{kind: Service, name: a}, {kind: Service, name: a}], rules: [{requests: 5, per: 1s}]}",
      ["spec.targetRefs[1]"],
    ],
    ["nothing at all", "RateLimitPolicy", rules("{requests: 0, per: 1s}"), ["spec.rules[0].requests"]],
    ["more than there is", "RateLimitPolicy", rules("{requests: 2000000000, per: 1s}"), ["spec.rules[0].requests"]],
    [
      "too quick, too slow",
      "RateLimitPolicy",
      rules("{requests: 1, per: 50ms}, {requests: 1, per: 48h}"),
      ["spec.rules[0].per", "spec.rules[1].per"],
    ],
    [
      "a window that is none",
      "RateLimitPolicy",
      rules("{scope: Global, requests: 1, per: 5m, burst: 2}"),
      ["spec.rules[0].per", "spec.rules[0].burst"],
    ],
    ["an empty match", "RateLimitPolicy", rules("{requests: 1, per: 1s, match: {}}"), ["spec.rules[0].match"]],
    [
      "a path that is none",
      "RateLimitPolicy",
      rules("{requests: 1, per: 1s, match: {path: {value: api?x}}}"),
      ["spec.rules[0].match.path.value"],
    ],
    [
      "no expression",
      "RateLimitPolicy",
      rules("{requests: 1, per: 1s, match: {path: {type: RegularExpression, value: '('}}}"),
      ["spec.rules[0].match.path.value"],
    ],
    [
      "headers",
      "RateLimitPolicy",
      rules("{requests: 1, per: 1s, match: {headers: [{name: a}, {name: b, type: Present, value: x}]}}"),
      ["spec.rules[0].match.headers[0].value", "spec.rules[0].match.headers[1].value"],
    ],
    [
      "by what",
      "RateLimitPolicy",
      rules("{requests: 1, per: 1s, by: [{type: Header}, {type: Identity, header: x}, {type: Identity}]}"),
      ["spec.rules[0].by[0].header", "spec.rules[0].by[1].header"],
    ],
    ["a name twice", "RateLimitPolicy", rules("{name: rule-1, requests: 1, per: 1s}, {requests: 1, per: 1s}"), ["spec.rules[1]"]],
    ["a status of none", "RateLimitPolicy", `{${at}, status: 499, rules: [{requests: 1, per: 1s}]}`, ["spec.status"]],
    ["a wait without end", "RateLimitPolicy", `{${at}, timeout: 1m, rules: [{requests: 1, per: 1s}]}`, ["spec.timeout"]],
    ["protection without tuning", "OverloadPolicy", `{${at}}`, []],
    ["nobody at once", "OverloadPolicy", `{${at}, concurrency: 0}`, ["spec.concurrency"]],
    ["two numbers", "OverloadPolicy", `{${at}, concurrency: 5, maxConcurrency: 9}`, ["spec.maxConcurrency"]],
    ["a queue for ever", "OverloadPolicy", `{${at}, queue: {max: 1000000, targetDelay: 2m}}`, ["spec.queue.max", "spec.queue.targetDelay"]],
    ["shares by address", "OverloadPolicy", `{${at}, shareBy: {type: RemoteAddress}}`, ["spec.shareBy.type"]],
    ["a hedge", "HedgingPolicy", `{${at}, after: 80ms}`, []],
    ["a hedge at once", "HedgingPolicy", `{${at}, after: 1ms}`, ["spec.after"]],
  ];
  for (const [what, kind, spec, paths] of cases) test(what, () => expect([...new Set(problems(kind, spec))]).toEqual([...paths]));
});

const mesh = `
{apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop}, spec: {selector: {app: api}, ports: [{name: http, port: 80}, {name: http-admin, port: 81, targetPort: http-admin}]}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: api-1, namespace: shop, labels: {app: api, security.istio.io/tlsMode: istio}, annotations: {weft.dev/inbound: "http=8080,http-admin=8081"}}, spec: {address: 10.0.0.1, ports: {http: 15006, http-admin: 15007}}}
---
`;
const limit = (name: string, created: string, requests: number, section = "") =>
  `{apiVersion: weft.dev/v1alpha1, kind: RateLimitPolicy, metadata: {name: ${name}, namespace: shop, creationTimestamp: "${created}"}, spec: {targetRefs: [{kind: Service, name: api${section}}], rules: [{requests: ${requests}, per: 1s}]}}\n---\n`;

describe("which of several decides", () => {
  const world = buildWorld(
    objects(
      mesh +
        limit("b-old", "2026-01-01T00:00:00Z", 1) +
        limit("a-new", "2026-02-01T00:00:00Z", 2) +
        limit("admin", "2026-03-01T00:00:00Z", 3, ", sectionName: http-admin"),
    ),
    "cluster.local",
  );
  const workload = world.workloads.get("shop/api-1") as WorkloadModel;
  const decided = (port: string) => workloadLimits(world, workload, port)?.rates?.rules.map(({ id, requests }) => [id, requests]);

  test("the oldest, and at a port the one that names it", () => {
    expect(decided("http")).toEqual([["shop/b-old/rule-0", 1]]);
    expect(decided("http-admin")).toEqual([["shop/admin/rule-0", 3]]);
  });
  test("the others are told", () => {
    const reason = (name: string) => {
      const found = statusOf(world, `ratelimitpolicies.weft.dev shop/${name}`)?.status as {
        ancestors: { conditions: { reason: string }[] }[];
      };
      return found.ancestors[0]?.conditions.map((each) => each.reason);
    };
    expect([reason("b-old"), reason("a-new"), reason("admin")]).toEqual([
      ["Accepted", "Enforced"],
      ["Conflicted"],
      ["Accepted", "Enforced"],
    ]);
  });
});

test("a proxy that is not Weft's is told of where it leaves something out", () => {
  const overload =
    "{apiVersion: weft.dev/v1alpha1, kind: OverloadPolicy, metadata: {name: o, namespace: shop}, spec: {targetRefs: [{kind: Service, name: api}], queue: {max: 5}}}";
  const world = buildWorld(objects(mesh + limit("r", "2026-01-01T00:00:00Z", 1) + overload), "cluster.local");
  const enforced = (kind: string, name: string) => {
    const found = statusOf(world, `${kind}.weft.dev shop/${name}`)?.status as {
      ancestors: { conditions: { type: string; reason: string; message: string }[] }[];
    };
    const word = found.ancestors[0]?.conditions.find(({ type }) => type === "Enforced");
    return `${word?.reason}: ${word?.message.split("does not enforce ")[1] ?? ""}`;
  };
  const both = () => [enforced("ratelimitpolicies", "r"), enforced("overloadpolicies", "o")];
  expect(both()).toEqual(["Enforced: ", "Enforced: "]);
  world.setForeign("shop/api-1", "envoy/1.40.0");
  expect(both()).toEqual(["Enforced: ", "ForeignProxy: queue"]);
  world.setForeign("shop/api-1", "grpc-go/1.80.0");
  expect(both()).toEqual(["ForeignProxy: any of it", "ForeignProxy: any of it"]);
  world.setForeign("shop/api-1", undefined);
  expect(both()).toEqual(["Enforced: ", "Enforced: "]);
});

test("a path in a rule means whole segments, whatever the query", () => {
  const expression = (path: { type: "Exact" | "PathPrefix" | "RegularExpression"; value: string }): RegExp => {
    const rule = { id: "a/b/c", scope: "Global" as const, match: { path }, by: [], requests: 1, perMs: 1_000, burst: 1 };
    const [made] = limitFilters({ rates: { rules: [rule], status: 429, tellClients: false, denyOnFailure: false, timeoutMs: 20 } });
    const { rateLimits } = fromBinary(RateLimitSchema, made?.configType.value.value ?? new Uint8Array());
    const action = rateLimits[0]?.actions[1]?.actionSpecifier;
    const header = action?.case === "headerValueMatch" ? action.value.headers[0]?.headerMatchSpecifier : undefined;
    const pattern = header?.case === "stringMatch" ? header.value.matchPattern : undefined;
    const found = pattern?.case === "safeRegex" ? pattern.value.regex : "(no expression)";
    return new RegExp(`^(?:${found})$`);
  };
  const prefix = expression({ type: "PathPrefix", value: "/a.b/" });
  for (const path of ["/a.b", "/a.b?x=/", "/a.b/c", "/a.b/?y"]) expect(prefix.test(path)).toBe(true);
  for (const path of ["/a.bc", "/axb", "/x?/a.b"]) expect(prefix.test(path)).toBe(false);
  const exact = expression({ type: "Exact", value: "/a" });
  expect([exact.test("/a?x"), exact.test("/a/"), exact.test("/ab")]).toEqual([true, false, false]);
  const given = expression({ type: "RegularExpression", value: "/v[0-9]+|/w" });
  expect([given.test("/v12?x"), given.test("/w"), given.test("/v")]).toEqual([true, true, false]);
});

describe("hedging", () => {
  const route = (retry: Partial<typeof defaultRetry>): RoutePlan => ({
    name: "r",
    match: { path: { kind: "prefix", value: "/" }, method: undefined, headers: [], query: [] },
    action: { kind: "forward", backends: [], timeoutMs: 0, retry: { ...defaultRetry, ...retry } },
    requestHeaders: noEdits,
    responseHeaders: noEdits,
  });
  test("routes with words of their own about tries keep them", () => {
    expect(withHedge(route({}), 80).action).toMatchObject({ hedgeAfterMs: 80 });
    for (const same of [
      withHedge(route({}), undefined),
      withHedge(route({ attempts: 0 }), 80),
      withHedge(route({ perTryTimeoutMs: 5 }), 80),
    ])
      expect(same.action).not.toHaveProperty("hedgeAfterMs");
  });
  test("of a port", () => {
    const policy =
      "{apiVersion: weft.dev/v1alpha1, kind: HedgingPolicy, metadata: {name: h, namespace: shop}, spec: {targetRefs: [{kind: Service, name: api, sectionName: http}], after: 1s500ms}}";
    const world = buildWorld(objects(mesh + policy), "cluster.local");
    expect([hedgeAfterMs(world, "shop/api http"), hedgeAfterMs(world, "shop/api http-admin")]).toEqual([1_500, undefined]);
  });
});
