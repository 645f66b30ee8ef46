import { afterEach, beforeAll, expect, test } from "bun:test";
import type { Logger } from "../../base/log.ts";
import type { DownstreamTlsConfig, RbacConfig, SecretSource, UpstreamTlsConfig } from "../config.ts";
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
  tcpProxy,
  until,
} from "../testing/fixture.ts";
import { type Authority, authority, type Leaf, leaf } from "../testing/pki.ts";

const idOf = (name: string, domain = "cluster.local") => `spiffe://${domain}/ns/shop/sa/${name}`;
let root: Authority;
let otherRoot: Authority;
let front: Leaf;
let cart: Leaf;
let strangers: Readonly<Record<"other authority" | "self-signed" | "expired" | "other domain" | "two names", Leaf>>;

beforeAll(async () => {
  root = await authority("mesh");
  otherRoot = await authority("other");
  front = await leaf(root, [idOf("front")]);
  cart = await leaf(root, [idOf("cart")]);
  strangers = {
    "other authority": await leaf(otherRoot, [idOf("front")]),
    "self-signed": await leaf(null, [idOf("front")]),
    expired: await leaf(root, [idOf("front")], 86_400_000),
    "other domain": await leaf(root, [idOf("front", "elsewhere")]),
    "two names": await leaf(root, [idOf("front"), idOf("cart")]),
  };
});

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

interface Secrets extends SecretSource {
  generation: number;
  current: Leaf | undefined;
  trusted: string | undefined;
}

function secrets(own: Leaf | undefined, trusted = root.pem): Secrets {
  const made: Secrets = { generation: 1, current: own, trusted, certificate: () => made.current, roots: () => made.trusted };
  return made;
}

function gather(): { log: Logger; lines: { message: string; reason: string }[] } {
  const lines: { message: string; reason: string }[] = [];
  const add = (fields: Readonly<Record<string, unknown>>, message: string) =>
    void lines.push({ message, reason: String(fields.reason ?? fields.error ?? "") });
  return { lines, log: { debug: add, info: add, warn: add, error: add } };
}

const inboundTls: DownstreamTlsConfig = {
  certificate: { kind: "secret", name: "default" },
  roots: { kind: "secret", name: "ROOTCA" },
  requireClientCertificate: true,
  peerNames: [],
  alpn: ["http/1.1"],
  minVersion: "TLSv1.3",
};

function outboundTls(more: Partial<UpstreamTlsConfig> = {}): UpstreamTlsConfig {
  return {
    certificate: { kind: "secret", name: "default" },
    roots: { kind: "secret", name: "ROOTCA" },
    peerNames: [{ type: "uri", match: { kind: "exact", value: idOf("cart"), ignoreCase: false } }],
    alpn: ["http/1.1"],
    sni: "outbound_.80_._.cart.shop.svc.cluster.local",
    minVersion: "TLSv1.3",
    ...more,
  };
}

function app() {
  const made = rawOrigin((text, write) => {
    const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0);
    void length;
    write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
  });
  stops.push(() => made.stop());
  return made;
}

function inbound(
  appPort: number,
  source: SecretSource,
  more: { rbac?: readonly RbacConfig[]; logs?: boolean; log?: Logger; kind?: "http" | "tcp"; networkRbac?: readonly RbacConfig[] } = {},
): Running {
  const terminal =
    more.kind === "tcp"
      ? tcpProxy("inbound|1||")
      : http(
          { inline: catchAll("inbound|1||") },
          {
            rbac: more.rbac ?? [],
            accessLogs: more.logs === true ? [{ sink: { kind: "als", logName: "l", cluster: "x" }, filter: null }] : [],
          },
        );
  const made = start(
    config(
      [listener("in", [chain(terminal, { tls: inboundTls, networkRbac: more.networkRbac ?? [] })], { direction: "inbound" })],
      [cluster("inbound|1||", [endpoint(appPort)])],
    ),
    { secrets: source, ...(more.log === undefined ? {} : { log: more.log }) },
  );
  stops.push(() => made.engine.close());
  return made;
}

function outbound(port: number, source: SecretSource, tls = outboundTls(), identity: string | null = idOf("cart"), log?: Logger): Running {
  const made = start(
    hop([
      cluster("outbound", [endpoint(port, { identity, transportMatch: { tlsMode: "istio" } })], {
        transports: [{ name: "tlsMode-istio", match: { tlsMode: "istio" }, tls }],
      }),
    ]),
    {
      secrets: source,
      ...(log === undefined ? {} : { log }),
    },
  );
  stops.push(() => made.engine.close());
  return made;
}

const get = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";

