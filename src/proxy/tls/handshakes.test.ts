// Resumption, reasons of refusal, versions, large bundles and expiry: what a handshake costs and says.

import { afterEach, beforeAll, expect, test } from "bun:test";
import type { DownstreamTlsConfig, SecretSource, UpstreamTlsConfig } from "../config.ts";
import {
  chain,
  cluster,
  config,
  endpoint,
  listener,
  RawPeer,
  type Running,
  rawOrigin,
  start,
  tcpProxy,
  until,
} from "../testing/fixture.ts";
import { type Authority, authority, type Leaf, leaf } from "../testing/pki.ts";
import { coversDns, judgePeer, type PeerRules, type TlsFacts } from "./peer.ts";
import { refusal, refuseBroken, tlsReasons } from "./refusal.ts";
import { TlsSession } from "./session.ts";

const id = (name: string) => `spiffe://cluster.local/ns/shop/sa/${name}`;
let root: Authority;
let other: Authority;
let cart: Leaf;
let front: Leaf;

beforeAll(async () => {
  root = await authority("mesh");
  other = await authority("other");
  cart = await leaf(root, [id("cart")]);
  front = await leaf(root, [id("front")]);
});

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

interface Secrets extends SecretSource {
  generation: number;
  own: Leaf;
  trusted: string;
}

function secrets(own: Leaf, trusted = root.pem): Secrets {
  const made: Secrets = { generation: 1, own, trusted, certificate: () => made.own, roots: () => made.trusted };
  return made;
}

const server: DownstreamTlsConfig = {
  certificate: { kind: "secret", name: "default" },
  roots: { kind: "secret", name: "ROOTCA" },
  requireClientCertificate: true,
  peerNames: [],
  alpn: [],
  minVersion: "TLSv1.3",
};

const upstream: UpstreamTlsConfig = {
  certificate: { kind: "secret", name: "default" },
  roots: { kind: "secret", name: "ROOTCA" },
  peerNames: [{ type: "uri", match: { kind: "exact", value: id("cart"), ignoreCase: false } }],
  alpn: [],
  sni: "",
  minVersion: "TLSv1.3",
};

function inbound(source: SecretSource, tls: DownstreamTlsConfig = server): Running {
  const origin = rawOrigin((text, write) => write(text));
  const made = start(
    config([listener("in", [chain(tcpProxy("c"), { tls })], { direction: "inbound" })], [cluster("c", [endpoint(origin.port)])]),
    {
      secrets: source,
    },
  );
  stops.push(
    () => made.engine.close(),
    () => origin.stop(),
  );
  return made;
}

function outbound(port: number, source: SecretSource, tls: UpstreamTlsConfig = upstream): Running {
  const made = start(config([listener("in", [chain(tcpProxy("c"))])], [cluster("c", [endpoint(port)], { tls })]), { secrets: source });
  stops.push(() => made.engine.close());
  return made;
}

/** One connection through, and whether it came back. */
async function through(proxy: Running, text = "x"): Promise<boolean> {
  const peer = await RawPeer.connect(proxy.port());
  peer.send(text);
  await until(() => peer.text === text || peer.ended, "the echo or the end");
  peer.close();
  return peer.text === text;
}

/** A TLS server that counts how many of its handshakes were resumed. */
function counting(own: Leaf, trusted: string) {
  const seen = { full: 0, resumed: 0, peers: [] as (number | undefined)[] };
  const made = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    tls: { cert: own.certificatePem, key: own.privateKeyPem, ca: trusted, requestCert: true, rejectUnauthorized: false },
    socket: {
      handshake(socket) {
        if (socket.isSessionReused()) seen.resumed++;
        else seen.full++;
        seen.peers.push(socket.getPeerX509Certificate()?.raw.length);
      },
      data: (socket, bytes) => void socket.write(bytes),
      error() {},
    },
  });
  stops.push(() => made.stop(true));
  return { seen, port: made.port };
}

test("the second connection to an endpoint resumes the first one's session, and new roots end that", async () => {
  const { seen, port } = counting(cart, root.pem);
  const mine = secrets(front);
  const proxy = outbound(port, mine);
  expect(await through(proxy)).toBe(true);
  expect(await through(proxy)).toBe(true);
  expect(await through(proxy)).toBe(true);
  expect(seen).toMatchObject({ full: 1, resumed: 2 });
  // Resumed peers are judged by the same certificate.
  expect(new Set(seen.peers).size).toBe(1);
  // The root that signed the server is trusted no more: the old ticket must not carry us over.
  mine.trusted = other.pem;
  mine.generation++;
  expect(await through(proxy)).toBe(false);
  expect(proxy.count("weft_upstream_tls_refused_total", "unknown_authority")).toBeGreaterThan(0);
  expect(seen.resumed).toBe(2);
});

