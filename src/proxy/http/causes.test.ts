// What a client is told when a request cannot be served: the likely cause, in words, for each of them (rule 5). Real sockets; each row is a way to fail.

import { afterEach, beforeAll, expect, test } from "bun:test";
import { Cluster } from "../balance/cluster.ts";
import type { Endpoint, Transport } from "../balance/endpoint.ts";
import { whyNobody } from "../balance/nobody.ts";
import type { ClusterConfig, EndpointConfig, SecretSource, UpstreamTlsConfig } from "../config.ts";
import { cluster, endpoint, hop, RawPeer, start } from "../testing/fixture.ts";
import { type Authority, authority, type Leaf, leaf } from "../testing/pki.ts";

const idOf = (name: string) => `spiffe://cluster.local/ns/shop/sa/${name}`;
let root: Authority;
let other: Authority;
let front: Leaf;
let cart: Leaf;
let expired: Leaf;

beforeAll(async () => {
  root = await authority("mesh");
  other = await authority("other");
  front = await leaf(root, [idOf("front")]);
  cart = await leaf(root, [idOf("cart")]);
  expired = await leaf(root, [idOf("cart")], 86_400_000);
});

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

function secrets(own: Leaf | undefined, trusted = root.pem): SecretSource {
  return { generation: 1, certificate: () => own, roots: () => trusted };
}

const tls: UpstreamTlsConfig = {
  certificate: { kind: "secret", name: "default" },
  roots: { kind: "secret", name: "ROOTCA" },
  peerNames: [],
  alpn: ["http/1.1"],
  sni: "cart",
  minVersion: "TLSv1.3",
};

function tlsServer(own: Leaf, ca = root.pem): number {
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    tls: { cert: own.certificatePem, key: own.privateKeyPem, ca, requestCert: true, rejectUnauthorized: true },
    socket: {
      data(socket) {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      },
    },
  });
  stops.push(() => server.stop(true));
  return server.port;
}

function plainServer(answer: string | Uint8Array): number {
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket) {
        if (answer === "") socket.end();
        else socket.write(answer);
      },
    },
  });
  stops.push(() => server.stop(true));
  return server.port;
}

/** Nobody listens there. */
function closedPort(): number {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  server.stop(true);
  return server.port;
}

async function answer(endpoints: readonly EndpointConfig[], more: Partial<ClusterConfig> = {}, source?: SecretSource): Promise<string> {
  const proxy = start(hop([cluster("c", endpoints, more)]), source === undefined ? {} : { secrets: source });
  stops.push(() => proxy.engine.close());
  const peer = await RawPeer.connect(proxy.port());
  const said = await peer.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  peer.close();
  return said;
}

const over = (port: number, source: SecretSource, more: Partial<UpstreamTlsConfig> = {}) =>
  answer([endpoint(port, { identity: idOf("cart") })], { tls: { ...tls, ...more } }, source);

const limits = { maxConnections: 1024, maxPending: 1024, maxRequests: 1024, maxRetries: 3 };
const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const plainOf = (said: string | Uint8Array) => answer([endpoint(plainServer(said))]);

