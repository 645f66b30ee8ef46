import { describe, expect, test } from "bun:test";
import { type Budget, budgets } from "./budgets.ts";
import { spread } from "./stats.ts";
import { judge } from "./verdict.ts";

const ratio: Budget = {
  name: "pair",
  case: "mtls-pair",
  rule: { kind: "cpu-ratio", subjects: ["weft"], peers: ["envoy-http1", "envoy-http2"] },
  limit: 0.5,
  unit: "x",
  source: "test",
};

describe("a budget's verdict", () => {
  test("compares with the faster of several peers, round by round", () => {
    const verdict = judge(ratio, [
      { subject: "weft", cpuUs: spread([20, 40, 20]) },
      { subject: "envoy-http1", cpuUs: spread([100, 100, 100]) },
      { subject: "envoy-http2", cpuUs: spread([50, 80, 50]) },
    ]);
    expect(verdict).toMatchObject({ against: "envoy-http2", verdict: "met" });
    expect(verdict.value?.rounds).toEqual([0.4, 0.5, 0.4]);
  });

  test("is missed just above the limit and met at it", () => {
    const at = (own: number) =>
      judge({ ...ratio, rule: { kind: "cpu-ratio", subjects: ["weft"], peers: ["envoy"] } }, [
        { subject: "weft", cpuUs: spread([own]) },
        { subject: "envoy", cpuUs: spread([100]) },
      ]).verdict;
    expect(at(50)).toBe("met");
    expect(at(50.1)).toBe("missed");
  });

  test("is not measured while one of the two ways is absent, and says which", () => {
    const verdict = judge(ratio, [
      { subject: "weft", cpuUs: spread([20]) },
      { subject: "envoy-http1", cpuUs: spread([100]) },
    ]);
    expect(verdict).toMatchObject({ verdict: "not measured", value: null, why: "no CPU figures of envoy-http2" });
    expect(judge(ratio, []).why).toBe("no figures of weft");
  });

  test("judges single figures", () => {
    const memory = budgets.find((budget) => budget.name === "idle-memory")!;
    expect(judge(memory, [{ subject: "weft-sidecar", rssAnonMb: spread([12]) }]).verdict).toBe("met");
    expect(judge(memory, [{ subject: "weft-sidecar", rssAnonMb: spread([12.1]) }]).verdict).toBe("missed");
    expect(judge(memory, [{ subject: "weft-sidecar" }]).verdict).toBe("not measured");
  });

  test("counts the better of the own ways, and one way alone is enough", () => {
    const two: Budget = { ...ratio, rule: { kind: "cpu-ratio", subjects: ["weft-http1", "weft-http2"], peers: ["envoy"] } };
    const envoy = { subject: "envoy", cpuUs: spread([100, 100]) };
    const http1 = { subject: "weft-http1", cpuUs: spread([60, 60]) };
    expect(judge(two, [http1, { subject: "weft-http2", cpuUs: spread([40, 40]) }, envoy]).value?.median).toBe(0.4);
    const alone = judge(two, [http1, envoy], [{ subject: "weft-http2", load: null, reason: "not built" }]);
    expect(alone).toMatchObject({ verdict: "missed", why: null, value: { median: 0.6 } });
  });

  test("is missed, in the subject's own words, when it could not run", () => {
    const reason = "weft-proxy ended before it answered:\nweft proxy: /tmp/x-1/weft-front.json: listeners[1]: h2 is not supported\n";
    const verdict = judge(ratio, [], [{ subject: "weft", load: null, reason }]);
    expect(verdict).toMatchObject({
      verdict: "missed",
      value: null,
      why: "weft could not run: weft proxy: weft-front.json: listeners[1]: h2 is not supported",
    });
    // What failed under another load is not this budget's affair.
    expect(judge(ratio, [], [{ subject: "weft", load: "tls", reason }]).verdict).toBe("not measured");
  });

  test("of work per CPU second is met at or above its limit, load by load", () => {
    const budget: Budget = { ...ratio, limit: 1, rule: { kind: "yield-ratio", subjects: ["weft"], peers: ["envoy"], load: "1m plain" } };
    const figures = (own: number) => [
      { subject: "weft", load: "64k plain", cpuUs: spread([1]) },
      { subject: "weft", load: "1m plain", cpuUs: spread([own]) },
      { subject: "envoy", load: "1m plain", cpuUs: spread([100]) },
    ];
    expect(judge(budget, figures(100))).toMatchObject({ verdict: "met", bound: "least" });
    expect(judge(budget, figures(50)).value?.median).toBe(2);
    expect(judge(budget, figures(101)).verdict).toBe("missed");
  });

  test("of p99 looks at the fixed rate, and at the better of the peers", () => {
    const budget: Budget = { ...ratio, limit: 1, rule: { kind: "p99-ratio", subjects: ["weft"], peers: ["envoy-http1", "envoy-http2"] } };
    const at = (subject: string, p99: number) => ({ subject, cpuUs: spread([1]), fixedRate: { p99Us: spread([p99]) } });
    expect(judge(budget, [at("weft", 30), at("envoy-http1", 90), at("envoy-http2", 60)])).toMatchObject({
      against: "envoy-http2",
      value: { median: 0.5 },
    });
    expect(judge(budget, [at("weft", 30), at("envoy-http1", 90)]).why).toBe("no p99 figures of envoy-http2");
  });
});
