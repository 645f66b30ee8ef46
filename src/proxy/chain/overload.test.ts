// Rate limits and admission through a whole engine.
import { afterEach, expect, test } from "bun:test";
import type { AdmissionConfig, LocalRateLimitConfig, StageConfigs } from "../config.ts";
import { catchAll, cluster, endpoint, hop, RawPeer, type Running, rawOrigin, start, until } from "../testing/fixture.ts";

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

const ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/** An origin whose answers are let out by hand. */
function held(): { port: number; waiting: (() => void)[]; seen: string[] } {
  const waiting: (() => void)[] = [];
  const seen: string[] = [];
  const origin = rawOrigin((text, write) => {
    seen.push(/GET (\S+)/.exec(text)?.[1] ?? "");
    waiting.push(() => write(ok));
  });
  open.push(() => origin.stop());
  return { port: origin.port, waiting, seen };
}

function quick(): number {
  const origin = rawOrigin((_text, write) => write(ok));
  open.push(() => origin.stop());
  return origin.port;
}

function through(port: number, stages: Partial<StageConfigs>): Running {
  const running = start(hop([cluster("c", [endpoint(port)])], catchAll("c"), { stages }));
  open.push(() => running.engine.close());
  return running;
}

async function send(running: Running, path: string, lines = ""): Promise<RawPeer> {
  const peer = await RawPeer.connect(running.port());
  open.push(() => peer.close());
  peer.send(`GET ${path} HTTP/1.1\r\nHost: a\r\n${lines}\r\n`);
  return peer;
}

const status = (peer: RawPeer) => peer.text.slice(9, 12);

const limit: LocalRateLimitConfig = {
  bucket: { maxTokens: 2, perFill: 1, fillMs: 60_000 },
  descriptors: [],
  limits: [],
  status: 429,
  resourceExhausted: false,
  tellHeaders: true,
  alwaysDefault: true,
  enabled: 1,
  enforced: 1,
  maxDynamic: 2,
};

test("a bucket for all: the third is refused, told when to come back, and counted", async () => {
  const running = through(quick(), { rateLimit: limit });
  const peer = await send(running, "/");
  await peer.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 2);
  const text = await peer.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 3);
  expect(text.match(/HTTP\/1.1 \d+/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 429"]);
  expect(text.match(/x-ratelimit-remaining: \d/g)).toEqual([
    "x-ratelimit-remaining: 1",
    "x-ratelimit-remaining: 0",
    "x-ratelimit-remaining: 0",
  ]);
  expect(text).toMatch(/x-ratelimit-limit: 2, 2;w=120\r\n/);
  expect(text).toMatch(/retry-after: \d+\r\n/);
  expect(running.count("weft_rate_limited_requests_total")).toBe(1);
});

test("a bucket for each value of a header; a request without it is not counted; old values make room", async () => {
  const running = through(quick(), {
    rateLimit: {
      ...limit,
      bucket: null,
      descriptors: [
        { entries: [{ key: "user", value: "vip" }], bucket: { maxTokens: 3, perFill: 1, fillMs: 60_000 } },
        { entries: [{ key: "user", value: "" }], bucket: { maxTokens: 1, perFill: 1, fillMs: 60_000 } },
      ],
      limits: [[{ kind: "header", key: "user", name: "x-user", skipIfAbsent: false }]],
    },
  });
  const ask = async (lines: string) => {
    const peer = await send(running, "/", lines);
    await until(() => peer.text.includes("\r\n\r\n"));
    return status(peer);
  };
  expect([await ask("x-user: a\r\n"), await ask("x-user: a\r\n"), await ask("x-user: b\r\n")]).toEqual(["200", "429", "200"]);
  expect([await ask(""), await ask(""), await ask("")]).toEqual(["200", "200", "200"]);
  expect([await ask("x-user: vip\r\n"), await ask("x-user: vip\r\n")]).toEqual(["200", "200"]);
  // Two are kept: `a` was the first to go.
  expect(await ask("x-user: a\r\n")).toBe("200");
});