test("two sidecars speak mutual TLS 1.3, and both count who called whom", async () => {
  const server = inbound(app().port, secrets(cart));
  const client = outbound(server.port(), secrets(front));
  const peer = await RawPeer.connect(client.port());
  expect(await peer.ask(get)).toEndWith("hello");
  expect(server.count("istio_requests_total", "destination", "mutual_tls", idOf("front"), "200")).toBe(1);
  expect(client.count("istio_requests_total", "source", "mutual_tls", idOf("cart"), "200")).toBe(1);
});

test("records say https of what came by TLS, unless a proxy before said by which scheme the client came", async () => {
  const server = inbound(app().port, secrets(cart), { logs: true });
  const client = outbound(server.port(), secrets(front));
  const peer = await RawPeer.connect(client.port());
  await peer.ask(get);
  await peer.ask(get.replace("Host: cart", "Host: cart\r\nX-Forwarded-Proto: http"));
  await until(() => server.records.length === 2, "both records");
  expect(server.records.map(({ scheme }) => scheme)).toEqual(["https", "http"]);
});

for (const who of ["other authority", "self-signed", "expired", "other domain", "two names"] as const) {
  test(`a client certificate that is ${who} is refused before any byte reaches the application`, async () => {
    const origin = app();
    const { log, lines } = gather();
    const server = inbound(origin.port, secrets(cart), { log });
    const stranger = strangers[who];
    const peer = await RawPeer.connect(server.port(), {
      ca: root.pem,
      cert: stranger.certificatePem,
      key: stranger.privateKeyPem,
      rejectUnauthorized: false,
    });
    peer.send(get);
    await until(() => peer.closed, "the connection to close");
    expect(peer.text).toBe("");
    expect(origin.connections()).toBe(0);
    const expected = {
      "other authority": "unknown authority",
      "self-signed": "unknown authority",
      expired: "expired",
      "other domain": "wrong identity",
      "two names": "more than one",
    }[who];
    expect(lines.map((line) => line.reason).join()).toContain(expected);
    expect(server.count("weft_downstream_tls_refused_total")).toBe(1);
  });

  test(`a server certificate that is ${who} is refused, and the request is not sent`, async () => {
    const { log, lines } = gather();
    const heard: string[] = [];
    const stranger = strangers[who];
    const fake = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      tls: { cert: stranger.certificatePem, key: stranger.privateKeyPem, ca: root.pem, requestCert: true, rejectUnauthorized: false },
      socket: { data: (_socket, bytes) => void heard.push(bytes.toString()), error() {}, handshake() {} },
    });
    stops.push(() => fake.stop(true));
    // Whatever the name, the chain decides first: the names expected here are the stranger's own.
    const tls = outboundTls({
      peerNames: [
        {
          type: "uri",
          match: { kind: "prefix", value: who === "other domain" ? "spiffe://cluster.local/" : "spiffe://", ignoreCase: false },
        },
      ],
    });
    const client = outbound(fake.port, secrets(front), tls, null, log);
    const peer = await RawPeer.connect(client.port());
    const answer = await peer.ask("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 2\r\n\r\nhi");
    expect(answer).toStartWith("HTTP/1.1 503 ");
    expect(answer).toContain("x-weft-reason: U");
    expect(heard).toEqual([]);
    const expected = {
      "other authority": "unknown authority",
      "self-signed": "unknown authority",
      expired: "expired",
      "other domain": "wrong identity",
      "two names": "more than one",
    }[who];
    expect(lines.map((line) => line.reason).join()).toContain(expected);
  });
}

test("a client without a certificate is refused", async () => {
  const { log, lines } = gather();
  const server = inbound(app().port, secrets(cart), { log });
  const peer = await RawPeer.connect(server.port(), { ca: root.pem, rejectUnauthorized: false });
  peer.send(get);
  await until(() => peer.closed, "the connection to close");
  expect(peer.text).toBe("");
  expect(lines[0]?.reason).toContain("no certificate");
});

test("a plain client of a TLS listener gets nothing", async () => {
  const server = inbound(app().port, secrets(cart));
  const peer = await RawPeer.connect(server.port());
  peer.send(get);
  await until(() => peer.closed, "the connection to close");
  expect(peer.text).not.toContain("hello");
});

test("TLS 1.2 is refused", async () => {
  const server = inbound(app().port, secrets(cart));
  const running = Bun.spawn(["openssl", "s_client", "-connect", `127.0.0.1:${server.port()}`, "-tls1_2"], {
    stdin: new Uint8Array(0),
    stdout: "pipe",
    stderr: "pipe",
  });
  const said = `${await new Response(running.stdout).text()}${await new Response(running.stderr).text()}`;
  expect(said).toContain("Cipher is (NONE)");
  expect(said).toContain("no peer certificate available");
});