test("a ticket of before a change of roots gets a client no further than a full handshake would", async () => {
  const source = secrets(cart);
  const listening = inbound(source);
  let ticket: Uint8Array | undefined;
  const connect = (offer: Uint8Array | undefined) =>
    new Promise<{ reused: boolean; echoed: boolean }>((resolve) => {
      let reused = false;
      void Bun.connect({
        hostname: "127.0.0.1",
        port: listening.port(),
        tls: { cert: front.certificatePem, key: front.privateKeyPem, ca: root.pem, rejectUnauthorized: false },
        socket: {
          open(socket: Bun.Socket) {
            if (offer !== undefined) (socket as unknown as { setSession(session: Uint8Array): void }).setSession(offer);
          },
          handshake(socket: Bun.Socket) {
            reused = socket.isSessionReused();
            socket.write("x");
          },
          session(_socket: unknown, session: Uint8Array) {
            ticket = session;
          },
          data(socket: Bun.Socket) {
            resolve({ reused, echoed: true });
            socket.terminate();
          },
          close: () => resolve({ reused, echoed: false }),
          error() {},
        } as unknown as Bun.SocketHandler<undefined>,
      });
    });
  expect(await connect(undefined)).toEqual({ reused: false, echoed: true });
  const first = ticket;
  expect(first).toBeDefined();
  expect(await connect(first)).toEqual({ reused: true, echoed: true });
  expect(listening.count("istio_tcp_connections_opened_total", "mutual_tls", id("front"))).toBe(2);
  source.trusted = other.pem;
  source.generation++;
  expect(await connect(first)).toEqual({ reused: false, echoed: false });
  expect(listening.count("weft_downstream_tls_refused_total", "unknown_authority")).toBe(1);
});

test("certificates and roots rotate under load, and no connection is refused or dropped", async () => {
  const source = secrets(cart);
  const mine = secrets(front);
  const proxy = outbound(inbound(source).port(), mine);
  const steady = await RawPeer.connect(proxy.port());
  const both = root.pem + other.pem;
  const steps: (() => Promise<void>)[] = [
    async () => {
      source.trusted = both;
      mine.trusted = both;
    },
    async () => {
      source.own = await leaf(other, [id("cart")]);
    },
    async () => {
      mine.own = await leaf(other, [id("front")]);
    },
    async () => {
      source.trusted = other.pem;
      mine.trusted = other.pem;
    },
  ];
  let done = 0;
  for (const step of steps) {
    await step();
    source.generation++;
    mine.generation++;
    const results = await Promise.all(Array.from({ length: 10 }, () => through(proxy, `n${++done}`)));
    expect(results).not.toContain(false);
    steady.send("s");
    await until(() => steady.text.length === steps.indexOf(step) + 1, "the steady connection");
  }
  expect(done).toBe(40);
});

test("TLS 1.2 only where it is asked for, and then with forward secrecy and authenticated encryption", async () => {
  const old = inbound(secrets(cart), { ...server, minVersion: "TLSv1.2", maxVersion: "TLSv1.2", requireClientCertificate: false });
  const openssl = async (port: number, ...args: string[]) => {
    const run = Bun.spawn(["openssl", "s_client", "-connect", `127.0.0.1:${port}`, ...args], {
      stdin: new Uint8Array(0),
      stdout: "pipe",
      stderr: "pipe",
    });
    return `${await new Response(run.stdout).text()}${await new Response(run.stderr).text()}`;
  };
  expect(await openssl(old.port(), "-tls1_2")).toContain("Cipher is ECDHE-ECDSA-");
  for (const cipher of ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256"]) {
    expect(await openssl(old.port(), "-tls1_2", "-cipher", cipher)).toContain("Cipher is (NONE)");
  }
  expect(await openssl(old.port(), "-tls1_3")).toContain("Cipher is (NONE)");
  expect(old.count("weft_downstream_tls_refused_total", "no_shared_cipher")).toBe(2);
  expect(old.count("weft_downstream_tls_refused_total", "protocol_version")).toBe(1);
});

test("a bundle of many roots is read once and verifies as a small one", async () => {
  const many = (await Promise.all(Array.from({ length: 60 }, (_, n) => authority(`root-${n}-${"x".repeat(120)}`)))).map((one) => one.pem);
  const source = secrets(front, [...many, root.pem].join(""));
  expect(source.trusted.length).toBeGreaterThan(32 * 1024);
  expect(await through(outbound(inbound(secrets(cart)).port(), source))).toBe(true);
  const without = secrets(front, many.join(""));
  const refused = outbound(inbound(secrets(cart)).port(), without);
  expect(await through(refused)).toBe(false);
  expect(refused.count("weft_upstream_tls_refused_total", "unknown_authority")).toBeGreaterThan(0);
});

