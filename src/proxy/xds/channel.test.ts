import { afterEach, describe, expect, test } from "bun:test";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { systemClock } from "../../base/clock.ts";
import { jsonLogger } from "../../base/log.ts";
import type { ClusterConfig } from "../config.ts";
import type { Http2Connection } from "../http2/client.ts";
import { connectHttp2 } from "../http2/socket.ts";
import { Backoff } from "./backoff.ts";
import { ControlChannel } from "./channel.ts";
import { GrpcCall } from "./grpc.ts";
import { LastingStream } from "./lasting-stream.ts";
import { createTestAuthority, startFakeControlPlane, until } from "./testing.ts";

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

function cluster(ports: readonly number[], connectTimeoutMs = 1000): ClusterConfig {
  return {
    name: "xds-grpc",
    connectTimeoutMs,
    balance: { kind: "round_robin" },
    source: {
      kind: "static",
      endpoints: ports.map((port) => ({
        address: { host: "127.0.0.1", port },
        weight: 1,
        priority: 0,
        healthy: true,
        transportMatch: {},
        workload: null,
        identity: null,
      })),
    },
    transports: [],
    tls: null,
    limits: { maxConnections: 1, maxPending: 1, maxRequests: 1, maxRetries: 1 },
    protocol: "http2",
    control: true,
    service: null,
  };
}

function channel(
  to: ClusterConfig,
  tokens: () => string | undefined = () => undefined,
  random: () => number = () => 0.02,
): { channel: ControlChannel; log: string[] } {
  const log: string[] = [];
  const made = new ControlChannel({
    clock: systemClock,
    log: jsonLogger("debug", Date.now, (line) => log.push(line)),
    random,
    cluster: to,
    target: { cluster: "xds-grpc", authority: "", metadata: [{ name: "x-tenant", value: "t" }] },
    credentials: { certificate: () => undefined, token: tokens },
  });
  stops.push(() => made.close());
  return { channel: made, log };
}

test("delays are anything up to base, twice base, and so on to the maximum", () => {
  const high = new Backoff(() => 1, 100, 1_000);
  expect([1, 2, 3, 4, 5, 6].map(() => high.nextMs())).toEqual([100, 200, 400, 800, 1000, 1000]);
  high.reset();
  expect(high.nextMs()).toBe(100);
  expect(new Backoff(() => 0, 100, 1_000).nextMs()).toBe(0);
});

test("endpoints are tried in turn, and one kind of failure is logged once", async () => {
  const server = await startFakeControlPlane();
  stops.push(() => server.stop());
  const run = channel(cluster([1, 1, 1, server.port]));
  run.channel.start();
  await until(() => run.channel.connected, "a connection");
  expect(run.channel.problem).toBe("");
  expect(run.log.filter((line) => line.includes("Cannot reach")).length).toBe(1);
});

test("a server that accepts and says nothing is not waited for; one that is no HTTP/2 is left", async () => {
  const silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const rude = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket) {
        socket.write("HTTP/1.1 400 Bad Request\r\n\r\n");
      },
    },
  });
  stops.push(
    () => silent.stop(true),
    () => rude.stop(true),
  );
  const run = channel(cluster([rude.port]));
  run.channel.start();
  await until(() => run.channel.problem.includes("bad frame"), "the refusal");
  // TLS to a port that never answers the handshake: the connect timeout covers it.
  const tls = { certificate: null, roots: null, peerNames: [], alpn: ["h2"], sni: "", minVersion: "TLSv1.3" } as const;
  const slow = channel({ ...cluster([silent.port], 50), tls });
  slow.channel.start();
  await until(() => slow.channel.problem.includes("no connection within 50 ms"), "the timeout");
});

test("the token is read for each call, and users hear of every connection", async () => {
  const server = await startFakeControlPlane();
  stops.push(() => server.stop());
  const tokens = ["one", "two"];
  const run = channel(cluster([server.port]), () => tokens.shift());
  const heard: string[] = [];
  run.channel.add({ opened: () => heard.push("opened"), closed: () => heard.push("closed") });
  const ends: string[] = [];
  const stream = new LastingStream({
    clock: systemClock,
    random: () => 0.02,
    channel: run.channel,
    path: "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    opened: (call) => call.send(new Uint8Array(0)),
    message: () => {},
    ended: (status) => ends.push(status.message),
  });
  run.channel.start();
  await until(() => server.delta.length === 1, "a stream");
  expect(server.delta[0]?.metadata.get("authorization")).toEqual(["Bearer one"]);
  expect(server.delta[0]?.metadata.get("x-tenant")).toEqual(["t"]);
  server.delta[0]?.end({ code: 16, details: "the token has expired", metadata: server.delta[0].metadata });
  await until(() => server.delta.length === 2, "the next stream");
  expect(ends).toEqual(["the token has expired"]);
  expect(server.delta[1]?.metadata.get("authorization")).toEqual(["Bearer two"]);
  stream.stop();
  await until(() => server.delta[1]?.ended, "the end of the stream");
  server.stop();
  await until(() => heard.length === 2);
  expect(heard).toEqual(["opened", "closed"]);
  expect(ends.length).toBe(1);
});

