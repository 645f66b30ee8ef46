// Client certificates as credentials at the API, against a whole control plane: who they make of their holder, and every way in which they are no good.

import "reflect-metadata";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { PausedClock, systemClock } from "../base/clock.ts";
import { openFront } from "./apiserver/front.ts";
import { type ControlPlane, startControlPlane } from "./plane.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const dir = mkdtempSync(join(tmpdir(), "weft-client-ca-"));
let plane: ControlPlane;
let serverCa = "";
let adminToken = "";

interface Authority {
  readonly pem: string;
  readonly keys: CryptoKeyPair;
  readonly name: string;
}
interface Held {
  readonly cert: string;
  readonly key: string;
}

async function authority(name: string, ca = true): Promise<Authority> {
  const keys = (await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as CryptoKeyPair;
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    keys,
    signingAlgorithm: algorithm,
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 86_400_000),
    extensions: [new x509.BasicConstraintsExtension(ca, undefined, true)],
  });
  return { pem: made.toString("pem"), keys, name: `CN=${name}` };
}

const pemOf = (label: string, bytes: ArrayBuffer): string =>
  `-----BEGIN ${label}-----\n${Buffer.from(bytes).toString("base64").replace(/.{64}/g, "$&\n")}\n-----END ${label}-----\n`;

