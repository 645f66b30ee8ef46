// Calls of the proxy's own, against real servers (Node's HTTP server, @grpc/grpc-js): what they bring, every way they fail, and that nothing is left behind.

import { afterEach, describe, expect, test } from "bun:test";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData, status } from "@grpc/grpc-js";
import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import { judge } from "../authz/judge.ts";
import type { Permit } from "../authz/permit.ts";
import { Cluster } from "../balance/cluster.ts";
import type { ClusterConfig, UpstreamProtocol } from "../config.ts";
import { Core } from "../runtime/core.ts";
import { cluster, endpoint, localWorkload, noSecrets, rawOrigin, until } from "../testing/fixture.ts";
import { type CallEnd, type CallRequest, callUnary, startCall, type UnaryEnd, unaryMethod } from "./unary-call.ts";

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0).reverse()) stop();
});

const permit = judge([]) as Permit;

function at(
  ports: readonly number[],
  protocol: UpstreamProtocol,
  maxRequests = 100,
  maxConnections = 4,
  more: Partial<ClusterConfig> = {},
) {
  const core = new Core({
    clock: systemClock,
    log: silentLogger,
    metrics: new MetricRegistry(),
    random: Math.random,
    secrets: noSecrets,
    local: localWorkload,
    accessLog: () => ({ write: () => {} }),
  });
  const limits = { maxConnections, maxPending: 10, maxRequests, maxRetries: 3 };
  const configs = ports.map((port) => endpoint(port));
  const owner = new Cluster(cluster("checks", configs, { protocol, limits, ...more }));
  const refused: string[] = [];
  owner.refusals = { refused: (_name, limit) => void refused.push(limit) };
  owner.setEndpoints(configs, () => ({ key: "k", tls: null, tlsHttp1: null, protocol }));
  stops.push(() => owner.setEndpoints([], () => ({ key: "k", tls: null, tlsHttp1: null, protocol })));
  const slot = { name: "checks", current: owner as Cluster | null };
  return {
    core,
    owner,
    slot,
    refused,
    http: (more: Partial<CallRequest> = {}) =>
      new Promise<CallEnd>((resolve) => {
        const head = Buffer.from("GET /check?a HTTP/1.1\r\nHost: checks\r\nX-One: 1\r\n\r\n");
        const request = { slot, head, body: new Uint8Array(0), http2: false, timeoutMs: 5_000, maxAnswerBytes: 1_000, ...more };
        startCall(core, permit, request, resolve);
      }),
    unary: (message: Uint8Array, more: { timeoutMs?: number; path?: string; metadata?: { name: string; value: string }[] } = {}) =>
      new Promise<UnaryEnd>((resolve) => {
        const { path = "/t.Echo/Say", metadata = [], timeoutMs = 5_000 } = more;
        const method = unaryMethod(slot, path, "", "nobody", metadata, timeoutMs, 1_000);
        callUnary(core, permit, method, message, resolve);
      }),
    /** Nothing is under way any more. */
    quiet: () =>
      owner.activeRequests === 0 &&
      owner.endpoints.every((one) => one.active === 0) &&
      core.ticker.size <= 4 &&
      core.ticker.exact.size === 0,
  };
}