test("the right authority with another identity than the cluster's names is refused", async () => {
  const server = inbound(app().port, secrets(await leaf(root, [idOf("thief")])));
  const { log, lines } = gather();
  const client = outbound(server.port(), secrets(front), outboundTls(), null, log);
  const peer = await RawPeer.connect(client.port());
  expect(await peer.ask(get)).toContain("503 Service Unavailable");
  expect(lines[0]?.reason).toContain(`wrong identity: ${idOf("thief")}`);
});

test("the right name of the cluster but not of this endpoint is refused", async () => {
  const server = inbound(app().port, secrets(cart));
  const client = outbound(server.port(), secrets(front), outboundTls(), idOf("cart-2"));
  const peer = await RawPeer.connect(client.port());
  expect(await peer.ask(get)).toContain("503 Service Unavailable");
});

test("a rotated certificate serves the next connection and drops none", async () => {
  const source = secrets(cart);
  const server = inbound(app().port, source);
  const mine = secrets(front);
  const client = outbound(server.port(), mine, outboundTls());
  const peer = await RawPeer.connect(client.port());
  await peer.ask(get);
  // New authority for everybody, both trusted for a while.
  const both = root.pem + otherRoot.pem;
  source.trusted = both;
  mine.trusted = both;
  mine.current = await leaf(otherRoot, [idOf("front")]);
  source.current = await leaf(otherRoot, [idOf("cart")]);
  source.generation++;
  mine.generation++;
  await peer.ask(get, 2);
  await peer.ask(get, 3);
  expect(peer.text).not.toContain("503");
  expect(peer.text.match(/200 OK/g)?.length).toBe(3);
  expect(peer.closed).toBe(false);
  // The pooled connection of the first generation was let go, and one of the second made.
  await until(() => server.engine.stats().connections === 1, "the old connection to close");
});

test("without secrets a request is answered with the reason, and served once they are there", async () => {
  const server = inbound(app().port, secrets(cart));
  const mine = secrets(undefined);
  const client = outbound(server.port(), mine);
  const peer = await RawPeer.connect(client.port());
  expect(await peer.ask(get)).toContain("the certificate default has not arrived yet");
  mine.current = front;
  mine.generation++;
  expect(await peer.ask(get, 2)).toContain("200 OK");
});

const onlyFront: RbacConfig = {
  action: "allow",
  policies: [
    {
      name: "ns[shop]-policy[front-only]-rule[0]",
      permissions: [
        {
          kind: "and",
          rules: [
            { kind: "header", header: { name: ":method", match: { kind: "exact", value: "GET", ignoreCase: false }, invert: false } },
          ],
        },
      ],
      principals: [{ kind: "authenticated", match: { kind: "exact", value: idOf("front"), ignoreCase: false } }],
    },
  ],
};

test("a policy lets the named caller through and refuses others with the reason", async () => {
  const server = inbound(app().port, secrets(cart), { rbac: [onlyFront] });
  const good = await RawPeer.connect(outbound(server.port(), secrets(front)).port());
  expect(await good.ask(get)).toContain("200 OK");
  expect(await good.ask("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 0\r\n\r\n", 2)).toContain("HTTP/1.1 403 Forbidden");
  const other = await RawPeer.connect(outbound(server.port(), secrets(await leaf(root, [idOf("other")]))).port());
  const answer = await other.ask(get);
  expect(answer).toStartWith("HTTP/1.1 403 Forbidden\r\nx-weft-reason: RBAC access denied");
  expect(answer).toEndWith("access denied, as no ALLOW policy matches\n");
  expect(server.count("istio_requests_total", "403")).toBe(2);
});

test("opaque TCP over mutual TLS: half close, policies, and a change of policy on an open connection", async () => {
  const echo = rawOrigin((text, write) => write(text));
  stops.push(() => echo.stop());
  const allow: RbacConfig = {
    action: "allow",
    policies: [
      {
        name: "p",
        permissions: [{ kind: "any" }],
        principals: [{ kind: "authenticated", match: { kind: "exact", value: idOf("front"), ignoreCase: false } }],
      },
    ],
  };
  const source = secrets(cart);
  const server = inbound(echo.port, source, { kind: "tcp", networkRbac: [allow] });
  const make = (own: Leaf) => {
    const made = start(
      config(
        [listener("in", [chain(tcpProxy("c"))])],
        [
          cluster("c", [endpoint(server.port(), { transportMatch: { tlsMode: "istio" } })], {
            transports: [{ name: "t", match: { tlsMode: "istio" }, tls: outboundTls({ alpn: [] }) }],
          }),
        ],
      ),
      { secrets: secrets(own) },
    );
    stops.push(() => made.engine.close());
    return made;
  };
  const client = make(front);
  const peer = await RawPeer.connect(client.port());
  peer.send("ping");
  await until(() => peer.text === "ping", "the echo");
  expect(client.count("istio_tcp_connections_opened_total", "source")).toBe(1);
  expect(server.count("istio_tcp_received_bytes_total", "destination", idOf("front"))).toBe(4);
  const stranger = await RawPeer.connect(make(await leaf(root, [idOf("other")])).port());
  stranger.send("ping");
  await until(() => stranger.closed, "the refused connection to close");
  expect(stranger.text).toBe("");
  const second = await RawPeer.connect(client.port());
  second.send("a");
  await until(() => second.text === "a", "the echo");
  second.socket?.shutdown();
  await until(() => second.closed, "both halves to close");
  // Now front is denied: its open connection is closed.
  const deny: RbacConfig = { action: "deny", policies: allow.policies };
  server.engine.apply(
    config(
      [listener("in", [chain(tcpProxy("inbound|1||"), { tls: inboundTls, networkRbac: [deny] })], { direction: "inbound" })],
      [cluster("inbound|1||", [endpoint(echo.port)])],
    ),
  );
  await until(() => peer.closed, "the connection that is not allowed any more to close");
});