test("a server that shuts down by force ends a connection once", async () => {
  // The socket's close came back before the connection had told of its own end: the channel connected twice, and one of the two outlived the proxy.
  const authority = createTestAuthority();
  stops.push(() => authority.close());
  const tls = { ca: authority.caPem, ...authority.issue("DNS:weft") };
  for (let round = 0; round < 5; round++) {
    const server = await startFakeControlPlane({ tls });
    stops.push(() => server.stop());
    const ends: string[] = [];
    let connection: Http2Connection | undefined;
    connectHttp2({
      clock: systemClock,
      address: { host: "127.0.0.1", port: server.port },
      tls: { roots: authority.caPem, certificate: null, serverName: "weft", verify: (peer) => peer.chainProblem },
      timeoutMs: 1000,
      opened: (opened) => {
        connection = opened;
      },
      closed: (reason) => ends.push(reason),
    });
    const open = await until(() => connection, "a connection");
    const quiet = { message: () => {}, ended: () => {}, writable: () => {} };
    const path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    new GrpcCall(open, { path, authority: "x", scheme: "https", metadata: [] }, quiet).send(new Uint8Array(0));
    await until(() => server.delta.length === 1, "a stream");
    server.stop();
    await until(() => ends.length > 0, "the end");
    await Bun.sleep(5);
    expect(ends.length).toBe(1);
  }
});

describe("several control planes", () => {
  const discovery = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
  const stream = (on: ControlChannel) =>
    new LastingStream({
      clock: systemClock,
      random: () => 0.02,
      channel: on,
      path: discovery,
      opened: (call) => call.send(new Uint8Array(0)),
      message: () => {},
      ended: () => {},
    });

  test("share a fleet: each proxy begins with another one", async () => {
    const servers = await Promise.all([0, 1, 2].map(() => startFakeControlPlane()));
    for (const server of servers) stops.push(() => server.stop());
    const ports = servers.map((server) => server.port);
    for (const random of [0.1, 0.5, 0.9]) {
      const run = channel(
        cluster(ports),
        () => undefined,
        () => random,
      );
      stream(run.channel);
      run.channel.start();
      await until(() => run.channel.connected, "a connection");
    }
    await until(() => servers.every((server) => server.delta.length === 1), "one stream each");
  });

  test("one that sends a proxy away, or is gone, is left for the next", async () => {
    const [first, second] = [await startFakeControlPlane(), await startFakeControlPlane()];
    for (const server of [first, second]) stops.push(() => server.stop());
    const run = channel(cluster([first.port, second.port]));
    stream(run.channel);
    run.channel.start();
    await until(() => first.delta.length === 1, "the first");
    first.delta[0]?.end({ code: 14, details: "the control plane is stopping", metadata: first.delta[0].metadata });
    await until(() => second.delta.length === 1, "the second");
    expect(first.delta.length).toBe(1);
    second.stop();
    await until(() => first.delta.length === 2, "the first again");
  });

  test("one that stands still is found by PING and left for the next", async () => {
    const [first, second] = [await startFakeControlPlane(), await startFakeControlPlane()];
    for (const server of [first, second]) stops.push(() => server.stop());
    // Between them: passes bytes on until it is told to keep them, and closes nothing.
    let silent = false;
    const sockets: Socket[] = [];
    const relay = createServer((incoming) => {
      const outgoing = connect(first.port, "127.0.0.1");
      sockets.push(incoming, outgoing);
      incoming.on("data", (bytes) => silent || outgoing.write(bytes));
      outgoing.on("data", (bytes) => silent || incoming.write(bytes));
      for (const socket of [incoming, outgoing]) socket.on("error", () => {});
    });
    await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
    stops.push(() => {
      for (const socket of sockets) socket.destroy();
      relay.close();
    });
    const relayPort = (relay.address() as AddressInfo).port;
    const run = channel(cluster([relayPort, second.port]));
    stream(run.channel);
    run.channel.start();
    await until(() => first.delta.length === 1, "the first");
    silent = true;
    const from = performance.now();
    while (second.delta.length === 0 && performance.now() - from < 12_000) await Bun.sleep(50);
    expect(second.delta.length).toBe(1);
    expect(performance.now() - from).toBeGreaterThan(3_000);
  }, 15_000);
});
