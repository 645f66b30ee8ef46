import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { reasonPhrase } from "../http/failure.ts";
import { defaultLimits, explainRefusal, refusal } from "./limits.ts";

const page = readFileSync(join(import.meta.dir, "../../../docs/reference/limits.md"), "utf8");

test("every refusal has a status with a phrase, a sentence of its own, and a row in the documentation", () => {
  const codes = Object.values(refusal);
  expect(codes).toEqual(codes.map((_, i) => i + 1) as typeof codes);
  const sentences = codes.map((code) => explainRefusal(-code).sentence);
  expect(new Set(sentences).size).toBe(codes.length);
  expect(sentences).not.toContain(explainRefusal(-(codes.length + 1)).sentence);
  for (const code of codes) {
    const { status } = explainRefusal(-code);
    expect([code, reasonPhrase(status)]).not.toEqual([code, ""]);
    expect([code, page.includes(`\n| ${status} `)]).toEqual([code, true]);
  }
});

/** How users set each limit: Envoy's field, or none yet and the name in `HttpLimits`. */
const settings: Readonly<Record<keyof typeof defaultLimits, string>> = {
  headBytes: "`max_request_headers_kb`",
  fields: "`max_headers_count`",
  targetBytes: "(`targetBytes`)",
  bodyBytes: "(`bodyBytes`)",
  chunkLineBytes: "(`chunkLineBytes`)",
  chunkExcessBytes: "(`chunkExcessBytes`)",
  trailerBytes: "(`trailerBytes`)",
  requestsPerConnection: "`max_requests_per_connection`",
  pipelinedBytes: "(`pipelinedBytes`)",
  headTimeoutMs: "`request_headers_timeout`",
  requestTimeoutMs: "`request_timeout`",
  streamIdleTimeoutMs: "`stream_idle_timeout`",
  streamDurationMs: "`max_stream_duration`",
  idleTimeoutMs: "`idle_timeout`",
  connectionDurationMs: "`max_connection_duration`",
};

test("every limit that a listener has is documented with its setting", () => {
  expect(Object.keys(settings).sort()).toEqual(Object.keys(defaultLimits).sort());
  for (const setting of Object.values(settings)) expect([setting, page.includes(setting)]).toEqual([setting, true]);
});