test("CONNECT makes an opaque tunnel to the cluster", async () => {
  const server = inbound(app().port, secrets(cart));
  const routes = table([
    {
      name: "cart",
      domains: ["cart", "cart:80"],
      routes: [
        route(forward("c", { terminateConnect: true }), { match: { path: { kind: "connect" }, headers: [], query: [] } }),
        route(forward("c")),
      ],
    },
  ]);
  const client = start(
    hop(
      [
        cluster("c", [endpoint(server.port(), { transportMatch: { tlsMode: "istio" } })], {
          transports: [{ name: "t", match: { tlsMode: "istio" }, tls: outboundTls() }],
        }),
      ],
      routes,
      { upgrades: ["CONNECT"] },
    ),
    { secrets: secrets(front) },
  );
  stops.push(() => client.engine.close());
  const out = Bun.spawn(["curl", "-sS", "-m", "5", "-p", "-x", `http://127.0.0.1:${client.port()}`, "http://cart:80/x"], {
    stdout: "pipe",
    stderr: "pipe",
  });
  expect(`${await new Response(out.stdout).text()}${await new Response(out.stderr).text()}`).toBe("hello");
  const plain = Bun.spawn(["curl", "-sS", "-m", "5", "-x", `http://127.0.0.1:${client.port()}`, "http://cart/x"], {
    stdout: "pipe",
    stderr: "pipe",
  });
  expect(`${await new Response(plain.stdout).text()}${await new Response(plain.stderr).text()}`).toBe("hello");
});

test("large bodies pass whole through the pair, with a reader that starts late", async () => {
  const size = 5_000_000;
  const pattern = new Uint8Array(size).map((_, i) => i % 251);
  const origin = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      if (request.method === "GET") return new Response(pattern);
      const got = new Uint8Array(await request.arrayBuffer());
      return new Response(String(Bun.hash(got) === Bun.hash(pattern)));
    },
  });
  stops.push(() => void origin.stop(true));
  const server = inbound(origin.port ?? 0, secrets(cart));
  const client = outbound(server.port(), secrets(front));
  const base = `http://127.0.0.1:${client.port()}/`;
  expect(await (await fetch(base, { method: "POST", body: pattern })).text()).toBe("true");
  const peer = await RawPeer.connect(client.port());
  peer.socket?.pause();
  peer.send(get);
  await until(
    () => client.count("weft_read_pauses_total") > 0 && server.count("weft_read_pauses_total") > 0,
    "both sidecars to pause reading",
  );
  peer.socket?.resume();
  await until(() => peer.text.length > size, "all of it", 10_000);
  const body = Buffer.from(peer.text.slice(peer.text.indexOf("\r\n\r\n") + 4), "latin1");
  expect(Bun.hash(body)).toBe(Bun.hash(pattern));
  await until(() => server.engine.stats().activeRequests === 0 && client.engine.stats().activeRequests === 0, "both to be idle");
});

test("a policy that changes is in force at the next request of an open connection", async () => {
  const origin = app();
  const source = secrets(cart);
  const server = inbound(origin.port, source);
  const port = server.port();
  const client = outbound(port, secrets(front));
  const peer = await RawPeer.connect(client.port());
  expect(await peer.ask(get)).toContain("200 OK");
  const deny: RbacConfig = { action: "deny", policies: [{ name: "all", permissions: [{ kind: "any" }], principals: [{ kind: "any" }] }] };
  const next = config(
    [listener("in", [chain(http({ inline: catchAll("inbound|1||") }, { rbac: [deny] }), { tls: inboundTls })], { direction: "inbound" })],
    [cluster("inbound|1||", [endpoint(origin.port)])],
  );
  expect(server.engine.apply(next)).toEqual([]);
  expect(server.port()).toBe(port);
  expect(await peer.ask(get, 2)).toContain("403 Forbidden");
  // The same connection was used: no second handshake.
  expect(server.engine.stats().connections).toBe(1);
});
