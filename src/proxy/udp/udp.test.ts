import { afterEach, describe, expect, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import type { ClusterConfig, EndpointConfig, ListenerConfig, ProxyConfig, RbacConfig, UdpProxyConfig } from "../config.ts";
import { cluster, config, endpoint, type Running, start, until } from "../testing/fixture.ts";
import { udpLimits } from "./limits.ts";

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0).reverse()) end();
});

function udp(name: string, more: Partial<UdpProxyConfig> = {}): UdpProxyConfig {
  return {
    statPrefix: "udp",
    cluster: name,
    rbac: [],
    accessLogs: [],
    idleTimeoutMs: 60_000,
    maxRequestBytes: 65_507,
    maxAnswerBytes: 65_507,
    ...more,
  };
}

function udpListener(proxy: UdpProxyConfig, more: Partial<ListenerConfig> = {}): ListenerConfig {
  return { name: "in", address: { host: "127.0.0.1", port: 0 }, direction: "outbound", chains: [], inspectTls: false, udp: proxy, ...more };
}

function proxy(endpoints: readonly EndpointConfig[], more: Partial<UdpProxyConfig> = {}, of: Partial<ClusterConfig> = {}): ProxyConfig {
  return config([udpListener(udp("dns", more))], [cluster("dns", endpoints, { balance: { kind: "round_robin" }, ...of })]);
}

function run(first: ProxyConfig, more: Parameters<typeof start>[1] = {}): Running {
  const running = start(first, more);
  ends.push(() => running.engine.close());
  return running;
}

/** Answers each datagram with `answer(it)`; remembers from which ports they came. */
async function origin(answer: (bytes: Buffer) => Uint8Array | null = (bytes) => bytes, port = 0) {
  const seen: { text: string; from: number; size: number }[] = [];
  const socket = await Bun.udpSocket({
    hostname: "127.0.0.1",
    port,
    socket: {
      data(to, bytes, from, host) {
        seen.push({ text: bytes.toString("latin1", 0, 32), from, size: bytes.length });
        const out = answer(bytes);
        if (out !== null) to.send(out, from, host);
      },
      error() {},
    },
  });
  const made = { port: socket.port, seen, stop: () => void (socket.closed || socket.close()) };
  ends.push(made.stop);
  return made;
}

class Client {
  readonly got: Buffer[] = [];
  #socket: Bun.udp.ConnectedSocket<"buffer"> | null = null;

  static async to(port: number): Promise<Client> {
    const client = new Client();
    client.#socket = await Bun.udpSocket({
      connect: { hostname: "127.0.0.1", port },
      socket: { data: (_socket, bytes) => void client.got.push(bytes), error() {} },
    });
    ends.push(() => client.close());
    return client;
  }

  get port(): number {
    return this.#socket?.port ?? 0;
  }

  send(what: string | Uint8Array): void {
    this.#socket?.send(what);
  }

  close(): void {
    if (this.#socket?.closed === false) this.#socket.close();
  }

  async ask(what: string | Uint8Array): Promise<Buffer> {
    const before = this.got.length;
    this.send(what);
    await until(() => this.got.length > before, `an answer to ${String(what).slice(0, 20)}`);
    return this.got[before] as Buffer;
  }
}

const anybody = [{ kind: "any" }] as const;

