// A connection's first moments: what decides its chain, how long that may take, and that no byte is lost on the way.

import { afterEach, beforeAll, expect, test } from "bun:test";
import type { Logger } from "../../base/log.ts";
import type { DownstreamTlsConfig, FilterChainConfig, ListenerFilters, RbacConfig, SecretSource } from "../config.ts";
import {
  catchAll,
  chain,
  cluster,
  config,
  endpoint,
  http,
  listener,
  RawPeer,
  type Running,
  rawOrigin,
  start,
  tcpProxy,
  until,
} from "../testing/fixture.ts";
import { type Authority, authority, type Leaf, leaf } from "../testing/pki.ts";

let root: Authority;
let own: Leaf;
let client: Leaf;
const id = (name: string) => `spiffe://cluster.local/ns/shop/sa/${name}`;

beforeAll(async () => {
  root = await authority("mesh");
  own = await leaf(root, [id("cart")]);
  client = await leaf(root, [id("front")]);
});

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

function keep(running: Running): Running {
  stops.push(() => running.engine.close());
  return running;
}

const secrets = (): SecretSource => ({ generation: 1, certificate: () => own, roots: () => root.pem });

const mutual = (): DownstreamTlsConfig => ({
  certificate: { kind: "secret", name: "default" },
  roots: { kind: "secret", name: "ROOTCA" },
  requireClientCertificate: true,
  peerNames: [],
  alpn: ["istio", "http/1.1"],
  minVersion: "TLSv1.3",
});

const match = (more: Partial<FilterChainConfig["match"]>): FilterChainConfig["match"] => ({
  transport: null,
  alpn: [],
  serverNames: [],
  ...more,
});
const before = (more: Partial<ListenerFilters>): ListenerFilters => ({
  proxyProtocol: null,
  originalDestination: false,
  inspectHttp: false,
  timeoutMs: 15_000,
  continueOnTimeout: false,
  ...more,
});

function answering(body: string) {
  const made = rawOrigin((text, write) => {
    if (text.includes("\r\n\r\n")) write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  });
  stops.push(() => made.stop());
  return made;
}

/** Says everything back, after a greeting. */
function greeting(text = "220 ready\r\n") {
  const made = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: {
      open: (socket) => void socket.write(text),
      data: (socket, bytes) => void socket.write(bytes),
      end: (socket) => void socket.end(),
      error() {},
    },
  });
  stops.push(() => made.stop(true));
  return made;
}

function echo() {
  const made = rawOrigin((text, write) => write(`[${text}]`));
  stops.push(() => made.stop());
  return made;
}

const get = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
const clientTls = (alpn?: string): Bun.TLSOptions => ({
  ca: root.pem,
  cert: client.certificatePem,
  key: client.privateKeyPem,
  rejectUnauthorized: false,
  ...(alpn === undefined ? {} : { ALPNProtocols: new Uint8Array([alpn.length, ...Buffer.from(alpn)]) as unknown as string }),
});

function permissive(port: number): Running {
  const terminal = http({ inline: catchAll("app") });
  return keep(
    start(
      config(
        [
          listener(
            "in",
            [
              chain(terminal, { name: "mtls", match: match({ transport: "tls" }), tls: mutual() }),
              chain(terminal, { name: "plain", match: match({ transport: "raw_buffer" }) }),
            ],
            { direction: "inbound", inspectTls: true },
          ),
        ],
        [cluster("app", [endpoint(port)])],
      ),
      { secrets: secrets() },
    ),
  );
}

test("one port takes mutual TLS and plain text, and plain text has no identity", async () => {
  const server = permissive(answering("hi").port);
  const plain = await RawPeer.connect(server.port());
  expect(await plain.ask(get)).toEndWith("hi");
  const secure = await RawPeer.connect(server.port(), clientTls());
  expect(await secure.ask(get)).toEndWith("hi");
  expect(server.count("istio_requests_total", "destination", "mutual_tls", id("front"))).toBe(1);
  expect(server.count("istio_requests_total", "destination", "none", "unknown")).toBe(1);
  // Without a certificate TLS is refused, plain text or not beside it.
  const stranger = await RawPeer.connect(server.port(), { ca: root.pem, rejectUnauthorized: false });
  stranger.send(get);
  await until(() => stranger.closed, "the refusal");
  expect(server.count("weft_downstream_tls_refused_total", "no_certificate")).toBe(1);
});

test("a plain request whose bytes come one by one is whole behind the look", async () => {
  const server = permissive(answering("hi").port);
  const peer = await RawPeer.connect(server.port());
  for (const byte of get) {
    peer.send(byte);
    await Bun.sleep(0);
  }
  await until(() => peer.text.endsWith("hi"), "the answer");
});

