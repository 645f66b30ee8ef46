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
});
