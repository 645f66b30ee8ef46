import { expect, test } from "bun:test";
import { jsonLogger } from "./log.ts";

test("a line is one JSON object with time, level and message first", () => {
  const lines: string[] = [];
  const log = jsonLogger(
    "info",
    () => 0,
    (line) => lines.push(line),
    { service: "web" },
  );
  log.debug({}, "not shown");
  log.warn({ port: 80, cause: new Error("in use"), big: 2n ** 60n }, "cannot listen");
  expect(lines).toEqual([
    '{"time":"1970-01-01T00:00:00.000Z","level":"warn","msg":"cannot listen","service":"web","port":80,"cause":{"name":"Error","message":"in use"},"big":"1152921504606846976"}\n',
  ]);
});
