import { expect, test } from "bun:test";
import type { RateLimitPolicyObject } from "../../api/kinds/ratelimitpolicy-spec.ts";
import { systemClock } from "../../base/clock.ts";
import type { RateLimitRequest } from "../../wire/gen/envoy/service/ratelimit/v3/rls_pb.ts";
import { Counters } from "./counters.ts";
import { decide, type LimitDeps, mostDescriptors, mostValue } from "./service.ts";

const rules = [
  { name: "quota", scope: "Global", by: [{ type: "Header", header: "x-tenant" }], requests: 2, per: "24h" },
  { name: "total", scope: "Global", requests: 3, per: "1h" },
  { name: "own", scope: "Local", requests: 1, per: "1h" },
];
const policy = { apiVersion: "weft.dev/v1alpha1", kind: "RateLimitPolicy", metadata: { name: "api", namespace: "shop" }, spec: { rules } };

function service(): LimitDeps & { readonly seen: boolean[] } {
  const seen: boolean[] = [];
  return {
    seen,
    clock: { ...systemClock, now: () => 10_000, mono: () => 0 },
    counters: new Counters(),
    policy: (namespace, name) => (namespace === "shop" && name === "api" ? (policy as unknown as RateLimitPolicyObject) : undefined),
    decided: (over) => seen.push(over),
  };
}

const shop = { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "api" };

function request(...descriptors: (readonly (readonly [string, string])[])[]): RateLimitRequest {
  return {
    domain: "weft",
    hitsAddend: 0,
    descriptors: descriptors.map((entries) => ({ entries: entries.map(([key, value]) => ({ key, value })) })),
  } as never;
}

const quota = (tenant: string) =>
  [
    ["weft.dev/rule", "shop/api/quota"],
    ["header:x-tenant", tenant],
  ] as const;
const total = [["weft.dev/rule", "shop/api/total"]] as const;

function answer(deps: LimitDeps, asked: RateLimitRequest) {
  const found = decide(deps, shop, asked);
  if (typeof found === "string") throw new Error(found);
  return found;
}

test("a count for each value, told as Envoy's API has it; what is refused uses up nothing else", () => {
  const deps = service();
  expect(answer(deps, request(quota("a"), total))).toMatchObject({
    overallCode: 1,
    statuses: [
      {
        code: 1,
        limitRemaining: 1,
        currentLimit: { requestsPerUnit: 2, unit: 4, name: "shop/api/quota" },
        durationUntilReset: { seconds: 86_390n },
      },
      { code: 1, limitRemaining: 2, currentLimit: { unit: 3 } },
    ],
  });
  answer(deps, request(quota("a"), total));
  expect(answer(deps, request(quota("a"), total))).toMatchObject({
    overallCode: 2,
    statuses: [{ code: 2 }, { code: 1, limitRemaining: 1 }],
  });
  expect(answer(deps, request(quota("b"), total)).overallCode).toBe(1);
  expect(deps.seen).toEqual([false, false, true, false]);
});

test("what names no limit of ours is not limited", () => {
  const deps = service();
  for (const asked of [
    request([["weft.dev/rule", "shop/api/gone"]]),
    request([["weft.dev/rule", "shop/api/own"]]),
    request([["other", "x"]]),
    { ...request(total), domain: "theirs" },
  ])
    for (let n = 0; n < 5; n++) expect(answer(deps, asked)).toMatchObject({ overallCode: 1, statuses: [{ code: 1 }] });
  expect(deps.counters.size).toBe(0);
});

test("nobody uses up the limits of another namespace, nor asks without bound", () => {
  const deps = service();
  expect(decide(deps, { ...shop, namespace: "bank" }, request(total))).toMatch(/namespace bank may not use up limits of namespace shop/);
  expect(decide(deps, shop, request(...Array.from({ length: mostDescriptors + 1 }, () => total)))).toMatch(/65 descriptors/);
  expect(deps.counters.size).toBe(0);
});

test("a value of any length is counted like any other", () => {
  const deps = service();
  const long = "x".repeat(10 * mostValue);
  expect([1, 2, 3].map(() => answer(deps, request(quota(long))).overallCode)).toEqual([1, 1, 2]);
  expect(answer(deps, request(quota(`${long}y`))).overallCode).toBe(1);
});