test("chains by ALPN, as Istio splits a port", async () => {
  const mesh = echo();
  const other = greeting("other\n");
  const server = keep(
    start(
      config(
        [
          listener(
            "in",
            [
              chain(tcpProxy("mesh"), { match: match({ transport: "tls", alpn: ["istio"] }), tls: mutual() }),
              chain(tcpProxy("other"), {
                match: match({ transport: "tls" }),
                tls: { ...mutual(), requireClientCertificate: false, alpn: [] },
              }),
            ],
            { inspectTls: true },
          ),
        ],
        [cluster("mesh", [endpoint(mesh.port)]), cluster("other", [endpoint(other.port)])],
      ),
      { secrets: secrets() },
    ),
  );
  const ours = await RawPeer.connect(server.port(), clientTls("istio"));
  ours.send("x");
  await until(() => ours.text === "[x]", "the mesh's chain");
  const theirs = await RawPeer.connect(server.port(), { rejectUnauthorized: false });
  await until(() => theirs.text === "other\n", "the other chain");
});

test("plain HTTP and opaque TCP on one port, told apart by the first line", async () => {
  const server = keep(
    start(
      config(
        [
          listener(
            "in",
            [
              chain(http({ inline: catchAll("web") }), { match: match({ alpn: ["http/1.0", "http/1.1"] }) }),
              chain(tcpProxy("raw"), { match: match({}) }),
            ],
            { inspectTls: true, before: before({ inspectHttp: true }) },
          ),
        ],
        [cluster("web", [endpoint(answering("web").port)]), cluster("raw", [endpoint(echo().port)])],
      ),
    ),
  );
  const web = await RawPeer.connect(server.port());
  web.send("GET / HT");
  await Bun.sleep(5);
  web.send("TP/1.1\r\nHost: a\r\n\r\n");
  await until(() => web.text.endsWith("web"), "the answer");
  const raw = await RawPeer.connect(server.port());
  raw.send("EHLO x\r\n");
  await until(() => raw.text === "[EHLO x\r\n]", "the echo");
  // A client that ends before it is clear what it speaks is opaque, and hears the answer.
  const short = await RawPeer.connect(server.port());
  short.send("GET");
  short.socket?.shutdown();
  await until(() => short.text === "[GET]", "the echo");
});

function serverFirst(more: Partial<ListenerFilters>): Running {
  return keep(
    start(
      config(
        [
          listener(
            "in",
            [
              chain(tcpProxy("c"), { match: match({ transport: "raw_buffer" }) }),
              chain(tcpProxy("c"), { match: match({ transport: "tls" }), tls: mutual() }),
            ],
            { inspectTls: true, before: before(more) },
          ),
          listener("simple", [chain(tcpProxy("c"))]),
        ],
        [cluster("c", [endpoint(greeting().port)])],
      ),
      { secrets: secrets() },
    ),
  );
}

test("a server that speaks first is heard after the wait, and at once where nothing has to be known", async () => {
  const server = serverFirst({ timeoutMs: 120, continueOnTimeout: true });
  const began = performance.now();
  const simple = await RawPeer.connect(server.port("simple"));
  await until(() => simple.text === "220 ready\r\n", "the greeting");
  expect(performance.now() - began).toBeLessThan(100);
  const peer = await RawPeer.connect(server.port());
  await until(() => peer.text === "220 ready\r\n", "the greeting");
  expect(performance.now() - began).toBeGreaterThan(100);
  peer.send("hello");
  await until(() => peer.text.endsWith("hello"), "the echo");
  // Part of a ClientHello and then silence is no opaque protocol.
  const stuck = await RawPeer.connect(server.port());
  stuck.send("\u0016\u0003\u0001\u0002\u0000");
  await until(() => stuck.text !== "" || stuck.closed, "the end of the wait");
  expect(stuck.text).toStartWith("220");
});

test("without leave to go on the silent are let go", async () => {
  const server = serverFirst({ timeoutMs: 60 });
  const peer = await RawPeer.connect(server.port());
  await until(() => peer.closed, "the end");
  expect(peer.text).toBe("");
  expect(server.count("weft_downstream_unmatched_total")).toBe(1);
  expect(server.engine.stats().connections).toBe(0);
});

/** A TLS server that says who it is. */
async function named(name: string) {
  const certificate = await leaf(root, [id(name)]);
  const made = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    tls: { cert: certificate.certificatePem, key: certificate.privateKeyPem },
    socket: { data: (socket, bytes) => void socket.write(`${name}:${bytes.toString()}`), error() {} },
  });
  stops.push(() => made.stop(true));
  return made;
}

