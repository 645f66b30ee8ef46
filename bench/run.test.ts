import { describe, expect, test } from "bun:test";
import { budgets } from "./budgets.ts";

function bench(...args: string[]): { status: number; out: string; err: string } {
  const ran = Bun.spawnSync([process.execPath, new URL("./run.ts", import.meta.url).pathname, ...args], { stdout: "pipe", stderr: "pipe" });
  return { status: ran.exitCode, out: ran.stdout.toString(), err: ran.stderr.toString() };
}

describe("the command line of the bench", () => {
  test("an unknown case is refused with the list of cases", () => {
    const { status, err } = bench("--only", "http9");
    expect(status).toBe(2);
    expect(err).toContain("--only http9: there is no such case; the cases are http1-hop, mtls-pair, http2-hop, grpc-unary");
  });

  test("numbers out of range and unknown flags are refused", () => {
    expect(bench("--rounds", "0")).toMatchObject({ status: 2 });
    expect(bench("--rounds", "0").err).toContain("--rounds 0: a whole number from 1 to 100");
    expect(bench("--fast")).toMatchObject({ status: 2 });
  });

  test("help shows an example", () => {
    const { status, out } = bench("--help");
    expect(status).toBe(0);
    expect(out).toContain("example: npm run bench --");
  });
});

test("each budget has a source, and names that are its own", () => {
  expect(new Set(budgets.map((budget) => budget.name)).size).toBe(budgets.length);
  for (const budget of budgets) expect(budget.source.length).toBeGreaterThan(20);
});