async function hold(by: Authority, subject: string, use = "1.3.6.1.5.5.7.3.2", lifeMs = 3_600_000): Promise<Held> {
  const keys = (await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as CryptoKeyPair;
  const made = await x509.X509CertificateGenerator.create({
    subject,
    issuer: by.name,
    publicKey: keys.publicKey,
    signingKey: by.keys.privateKey,
    signingAlgorithm: algorithm,
    notBefore: new Date(Date.now() - 7_200_000),
    notAfter: new Date(Date.now() + lifeMs),
    extensions: [new x509.ExtendedKeyUsageExtension([use])],
  });
  return { cert: made.toString("pem"), key: pemOf("PRIVATE KEY", await crypto.subtle.exportKey("pkcs8", keys.privateKey)) };
}

async function ask(held: Held | undefined, path: string, more: { token?: string; method?: string; body?: unknown } = {}) {
  const response = await fetch(plane.apiUrl + path, {
    method: more.method ?? "GET",
    tls: { ca: serverCa, ...held },
    headers: {
      ...(more.token === undefined ? {} : { authorization: `Bearer ${more.token}` }),
      ...(more.body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(more.body === undefined ? {} : { body: JSON.stringify(more.body) }),
  });
  const text = await response.text();
  return { status: response.status, body: text.startsWith("{") ? JSON.parse(text) : text };
}

const whoami = async (held: Held | undefined, token?: string) => {
  const review = { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" };
  const path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
  const { status, body } = await ask(held, path, { method: "POST", body: review, ...(token === undefined ? {} : { token }) });
  return status < 300 ? body.status.userInfo : { status, message: body.message };
};

const services = "/api/v1/namespaces/shop/services";
let ours: Authority;

beforeAll(async () => {
  ours = await authority("people");
  writeFileSync(join(dir, "people.crt"), ours.pem);
  const dataDir = join(dir, "data");
  plane = await startControlPlane({ dataDir, apiPort: 0, xdsPort: 0, dashboardPort: 0, clientCaFile: join(dir, "people.crt") });
  serverCa = readFileSync(join(dataDir, "ca.crt"), "utf8");
  adminToken = readFileSync(join(dataDir, "admin.token"), "utf8").trim();
}, 30_000);
afterAll(async () => {
  await plane?.stop();
  rmSync(dir, { recursive: true, force: true });
});

describe("a certificate of --client-ca", () => {
  test("makes its common name the user and its organizations the groups, and nothing more", async () => {
    const jane = await hold(ours, "CN=jane, O=team, O=ops");
    expect(await whoami(jane)).toMatchObject({ username: "jane", groups: expect.arrayContaining(["team", "ops", "system:authenticated"]) });
    expect(await ask(jane, services)).toMatchObject({ status: 403, body: { message: expect.stringContaining('User "jane" cannot list') } });
    const binding = {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata: { name: "ops" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "edit" },
      subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: "ops" }],
    };
    const bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings";
    expect((await ask(undefined, bindings, { method: "POST", body: binding, token: adminToken })).status).toBe(201);
    expect((await ask(jane, services)).status).toBe(200);
    const cart = { apiVersion: "v1", kind: "Service", metadata: { name: "cart" }, spec: { ports: [{ port: 80 }] } };
    expect((await ask(jane, services, { method: "POST", body: cart })).status).toBe(201);
    const noted = readFileSync(join(dir, "data", "audit.log"), "utf8")
      .trim()
      .split("\n");
    expect(JSON.parse(noted.at(-1) as string)).toMatchObject({
      user: "jane",
      verb: "create",
      name: "cart",
      from: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
    });
  });

  test("of system:masters is the administrator's; of a service account its own", async () => {
    expect((await ask(await hold(ours, "CN=root, O=system:masters"), "/api/v1/services")).status).toBe(200);
    expect(await whoami(await hold(ours, "CN=system:serviceaccount:shop:cart"))).toMatchObject({
      username: "system:serviceaccount:shop:cart",
    });
  });

  test("goes before a token; tokens without one are taken as ever", async () => {
    const jane = await hold(ours, "CN=jane");
    expect(await whoami(jane, adminToken)).toMatchObject({ username: "jane" });
    expect(await whoami(undefined, adminToken)).toMatchObject({ username: "admin" });
    expect(await whoami(undefined)).toMatchObject({ status: 401 });
  });

  test("that has ended while its connection stands is no good for the next request", async () => {
    const clock = new PausedClock(systemClock.now());
    const dataDir = join(dir, "later");
    const other = await startControlPlane({
      dataDir,
      apiPort: 0,
      xdsPort: 0,
      dashboardPort: 0,
      clientCaFile: join(dir, "people.crt"),
      clock,
    });
    try {
      const ca = readFileSync(join(dataDir, "ca.crt"), "utf8");
      const jane = await hold(ours, "CN=jane, O=system:masters");
      const get = () => fetch(`${other.apiUrl}/api/v1/services`, { tls: { ca, ...jane } });
      const first = await get();
      expect(first.status).toBe(200);
      await first.text();
      clock.advance(3 * 3_600_000);
      const second = await get();
      expect([second.status, ((await second.json()) as { message: string }).message]).toEqual([
        401,
        expect.stringContaining("has expired"),
      ]);
    } finally {
      await other.stop();
    }
  }, 30_000);
});

describe("no credential is", () => {
  test("a certificate of another authority, for servers only, or past its time: 401 with the reason, and a token beside it still counts", async () => {
    const stranger = await hold(await authority("people"), "CN=jane, O=system:masters");
    const server = await hold(ours, "CN=jane, O=system:masters", "1.3.6.1.5.5.7.3.1");
    const old = await hold(ours, "CN=jane, O=system:masters", undefined, -3_600_000);
    for (const held of [stranger, server, old]) {
      expect(await whoami(held)).toMatchObject({
        status: 401,
        message: expect.stringContaining("the client certificate is not good here"),
      });
      expect(await whoami(held, adminToken)).toMatchObject({ username: "admin" });
    }
  });

  test("one that names nobody, or the administrator without right", async () => {
    expect(await whoami(await hold(ours, "O=team"))).toMatchObject({ status: 401, message: expect.stringContaining("names nobody") });
    expect(await whoami(await hold(ours, "CN=admin"))).toMatchObject({ status: 401, message: expect.stringContaining("system:masters") });
  });

  test("anything at the port behind the front", async () => {
    // Whoever finds it: the ports on which this process listens on loopback.
    const own = new Set(
      readdirSync("/proc/self/fd").map((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`);
        } catch {
          return "";
        }
      }),
    );
    const ports = readFileSync("/proc/self/net/tcp", "utf8")
      .split("\n")
      .map((line) => line.trim().split(/\s+/))
      .filter(([, local = "", , state, , , , , , inode]) => local.startsWith("0100007F:") && state === "0A" && own.has(`socket:[${inode}]`))
      .map(([, local = ""]) => Number.parseInt(local.slice(9), 16));
    const answers = await Promise.all(
      ports.map(async (port) => {
        try {
          const answer = await fetch(`http://127.0.0.1:${port}/api/v1/services`, {
            headers: { authorization: `Bearer ${adminToken}` },
            signal: AbortSignal.timeout(2_000),
          });
          return `${answer.status} ${await answer.text()}`;
        } catch {
          return "";
        }
      }),
    );
    expect(answers).toContain("403 this port is not the API's\n");
  });
});

