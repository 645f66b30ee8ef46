import { expect, test } from "bun:test";
import { readH2load } from "./drive.ts";

const report = (requests: string, codes: string): string => `finished in 1.00s, 19179.00 req/s, 2.34MB/s
requests: ${requests}
status codes: ${codes}
traffic: 2.44MB (2559360) total, 96.12KB (98432) headers (space savings 95.45%), 1.83MB (1917900) data
                     min         max         mean         sd        +/- sd
`;

test("h2load's counts and the bytes of bodies are read", () => {
  const text = report(
    "19179 total, 19307 started, 19179 done, 19179 succeeded, 0 failed, 0 errored, 0 timeout",
    "19179 2xx, 0 3xx, 0 4xx, 0 5xx",
  );
  expect(readH2load(text, 2)).toMatchObject({ requests: 19_179, requestsPerSecond: 9589.5, bytes: 1_917_900 });
});

test("one request that failed, or was answered with another status, fails the run", () => {
  const failed = report("10 total, 10 started, 10 done, 9 succeeded, 1 failed, 0 errored, 0 timeout", "9 2xx, 0 3xx, 0 4xx, 0 5xx");
  expect(() => readH2load(failed, 1)).toThrow("failed 1");
  const refused = report("10 total, 10 started, 10 done, 10 succeeded, 0 failed, 0 errored, 0 timeout", "8 2xx, 0 3xx, 2 4xx, 0 5xx");
  expect(() => readH2load(refused, 1)).toThrow("not 2xx 2");
  const nothing = report("0 total, 128 started, 0 done, 0 succeeded, 0 failed, 0 errored, 0 timeout", "0 2xx, 0 3xx, 0 4xx, 0 5xx");
  expect(() => readH2load(nothing, 1)).toThrow("may not speak HTTP/2");
  expect(() => readH2load("no such option", 1)).toThrow("h2load gave no counts: no such option");
});