const rows: Readonly<Record<string, readonly [said: () => Promise<string>, status: number, words: string | RegExp]>> = {
  "there is no instance": [() => answer([]), 503, "no healthy instance is known; is one running and registered?"],
  "all are reported as not healthy": [
    () => answer([endpoint(1, { healthy: false }), endpoint(2, { healthy: false })], { panicPercent: 0 }),
    503,
    "none of its instances takes requests now: all 2 are reported as not healthy",
  ],
  "the circuit is open for connections": [
    () => answer([endpoint(plainServer(ok))], { limits: { ...limits, maxConnections: 0, maxPending: 0 } }),
    503,
    "too many connections or requests to this cluster: the cluster is at its limit of 0 connections, and 0 requests wait for one",
  ],
  "the circuit is open for requests": [
    () => answer([endpoint(plainServer(ok))], { limits: { ...limits, maxRequests: 0 } }),
    503,
    /^too many connections or requests to this cluster: .*0 requests/,
  ],
  "nobody listens": [
    () => answer([endpoint(closedPort())]),
    503,
    "the connection to the instance failed: connection refused; is it running?",
  ],
  "it closes without a word": [
    () => plainOf(""),
    503,
    "the instance closed the connection before it answered: the peer closed the connection",
  ],
  "it speaks something else": [
    () => plainOf("SSH-2.0-OpenSSH\r\n"),
    502,
    "the instance sent a malformed answer: the status line is malformed",
  ],
  "it speaks TLS": [
    () => plainOf(Uint8Array.of(0x15, 3, 1, 0, 2, 2, 70)),
    502,
    "the instance sent a malformed answer: the status line is malformed; it speaks TLS, and is called in plain text",
  ],
  "it speaks HTTP/2": [
    () => plainOf(Uint8Array.of(0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100)),
    502,
    "the instance sent a malformed answer: the status line is malformed; it speaks HTTP/2, and is called by HTTP/1.1",
  ],
  "it speaks plain text": [
    () => over(plainServer("HTTP/1.1 400 Bad Request\r\n\r\n"), secrets(front)),
    503,
    "TLS with the instance failed: the handshake failed: the peer does not speak TLS here",
  ],
  "it closes within the handshake": [
    () => over(plainServer(""), secrets(front)),
    503,
    "TLS with the instance failed: the handshake failed: the peer closed the connection within it; does it speak TLS here?",
  ],
  "its certificate has expired": [
    () => over(tlsServer(expired), secrets(front)),
    503,
    "TLS with the instance failed: the peer's certificate has expired",
  ],
  "its authority is not ours": [
    () => over(tlsServer(cart), secrets(front, other.pem)),
    503,
    "TLS with the instance failed: unknown authority (SELF_SIGNED_CERT_IN_CHAIN)",
  ],
  "it is somebody else": [
    () => over(tlsServer(front), secrets(front)),
    503,
    /^TLS with the instance failed: wrong identity: \S+\/front, expected \S+\/cart; is another workload at 127\.0\.0\.1:\d+ now\?$/,
  ],
  "it finds our certificate expired": [
    () => over(tlsServer(cart), secrets(expired)),
    503,
    "the instance closed the connection before it answered: the peer closed the connection right after the handshake; does it accept our certificate?",
  ],
  "it does not know our authority": [
    () => over(tlsServer(cart, other.pem), secrets(front)),
    503,
    "the instance closed the connection before it answered: the peer closed the connection right after the handshake; does it accept our certificate?",
  ],
  "we have no certificate yet": [
    () => over(tlsServer(cart), secrets(undefined)),
    503,
    "TLS with the instance failed: the certificate default has not arrived yet",
  ],
};

for (const [what, [said, status, words]] of Object.entries(rows))
  test(what, async () => {
    const [head = "", body = ""] = (await said()).split("\r\n\r\n");
    expect(Number(head.split(" ")[1])).toBe(status);
    const text = body.trimEnd();
    if (typeof words === "string") expect(text).toBe(words);
    else expect(text).toMatch(words);
  });

test("who is out, by whose judgement, and what the last connection came to", () => {
  const made = new Cluster(cluster("c", []));
  const transport: Transport = { key: "", tls: null, tlsHttp1: null, protocol: "http1" };
  made.setEndpoints([endpoint(1), endpoint(2), endpoint(3, { healthy: false })], () => transport);
  const [one, two] = made.endpoints as [Endpoint, Endpoint];
  one.ejected = true;
  one.ejectedUntilMs = 31_000;
  two.failing = true;
  one.connectFailed(1_000, "connection refused; is it running?");
  expect(whyNobody(made, 1_500)).toBe(
    "1 of 3 is ejected after failures, for 30 s more; 1 of 3 fails its health checks; 1 of 3 is reported as not healthy; the last connection to 127.0.0.1:1 came to: connection refused; is it running?",
  );
  one.connected();
  made.setEndpoints([endpoint(1)], () => transport);
  expect(whyNobody(made, 30_900)).toBe("its only one is ejected after failures, for 1 s more");
});