test("large answers and bodies pass whole, and a watch goes on for as long as it is wanted", async () => {
  const root = await hold(ours, "CN=root, O=system:masters");
  const words = "x".repeat(200_000);
  for (let n = 0; n < 12; n++) {
    const service = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: `big-${n}`, annotations: { words } },
      spec: { ports: [{ port: 80 }] },
    };
    expect((await ask(root, "/api/v1/namespaces/bulk/services", { method: "POST", body: service })).status).toBe(201);
  }
  const all = await ask(root, "/api/v1/namespaces/bulk/services");
  expect(all.body.items).toHaveLength(12);
  expect(all.body.items.every((each: { metadata: { annotations: { words: string } } }) => each.metadata.annotations.words === words)).toBe(
    true,
  );
  const stop = new AbortController();
  const watch = await fetch(`${plane.apiUrl}/api/v1/namespaces/bulk/services?watch=true`, {
    tls: { ca: serverCa, ...root },
    signal: stop.signal,
  });
  const reader = (watch.body as ReadableStream<Uint8Array>).getReader();
  let seen = 0;
  while (seen < 12 * 200_000) seen += ((await reader.read()).value ?? new Uint8Array(0)).length;
  stop.abort();
  reader.cancel().catch(() => undefined);
  expect((await ask(root, services)).status).toBe(200);
}, 30_000);

test("who does not finish a handshake, or is one too many, is closed", async () => {
  const keys = await hold(ours, "CN=front", "1.3.6.1.5.5.7.3.1");
  const front = openFront({
    hostname: "127.0.0.1",
    port: 0,
    ...keys,
    clientCa: ours.pem,
    behind: 1,
    handshakeSeconds: 1,
    lingerSeconds: 60,
    most: 2,
  });
  try {
    const began = performance.now();
    const closed = Array.from({ length: 3 }, () => {
      const socket = connect({ host: "127.0.0.1", port: front.port }).on("error", () => {});
      return new Promise<number>((done) => socket.once("close", () => done(performance.now() - began)));
    });
    // The third at once; the others when their second is over (Bun looks every four).
    expect(await Promise.race(closed)).toBeLessThan(900);
    await Promise.all(closed);
  } finally {
    front.stop();
  }
}, 30_000);

