// Streams of trust as their clients meet them: real TLS, grpc-js as the client. A root is replaced in a running server; who is revoked loses its stream.

import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Client, type ClientDuplexStream, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { SecretSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts";
import {
  DiscoveryRequestSchema,
  type DiscoveryResponse,
  DiscoveryResponseSchema,
} from "../../wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { meshRootsSecret } from "../../wire/names.ts";
import { formatIdentity } from "../../wire/spiffe.ts";
import { denyListSecret, readDenyList, secretStreamPath, secretTypeUrl, writeDenyList } from "../../wire/trust.ts";
import { openAuthority, serverNames } from "../identity/authority.ts";
import { finished, readRotation, writeRotation } from "../identity/rotation-state.ts";
import { openTokenAuthority } from "../identity/token.ts";
import { startXdsServer } from "./server.ts";

// Programs are started, and keys stretched: a busy machine takes its time.
setDefaultTimeout(60_000);

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const run of cleanups.splice(0).reverse()) await run();
});

async function until(what: string, holds: () => boolean, withinMs = 10_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await Bun.sleep(2);
  }
}

const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
const cart = { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart" };

async function world() {
  const dir = mkdtempSync(join(tmpdir(), "weft-trust-"));
  const authority = await openAuthority({ dir, trustDomain: undefined, clock: systemClock, random });
  const tokens = openTokenAuthority(dir, authority.trustDomain, systemClock);
  const names = serverNames("127.0.0.1");
  const certificate = await authority.serverCertificate(names);
  const denied = { serials: [] as string[], account: "" };
  const server = await startXdsServer(
    { host: "127.0.0.1", port: 0, certificatePem: certificate.certificatePem, key: certificate.keyPem },
    {
      clock: systemClock,
      log: silentLogger,
      authority,
      tokens,
      revoked: {
        whyIdentity: ({ serviceAccount }) => (serviceAccount === denied.account ? "the account is revoked" : undefined),
        whyCertificate: (serial) => (denied.serials.includes(serial.toUpperCase()) ? "the certificate is revoked" : undefined),
      },
      trust: () => ({
        rootsPem: authority.rootPem,
        crlPem: "",
        denyList: writeDenyList({ serials: denied.serials, identities: [] }),
      }),
      snapshots: { get: () => undefined, follow: () => () => {} },
      observer: { opened() {}, changed() {}, rejected() {}, closed() {}, sent() {}, unknownType() {} },
      findEntry: async () => undefined,
      metrics: () => ({ message() {}, end() {} }),
      accessLogs: () => ({ message() {}, end() {} }),
      onCertificate() {},
      identifier: "weft/test",
    },
  );
  cleanups.push(
    () => rmSync(dir, { recursive: true, force: true }),
    () => server.stop(),
  );
  authority.onChange(() => {
    void authority.serverCertificate(names).then((next) => {
      server.updateCertificate(next.certificatePem, next.keyPem);
      server.trustChanged();
    });
  });
  return { dir, authority, tokens, server, denied };
}

type World = Awaited<ReturnType<typeof world>>;

async function pairOf(w: World) {
  const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "pem", type: "pkcs8" }).toString();
  writeFileSync(join(w.dir, "w.key"), key);
  const san = `subjectAltName=URI:${formatIdentity(cart)}`;
  Bun.spawnSync(["openssl", "req", "-new", "-key", join(w.dir, "w.key"), "-subj", "/", "-addext", san, "-out", join(w.dir, "w.csr")]);
  const { chainPem, serialNumber } = await w.authority.signWorkload(readFileSync(join(w.dir, "w.csr"), "utf8"), cart, 0);
  return { key, chain: chainPem.slice(0, -1).join(""), serial: serialNumber.toUpperCase() };
}

type Request = MessageInitShape<typeof DiscoveryRequestSchema>;

/** A client that trusts `rootsPem`, with a stream of secrets. */
function open(w: World, rootsPem: string, how: { pair?: { key: string; chain: string }; token?: string }) {
  const { pair, token } = how;
  const root = Buffer.from(rootsPem);
  const ssl =
    pair === undefined ? credentials.createSsl(root) : credentials.createSsl(root, Buffer.from(pair.key), Buffer.from(pair.chain));
  const client = new Client(`127.0.0.1:${w.server.port}`, ssl, {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.ssl_target_name_override": "weft",
    "grpc.default_authority": "weft",
  });
  const metadata = new Metadata();
  if (token !== undefined) metadata.set("authorization", `Bearer ${token}`);
  const got: DiscoveryResponse[] = [];
  const call: ClientDuplexStream<Request, DiscoveryResponse> = client.makeBidiStreamRequest(
    secretStreamPath,
    (m: Request) => Buffer.from(toBinary(DiscoveryRequestSchema, create(DiscoveryRequestSchema, m))),
    (b: Buffer) => fromBinary(DiscoveryResponseSchema, b),
    metadata,
  );
  const stream = { got, error: undefined as ServiceError | undefined, call };
  call.on("data", (message: DiscoveryResponse) => got.push(message));
  call.on("error", (error: ServiceError) => {
    stream.error = error;
  });
  cleanups.push(() => {
    call.cancel();
    client.close();
  });
  call.write({ typeUrl: secretTypeUrl, resourceNames: [meshRootsSecret, denyListSecret], node: { id: "sidecar~shop~cart-1" } });
  return stream;
}

const acknowledge = (stream: ReturnType<typeof open>, problem?: string) => {
  const { nonce, versionInfo } = stream.got.at(-1) as DiscoveryResponse;
  stream.call.write({
    typeUrl: secretTypeUrl,
    resourceNames: [meshRootsSecret, denyListSecret],
    versionInfo,
    responseNonce: nonce,
    ...(problem === undefined ? {} : { errorDetail: { code: 3, message: problem } }),
  });
};

