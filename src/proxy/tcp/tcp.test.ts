import { afterEach, describe, expect, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import type { AccessLogConfig, ClusterConfig, EndpointConfig, ProxyConfig, TcpProxyConfig } from "../config.ts";
import {
  chain,
  cluster,
  config,
  endpoint,
  hop,
  listener,
  RawPeer,
  type Running,
  rawOrigin,
  start,
  tcpProxy,
  until,
} from "../testing/fixture.ts";

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0).reverse()) end();
});

const log: AccessLogConfig = { sink: { kind: "file", path: "x", format: {} }, filter: null };

function opaque(endpoints: readonly EndpointConfig[], more: Partial<TcpProxyConfig> = {}, of: Partial<ClusterConfig> = {}): ProxyConfig {
  return config([listener("in", [chain(tcpProxy("o", { accessLogs: [log], ...more }))])], [cluster("o", endpoints, of)]);
}

function run(first: ProxyConfig, more: Parameters<typeof start>[1] = {}): Running {
  const running = start(first, more);
  ends.push(() => running.engine.close());
  return running;
}

function origin(...given: Parameters<typeof rawOrigin>): ReturnType<typeof rawOrigin> {
  const made = rawOrigin(...given);
  ends.push(made.stop);
  return made;
}

async function dial(port: number): Promise<RawPeer> {
  const peer = await RawPeer.connect(port);
  ends.push(() => peer.close());
  return peer;
}

/** An origin whose sockets the test drives. */
function seat(more: { end?: (socket: Bun.Socket<Buffer[]>) => void; paused?: boolean } = {}) {
  const sockets: Bun.Socket<Buffer[]>[] = [];
  const gone: (Error | undefined)[] = [];
  const server = Bun.listen<Buffer[]>({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: {
      open(socket) {
        socket.data = [];
        sockets.push(socket);
        if (more.paused === true) socket.pause();
      },
      data(socket, bytes) {
        socket.data.push(bytes);
      },
      end(socket) {
        more.end?.(socket);
      },
      close(_socket, error) {
        gone.push(error);
      },
      drain() {},
      error() {},
    },
  });
  ends.push(() => server.stop(true));
  return { port: server.port, sockets, gone, text: (n = 0) => Buffer.concat(sockets[n]?.data ?? []).toString("latin1") };
}

/** A port that nobody listens on. */
function closedPort(): number {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = server;
  server.stop(true);
  return port;
}