describe("sessions", () => {
  test("datagrams of every size arrive whole both ways, each as one, and are counted", async () => {
    const server = await origin();
    const running = run(proxy([endpoint(server.port)], { accessLogs: [{ sink: { kind: "file", path: "x", format: {} }, filter: null }] }));
    const client = await Client.to(running.port());
    let sum = 0;
    for (const size of [0, 1, 512, 1200, 1472, 9000, 65_507]) {
      const bytes = Buffer.alloc(size, size & 0xff);
      expect((await client.ask(bytes)).equals(bytes)).toBe(true);
      sum += size;
    }
    expect(new Set(server.seen.map((one) => one.from)).size).toBe(1);
    expect(running.count("weft_udp_sessions_total", "source", "udp", "none")).toBe(1);
    expect(running.count("weft_udp_sessions", "in")).toBe(1);
    expect(running.count("weft_udp_datagrams_received_total")).toBe(7);
    expect(running.count("weft_udp_datagrams_sent_total")).toBe(7);
    expect(running.count("weft_udp_received_bytes_total")).toBe(sum);
    expect(running.count("weft_udp_sent_bytes_total")).toBe(sum);
    expect(running.engine.stats().connections).toBe(1);
    running.engine.close();
    expect(running.records).toHaveLength(1);
    expect(running.records[0]).toMatchObject({
      kind: "udp",
      protocol: "UDP",
      requestBytes: sum,
      responseBytes: sum,
      upstreamAddress: { host: "127.0.0.1", port: server.port },
      upstreamCluster: "dns",
      details: "closed",
      downstreamRemote: { host: "127.0.0.1", port: client.port },
    });
    expect(running.count("weft_udp_sessions", "in")).toBe(0);
  });

  test("many clients at once: each gets its own answers, over one session each", async () => {
    const server = await origin();
    const running = run(proxy([endpoint(server.port)]));
    const clients = await Promise.all(Array.from({ length: 200 }, () => Client.to(running.port())));
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(clients.map((client, n) => client.ask(`client ${n} round ${round}`)));
      expect(answers.map(String)).toEqual(clients.map((_client, n) => `client ${n} round ${round}`));
    }
    expect(running.count("weft_udp_sessions", "in")).toBe(200);
    expect(running.count("weft_udp_sessions_total")).toBe(200);
    expect(running.count("weft_udp_datagrams_dropped_total")).toBe(0);
  });

  test("answers to nobody's question arrive too, and a stranger's datagram to a session's socket does not", async () => {
    const server = await origin((bytes) => (bytes.toString() === "subscribe" ? null : bytes));
    const running = run(proxy([endpoint(server.port)]));
    const client = await Client.to(running.port());
    client.send("subscribe");
    await until(() => server.seen.length === 1, "the subscription");
    const session = server.seen[0]?.from as number;
    const stranger = await Client.to(session);
    stranger.send("forged");
    expect((await client.ask("hello")).toString()).toBe("hello");
    expect(client.got.map(String)).toEqual(["hello"]);
  });

  test("a client that has gone costs nobody else an answer", async () => {
    // The kernel tells of the closed port at the next send, whoever that is to.
    const homes = new Map<string, number>();
    const server = await Bun.udpSocket({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(to, bytes, from, host) {
          const text = bytes.toString();
          homes.set(text, from);
          if (text.startsWith("stays")) {
            for (const [, port] of homes) if (port !== from) to.send("late", port, host);
            to.send(text, from, host);
          }
        },
      },
    });
    ends.push(() => server.close());
    const running = run(proxy([endpoint(server.port)]));
    const stays = await Client.to(running.port());
    for (let n = 0; n < 10; n++) {
      const goes = await Client.to(running.port());
      goes.send(`goes ${n}`);
      await until(() => homes.has(`goes ${n}`), "its datagram");
      goes.close();
      expect((await stays.ask(`stays ${n}`)).toString()).toBe(`stays ${n}`);
      homes.delete(`stays ${n}`);
    }
  });

  test("idle sessions end when their time is up, busy ones do not", async () => {
    const clock = new PausedClock();
    const server = await origin();
    const running = run(proxy([endpoint(server.port)], { idleTimeoutMs: 10_000 }), { clock });
    const [quiet, busy] = [await Client.to(running.port()), await Client.to(running.port())];
    await quiet.ask("q");
    await busy.ask("b");
    clock.advance(6_000);
    await busy.ask("b");
    clock.advance(4_100);
    expect(running.count("weft_udp_sessions", "in")).toBe(1);
    expect(running.count("weft_udp_sessions_ended_total", "idle")).toBe(1);
    await busy.ask("b");
    expect(server.seen.filter((one) => one.text === "b").map((one) => one.from)).toEqual(new Array(3).fill(server.seen[1]?.from));
    clock.advance(10_100);
    expect(running.count("weft_udp_sessions", "in")).toBe(0);
    // The next datagram simply begins anew.
    await quiet.ask("q");
    expect(running.count("weft_udp_sessions_total")).toBe(3);
  });

  test("an idle listener does not tick", async () => {
    const clock = new PausedClock();
    const server = await origin();
    const running = run(proxy([endpoint(server.port)], { idleTimeoutMs: 1_000 }), { clock });
    const client = await Client.to(running.port());
    await client.ask("x");
    clock.advance(2_000);
    let ticks = 0;
    const every = clock.every.bind(clock);
    clock.every = (ms, go) =>
      every(ms, () => {
        ticks++;
        go();
      });
    clock.advance(10_000);
    expect(ticks).toBe(0);
    await client.ask("y");
    clock.advance(500);
    expect(ticks).toBeGreaterThan(0);
  });
});

