import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { type Clock, PausedClock, systemClock } from "../../base/clock.ts";
import { jsonLogger, silentLogger } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import { readPem, writePem } from "../../base/pem.ts";
import { redact } from "../admin/redact.ts";
import type { ClusterConfig } from "../config.ts";
import { ControlChannel } from "../xds/channel.ts";
import { createTestAuthority, type FakeControlPlane, startFakeControlPlane, type TestAuthority, until } from "../xds/testing.ts";
import { checkIssuedChain } from "./chain.ts";
import { createKeyAndRequest, type KeyAndRequest } from "./csr.ts";
import { Identity } from "./identity.ts";
import { KeyPair } from "./key-pair.ts";
import { type Certificate, certificatesOf, parseCertificate } from "./x509.ts";

const uri = "spiffe://cluster.local/ns/shop/sa/cart";
const serverUri = "spiffe://cluster.local/ns/weft-system/sa/weft";

let authority: TestAuthority;
let stranger: TestAuthority;
let server: FakeControlPlane;
beforeAll(async () => {
  authority = createTestAuthority();
  stranger = createTestAuthority("stranger");
  server = await startFakeControlPlane({ tls: { ca: authority.caPem, ...authority.issue(`URI:${serverUri}`) } });
});
afterAll(() => {
  server.stop();
  authority.close();
  stranger.close();
});

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

describe("the request", () => {
  test("openssl verifies its signature and reads the name", async () => {
    const { csrPem } = await createKeyAndRequest(uri);
    const text = authority.readRequest(csrPem);
    expect(text).toContain(`URI:${uri}`);
    expect(text).toContain("X509v3 Subject Alternative Name: critical");
    expect(text).toContain("ASN1 OID: prime256v1");
    expect(text).toContain("ecdsa-with-SHA256");
    expect(text).not.toMatch(/Subject: \S/);
  });

  test("long names still make good DER", async () => {
    for (const length of [1, 60, 120, 200]) {
      const long = `spiffe://cluster.local/ns/${"n".repeat(length)}/sa/cart`;
      expect(authority.readRequest((await createKeyAndRequest(long)).csrPem)).toContain(`URI:${long}`);
    }
  });

  test("the key does not show when printed, spread or turned to JSON", async () => {
    const request = await createKeyAndRequest(uri);
    const pair = new KeyPair("chain", request.privateKeyPem());
    expect(pair.privateKeyPem).toContain("BEGIN PRIVATE KEY");
    for (const made of [request, pair, { pair }, { ...pair }, redact({ privateKeyPem: pair.privateKeyPem })]) {
      for (const text of [JSON.stringify(made), String(made), Bun.inspect(made), `${made}`]) expect(text).not.toContain("PRIVATE KEY");
    }
    let line = "";
    jsonLogger("info", Date.now, (text) => {
      line += text;
    }).info({ request, pair }, "printed");
    expect(line).not.toContain("PRIVATE KEY");
  });
});