describe("both directions", () => {
  test("half close: each end may finish first, and the other goes on", async () => {
    const server = seat({
      end(socket) {
        // The client is done; it still gets an answer.
        if (server.sockets[0] !== socket) return;
        socket.write("last words");
        socket.shutdown();
      },
    });
    const running = run(opaque([endpoint(server.port)]));
    const client = await dial(running.port());
    client.send("question");
    await until(() => server.text() === "question", "the question");
    client.socket?.shutdown();
    await until(() => client.ended, "the end");
    expect(client.text).toBe("last words");
    await until(() => running.records.length === 1, "the record");
    expect(running.records[0]).toMatchObject({ kind: "tcp", flags: [], requestBytes: 8, responseBytes: 10 });
    // The other way round.
    const second = await dial(running.port());
    await until(() => server.sockets.length === 2, "the second connection");
    server.sockets[1]?.write("greeting");
    server.sockets[1]?.shutdown();
    await until(() => second.ended, "the server's end");
    expect(second.text).toBe("greeting");
    second.send("still talking");
    await until(() => server.text(1) === "still talking", "what came after the server's end");
    second.socket?.end();
    await until(() => running.records.length === 2, "the record");
    expect(running.records[1]).toMatchObject({ flags: [], requestBytes: 13, responseBytes: 8 });
    expect(running.count("istio_tcp_connections_opened_total")).toBe(2);
    expect(running.count("istio_tcp_connections_closed_total", "-")).toBe(2);
  });

  test("a server that speaks first is heard before the client says anything", async () => {
    const server = origin(() => {});
    const running = run(opaque([endpoint(seatThatGreets().port)]));
    const client = await dial(running.port());
    await until(() => client.text === "220 hello\r\n", "the greeting");
    server.stop();
    function seatThatGreets() {
      const greeter = Bun.listen({
        hostname: "127.0.0.1",
        port: 0,
        socket: { open: (socket) => void socket.write("220 hello\r\n"), data() {}, error() {}, drain() {} },
      });
      ends.push(() => greeter.stop(true));
      return greeter;
    }
  });

  test("bytes sent right before the end are not lost, however much waits", async () => {
    const server = seat({ paused: true });
    const running = run(opaque([endpoint(server.port)]));
    const client = await dial(running.port());
    const size = 12 << 20;
    let left = size;
    const chunk = Buffer.alloc(1 << 16, 7);
    while (left > 0) {
      const taken = client.socket?.write(chunk, 0, Math.min(chunk.length, left)) ?? 0;
      left -= taken;
      if (server.sockets.length > 0 && running.count("weft_read_pauses_total") > 1) server.sockets[0]?.resume();
      if (taken === 0) await Bun.sleep(1);
    }
    client.socket?.end();
    server.sockets[0]?.resume();
    const got = () => (server.sockets[0]?.data ?? []).reduce((sum, bytes) => sum + bytes.length, 0);
    await until(() => got() === size, "all of it");
  });

  test("a server that finished first still gets all that its client sends before it ends", async () => {
    const server = seat({ paused: true });
    const running = run(opaque([endpoint(server.port)]));
    const client = await dial(running.port());
    await until(() => server.sockets.length === 1, "the connection");
    server.sockets[0]?.write("bye");
    server.sockets[0]?.shutdown();
    await until(() => client.ended, "the server's end");
    const size = 8 << 20;
    let left = size;
    const chunk = Buffer.alloc(1 << 16, 7);
    while (left > 0) {
      const taken = client.socket?.write(chunk, 0, Math.min(chunk.length, left)) ?? 0;
      left -= taken;
      if (taken === 0) {
        server.sockets[0]?.resume();
        await Bun.sleep(1);
      }
    }
    client.socket?.end();
    server.sockets[0]?.resume();
    await until(() => (server.sockets[0]?.data ?? []).reduce((sum, bytes) => sum + bytes.length, 0) === size, "all of it");
    await until(() => running.records.length === 1, "the record");
    expect(running.records[0]).toMatchObject({ flags: [], requestBytes: size, responseBytes: 3 });
  });

  test("resets travel: a broken end is a broken end on the other side", async () => {
    const server = seat();
    const running = run(opaque([endpoint(server.port)]));
    const client = await dial(running.port());
    client.send("x");
    await until(() => server.text() === "x", "a byte");
    client.close();
    await until(() => server.gone.length === 1, "the reset");
    expect((server.gone[0] as { code?: string } | undefined)?.code).toBe("ECONNRESET");
    await until(() => running.records.length === 1, "the record");
    expect(running.records[0]?.flags).toEqual(["DC"]);
    expect(running.records[0]?.downstreamRemote.host).toBe("127.0.0.1");
    const other = await dial(running.port());
    await until(() => server.sockets.length === 2, "the second connection");
    server.sockets[1]?.terminate();
    await until(() => other.closed, "the reset");
    await until(() => running.records.length === 2, "the record");
    expect(running.records[1]?.flags).toEqual(["UC"]);
  });
});