test("a file of --client-ca that is no good stops the start with its name and the reason", async () => {
  const path = join(dir, "bad.crt");
  const start = () => startControlPlane({ dataDir: join(dir, "bad"), apiPort: 0, xdsPort: 0, dashboardPort: 0, clientCaFile: path });
  const cases: [string | undefined, RegExp][] = [
    [undefined, /cannot be read \(ENOENT\)/],
    ["nothing\n", /holds no certificate/],
    ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", /cannot be read as X\.509/],
    [(await authority("leaf", false)).pem, /is no authority's/],
  ];
  for (const [text, reason] of cases) {
    if (text !== undefined) writeFileSync(path, text);
    const error = await start().then(
      () => "it started",
      (cause: Error) => cause.message,
    );
    expect(error).toMatch(reason);
    expect(error).toContain(path);
  }
}, 30_000);

describe("Weft's own authority for client certificates", () => {
  test("signs for the administrator alone, what is asked and no more, and is the same after a restart", async () => {
    const dataDir = join(dir, "own");
    const options = { dataDir, apiPort: 0, xdsPort: 0, dashboardPort: 0, clientCaFile: "own" };
    let own = await startControlPlane(options);
    const ca = readFileSync(join(dataDir, "ca.crt"), "utf8");
    const admin = { authorization: `Bearer ${readFileSync(join(dataDir, "admin.token"), "utf8").trim()}` };
    const keys = (await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as CryptoKeyPair;
    const publicKey = pemOf("PUBLIC KEY", await crypto.subtle.exportKey("spki", keys.publicKey));
    const key = pemOf("PRIVATE KEY", await crypto.subtle.exportKey("pkcs8", keys.privateKey));
    const send = async (path: string, init: { method?: string; headers?: Record<string, string>; body?: unknown; held?: Held }) => {
      const { held, body, headers = {}, ...rest } = init;
      const answer = await fetch(own.apiUrl + path, {
        ...rest,
        headers,
        tls: { ca, ...held },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      // biome-ignore lint/suspicious/noExplicitAny: answers of many shapes, looked into by matchers
      return { status: answer.status, body: (await answer.json()) as any };
    };
    const sign = (body: unknown, more: { headers?: Record<string, string>; held?: Held } = { headers: admin }) =>
      send("/weft/v1alpha1/client-certificates", { method: "POST", body, ...more });
    const review = { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" };
    const whoIs = (held: Held) =>
      send("/apis/authentication.k8s.io/v1/selfsubjectreviews", {
        method: "POST",
        body: review,
        held,
        headers: { "content-type": "application/json" },
      });
    try {
      expect(readFileSync(join(dataDir, "client-ca.key"), "utf8")).toContain("PRIVATE KEY");
      expect(statSync(join(dataDir, "client-ca.key")).mode & 0o777).toBe(0o600);
      const made = await sign({ user: "jane doe", groups: ["team", "ops"], expirationSeconds: 3600, publicKey });
      expect(made.status).toBe(201);
      const left = Date.parse(made.body.expirationTimestamp) - Date.now();
      expect(left > 3_500_000 && left <= 3_600_000).toBe(true);
      const jane: Held = { cert: made.body.certificate, key };
      expect((await whoIs(jane)).body.status.userInfo).toMatchObject({
        username: "jane doe",
        groups: expect.arrayContaining(["team", "ops"]),
      });
      // Who holds one cannot have others signed, and neither can strangers.
      expect((await sign({ user: "root", groups: ["system:masters"], publicKey }, { held: jane, headers: {} })).status).toBe(403);
      expect((await sign({ user: "root", publicKey }, { headers: {} })).status).toBe(401);
      for (const [wrong, reason] of [
        [{ publicKey }, /user takes a name/],
        [{ user: "a,O=system:masters", publicKey }, /user takes a name/],
        [{ user: "a", groups: ["b+CN=c"], publicKey }, /groups takes/],
        [{ user: "a", expirationSeconds: 10, publicKey }, /expirationSeconds takes/],
        [{ user: "a", expirationSeconds: 366 * 86_400, publicKey }, /expirationSeconds takes/],
        [{ user: "a", publicKey: "x" }, /publicKey takes/],
        [{ user: "a", publicKey, ca: true }, /unknown field "ca"/],
      ] as const)
        expect(await sign(wrong)).toMatchObject({ status: 400, body: { message: expect.stringMatching(reason) } });
      await own.stop();
      own = await startControlPlane(options);
      expect((await whoIs(jane)).body.status.userInfo).toMatchObject({ username: "jane doe" });
      const audit = readFileSync(join(dataDir, "audit.log"), "utf8");
      expect(audit).toContain('"path":"/weft/v1alpha1/client-certificates","code":201');
    } finally {
      await own.stop();
    }
  }, 30_000);

  test("is not there without the flag", async () => {
    expect((await ask(undefined, "/weft/v1alpha1/client-certificates", { method: "POST", body: {}, token: adminToken })).status).toBe(404);
  });
});