describe("the answer is checked", () => {
  const day = 86_400_000;
  type Case = { chain: (good: string, other: string) => string[]; uri?: string; later?: number; wanted: RegExp | null };
  const cases: Record<string, Case> = {
    "a good chain": { chain: (good) => [good, authority.caPem], wanted: null },
    "another key": { chain: (_good, other) => [other, authority.caPem], wanted: /another key/ },
    "another name": { chain: (good) => [good, authority.caPem], uri: `${uri}2`, wanted: /instead of/ },
    "another root": { chain: (good) => [good, stranger.caPem], wanted: /does not lead to the root/ },
    "a root that is no root": { chain: (good) => [good, good], wanted: /does not lead to the root/ },
    "a broken chain": { chain: (good) => [good, stranger.caPem, authority.caPem], wanted: /not signed by the next/ },
    "no root": { chain: (good) => [good], wanted: /must hold/ },
    nothing: { chain: () => [], wanted: /must hold/ },
    "no certificate": {
      chain: () => ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", authority.caPem],
      wanted: /not a certificate/,
    },
    "an expired one": { chain: (good) => [good, authority.caPem], later: 3 * day, wanted: /expired/ },
    "one of tomorrow": { chain: (good) => [good, authority.caPem], later: -3_600_000, wanted: /valid only from/ },
  };
  let key: KeyAndRequest;
  let good: string;
  let other: string;
  beforeAll(async () => {
    key = await createKeyAndRequest(uri);
    good = authority.signRequest(key.csrPem);
    other = authority.signRequest((await createKeyAndRequest(uri)).csrPem);
  });
  for (const [name, one] of Object.entries(cases)) {
    test(name, async () => {
      const found = await checkIssuedChain(one.chain(good, other), key.publicKey, one.uri ?? uri, Date.now() + (one.later ?? 0));
      if (one.wanted === null) expect(found).toMatchObject({ uri });
      else expect(found).toMatch(one.wanted);
    });
  }

  test("a chain through an intermediate, and a changed byte in it", async () => {
    const middle = authority.intermediate("middle");
    const leaf = middle.signRequest(key.csrPem);
    expect(await checkIssuedChain([leaf, middle.caPem, authority.caPem], key.publicKey, uri, Date.now())).toMatchObject({ uri });
    const bytes = readPem(leaf, "CERTIFICATE")[0] as Uint8Array;
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) ^ 1;
    expect(await checkIssuedChain([writePem("CERTIFICATE", bytes), middle.caPem, authority.caPem], key.publicKey, uri, Date.now())).toMatch(
      /broken/,
    );
  });

  test("certificates read as openssl reads them, cut anywhere they are refused", () => {
    const issued = authority.issue("URI:spiffe://a/ns/b/sa/c,DNS:x.example,DNS:y.example");
    const mine = certificatesOf(issued.cert)[0] as Certificate;
    const theirs = new X509Certificate(issued.cert);
    expect(mine.uris).toEqual(["spiffe://a/ns/b/sa/c"]);
    expect(mine.dnsNames).toEqual(["x.example", "y.example"]);
    expect(mine.serial).toBe(theirs.serialNumber.replace(/^00(?=..)/, ""));
    expect(mine.notBeforeMs).toBe(Date.parse(theirs.validFrom));
    expect(mine.notAfterMs).toBe(Date.parse(theirs.validTo));
    expect(mine.ca).toBe(theirs.ca);
    expect(Buffer.from(mine.publicKey).equals(theirs.publicKey.export({ type: "spki", format: "der" }))).toBe(true);
    expect(certificatesOf(authority.caPem)[0]?.ca).toBe(true);
    for (let n = 0; n < mine.der.length; n++) expect(() => parseCertificate(mine.der.slice(0, n))).toThrow();
  });
});

function cluster(port: number, roots: string, name: string): ClusterConfig {
  return {
    name: "xds-grpc",
    connectTimeoutMs: 1000,
    balance: { kind: "round_robin" },
    source: {
      kind: "static",
      endpoints: [
        { address: { host: "127.0.0.1", port }, weight: 1, priority: 0, healthy: true, transportMatch: {}, workload: null, identity: null },
      ],
    },
    transports: [],
    tls: {
      certificate: null,
      roots: { kind: "pem", pem: roots },
      peerNames: [{ type: "uri", match: { kind: "exact", value: name, ignoreCase: false } }],
      alpn: ["h2"],
      sni: "",
      minVersion: "TLSv1.3",
    },
    limits: { maxConnections: 1, maxPending: 1, maxRequests: 1, maxRetries: 1 },
    protocol: "http2",
    control: true,
    service: null,
  };
}

function start(to: ClusterConfig, token: () => string | undefined, clock: Clock = systemClock, print?: (line: string) => void) {
  const log = print === undefined ? silentLogger : jsonLogger("info", Date.now, print);
  const metrics = new MetricRegistry();
  let changes = 0;
  const identity = new Identity({
    clock,
    log,
    random: () => 0.01,
    metrics,
    uri,
    changed: () => {
      changes++;
    },
  });
  const channel = new ControlChannel({
    clock: systemClock,
    log,
    random: () => 0.05,
    cluster: to,
    target: { cluster: "xds-grpc", authority: "", metadata: [] },
    credentials: { certificate: () => identity.current(), token },
  });
  identity.askOver(channel);
  channel.start();
  stops.push(() => {
    identity.stop();
    channel.close();
  });
  return { identity, channel, metrics, changes: () => changes };
}