describe("back pressure", () => {
  test("a reader that stops holds up the origin: 1 GiB is offered, little is held", async () => {
    const total = 1 << 30;
    let offered = 0;
    const chunk = Buffer.alloc(1 << 20);
    const push = (socket: Bun.Socket<unknown>) => {
      while (offered < total) {
        const most = Math.min(chunk.length, total - offered);
        const taken = socket.write(chunk, 0, most);
        offered += taken;
        if (taken < most) return;
      }
      socket.end();
    };
    const fast = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { open: push, drain: push, data() {}, error() {} } });
    ends.push(() => fast.stop(true));
    const running = run(opaque([endpoint(fast.port)]));
    let read = 0;
    let closed = false;
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: running.port(),
      socket: {
        open: (it) => void it.pause(),
        data: (_it, bytes) => {
          read += bytes.length;
        },
        close: () => {
          closed = true;
        },
        end() {},
        error() {},
      },
    });
    ends.push(() => socket.terminate());
    let before = -1;
    await until(() => {
      const still = offered === before && running.count("weft_read_pauses_total") > 1;
      before = offered;
      return still;
    }, "everything to stand still");
    // What was taken lies in kernel buffers; the proxy holds one read at most.
    expect(offered).toBeLessThan(64 << 20);
    expect(running.count("istio_tcp_sent_bytes_total")).toBeLessThan(64 << 20);
    socket.resume();
    await until(() => closed, "the end", 20_000);
    expect(read).toBe(total);
  }, 30_000);

  test("what Bun hands over stays as it was: bytes that wait need no copy", async () => {
    const kept: Uint8Array[] = [];
    let sum = 0;
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(_socket, bytes) {
          kept.push(bytes);
          sum += bytes.length;
        },
      },
    });
    ends.push(() => server.stop(true));
    const blocks = Array.from({ length: 16 }, (_none, n) => Buffer.alloc(300_000, n + 1));
    const client = await Bun.connect({ hostname: "127.0.0.1", port: server.port, socket: { data() {}, drain() {} } });
    for (const block of blocks) {
      let at = 0;
      while (at < block.length) {
        at += client.write(block, at, block.length - at);
        if (at < block.length) await Bun.sleep(1);
      }
    }
    await until(() => sum === 16 * 300_000, "all of it");
    expect(Buffer.concat(kept).equals(Buffer.concat(blocks))).toBe(true);
    client.end();
  });
});

describe("times and attempts", () => {
  test("idle: silence ends it, and so does not a slow reader; 0 is off", async () => {
    const clock = new PausedClock();
    const server = seat();
    const running = run(opaque([endpoint(server.port)], { idleTimeoutMs: 5_000 }), { clock });
    const client = await dial(running.port());
    client.send("a");
    await until(() => server.text() === "a", "a byte");
    clock.advance(4_000);
    server.sockets[0]?.write("b");
    await until(() => client.text === "b", "a byte");
    clock.advance(4_000);
    expect(client.closed).toBe(false);
    clock.advance(1_100);
    await until(() => client.closed, "the end");
    await until(() => running.records.length === 1, "the record");
    expect(running.records[0]?.flags).toEqual(["SI"]);
    const endless = run(opaque([endpoint(server.port)], { idleTimeoutMs: 0 }), { clock });
    const patient = await dial(endless.port());
    await until(() => server.sockets.length === 2, "the connection");
    clock.advance(86_400_000);
    patient.send("still here");
    await until(() => server.text(1) === "still here", "a byte");
  });

  test("a connection's time is over however busy it is", async () => {
    const clock = new PausedClock();
    const server = seat();
    const running = run(opaque([endpoint(server.port)], { maxDurationMs: 10_000 }), { clock });
    const client = await dial(running.port());
    for (let n = 1; n < 10; n++) {
      client.send("x");
      await until(() => server.text().length === n, "a byte");
      clock.advance(1_000);
    }
    expect(client.closed).toBe(false);
    clock.advance(1_100);
    await until(() => client.closed, "the end");
    await until(() => running.records.length === 1, "the record");
    expect(running.records[0]?.flags).toEqual(["DT"]);
  });

  test("a connection's time by its cluster: the shorter of it and the listener's", async () => {
    const clock = new PausedClock();
    const server = seat();
    const running = run(opaque([endpoint(server.port)], { maxDurationMs: 60_000 }, { connections: { opaqueMs: 5_000 } }), { clock });
    const client = await dial(running.port());
    client.send("x");
    await until(() => server.text().length === 1, "a byte");
    clock.advance(4_800);
    client.send("x");
    await until(() => server.text().length === 2, "a byte");
    expect(client.closed).toBe(false);
    clock.advance(400);
    await until(() => client.closed, "the end");
    await until(() => running.records.length === 1, "the record");
    expect(running.records[0]?.flags).toEqual(["DT"]);
  });

  test("attempts: as many as configured, each at another endpoint", async () => {
    const server = seat();
    const down = [endpoint(closedPort()), endpoint(closedPort()), endpoint(closedPort())];
    const balance = { kind: "round_robin" } as const;
    const one = run(opaque(down, { maxConnectAttempts: 1 }, { balance }));
    const refused = await dial(one.port());
    await until(() => refused.closed, "the refusal");
    await until(() => one.records.length === 1, "the record");
    expect(one.records[0]).toMatchObject({ attempts: 1, flags: ["UF"] });
    expect(one.records[0]?.reason).toContain("connection refused");
    const four = run(opaque([...down, endpoint(server.port)], { maxConnectAttempts: 4 }, { balance }));
    for (let n = 0; n < 4; n++) {
      const client = await dial(four.port());
      client.send("x");
      await until(() => server.sockets.length === n + 1, "an endpoint that is there");
    }
  });

  test("by the client's address: all of one client's connections reach one instance", async () => {
    const seats = [seat(), seat(), seat()];
    const ring = { kind: "ring_hash", minSize: 1024, maxSize: 8_388_608 } as const;
    const one = run(
      opaque(
        seats.map(({ port }) => endpoint(port)),
        { hashesSource: true },
        { balance: ring },
      ),
    );
    const count = () => seats.map(({ sockets }) => sockets.length);
    for (let n = 0; n < 8; n++) {
      const client = await dial(one.port());
      client.send("x");
      await until(() => count().reduce((sum, each) => sum + each, 0) === n + 1, "the connection");
    }
    expect(count().sort()).toEqual([0, 0, 8]);
  });

  test("a limit of connections, and a policy, refuse before anything is sent", async () => {
    const server = seat();
    const limits = { maxConnections: 1, maxPending: 1, maxRequests: 1, maxRetries: 1 };
    const running = run(opaque([endpoint(server.port)], {}, { limits }));
    const first = await dial(running.port());
    first.send("x");
    await until(() => server.text() === "x", "a byte");
    const second = await dial(running.port());
    await until(() => second.closed, "the refusal");
    await until(() => running.records.length === 1, "the record");
    expect(running.records[0]?.flags).toEqual(["UO"]);
    expect(server.sockets).toHaveLength(1);
  });

  test("weights part the connections", async () => {
    const [a, b] = [seat(), seat()];
    const terminal = tcpProxy("a", {
      clusters: [
        { cluster: "a", weight: 3 },
        { cluster: "b", weight: 1 },
      ],
    });
    let turn = 0;
    const running = run(config([listener("in", [chain(terminal)])], [cluster("a", [endpoint(a.port)]), cluster("b", [endpoint(b.port)])]), {
      random: () => (turn++ % 8) / 8,
    });
    for (let n = 0; n < 8; n++) {
      await dial(running.port());
      await until(() => a.sockets.length + b.sockets.length === n + 1, "the connection");
    }
    expect([a.sockets.length, b.sockets.length]).toEqual([6, 2]);
  });
});