test("server names: passthrough keeps the end-to-end session, termination takes that chain's certificate", async () => {
  const [shop, api] = [await named("shop"), await named("api")];
  const third = await leaf(root, [id("third")]);
  const server = keep(
    start(
      config(
        [
          listener(
            "in",
            [
              chain(tcpProxy("shop"), { match: match({ transport: "tls", serverNames: ["shop.example"] }) }),
              chain(tcpProxy("api"), { match: match({ transport: "tls", serverNames: ["*.api.example"] }) }),
              chain(tcpProxy("echo"), {
                match: match({ serverNames: ["end.example"] }),
                tls: { ...mutual(), certificate: { kind: "pem", ...third }, roots: null, requireClientCertificate: false, alpn: [] },
              }),
            ],
            { inspectTls: true },
          ),
        ],
        [cluster("shop", [endpoint(shop.port)]), cluster("api", [endpoint(api.port)]), cluster("echo", [endpoint(echo().port)])],
      ),
    ),
  );
  const ask = async (serverName: string) => {
    const peer = await RawPeer.connect(server.port(), { serverName, rejectUnauthorized: false } as Bun.TLSOptions);
    peer.send("x");
    await until(() => peer.text !== "" || peer.closed, serverName);
    return peer.text;
  };
  expect(await ask("shop.example")).toBe("shop:x");
  expect(await ask("v1.api.example")).toBe("api:x");
  expect(await ask("end.example")).toBe("[x]");
  expect(await ask("other.example")).toBe("");
  expect(server.count("weft_downstream_unmatched_total")).toBe(1);
});

function behindBalancer(
  more: Partial<NonNullable<ListenerFilters["proxyProtocol"]>>,
  rbac: readonly RbacConfig[] = [],
  log?: Logger,
): Running {
  return keep(
    start(
      config(
        [
          listener(
            "in",
            [
              chain(http({ inline: catchAll("app") }, { accessLogs: [{ sink: { kind: "file", path: "x", format: {} }, filter: null }] }), {
                networkRbac: rbac,
              }),
            ],
            {
              before: before({ proxyProtocol: { allowAbsent: false, versions: [1, 2], ...more } }),
            },
          ),
        ],
        [cluster("app", [endpoint(answering("hi").port)])],
      ),
      log === undefined ? {} : { log },
    ),
  );
}

const v1 = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

test("a PROXY protocol header says who is there, whatever it is split into", async () => {
  const server = behindBalancer({});
  const v2 = Buffer.from([13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10, 0x21, 0x11, 0, 12, 192, 0, 2, 8, 198, 51, 100, 1, 0, 9, 1, 0xbb]);
  for (const [lead, remote] of [
    [v1, { host: "192.0.2.7", port: 4711 }],
    [v2.toString("latin1"), { host: "192.0.2.8", port: 9 }],
  ] as const) {
    for (const cut of [1, 5, 13, lead.length, lead.length + 3]) {
      const peer = await RawPeer.connect(server.port());
      const whole = lead + get;
      peer.send(whole.slice(0, cut));
      await Bun.sleep(2);
      peer.send(whole.slice(cut));
      await until(() => peer.text.endsWith("hi"), "the answer");
      expect(server.records.at(-1)?.downstreamRemote).toEqual(remote);
      expect(server.records.at(-1)?.downstreamLocal).toEqual({ host: "198.51.100.1", port: 443 });
      peer.close();
    }
  }
  // LOCAL: the balancer's own check.
  const local = await RawPeer.connect(server.port());
  local.send(Buffer.from([13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10, 0x20, 0, 0, 0]).toString("latin1") + get);
  await until(() => local.text.endsWith("hi"), "the answer");
  expect(server.records.at(-1)?.downstreamRemote.host).toBe("127.0.0.1");
});

test("without the header, or with a bad one, a connection ends", async () => {
  const lines: string[] = [];
  const add = (fields: Readonly<Record<string, unknown>>) => void lines.push(String(fields.reason));
  const server = behindBalancer({ versions: [2] }, [], { debug: add, info: add, warn: add, error: add });
  for (const text of [get, "PROXY TCP4 1.2.3.4 nonsense 1 2\r\n", v1]) {
    const peer = await RawPeer.connect(server.port());
    peer.send(text);
    await until(() => peer.closed, "the end");
    expect(peer.text).toBe("");
  }
  expect(server.count("weft_downstream_unmatched_total")).toBe(3);
  expect(lines).toContain("it does not begin with a PROXY protocol header");
});

