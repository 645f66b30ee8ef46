import { expect, test } from "bun:test";
import type { EdgeStats } from "../../api/live.ts";
import { edgeTable } from "./top.ts";

const end = (app: string) => ({ workload: `${app}-1`, app, version: "v1", namespace: "shop", service: app, principal: "" });
const edge = (mutualTls: boolean | null): EdgeStats => ({
  source: end("web"),
  destination: end("reviews"),
  protocol: "http",
  windowSeconds: 10,
  requestsPerSecond: 9,
  successRatio: 0,
  p50Ms: null,
  p99Ms: null,
  bytesPerSecond: 0,
  openConnections: 0,
  mutualTls,
});

test("what travelled is encrypted or not; of what was refused at its caller neither is said", () => {
  const cells = edgeTable([edge(true), edge(false), edge(null)], false)
    .trimEnd()
    .split("\n")
    .map((line) => line.trim().split(/\s+/).at(-1));
  expect(cells).toEqual(["MTLS", "yes", "no", "-"]);
});
