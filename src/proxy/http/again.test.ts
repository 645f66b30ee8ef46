// Attempts through a whole engine, against origins that fail in every way a retry policy has a word for.
import { afterEach, expect, test } from "bun:test";
import type { ForwardAction, RetryConfig } from "../config.ts";
import {
  catchAll,
  chain,
  cluster,
  config,
  endpoint,
  forward,
  hop,
  http,
  listener,
  RawPeer,
  type Running,
  rawOrigin,
  route,
  start,
  table,
} from "../testing/fixture.ts";

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

type Answer = string | "reset" | "silence";

/** Origins that give these answers in turn, the last for ever; and what they were sent. */
function origins(...answers: readonly Answer[][]): { ports: number[]; seen: string[] } {
  const seen: string[] = [];
  const ports = answers.map((list) => {
    let at = 0;
    const origin = rawOrigin((text, write, socket) => {
      seen.push(text);
      const answer = list[Math.min(at++, list.length - 1)] as Answer;
      if (answer === "reset") socket.terminate();
      else if (answer !== "silence") write(answer);
    });
    open.push(() => origin.stop());
    return origin.port;
  });
  return { ports, seen };
}

const ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const fail = (status: number, lines = "") => `HTTP/1.1 ${status} X\r\n${lines}content-length: 0\r\n\r\n`;
const policy = (on: RetryConfig["on"], more: Partial<RetryConfig> = {}): RetryConfig => ({
  attempts: 2,
  on,
  statusCodes: [],
  perTryTimeoutMs: 0,
  backOff: { baseMs: 1, maxMs: 2 },
  ...more,
});

function through(ports: readonly number[], retry: RetryConfig, more: Partial<ForwardAction> = {}, limits = {}): Running {
  const one = cluster(
    "c",
    ports.map((port) => endpoint(port)),
  );
  const running = start(hop([{ ...one, limits: { ...one.limits, ...limits } }], catchAll("c", { retry, ...more })));
  open.push(() => running.engine.close());
  return running;
}

async function ask(running: Running, text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"): Promise<string> {
  const peer = await RawPeer.connect(running.port());
  open.push(() => peer.close());
  return peer.ask(text);
}

test("by status: an idempotent request is made again, and says which attempt it is", async () => {
  const { ports, seen } = origins([fail(503), fail(503), ok]);
  const running = through(ports, policy(["5xx"]));
  expect(await ask(running)).toStartWith("HTTP/1.1 200");
  expect(seen.map((text) => /x-envoy-attempt-count: (\d)/.exec(text)?.[1])).toEqual([undefined, "2", "3"]);
  expect(running.count("weft_upstream_retries_total")).toBe(2);
});

test("a method that may have acted is not made again unless the route names methods", async () => {
  const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
  const first = origins([fail(503), ok]);
  expect(await ask(through(first.ports, policy(["5xx"])), post)).toStartWith("HTTP/1.1 503");
  const second = origins([fail(503), ok]);
  const named = policy(["5xx"], {
    requestHeaders: [{ name: ":method", match: { kind: "exact", value: "POST", ignoreCase: false }, invert: false }],
  });
  expect(await ask(through(second.ports, named), post)).toStartWith("HTTP/1.1 200");
  expect(second.seen[1]).toEndWith("\r\n\r\nabc");
  expect(await ask(through(origins([fail(503), ok]).ports, named))).toStartWith("HTTP/1.1 503");
});

test("a body above what is kept is not made again; the bound is the route's", async () => {
  const put = `PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n${"x".repeat(100)}`;
  expect(await ask(through(origins([fail(503), ok]).ports, policy(["5xx"], { bodyBytes: 99 })), put)).toStartWith("HTTP/1.1 503");
  expect(await ask(through(origins([fail(503), ok]).ports, policy(["5xx"], { bodyBytes: 100 })), put)).toStartWith("HTTP/1.1 200");
});

test("resets, 409, retriable headers and codes", async () => {
  expect(await ask(through(origins(["reset", ok]).ports, policy(["reset"])))).toStartWith("HTTP/1.1 200");
  expect(await ask(through(origins(["reset", ok]).ports, policy(["connect-failure"])))).toStartWith("HTTP/1.1 503");
  expect(await ask(through(origins([fail(409), ok]).ports, policy(["retriable-4xx"])))).toStartWith("HTTP/1.1 200");
  expect(await ask(through(origins([fail(418), ok]).ports, policy(["retriable-status-codes"], { statusCodes: [418] })))).toStartWith(
    "HTTP/1.1 200",
  );
  const header = policy(["retriable-headers"], { answerHeaders: [{ name: "x-try", match: null, invert: false }] });
  expect(await ask(through(origins([fail(404, "x-try: 1\r\n"), ok]).ports, header))).toStartWith("HTTP/1.1 200");
  expect(await ask(through(origins([fail(404), ok]).ports, header))).toStartWith("HTTP/1.1 404");
});

test("a retry of an earlier hop is not made again here", async () => {
  const { ports, seen } = origins([fail(503), ok]);
  const running = through(ports, policy(["5xx"]));
  expect(await ask(running, "GET / HTTP/1.1\r\nHost: a\r\nx-envoy-attempt-count: 2\r\n\r\n")).toStartWith("HTTP/1.1 503");
  expect(seen).toHaveLength(1);
  expect(running.count("weft_upstream_retries_marked_total")).toBe(1);
});