describe("the PROXY protocol to an upstream", () => {
  for (const version of [1, 2] as const)
    test(`version ${version}: before the first byte of each connection, with the client's address`, async () => {
      const server = seat();
      const running = run(opaque([endpoint(server.port)], {}, { proxyProtocol: version }));
      const client = await dial(running.port());
      // Also when the client says nothing: servers that speak first wait for the header.
      await until(() => server.text().length > 0, "the header");
      client.send("hello");
      await until(() => server.text().endsWith("hello"), "the bytes");
      const from = client.socket?.localPort ?? 0;
      const to = running.port();
      const header =
        version === 1
          ? `PROXY TCP4 127.0.0.1 127.0.0.1 ${from} ${to}\r\n`
          : Buffer.from(
              `0d0a0d0a000d0a515549540a2111000c7f0000017f000001${from.toString(16).padStart(4, "0")}${to.toString(16).padStart(4, "0")}`,
              "hex",
            ).toString("latin1");
      expect(server.text()).toBe(`${header}hello`);
      expect(running.count("istio_tcp_received_bytes_total")).toBe(5);
    });

  test("HTTP to such a cluster is refused in words, and nothing is sent", async () => {
    const server = seat();
    const running = run(hop([cluster("app", [endpoint(server.port)], { proxyProtocol: 1 })]));
    const client = await dial(running.port());
    const answer = await client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(answer).toStartWith("HTTP/1.1 503 ");
    expect(answer).toContain("PROXY protocol");
    expect(server.sockets).toHaveLength(0);
  });
});