test("where the header may be absent, a connection without one is served as it is", async () => {
  const server = behindBalancer({ allowAbsent: true });
  const peer = await RawPeer.connect(server.port());
  expect(await peer.ask(get)).toEndWith("hi");
  const headed = await RawPeer.connect(server.port());
  headed.send(v1 + get);
  await until(() => headed.text.endsWith("hi"), "the answer");
  expect(server.records.at(-1)?.downstreamRemote.host).toBe("192.0.2.7");
});

test("policies on ports judge the header's destination; policies on the direct address judge the socket", async () => {
  const policy = (permission: RbacConfig["policies"][number]["permissions"][number], prefix: string): RbacConfig => ({
    action: "allow",
    policies: [{ name: "p", permissions: [permission], principals: [{ kind: "remote_ip", prefix, prefixLength: 8 }] }],
  });
  const ask = async (rbac: RbacConfig) => {
    const server = behindBalancer({}, [rbac]);
    const peer = await RawPeer.connect(server.port());
    peer.send(v1 + get);
    await until(() => peer.text.endsWith("hi") || peer.closed, "an answer or the end");
    return peer.text.endsWith("hi");
  };
  expect(await ask(policy({ kind: "port", port: 443 }, "127.0.0.0"))).toBe(true);
  expect(await ask(policy({ kind: "port", port: 444 }, "127.0.0.0"))).toBe(false);
  expect(await ask(policy({ kind: "any" }, "192.0.0.0"))).toBe(false);
});

test("a PROXY header before TLS: the session begins behind it", async () => {
  const server = keep(
    start(
      config(
        [
          listener("in", [chain(tcpProxy("c"), { tls: { ...mutual(), alpn: [] } })], {
            before: before({ proxyProtocol: { allowAbsent: false, versions: [1, 2] } }),
          }),
        ],
        [cluster("c", [endpoint(echo().port)])],
      ),
      { secrets: secrets() },
    ),
  );
  const said = await new Promise<string>((resolve, reject) => {
    void Bun.connect({
      hostname: "127.0.0.1",
      port: server.port(),
      socket: {
        open(raw) {
          raw.write(v1);
          const upgraded = raw.upgradeTLS({
            data: undefined,
            tls: clientTls(),
            socket: {
              handshake: (socket: Bun.Socket) => void socket.write("x"),
              data: (_socket: Bun.Socket, bytes: Buffer) => resolve(bytes.toString()),
              close: () => reject(new Error("closed")),
              error: (_socket: Bun.Socket, error: Error) => reject(error),
            },
          } as never) as unknown;
          void upgraded;
        },
        data() {},
        error() {},
      },
    });
  });
  expect(said).toBe("[x]");
});

test("a chain that is taken away while a connection is being looked at does not serve it", async () => {
  const origin = echo();
  const server = permissive(origin.port);
  const peer = await RawPeer.connect(server.port());
  await until(() => server.engine.stats().connections === 1, "the connection");
  // STRICT: the plain chain is gone.
  const failed = server.engine.apply(
    config(
      [listener("in", [chain(http({ inline: catchAll("app") }), { name: "mtls", tls: mutual() })], { direction: "inbound" })],
      [cluster("app", [endpoint(origin.port)])],
    ),
  );
  expect(failed).toEqual([]);
  peer.send(get);
  await until(() => peer.ended, "the end");
  expect(peer.text).toBe("");
  expect(origin.connections()).toBe(0);
  expect(server.count("weft_downstream_tls_refused_total", "plain_text")).toBe(1);
});

test("from PERMISSIVE to STRICT and back no connection is refused", async () => {
  const origin = answering("hi");
  const terminal = http({ inline: catchAll("app") });
  const secure = chain(terminal, { name: "mtls", match: match({ transport: "tls" }), tls: mutual() });
  const both = [secure, chain(terminal, { name: "plain", match: match({ transport: "raw_buffer" }) })];
  const strict = [chain(terminal, { name: "mtls", tls: mutual() })];
  const build = (chains: readonly FilterChainConfig[]) =>
    config([listener("in", chains, { direction: "inbound", inspectTls: true })], [cluster("app", [endpoint(origin.port)])]);
  const server = keep(start(build(both), { secrets: secrets() }));
  const port = server.port();
  let refused = 0;
  for (let round = 0; round < 6; round++) {
    const waiting = Array.from({ length: 8 }, () => RawPeer.connect(port, clientTls()).catch(() => ++refused));
    expect(server.engine.apply(build(round % 2 === 0 ? strict : both))).toEqual([]);
    for (const one of await Promise.all(waiting)) {
      if (typeof one === "number") continue;
      expect(await one.ask(get)).toEndWith("hi");
      one.close();
    }
  }
  expect(refused).toBe(0);
  expect(server.port()).toBe(port);
});