test("the budget holds: a tenth of a second of failures adds what one second may", async () => {
  const { ports, seen } = origins([fail(503)]);
  const running = through(ports, policy(["5xx"], { attempts: 5 }));
  const peers = await Promise.all(Array.from({ length: 20 }, () => RawPeer.connect(running.port())));
  for (const peer of peers) open.push(() => peer.close());
  await Promise.all(peers.map((peer) => peer.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n")));
  // 20 % of 20 and ten a second; a second may end within the test.
  expect(seen.length).toBeLessThanOrEqual(20 + 4 + 20);
  expect(running.count("weft_upstream_retries_denied_total")).toBeGreaterThan(0);
});

test("Retry-After is waited for, and not where the client would be gone", async () => {
  const soon = origins([fail(503, "retry-after: 1\r\n"), ok]);
  const began = performance.now();
  expect(await ask(through(soon.ports, policy(["5xx"])))).toStartWith("HTTP/1.1 200");
  expect(performance.now() - began).toBeGreaterThan(990);
  const late = origins([fail(503, "retry-after: 5\r\n"), ok]);
  expect(await ask(through(late.ports, policy(["5xx"]), { timeoutMs: 1_000 }))).toStartWith("HTTP/1.1 503");
});

test("an endpoint that failed the request is passed over", async () => {
  const { ports, seen } = origins([fail(503)], [fail(503)], [ok]);
  const running = through(ports, policy(["5xx"], { attempts: 2 }));
  expect(await ask(running)).toContain("200");
  expect(seen.length).toBeLessThanOrEqual(3);
});

test("a slow read is asked of another instance, whose answer wins", async () => {
  const { ports } = origins(["silence"], [ok]);
  const running = through(ports, policy(["5xx"], { perTryTimeoutMs: 20, hedge: true }));
  // Until the silent one is asked first.
  for (let i = 0; i < 40 && running.count("weft_upstream_hedges_total") === 0; i++) expect(await ask(running)).toStartWith("HTTP/1.1 200");
  expect(running.count("weft_upstream_hedges_total")).toBe(1);
});

test("a write is never hedged", async () => {
  const { ports, seen } = origins(["silence"], ["silence"]);
  const running = through(ports, policy(["5xx"], { perTryTimeoutMs: 20, hedge: true }), { timeoutMs: 200 });
  expect(await ask(running, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).toStartWith("HTTP/1.1 504");
  expect(seen).toHaveLength(1);
  expect(running.count("weft_upstream_hedges_total")).toBe(0);
});

test("the next hop hears what is left of the deadline, and expired work does not reach it", async () => {
  const { ports, seen } = origins([ok]);
  const running = through(ports, policy(["5xx"]), { timeoutMs: 5_000 });
  await ask(running, "GET / HTTP/1.1\r\nHost: a\r\nx-envoy-expected-rq-timeout-ms: 800\r\n\r\n");
  const told = Number(/x-envoy-expected-rq-timeout-ms: (\d+)/.exec(seen[0] as string)?.[1]);
  expect(told).toBeGreaterThan(0);
  expect(told).toBeLessThanOrEqual(800);
  expect(seen[0]?.match(/expected-rq-timeout/g)).toHaveLength(1);
  expect(await ask(running, "GET / HTTP/1.1\r\nHost: a\r\nx-envoy-expected-rq-timeout-ms: 0\r\n\r\n")).toStartWith("HTTP/1.1 504");
  expect(seen).toHaveLength(1);
});

test("a stranger's deadline is not believed at the inbound listener", async () => {
  const { ports, seen } = origins([ok]);
  const running = start(
    hop(
      [
        cluster(
          "c",
          ports.map((port) => endpoint(port)),
        ),
      ],
      catchAll("c"),
      {},
      { direction: "inbound" },
    ),
  );
  open.push(() => running.engine.close());
  expect(await ask(running, "GET / HTTP/1.1\r\nHost: a\r\nx-envoy-expected-rq-timeout-ms: 0\r\n\r\n")).toStartWith("HTTP/1.1 200");
  expect(seen).toHaveLength(1);
});

test("what the application asks of others on behalf of a retry is not retried, known by the request id alone", async () => {
  const below = origins([fail(503)]);
  let outbound = 0;
  const application = rawOrigin((text, write) => {
    const id = /x-request-id: (\S+)/i.exec(text)?.[1] ?? "";
    void RawPeer.connect(outbound).then(async (peer) => {
      open.push(() => peer.close());
      await peer.ask(`GET /below HTTP/1.1\r\nHost: b\r\nx-request-id: ${id}\r\n\r\n`);
      write(ok);
    });
  });
  open.push(() => application.stop());
  const to = (name: string, retry: RetryConfig | null) =>
    table([{ name, domains: ["*"], routes: [route(forward(name, { retry }))] }], { name });
  const running = start(
    config(
      [
        listener("in", [chain(http({ rds: "app" }))], { direction: "inbound" }),
        listener("out", [chain(http({ rds: "below" }))], { direction: "outbound" }),
      ],
      [
        cluster("app", [endpoint(application.port)]),
        cluster(
          "below",
          below.ports.map((port) => endpoint(port)),
        ),
      ],
      [to("app", null), to("below", policy(["5xx"]))],
    ),
  );
  open.push(() => running.engine.close());
  outbound = running.port("out");
  await ask(running, "GET / HTTP/1.1\r\nHost: a\r\nx-request-id: one\r\n\r\n");
  expect(below.seen).toHaveLength(3);
  await ask(running, "GET / HTTP/1.1\r\nHost: a\r\nx-request-id: two\r\nx-envoy-attempt-count: 2\r\n\r\n");
  expect(below.seen).toHaveLength(4);
  // The retry is over: its id means nothing any more.
  await ask(running, "GET / HTTP/1.1\r\nHost: a\r\nx-request-id: two\r\n\r\n");
  expect(below.seen).toHaveLength(7);
});