describe("over the control-plane connection", () => {
  test("a token buys a certificate, and the secrets are there", async () => {
    server.sign = (request) => [authority.signRequest(request.csr), authority.caPem];
    const before = server.certificateRequests.length;
    const run = start(cluster(server.port, authority.caPem, serverUri), () => "join-me");
    expect(run.identity.waitingFor().length).toBe(1);
    await until(() => run.changes() === 1, "a certificate");
    expect(run.identity.generation).toBe(1);
    expect(run.identity.waitingFor()).toEqual([]);
    expect(run.identity.certificate("default")?.privateKeyPem).toContain("PRIVATE KEY");
    expect(run.identity.certificate("other")).toBeUndefined();
    expect(run.identity.roots("ROOTCA")?.trim()).toBe(authority.caPem.trim());
    expect(JSON.stringify(run.identity.certificate("default"))).not.toContain("PRIVATE KEY");
    expect(server.certificateRequests[before]?.metadata.get("authorization")).toEqual(["Bearer join-me"]);
    expect(server.certificateRequests[before]?.request.validityDuration).toBe(86_400n);
    const expiry = run.metrics.families().find((f) => f.name === "weft_certificate_expiry_seconds");
    expect(expiry?.series.map((s) => s.labels[0])).toEqual(["default", "ROOTCA"]);
    expect((expiry?.series[0] as { value: number } | undefined)?.value).toBeGreaterThan(86_000);
  });

  test("at half of its life a certificate is renewed, over a new key; until then and through failures the old one stays", async () => {
    const clock = new PausedClock(Date.now());
    let refuse = false;
    server.sign = (request) => {
      if (refuse) throw Object.assign(new Error("not today"), { code: 14 });
      return [authority.signRequest(request.csr), authority.caPem];
    };
    const run = start(cluster(server.port, authority.caPem, serverUri), () => "join-me", clock);
    await until(() => run.changes() === 1, "the first certificate");
    const first = run.identity.certificate("default");
    const asked = server.certificateRequests.length;
    clock.advance(11 * 3_600_000);
    await Bun.sleep(20);
    expect(server.certificateRequests.length).toBe(asked);
    refuse = true;
    clock.advance(2 * 3_600_000);
    await until(() => server.certificateRequests.length > asked, "a renewal");
    await Bun.sleep(20);
    expect(run.identity.certificate("default")).toBe(first as KeyPair);
    expect(run.identity.waitingFor()).toEqual([]);
    refuse = false;
    await until(() => {
      clock.advance(500);
      return run.changes() === 2;
    }, "the second certificate");
    expect(run.identity.generation).toBe(2);
    expect(run.identity.certificate("default")?.privateKeyPem).not.toBe(first?.privateKeyPem as string);
  });

  test("a refusal is retried, with the token read anew, and a bad answer is not used", async () => {
    const tokens = ["stale", "stale", "fresh", "fresh", "fresh"];
    let answers = 0;
    server.sign = (request) => {
      answers++;
      if (answers === 1) throw Object.assign(new Error("the token has expired"), { code: 16 });
      if (answers === 2) return [stranger.signRequest(request.csr), authority.caPem];
      return [authority.signRequest(request.csr), authority.caPem];
    };
    const first = server.certificateRequests.length;
    const run = start(cluster(server.port, authority.caPem, serverUri), () => tokens.shift() ?? "fresh");
    await until(() => run.changes() === 1, "a certificate in the end");
    expect(answers).toBe(3);
    const sent = server.certificateRequests.slice(first).map((r) => r.metadata.get("authorization")[0]);
    expect(sent).toEqual(["Bearer stale", "Bearer stale", "Bearer fresh"]);
    const csrs = new Set(server.certificateRequests.slice(first).map((r) => r.request.csr));
    // The same key until there is a certificate: the first answer might have been lost, and a token for once is good for that key alone then.
    expect(csrs.size).toBe(1);
  });

  test("refused by turns with its certificate and with its token, a proxy says each reason once and waits longer and longer", async () => {
    let refuse = false;
    const asked: number[] = [];
    server.sign = (request) => {
      if (!refuse) return [authority.signRequest(request.csr), authority.caPem];
      asked.push(performance.now());
      const by =
        server.certificateRequests.at(-1)?.metadata.get("authorization").length === 0
          ? "the certificate has been revoked"
          : "the join token has been used";
      throw Object.assign(new Error(by), { code: 16 });
    };
    const lines: string[] = [];
    const clock = new PausedClock(Date.now());
    const run = start(
      cluster(server.port, authority.caPem, serverUri),
      () => "join-me",
      clock,
      (line) => lines.push(line),
    );
    await until(() => run.changes() === 1, "the first certificate");
    refuse = true;
    lines.length = 0;
    clock.advance(13 * 3_600_000);
    for (let tries = 1; tries <= 5; tries++) {
      await until(() => {
        clock.advance(20);
        return asked.length >= tries;
      }, `try ${tries}`);
    }
    await until(() => lines.some((line) => line.includes("revoked")) && lines.some((line) => line.includes("token has been used")), "both");
    const said = lines.map((line) => JSON.parse(line) as { level: number | string; msg: string }).map(({ msg }) => msg);
    expect(said.filter((msg) => msg.startsWith("Could not get a certificate")).length).toBeLessThanOrEqual(4);
    expect(said.filter((msg) => msg.startsWith("Lost the control plane"))).toEqual([]);
    const before = lines.length;
    for (let tries = asked.length + 1, last = tries + 2; tries <= last; tries++)
      await until(() => {
        clock.advance(20);
        return asked.length >= tries;
      }, `try ${tries}`);
    expect(lines.slice(before)).toEqual([]);
  }, 30_000);

  test("a server that is not the one named gets no token", async () => {
    const first = server.certificateRequests.length;
    const wrongName = start(cluster(server.port, authority.caPem, "spiffe://cluster.local/ns/evil/sa/evil"), () => "secret-token");
    await until(() => wrongName.channel.problem.includes("refused"), "the refusal");
    expect(wrongName.channel.problem).toContain("spiffe://cluster.local/ns/weft-system/sa/weft");
    const wrongRoot = start(cluster(server.port, stranger.caPem, serverUri), () => "secret-token");
    await until(() => wrongRoot.channel.problem.includes("certificate"), "the refusal");
    expect(server.certificateRequests.length).toBe(first);
  });

  test("the next connection presents the certificate and sends no token", async () => {
    server.sign = (request) => [authority.signRequest(request.csr), authority.caPem];
    const other = await startFakeControlPlane({ tls: { ca: authority.caPem, ...authority.issue(`URI:${serverUri}`) } });
    stops.push(() => other.stop());
    other.sign = server.sign;
    const run = start(cluster(other.port, authority.caPem, serverUri), () => "join-me");
    await until(() => run.changes() === 1);
    other.stop();
    await until(() => !run.channel.connected);
    const back = await startFakeControlPlane({ port: other.port, tls: { ca: authority.caPem, ...authority.issue(`URI:${serverUri}`) } });
    stops.push(() => back.stop());
    back.sign = server.sign;
    await until(() => run.channel.connected, "the reconnection");
    const call = run.channel.call("/istio.v1.auth.IstioCertificateService/CreateCertificate", {
      message: () => {},
      ended: () => {},
      writable: () => {},
    });
    call?.send(new Uint8Array(0));
    call?.finish();
    const seen = await until(() => back.certificateRequests[0], "a call");
    expect(seen.metadata.get("authorization")).toEqual([]);
  });

  test("a renewal that the token buys no more is asked for with the certificate, though the first connection stands", async () => {
    const other = await startFakeControlPlane({ tls: { ca: authority.caPem, ...authority.issue(`URI:${serverUri}`) } });
    stops.push(() => other.stop());
    let byToken = 0;
    other.sign = (request) => {
      const seen = other.certificateRequests.at(-1)?.metadata.get("authorization")[0];
      if (seen !== undefined && ++byToken > 1) throw Object.assign(new Error("the join token was used"), { code: 16 });
      return [authority.signRequest(request.csr), authority.caPem];
    };
    const run = start(cluster(other.port, authority.caPem, serverUri), () => "once");
    await until(() => run.changes() === 1, "the first certificate");
    // Another root issues now: the certificate is renewed.
    const { caPem } = stranger;
    await run.identity.takeTrust({ rootsPem: `${caPem}${authority.caPem}`, crlPem: "", denyList: undefined });
    await until(() => run.identity.generation >= 3, "the renewal");
    expect(byToken).toBe(2);
    expect(other.certificateRequests.at(-1)?.metadata.get("authorization")).toEqual([]);
  });
});