test("when certificates of the configuration expire is shown by their file's name", () => {
  const tls: DownstreamTlsConfig = {
    ...server,
    certificate: { kind: "pem", ...cart, name: "/etc/weft/cart.pem" },
    roots: { kind: "pem", pem: root.pem, name: "/etc/weft/ca.pem" },
  };
  const proxy = inbound(secrets(cart), tls);
  const family = proxy.metrics.families().find((one) => one.name === "weft_certificate_expiry_timestamp_seconds");
  const found = new Map(family?.series.map((one) => [one.labels[0], "value" in one ? one.value : 0]));
  const now = Date.now() / 1000;
  expect(found.get("/etc/weft/cart.pem")).toBeWithin(now + 3_000, now + 3_700);
  expect(found.get("/etc/weft/ca.pem")).toBeWithin(now + 86_000, now + 86_500);
  // What is configured no more is shown no more.
  proxy.engine.apply(config([], []));
  expect(proxy.metrics.families().find((one) => one.name === "weft_certificate_expiry_timestamp_seconds")?.series.length).toBe(0);
});

/** A finished handshake, as the library tells it. */
function told(der: Uint8Array | undefined, more: Partial<TlsFacts> = {}): TlsFacts {
  return {
    authorized: true,
    alpnProtocol: false,
    getAuthorizationError: () => null,
    getPeerX509Certificate: () => (der === undefined ? undefined : { raw: der }),
    getTLSVersion: () => "TLSv1.3",
    isSessionReused: () => false,
    ...more,
  };
}

const rules: PeerRules = { verify: true, required: true, names: [], trustDomain: null, minVersion13: true };
const derOf = (one: Leaf) => new Uint8Array(Buffer.from(one.certificatePem.replace(/-----[A-Z ]+-----|\s/g, ""), "base64"));

test("a resumed peer whose certificate has expired meanwhile is refused", () => {
  const der = derOf(front);
  const resumed = told(der, { isSessionReused: () => true });
  expect(judgePeer(resumed, rules, null, false, Date.now())).toMatchObject({ principal: id("front") });
  expect(judgePeer(resumed, rules, null, false, Date.now() + 7_200_000)).toBe("the peer's certificate has expired");
  expect(refusal.reason).toBe("expired");
  expect(judgePeer(resumed, rules, null, false, Date.now() - 7_200_000)).toContain("not valid yet");
  expect(refusal.reason).toBe("not_yet_valid");
  // One object for every connection of a certificate.
  expect(judgePeer(told(der), rules, null, false, 0)).toBe(judgePeer(told(Uint8Array.from(der)), rules, null, false, 0));
});

test("every reason has its place in the table", () => {
  const broken: Record<string, (typeof tlsReasons)[number]> = {
    "error:1000009c:SSL routines:OPENSSL_internal:HTTP_REQUEST": "plain_text",
    "error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER": "plain_text",
    "error:100000f0:SSL routines:OPENSSL_internal:UNSUPPORTED_PROTOCOL": "protocol_version",
    "error:10000133:SSL routines:OPENSSL_internal:NO_APPLICATION_PROTOCOL": "no_shared_alpn",
    "error:1000010a:SSL routines:OPENSSL_internal:NO_SHARED_GROUP": "no_shared_cipher",
    "error:10000418:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA": "refused_by_peer",
    "Client network socket disconnected before secure TLS connection was established": "other",
  };
  for (const [message, reason] of Object.entries(broken)) {
    expect(refuseBroken(message)).toStartWith("the handshake failed: ");
    expect(refusal.reason).toBe(reason);
    expect(tlsReasons).toContain(refusal.reason);
  }
  const say = (facts: TlsFacts, more: Partial<PeerRules> = {}) => [
    judgePeer(facts, { ...rules, ...more }, null, false, Date.now()),
    refusal.reason,
  ];
  expect(say(told(undefined))).toEqual(["no certificate was presented", "no_certificate"]);
  expect(say(told(new Uint8Array([1, 2, 3])))).toEqual(["the certificate cannot be read", "bad_certificate"]);
  expect(say(told(derOf(front), { getTLSVersion: () => "TLSv1.2" }))[1]).toBe("protocol_version");
  expect(say(told(derOf(front)), { trustDomain: "elsewhere" })[1]).toBe("wrong_identity");
});

test("DNS names: a certificate's wildcard covers one label", () => {
  expect(coversDns("api.example.com", "api.example.com")).toBe(true);
  expect(coversDns("API.example.com", "api.example.com")).toBe(true);
  expect(coversDns("*.example.com", "api.example.com")).toBe(true);
  expect(coversDns("*.example.com", "a.api.example.com")).toBe(false);
  expect(coversDns("*.example.com", "example.com")).toBe(false);
  expect(coversDns("*.com", "example.com")).toBe(false);
});

test("a ticket counts for the secrets it was made with", () => {
  const session = new TlsSession();
  const offered: Uint8Array[] = [];
  const socket = { setSession: (ticket: Uint8Array) => void offered.push(ticket) };
  session.offer(socket, 1);
  session.keep(Uint8Array.of(1), 1);
  session.offer(socket, 1);
  expect(offered.length).toBe(1);
  session.offer(socket, 2);
  session.offer(socket, 1);
  expect(offered.length).toBe(1);
  session.keep(Uint8Array.of(2), 2);
  session.forget();
  session.offer(socket, 2);
  expect(offered.length).toBe(1);
});