describe("endpoints", () => {
  test("a session keeps its endpoint; sessions spread", async () => {
    const [a, b] = [await origin(() => Buffer.from("a")), await origin(() => Buffer.from("b"))];
    const running = run(proxy([endpoint(a.port), endpoint(b.port)]));
    const clients = await Promise.all(Array.from({ length: 10 }, () => Client.to(running.port())));
    for (const client of clients) for (let n = 0; n < 4; n++) await client.ask("?");
    const homes = clients.map((client) => new Set(client.got.map(String)));
    for (const home of homes) expect(home.size).toBe(1);
    expect(homes.filter((home) => home.has("a"))).toHaveLength(5);
  });

  test("a restarted upstream is found again; while it is down its sessions go elsewhere", async () => {
    const clock = new PausedClock();
    const a = await origin(() => Buffer.from("a"));
    const b = await origin(() => Buffer.from("b"));
    const running = run(proxy([endpoint(a.port), endpoint(b.port)]), { clock });
    const clients = [await Client.to(running.port()), await Client.to(running.port())];
    for (const client of clients) await client.ask("?");
    const onA = clients.find((client) => client.got[0]?.toString() === "a") as Client;
    a.stop();
    // The first datagram is lost, and ICMP tells; the next one goes to the other.
    onA.send("lost");
    await until(() => running.count("weft_udp_upstream_unreachable_total", "in") > 0, "ICMP");
    expect((await onA.ask("?")).toString()).toBe("b");
    expect(running.count("weft_udp_sessions", "in")).toBe(2);
    // A new client avoids the one that is down.
    expect((await (await Client.to(running.port())).ask("?")).toString()).toBe("b");
    const again = await origin(() => Buffer.from("a"), a.port);
    clock.advance(15_000);
    const fresh = await Promise.all([Client.to(running.port()), Client.to(running.port())]);
    const homes = [];
    for (const client of fresh) homes.push((await client.ask("?")).toString());
    expect(homes.sort()).toEqual(["a", "b"]);
    again.stop();
  });

  test("with one endpoint that restarts the session goes on", async () => {
    const a = await origin();
    const running = run(proxy([endpoint(a.port)]));
    const client = await Client.to(running.port());
    await client.ask("one");
    a.stop();
    client.send("lost");
    await until(() => running.count("weft_udp_upstream_unreachable_total", "in") > 0, "ICMP");
    await origin(undefined, a.port);
    expect((await client.ask("two")).toString()).toBe("two");
    expect(running.count("weft_udp_sessions_total")).toBe(1);
  });

  test("a removed endpoint ends its sessions, an unhealthy one loses them with the next datagram", async () => {
    const [a, b, c] = [await origin(() => Buffer.from("a")), await origin(() => Buffer.from("b")), await origin(() => Buffer.from("c"))];
    const listener = udpListener(udp("dns"));
    // Without the panic threshold: one that is known to be ill is then never asked.
    const of = (...list: EndpointConfig[]) =>
      config([listener], [cluster("dns", list, { balance: { kind: "round_robin" }, panicPercent: 0 })]);
    const running = run(of(endpoint(a.port), endpoint(b.port), endpoint(c.port)));
    const clients = await Promise.all([1, 2, 3].map(() => Client.to(running.port())));
    const homes = new Map<string, Client>();
    for (const client of clients) homes.set((await client.ask("?")).toString(), client);
    expect([...homes.keys()].sort()).toEqual(["a", "b", "c"]);
    expect(running.engine.apply(of(endpoint(b.port, { healthy: false }), endpoint(c.port)))).toEqual([]);
    expect(running.count("weft_udp_sessions_ended_total", "endpoint_gone")).toBe(1);
    expect((await (homes.get("b") as Client).ask("?")).toString()).toBe("c");
    expect((await (homes.get("a") as Client).ask("?")).toString()).toBe("c");
    expect((await (homes.get("c") as Client).ask("?")).toString()).toBe("c");
    expect(running.engine.apply(of(endpoint(c.port, { healthy: false })))).toEqual([]);
    for (const client of clients) client.send("?");
    await until(() => running.count("weft_udp_datagrams_dropped_total", "no_endpoint") === 3, "drops");
    expect(running.count("weft_udp_sessions", "in")).toBe(0);
  });

  test("an endpoint that takes mutual TLS only gets no plain datagram", async () => {
    const server = await origin();
    const tls = { certificate: null, roots: null, peerNames: [], alpn: [], sni: "", minVersion: "TLSv1.3" as const };
    const running = run(proxy([endpoint(server.port)], {}, { tls }));
    (await Client.to(running.port())).send("secret");
    await until(() => running.count("weft_udp_datagrams_dropped_total", "needs_tls") === 1, "the drop");
    expect(server.seen).toEqual([]);
  });
});