async function webServer(answer: (path: string) => [number, string]): Promise<{ port: number; seen: string[] }> {
  const seen: string[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (piece) => {
      body += piece;
    });
    request.on("end", () => {
      seen.push(`${request.method} ${request.url} ${request.headers.host} ${request.headers["x-one"]} ${body}`);
      const [code, text] = answer(request.url as string);
      if (code > 0) response.writeHead(code, { "X-Answer": "yes" }).end(text);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, seen };
}

const raw = {
  requestSerialize: (bytes: Buffer) => bytes,
  requestDeserialize: (bytes: Buffer) => bytes,
  responseSerialize: (bytes: Buffer) => bytes,
  responseDeserialize: (bytes: Buffer) => bytes,
};

async function grpcServer(): Promise<{ port: number; seen: string[] }> {
  const seen: string[] = [];
  const server = new Server();
  server.addService(
    { Say: { path: "/t.Echo/Say", requestStream: false, responseStream: false, ...raw } },
    {
      Say: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
        const text = call.request.toString();
        const left = Number(call.getDeadline()) - Date.now();
        seen.push(`${text} ${call.metadata.get("x-key").join()} ${left > 0 && left <= 5_000}`);
        if (text === "deny") done({ code: status.PERMISSION_DENIED, details: "not this one" });
        else if (text === "big") done(null, Buffer.alloc(2_000));
        else if (text !== "hang") done(null, Buffer.from(`you said ${text}`));
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  stops.push(() => server.forceShutdown());
  return { port, seen };
}

describe("a call by HTTP", () => {
  test("brings status, fields and body, and keeps its connection", async () => {
    const server = await webServer(() => [403, "no"]);
    const one = at([server.port], "http1");
    const head = Buffer.from("POST /check HTTP/1.1\r\nHost: checks\r\nX-One: 1\r\ncontent-length: 4\r\n\r\n");
    for (let n = 0; n < 3; n++) {
      const end = await one.http({ head, body: Buffer.from("body") });
      if (!end.ok) throw new Error(end.sentence);
      expect([end.status, Buffer.from(end.body).toString()]).toEqual([403, "no"]);
      expect(end.fields).toContainEqual(["x-answer", "yes"]);
    }
    expect(server.seen).toEqual(Array(3).fill("POST /check checks 1 body"));
    expect([one.owner.connections, one.quiet()]).toEqual([1, true]);
  });

  test("is made once more where a kept connection turned out to be closed", async () => {
    const answered = new Set<unknown>();
    const origin = rawOrigin((_text, write, socket) => {
      if (answered.has(socket)) socket.terminate();
      else write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
      answered.add(socket);
    });
    stops.push(() => origin.stop());
    const one = at([origin.port], "http1");
    for (let n = 0; n < 2; n++) expect((await one.http()).ok).toBe(true);
    expect([origin.connections(), one.quiet()]).toEqual([2, true]);
  });

  test("goes to another instance where the first refuses connections, and says why where all do", async () => {
    const server = await webServer(() => [200, ""]);
    const both = at([1, server.port], "http1");
    for (let n = 0; n < 5; n++) expect((await both.http()).ok).toBe(true);
    const none = at([1, 2], "http1");
    expect(await none.http()).toMatchObject({ ok: false, problem: "failed" });
    expect([both.quiet(), none.quiet()]).toEqual([true, true]);
  });

  for (const timeoutMs of [40, 1_050]) {
    test(`ends when its time is over (${timeoutMs} ms)`, async () => {
      const server = await webServer(() => [0, ""]);
      const one = at([server.port], "http1");
      const end = await one.http({ timeoutMs });
      expect(end).toEqual({ ok: false, problem: "timeout", sentence: `no answer within ${timeoutMs} ms` });
      expect([one.quiet(), one.owner.connections]).toEqual([true, 0]);
    });
  }

  test("ends with the reason where there is no cluster, no instance, no room, or too long an answer", async () => {
    const server = await webServer((path) => (path === "/hang" ? [0, ""] : [200, "x".repeat(2_000)]));
    const one = at([server.port], "http1", 1);
    expect(await one.http()).toMatchObject({ ok: false, problem: "too_large" });
    const hanging = startCall(
      one.core,
      permit,
      {
        slot: one.slot,
        head: Buffer.from("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n"),
        body: new Uint8Array(0),
        http2: false,
        timeoutMs: 5_000,
        maxAnswerBytes: 1,
      },
      () => {
        throw new Error("an abandoned call must not be heard of");
      },
    );
    expect(await one.http()).toMatchObject({ ok: false, problem: "overflow" });
    expect(one.refused).toEqual(["max_requests"]);
    hanging.abandon();
    hanging.abandon();
    expect(one.quiet()).toBe(true);
    expect(await at([], "http1").http()).toMatchObject({ ok: false, problem: "no_endpoint" });
    const gone = at([], "http1");
    gone.slot.current = null;
    expect(await gone.http()).toMatchObject({ ok: false, problem: "no_cluster" });
  });

  test("tells which limit has refused it", async () => {
    const server = await webServer(() => [0, ""]);
    const endpointLimits = { maxConnections: 100, maxRequests: 1, maxRetries: 1 };
    for (const [limit, one] of [
      ["max_connections", at([server.port], "http1", 100, 1)],
      ["instances", at([server.port], "http1", 100, 4, { endpointLimits })],
    ] as const) {
      const first = one.http({ timeoutMs: 300 });
      expect(await one.http()).toMatchObject({ ok: false, problem: "overflow" });
      expect(one.refused).toEqual([limit]);
      expect(await first).toMatchObject({ problem: "timeout" });
      expect(one.quiet()).toBe(true);
    }
  });

  test("ends with the reason where the answer is none", async () => {
    const origin = rawOrigin((_text, write) => write("SSH-2.0-hello\r\n\r\n"));
    stops.push(() => origin.stop());
    const one = at([origin.port], "http1");
    expect(await one.http()).toMatchObject({ ok: false, problem: "failed" });
    expect(one.quiet()).toBe(true);
  });
});

describe("a unary gRPC call", () => {
  test("brings the message; many ride one connection; metadata and deadline travel", async () => {
    const server = await grpcServer();
    const one = at([server.port], "http2");
    const ends = await Promise.all(
      ["a", "b", "c"].map((word) => one.unary(Buffer.from(word), { metadata: [{ name: "x-key", value: "v" }] })),
    );
    expect(ends.map((end) => (end.ok ? Buffer.from(end.message).toString() : end.sentence))).toEqual([
      "you said a",
      "you said b",
      "you said c",
    ]);
    expect(server.seen.sort()).toEqual(["a v true", "b v true", "c v true"]);
    expect([one.owner.connections, one.quiet()]).toEqual([1, true]);
  });

  test("has the server's status, or what came in its place", async () => {
    const server = await grpcServer();
    const one = at([server.port], "http2");
    expect(await one.unary(Buffer.from("deny"))).toEqual({
      ok: false,
      problem: "status",
      code: 7,
      sentence: "it answers gRPC status 7: not this one",
    });
    expect(await one.unary(Buffer.from("x"), { path: "/t.Echo/Nobody" })).toMatchObject({ ok: false, problem: "status", code: 12 });
    expect(await one.unary(Buffer.from("big"))).toMatchObject({ ok: false, problem: "too_large", code: 8 });
    expect(await one.unary(Buffer.from("hang"), { timeoutMs: 60 })).toMatchObject({ ok: false, problem: "timeout", code: 4 });
    await until(() => one.quiet(), "nothing under way");
    const web = await webServer(() => [200, "no gRPC"]);
    expect(await at([web.port], "http1").unary(Buffer.from("x"))).toMatchObject({ ok: false, problem: "failed", code: 14 });
    expect(await at([1], "http2").unary(Buffer.from("x"))).toMatchObject({ ok: false, problem: "failed", code: 14 });
  });
});