function secretsIn(response: DiscoveryResponse | undefined): { roots: string; denied: string } {
  const text = (name: string): string => {
    for (const { value } of response?.resources ?? []) {
      const secret = fromBinary(SecretSchema, value);
      const source =
        secret.type.case === "validationContext"
          ? secret.type.value.trustedCa
          : secret.type.case === "genericSecret"
            ? secret.type.value.secret
            : undefined;
      if (secret.name === name && source?.specifier.case === "inlineBytes") return Buffer.from(source.specifier.value).toString();
    }
    return "";
  };
  return { roots: text(meshRootsSecret), denied: text(denyListSecret) };
}

test("roots and deny list are told by a certificate of the mesh alone, and what is accepted is known", async () => {
  const w = await world();
  const stranger = open(w, w.authority.rootPem, {});
  await until("refused", () => stranger.error !== undefined);
  expect(stranger.error?.code).toBe(status.UNAUTHENTICATED);

  const stream = open(w, w.authority.rootPem, { pair: await pairOf(w) });
  await until("told", () => stream.got.length === 1);
  expect(secretsIn(stream.got[0]).roots).toBe(w.authority.rootPem);
  expect(readDenyList(secretsIn(stream.got[0]).denied)).toEqual({ serials: [], identities: [] });
  expect(w.server.holders()).toMatchObject([{ key: "shop/cart-1", rootsPem: undefined }]);
  acknowledge(stream);
  await until("accepted", () => w.server.holders()[0]?.rootsPem === w.authority.rootPem);
  expect(w.server.holders()[0]?.issuer).toBe(w.authority.issuing.certificate.fingerprint);
  // Nothing new: nobody is told again.
  w.server.trustChanged();
  await Bun.sleep(20);
  expect(stream.got.length).toBe(1);
});

test("a secret that is none of these ends the stream by name", async () => {
  const w = await world();
  const stream = open(w, w.authority.rootPem, { pair: await pairOf(w) });
  await until("told", () => stream.got.length === 1);
  stream.call.write({ typeUrl: secretTypeUrl, resourceNames: ["default"] });
  await until("refused", () => stream.error !== undefined);
  expect(stream.error?.details).toContain(
    "there is no secret default here; there are ROOTCA (the roots) and weft-denied. Keys never travel",
  );
});

test("a new root is told before it issues, and a server that runs takes certificates of either until the old one is gone", async () => {
  const w = await world();
  const { authority } = w;
  const oldRoot = authority.rootPem;
  const before = await pairOf(w);
  const stream = open(w, oldRoot, { pair: before });
  await until("told", () => stream.got.length === 1);
  acknowledge(stream);
  const files = authority.files;
  if (files === undefined) throw new Error("the authority is ours");
  const next = authority.makeNext();
  const at = "2026-01-01T00:00:00Z";
  const told = { ...files, rotation: writeRotation({ phase: "distributing", startedAt: at, switchedAt: null, next }) };
  authority.adopt(told);
  await until("both told", () => stream.got.length === 2);
  expect(secretsIn(stream.got[1]).roots).toBe(oldRoot + next.certificatePem);
  acknowledge(stream, "none of these");
  await until("its refusal is known", () => w.server.holders()[0]?.problem === "none of these");
  expect(w.server.holders()[0]?.rootsPem).toBe(oldRoot);

  const issuing = { ...told, rotation: writeRotation({ phase: "issuing", startedAt: at, switchedAt: at, next }) };
  authority.adopt(issuing);
  expect(authority.rootPem).toBe(next.certificatePem + oldRoot);
  const after = await pairOf(w);
  // The server shows a certificate of the old root, for clients that know no other, and takes those of the new one.
  for (const pair of [before, after]) {
    const client = open(w, oldRoot, { pair });
    await until("taken", () => client.got.length === 1 || client.error !== undefined);
    expect(client.error).toBeUndefined();
  }
  expect(authority.issuerOf(Buffer.from(after.chain.replace(/-----[^-]+-----|\s/g, ""), "base64"))).toBe(authority.issuing);

  authority.adopt(finished(issuing, readRotation(issuing.rotation)));
  await until("the server shows the new root's", () => readFileSync(join(w.dir, "server.crt"), "utf8") !== "");
  const known = open(w, authority.rootPem, { pair: after });
  await until("taken", () => known.got.length === 1 || known.error !== undefined);
  expect(known.error).toBeUndefined();
  const outdated = open(w, authority.rootPem, { pair: before });
  await until("refused", () => outdated.error !== undefined);
  expect(outdated.error?.code).toBe(status.UNAUTHENTICATED);
});

test("who is revoked loses its stream and gets none, by certificate and by token", async () => {
  const w = await world();
  const pair = await pairOf(w);
  const stream = open(w, w.authority.rootPem, { pair });
  await until("told", () => stream.got.length === 1);
  w.denied.serials.push(pair.serial);
  w.server.trustChanged();
  await until("ended", () => stream.error !== undefined);
  expect(stream.error).toMatchObject({ code: status.UNAUTHENTICATED, details: "the certificate is revoked" });
  const other = open(w, w.authority.rootPem, { pair: await pairOf(w) });
  await until("another certificate is good", () => other.got.length === 1);
  expect(readDenyList(secretsIn(other.got[0]).denied).serials).toEqual([pair.serial]);
  const token = (await w.tokens.issue(cart, 600)).token.reveal();
  const byToken = open(w, w.authority.rootPem, { token });
  await until("told by token", () => byToken.got.length === 1);
  w.denied.account = "cart";
  w.server.trustChanged();
  await until("ended", () => byToken.error !== undefined);
  expect(byToken.error?.details).toBe("the account is revoked");
});