describe("limits", () => {
  test("too large, either way", async () => {
    const server = await origin((bytes) => (bytes.toString() === "grow" ? Buffer.alloc(600) : bytes));
    const running = run(proxy([endpoint(server.port)], { maxRequestBytes: 100, maxAnswerBytes: 512 }));
    const client = await Client.to(running.port());
    client.send(Buffer.alloc(101));
    client.send("grow");
    await until(() => running.count("weft_udp_datagrams_dropped_total", "too_large") === 2, "two drops");
    expect((await client.ask(Buffer.alloc(100))).length).toBe(100);
    expect(client.got).toHaveLength(1);
  });

  test("a full cluster: busy sessions stay, the longest quiet one makes room", async () => {
    const clock = new PausedClock();
    const server = await origin();
    const limits = { maxConnections: 3, maxPending: 1024, maxRequests: 1024, maxRetries: 3 };
    const running = run(proxy([endpoint(server.port)], {}, { limits }), { clock });
    const clients = await Promise.all([1, 2, 3, 4].map(() => Client.to(running.port())));
    const [first, second, third, late] = clients as [Client, Client, Client, Client];
    for (const client of [first, second, third]) await client.ask("1");
    late.send("1");
    await until(() => running.count("weft_udp_datagrams_dropped_total", "overflow") === 1, "a refusal");
    clock.advance(udpLimits.evictQuietMs / 2);
    await first.ask("2");
    clock.advance(udpLimits.evictQuietMs / 2);
    // Now `second` is the one that was quiet for longest.
    expect((await late.ask("2")).toString()).toBe("2");
    expect(running.count("weft_udp_sessions_ended_total", "evicted")).toBe(1);
    expect(running.count("weft_udp_sessions", "in")).toBe(3);
    const before = running.count("weft_udp_sessions_total");
    await first.ask("3");
    await third.ask("3");
    expect(running.count("weft_udp_sessions_total")).toBe(before);
  });

  test("a flood of one-off clients neither grows without bound nor stops the service", async () => {
    const clock = new PausedClock();
    const server = await origin();
    const limits = { maxConnections: 50, maxPending: 1024, maxRequests: 1024, maxRetries: 3 };
    const running = run(proxy([endpoint(server.port)], {}, { limits }), { clock });
    const loyal = await Client.to(running.port());
    for (let wave = 0; wave < 5; wave++) {
      await loyal.ask("still here");
      for (let n = 0; n < 60; n++) {
        const once = await Client.to(running.port());
        once.send("once");
        once.close();
      }
      await until(() => server.seen.length + running.count("weft_udp_datagrams_dropped_total", "overflow") >= (wave + 1) * 61, "the wave");
      expect(running.count("weft_udp_sessions", "in")).toBe(50);
      clock.advance(udpLimits.evictQuietMs - 100);
      await loyal.ask("still here");
      clock.advance(100);
    }
    expect(new Set(server.seen.filter((one) => one.text === "still here").map((one) => one.from)).size).toBe(1);
  });
});

describe("policies", () => {
  const by = (action: RbacConfig["action"], prefix: string): RbacConfig => ({
    action,
    policies: [{ name: "p", permissions: anybody, principals: [{ kind: "remote_ip", prefix, prefixLength: 32 }] }],
  });

  test("DENY by address", async () => {
    const server = await origin();
    const running = run(proxy([endpoint(server.port)], { rbac: [by("deny", "127.0.0.1")] }));
    (await Client.to(running.port())).send("x");
    await until(() => running.count("weft_udp_datagrams_dropped_total", "denied") === 1, "the refusal");
    expect(server.seen).toEqual([]);
  });

  test("ALLOW by address, by port, and nobody else", async () => {
    const server = await origin();
    const running = run(proxy([endpoint(server.port)], { rbac: [by("allow", "127.0.0.1")] }));
    const client = await Client.to(running.port());
    await client.ask("x");
    // A change of policy is felt by the session that is open.
    const listener = udpListener(udp("dns", { rbac: [by("allow", "192.0.2.1")] }));
    running.engine.apply(config([listener], [cluster("dns", [endpoint(server.port)], { balance: { kind: "round_robin" } })]));
    expect(running.count("weft_udp_sessions_ended_total", "denied")).toBe(1);
    client.send("y");
    await until(() => running.count("weft_udp_datagrams_dropped_total", "denied") === 1, "the refusal");
    expect(server.seen.map((one) => one.text)).toEqual(["x"]);
  });
});

