import { expect, test } from "bun:test";
import { gradientDefaults } from "../../resilience/gradient.ts";
import { Gate } from "./gate.ts";
import { decodeAdaptive, decodeAdmission, decodeRateLimit } from "./overload.ts";
import { refineRetry, retryPolicy } from "./retry.ts";

function gate(): Gate {
  return new Gate({ readFile: () => new Uint8Array(), staticSecrets: new Map(), controlClusters: new Set() });
}

const noLimit = {
  statPrefix: "x",
  descriptors: [],
  rateLimits: [],
  enableXRatelimitHeaders: 0,
  rateLimitedAsResourceExhausted: false,
} as unknown as Parameters<typeof decodeRateLimit>[1];
const bucket = { maxTokens: 5, tokensPerFill: 2, fillInterval: { seconds: 1n, nanos: 0 } };

test("a rate limit: Envoy's defaults, among them that nothing is counted unless it says so", () => {
  const g = gate();
  const decoded = decodeRateLimit(g, { ...noLimit, tokenBucket: bucket } as typeof noLimit, "");
  expect(g.violations).toEqual([]);
  expect(decoded).toMatchObject({
    bucket: { maxTokens: 5, perFill: 2, fillMs: 1_000 },
    status: 429,
    enabled: 0,
    enforced: 0,
    alwaysDefault: true,
  });
  expect(decodeRateLimit(g, noLimit, "")).toBeNull();
});

test("a rate limit that makes no sense is refused, each fault by its path", () => {
  const g = gate();
  decodeRateLimit(
    g,
    {
      ...noLimit,
      statPrefix: "",
      tokenBucket: { maxTokens: 0, tokensPerFill: 0, fillInterval: { seconds: 0n, nanos: 1_000_000 } },
      descriptors: [{ entries: [], tokenBucket: undefined }],
      maxDynamicDescriptors: 0,
    } as unknown as typeof noLimit,
    "f",
  );
  expect(g.violations.map(({ path }) => path)).toEqual([
    "f.stat_prefix",
    "f.token_bucket.max_tokens",
    "f.token_bucket.tokens_per_fill",
    "f.token_bucket.fill_interval",
    "f.max_dynamic_descriptors",
    "f.descriptors[0].entries",
    "f.descriptors[0].token_bucket",
    "f.descriptors",
  ]);
});

test("admission: measured by default; contradictions refused", () => {
  const whole = { concurrency: 0, maxConcurrency: 0, maxQueue: 0, criticalityHeader: "", shareBy: 0, shareHeader: "" };
  const g = gate();
  expect(decodeAdmission(g, whole as never, "")).toMatchObject({
    concurrency: 0,
    maxConcurrency: gradientDefaults.max,
    shareBy: { kind: "nobody" },
  });
  expect(decodeAdmission(g, { ...whole, shareBy: 2, shareHeader: "x-tenant" } as never, "").shareBy).toEqual({
    kind: "header",
    name: "x-tenant",
  });
  expect(decodeAdaptive(g, { concurrencyControllerConfig: { case: "gradientControllerConfig", value: {} } } as never, "").status).toBe(503);
  expect(g.violations).toEqual([]);
  decodeAdmission(g, { ...whole, shareBy: 2, maxQueue: 1_000_000, maxConcurrency: 1 } as never, "a");
  decodeAdmission(g, { ...whole, shareHeader: "x" } as never, "b");
  decodeAdaptive(g, { concurrencyControllerConfig: { case: undefined } } as never, "c");
  expect(g.violations.map(({ path }) => path)).toEqual(["a.max_concurrency", "a.max_queue", "a.share_header", "b.share_header", "c"]);
});

const policy = { retryOn: "5xx", retriableStatusCodes: [], retryHostPredicate: [], retriableHeaders: [], retriableRequestHeaders: [] };

test("retries: back-off, asked waits, hedges; what is not built or makes no sense is refused", () => {
  const g = gate();
  const half = { seconds: 0n, nanos: 500_000_000 };
  const made = retryPolicy(
    g,
    { ...policy, retryOn: "5xx, unavailable", numRetries: 3, perTryTimeout: half, retryBackOff: { baseInterval: half } } as never,
    "",
  );
  expect(made).toMatchObject({ attempts: 3, on: ["5xx", "unavailable"], backOff: { baseMs: 500, maxMs: 5_000 } });
  expect(refineRetry(g, made, { hedgeOnPerTryTimeout: true } as never, 1_000, "")).toMatchObject({ hedge: true, bodyBytes: 1_000 });
  expect(g.violations).toEqual([]);
  const plain = retryPolicy(
    g,
    { ...policy, retryOn: "5xx,often", numRetries: 50, perTryIdleTimeout: half, rateLimitedRetryBackOff: { resetHeaders: [] } } as never,
    "r",
  );
  refineRetry(g, plain, { hedgeOnPerTryTimeout: true, initialRequests: 2 } as never, 1 << 30, "h");
  expect(g.violations.map(({ path }) => path)).toEqual([
    "r.retry_on",
    "r.num_retries",
    "r.per_try_idle_timeout",
    "r.rate_limited_retry_back_off.reset_headers",
    "h.hedge_policy.initial_requests",
    "h.hedge_policy.hedge_on_per_try_timeout",
    "h.per_request_buffer_limit_bytes",
  ]);
});