test("a bucket stays as it is when the numbers of others change", async () => {
  const port = quick();
  const rule = (value: string, maxTokens: number) => ({
    entries: [{ key: "k", value }],
    bucket: { maxTokens, perFill: 1, fillMs: 60_000 },
  });
  const config = (second: number, all: number) =>
    hop([cluster("c", [endpoint(port)])], catchAll("c"), {
      stages: {
        rateLimit: {
          ...limit,
          bucket: { maxTokens: all, perFill: 1, fillMs: 60_000 },
          descriptors: [rule("two", second), rule("one", 1)],
          limits: [[{ kind: "header", key: "k", name: "x-k", skipIfAbsent: false }]],
          maxDynamic: 10,
        },
      },
    });
  const running = start(config(1, 100));
  open.push(() => running.engine.close());
  const ask = async (value: string) => {
    const peer = await send(running, "/", `x-k: ${value}\r\n`);
    await until(() => peer.text.includes("\r\n\r\n"));
    return status(peer);
  };
  expect([await ask("one"), await ask("one"), await ask("two"), await ask("two")]).toEqual(["200", "429", "200", "429"]);
  running.engine.apply(config(2, 50));
  expect([await ask("one"), await ask("two"), await ask("two"), await ask("two")]).toEqual(["429", "200", "200", "429"]);
});

test("counted and let pass where it is not enforced", async () => {
  const running = through(quick(), { rateLimit: { ...limit, enforced: 0 } });
  const peer = await send(running, "/");
  for (let n = 2; n <= 4; n++) await peer.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n", n);
  expect(peer.text).not.toContain("429");
});

const admission: AdmissionConfig = {
  concurrency: 1,
  maxConcurrency: 1_000,
  maxQueue: 2,
  targetMs: 5_000,
  criticalityHeader: "x-criticality",
  shareBy: { kind: "header", name: "x-tenant" },
  status: 503,
};

test("one at a time, the others wait; beyond the queue the newest is refused", async () => {
  const origin = held();
  const running = through(origin.port, { admission });
  const peers = [await send(running, "/1")];
  await until(() => origin.seen.length === 1);
  peers.push(await send(running, "/2"));
  await until(() => running.count("weft_admission_queued_requests_total") === 1);
  peers.push(await send(running, "/3"));
  await until(() => running.count("weft_admission_queued_requests_total") === 2);
  peers.push(await send(running, "/4"));
  await until(() => status(peers[3] as RawPeer) === "503");
  expect(origin.seen).toEqual(["/1"]);
  for (let n = 0; n < 3; n++) {
    await until(() => origin.waiting.length === n + 1);
    origin.waiting[n]?.();
  }
  await until(() => peers.slice(0, 3).every((peer) => status(peer) === "200"));
  expect(running.count("weft_admission_shed_requests_total", "queue-full")).toBe(1);
});

test("what matters more goes first and puts out what matters less", async () => {
  const origin = held();
  const running = through(origin.port, { admission });
  await send(running, "/first");
  await until(() => origin.seen.length === 1);
  const low = await send(running, "/low", "x-criticality: sheddable\r\n");
  await until(() => running.count("weft_admission_queued_requests_total") === 1);
  const usual = await send(running, "/usual");
  await until(() => running.count("weft_admission_queued_requests_total") === 2);
  const high = await send(running, "/high", "x-criticality: critical\r\n");
  await until(() => status(low) === "503");
  for (let n = 0; n < 3; n++) {
    await until(() => origin.waiting.length === n + 1);
    origin.waiting[n]?.();
  }
  await until(() => status(usual) === "200" && status(high) === "200");
  expect(origin.seen).toEqual(["/first", "/high", "/usual"]);
});

test("tenants take turns: a flood of one does not put out another's only request", async () => {
  const origin = held();
  const running = through(origin.port, { admission: { ...admission, maxQueue: 4 } });
  await send(running, "/first");
  await until(() => origin.seen.length === 1);
  for (let n = 0; n < 4; n++) await send(running, `/flood${n}`, "x-tenant: a\r\n");
  await until(() => running.count("weft_admission_queued_requests_total") === 4);
  const other = await send(running, "/other", "x-tenant: b\r\n");
  await until(() => running.count("weft_admission_shed_requests_total") === 1);
  for (let n = 0; n < 3; n++) {
    await until(() => origin.waiting.length === n + 1);
    origin.waiting[n]?.();
  }
  await until(() => status(other) === "200");
});

test("who waits too long is refused before the service sees it, and a client that leaves makes room", async () => {
  const origin = held();
  const running = through(origin.port, { admission: { ...admission, targetMs: 30 } });
  await send(running, "/1");
  await until(() => origin.seen.length === 1);
  const late = await send(running, "/2");
  await until(() => status(late) === "503");
  expect(running.count("weft_admission_shed_requests_total", "waited")).toBe(1);
  const leaves = await send(running, "/3");
  await until(() => running.count("weft_admission_queued_requests_total") === 2);
  leaves.close();
  origin.waiting[0]?.();
  const next = await send(running, "/4");
  await until(() => origin.seen.length === 2);
  expect(origin.seen).toEqual(["/1", "/4"]);
  origin.waiting[1]?.();
  await until(() => status(next) === "200");
});