describe("listeners", () => {
  test("an address that is taken is a failure in words, and the others serve", async () => {
    const server = await origin();
    const running = run(proxy([endpoint(server.port)]));
    const taken = udpListener(udp("dns"), { name: "taken", address: { host: "127.0.0.1", port: server.port } });
    const failed = running.engine.apply(
      config([udpListener(udp("dns")), taken], [cluster("dns", [endpoint(server.port)], { balance: { kind: "round_robin" } })]),
    );
    expect(failed).toHaveLength(1);
    expect(failed[0]?.reason).toBe(`127.0.0.1:${server.port} is in use by another process`);
    await (await Client.to(running.port())).ask("x");
  });

  test("a moved listener serves its new address at once; sessions of the old one go on until they are quiet", async () => {
    const clock = new PausedClock();
    const server = await origin();
    const running = run(proxy([endpoint(server.port)]), { clock });
    const client = await Client.to(running.port());
    await client.ask("before");
    const old = running.port();
    const moved = udpListener(udp("dns"), { address: { host: "127.0.0.2", port: 0 } });
    expect(running.engine.apply(config([moved], [cluster("dns", [endpoint(server.port)], { balance: { kind: "round_robin" } })]))).toEqual(
      [],
    );
    expect((await client.ask("after")).toString()).toBe("after");
    const stranger = await Client.to(old);
    stranger.send("new here");
    await until(() => running.count("weft_udp_datagrams_dropped_total", "draining") === 1, "the refusal");
    clock.advance(udpLimits.drainQuietMs + 100);
    expect(running.count("weft_udp_sessions", "in")).toBe(0);
    // The old socket is gone: its port can be had.
    await origin(undefined, old);
  });

  test("drain lets busy sessions go on until the grace is over", async () => {
    const clock = new PausedClock();
    const server = await origin();
    const running = run(proxy([endpoint(server.port)]), { clock });
    const [busy, quiet] = [await Client.to(running.port()), await Client.to(running.port())];
    await busy.ask("x");
    await quiet.ask("x");
    let drained = false;
    const done = running.engine.drain(20_000).then(() => {
      drained = true;
    });
    for (let n = 0; n < 4; n++) {
      clock.advance(4_000);
      await busy.ask("y");
    }
    expect(running.count("weft_udp_sessions", "in")).toBe(1);
    expect(drained).toBe(false);
    clock.advance(4_100);
    await done;
    expect(running.count("weft_udp_sessions", "in")).toBe(0);
    await origin(undefined, running.port());
  });

  test("two processes on one address: a client stays with one, and goes to the other when that closes", async () => {
    const clock = new PausedClock();
    const server = await origin();
    const first = run(proxy([endpoint(server.port)]), { clock, shareDatagrams: true });
    const address = { host: "127.0.0.1", port: first.port() };
    const listener = udpListener(udp("dns"), { address });
    const second = run(config([listener], [cluster("dns", [endpoint(server.port)])]), { clock, shareDatagrams: true });
    const clients = await Promise.all(Array.from({ length: 24 }, () => Client.to(address.port)));
    for (let round = 0; round < 2; round++) for (const client of clients) await client.ask("x");
    const [a, b] = [first.count("weft_udp_sessions", "in"), second.count("weft_udp_sessions", "in")];
    expect(a + b).toBe(24);
    expect(Math.min(a, b)).toBeGreaterThan(0);
    const drained = first.engine.drain(10_000);
    // Everybody is served all the time.
    for (const client of clients) await client.ask("y");
    clock.advance(udpLimits.sharedDrainMs + 100);
    await drained;
    for (const client of clients) await client.ask("z");
    expect(second.count("weft_udp_sessions", "in")).toBe(24);
    expect(first.count("weft_udp_datagrams_dropped_total") + second.count("weft_udp_datagrams_dropped_total")).toBe(0);
  });

  test("a name that changes from UDP to TCP and back", async () => {
    const server = await origin();
    const first = proxy([endpoint(server.port)]);
    const running = run(first);
    const { chain, listener, tcpProxy } = await import("../testing/fixture.ts");
    const tcp = config([listener("in", [chain(tcpProxy("dns"))])], [...first.clusters.values()]);
    expect(running.engine.apply(tcp)).toEqual([]);
    expect(running.engine.stats().listeners).toHaveLength(1);
    expect(running.engine.apply(first)).toEqual([]);
    expect(running.engine.stats().listeners).toHaveLength(1);
    await (await Client.to(running.port())).ask("x");
  });
});
