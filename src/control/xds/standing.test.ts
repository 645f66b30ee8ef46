// Who is believed while a call is open, over real TLS with grpc-js as the client: an answer that is lost on its way, tokens that are revoked while streams are
// open by them, and a store that is away for a moment.

import { afterEach, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { type JoinTokenObject, joinTokenKind } from "../../api/kinds/jointoken.ts";
import { type RevocationObject, revocationKind } from "../../api/kinds/revocation.ts";
import { resourceOf } from "../../api/meta.ts";
import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import { DiscoveryRequestSchema } from "../../wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { LoadStatsRequestSchema } from "../../wire/gen/envoy/service/load_stats/v3/lrs_pb.ts";
import { StreamMetricsMessageSchema } from "../../wire/gen/envoy/service/metrics/v3/metrics_service_pb.ts";
import { ClientStatusRequestSchema } from "../../wire/gen/envoy/service/status/v3/csds_pb.ts";
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from "../../wire/gen/security/v1/istioca_pb.ts";
import { secretStreamPath, secretTypeUrl } from "../../wire/trust.ts";
import { typeUrl } from "../../wire/xds-types.ts";
import { openAuthority, serverNames } from "../identity/authority.ts";
import { JoinTokenList } from "../identity/jointokens.ts";
import { Revocations, tokenHash } from "../identity/revocations.ts";
import { openTokenAuthority } from "../identity/token.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { StoreFailure } from "../store/store.ts";
import { LoadReports } from "./load.ts";
import { startXdsServer } from "./server.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const run of cleanups.splice(0).reverse()) await run();
});

async function until(what: string, met: () => boolean): Promise<void> {
  const end = performance.now() + 10_000;
  while (!met()) {
    if (performance.now() > end) throw new Error(`not within 10 s: ${what}`);
    await Bun.sleep(2);
  }
}

/** Stands between client and server; `breakAll` cuts what is open. */
async function startRelay(targetPort: number) {
  const open = new Set<Socket>();
  const server = createServer((incoming) => {
    const outgoing = connect(targetPort, "127.0.0.1");
    for (const [from, to] of [
      [incoming, outgoing],
      [outgoing, incoming],
    ] as const) {
      open.add(from);
      from.on("data", (bytes) => to.write(bytes));
      from.on("error", () => to.destroy());
      from.on("close", () => {
        to.destroy();
        open.delete(from);
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const breakAll = () => {
    for (const socket of [...open]) socket.destroy();
  };
  cleanups.push(() => {
    breakAll();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, breakAll };
}

const tokensResource = resourceOf(joinTokenKind);
const account = { namespace: "shop", serviceAccount: "reviews" };

async function world() {
  const dir = mkdtempSync(join(tmpdir(), "weft-standing-"));
  cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
  const store = openSqliteStore(":memory:");
  cleanups.push(() => store.close());
  const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
  const authority = await openAuthority({ dir, trustDomain: undefined, clock: systemClock, random });
  const list = new JoinTokenList(store, systemClock, silentLogger);
  await list.follow();
  const revocations = await Revocations.open(store, systemClock, silentLogger, authority.trustDomain, () => undefined);
  cleanups.push(
    () => list.stop(),
    () => revocations.stop(),
  );
  /** Runs between the note of a token's use and the answer. */
  const between = { run: () => {} };
  const tokens = openTokenAuthority(
    dir,
    authority.trustDomain,
    systemClock,
    async (...asked) => {
      const why = await list.check(...asked);
      if (asked[2] === "certificate") between.run();
      return why;
    },
    revocations,
    (binding) => list.whyNoMore(binding),
  );
  const certificate = await authority.serverCertificate(serverNames("127.0.0.1"));
  const metrics = { opened: 0, ended: 0 };
  const server = await startXdsServer(
    { host: "127.0.0.1", port: 0, certificatePem: certificate.certificatePem, key: certificate.keyPem },
    {
      clock: systemClock,
      log: silentLogger,
      authority,
      tokens,
      revoked: revocations,
      snapshots: { get: () => undefined, follow: () => () => {} },
      observer: { opened() {}, changed() {}, rejected() {}, closed() {}, sent() {}, unknownType() {} },
      findEntry: async (namespace, name) => ({
        apiVersion: "networking.istio.io/v1",
        kind: "WorkloadEntry",
        metadata: { name, namespace },
        spec: { address: "127.0.0.1", serviceAccount: account.serviceAccount },
      }),
      metrics: () => {
        metrics.opened++;
        return {
          message() {},
          end() {
            metrics.ended++;
          },
        };
      },
      accessLogs: () => ({ message() {}, end() {} }),
      loads: new LoadReports(new MetricRegistry(), () => true),
      onCertificate() {},
      identifier: "weft/test",
    },
  );
  cleanups.push(() => server.stop());
  revocations.onChange(() => server.trustChanged());
  list.onRevoked(() => server.recheck());
  const give = async (name: string, use: "Once" | "Reusable") => {
    const object: JoinTokenObject = {
      apiVersion: "weft.dev/v1alpha1",
      kind: "JoinToken",
      metadata: { name, namespace: "shop", uid: `uid-${name}` },
      spec: { serviceAccount: "reviews", expiresAt: `${new Date(Date.now() + 3_600_000).toISOString().slice(0, 19)}Z`, use },
    };
    await store.create({ resource: tokensResource, namespace: "shop", name }, object);
    return (await tokens.issue(account, 3600, { namespace: "shop", name, uid: `uid-${name}` })).token.reveal();
  };
  const revokeToken = (name: string) => store.delete({ resource: tokensResource, namespace: "shop", name }, undefined);
  const refuse = async (name: string, spec: RevocationObject["spec"]) => {
    const object: RevocationObject = { apiVersion: "weft.dev/v1alpha1", kind: "Revocation", metadata: { name }, spec };
    await store.create({ resource: resourceOf(revocationKind), namespace: "", name }, object);
  };
  return { dir, store, authority, server, between, metrics, give, revokeToken, refuse };
}

type World = Awaited<ReturnType<typeof world>>;

function client(w: World, port: number): Client {
  const c = new Client(`127.0.0.1:${port}`, credentials.createSsl(Buffer.from(w.authority.rootPem)), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.ssl_target_name_override": "weft",
    "grpc.default_authority": "weft",
    "grpc.initial_reconnect_backoff_ms": 50,
  });
  cleanups.push(() => c.close());
  return c;
}

function bearer(token: string): Metadata {
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return metadata;
}

function requestOf(w: World, keyPem: string): string {
  writeFileSync(join(w.dir, "w.key"), keyPem);
  const san = "subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/reviews";
  Bun.spawnSync(["openssl", "req", "-new", "-key", join(w.dir, "w.key"), "-subj", "/", "-addext", san, "-out", join(w.dir, "w.csr")]);
  return readFileSync(join(w.dir, "w.csr"), "utf8");
}
const newKey = () => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "pem", type: "pkcs8" }).toString();

function certify(c: Client, csr: string, token: string): Promise<string> {
  return new Promise((resolve) => {
    c.makeUnaryRequest(
      "/istio.v1.auth.IstioCertificateService/CreateCertificate",
      (m: string) => Buffer.from(toBinary(IstioCertificateRequestSchema, create(IstioCertificateRequestSchema, { csr: m }))),
      (b: Buffer) => fromBinary(IstioCertificateResponseSchema, b).certChain,
      csr,
      bearer(token),
      (error, chain) => resolve(error ? `${status[error.code]} ${error.details}` : `issued ${chain?.length}`),
    );
  });
}

const node = { id: "sidecar~shop~reviews-1", userAgentName: "test" };
const asIs = (b: Uint8Array) => Buffer.from(b);
const discovery = (type: string) => asIs(toBinary(DiscoveryRequestSchema, create(DiscoveryRequestSchema, { node, typeUrl: type })));
const kinds = {
  discovery: {
    path: "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
    first: discovery(typeUrl.cluster),
  },
  trust: {
    path: secretStreamPath,
    first: asIs(
      toBinary(DiscoveryRequestSchema, create(DiscoveryRequestSchema, { node, typeUrl: secretTypeUrl, resourceNames: ["ROOTCA"] })),
    ),
  },
  loads: {
    path: "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats",
    first: asIs(toBinary(LoadStatsRequestSchema, create(LoadStatsRequestSchema, { node }))),
  },
  metrics: {
    path: "/envoy.service.metrics.v3.MetricsService/StreamMetrics",
    first: asIs(toBinary(StreamMetricsMessageSchema, create(StreamMetricsMessageSchema, { identifier: { node } }))),
  },
  status: {
    path: "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus",
    first: asIs(toBinary(ClientStatusRequestSchema, create(ClientStatusRequestSchema, {}))),
  },
};

/** A stream of each kind that has been let in, as far as it says so. */
async function openAll(c: Client, token: string, names: readonly (keyof typeof kinds)[]) {
  const streams = names.map((name) => {
    const { path, first } = kinds[name];
    const call = c.makeBidiStreamRequest(
      path,
      (b: Buffer) => b,
      (b: Buffer) => b,
      bearer(token),
    );
    const stream = { name, call, got: 0, error: undefined as ServiceError | undefined };
    call.on("data", () => {
      stream.got++;
    });
    call.on("error", (error: ServiceError) => {
      stream.error = error;
    });
    call.write(first);
    cleanups.push(() => call.cancel());
    return stream;
  });
  return streams;
}

const errorsOf = (streams: Awaited<ReturnType<typeof openAll>>) =>
  Object.fromEntries(streams.map(({ name, error }) => [name, error === undefined ? undefined : `${status[error.code]} ${error.details}`]));

test("the answer to a one-time token's use is lost: its key asks again and gets a certificate, another key is refused", async () => {
  const w = await world();
  const relay = await startRelay(w.server.port);
  const token = await w.give("once", "Once");
  const key = newKey();
  // Noted in the store, and then the way is cut, before the answer.
  w.between.run = () => relay.breakAll();
  expect(await certify(client(w, relay.port), requestOf(w, key), token)).toStartWith("UNAVAILABLE");
  w.between.run = () => {};
  expect((await w.store.get({ resource: tokensResource, namespace: "shop", name: "once" }))?.status).toMatchObject({ uses: 1 });
  expect(await certify(client(w, relay.port), requestOf(w, newKey()), token)).toMatch(/^UNAUTHENTICATED .* was used at/);
  // Another request over the same key: what counts is who holds it.
  expect(await certify(client(w, relay.port), requestOf(w, key), token)).toBe("issued 2");
  expect((await w.store.get({ resource: tokensResource, namespace: "shop", name: "once" }))?.status).toMatchObject({ uses: 1 });
}, 30_000);

const lasting = ["discovery", "trust", "loads", "metrics"] as const;

for (const [how, revoke, words] of [
  ["is deleted from the list", (w: World) => w.revokeToken("many"), "the join token many was revoked"],
  [
    "is refused by its hash",
    (w: World, token: string) => w.refuse("r1", { tokenSha256: tokenHash(token) }),
    "the join token has been revoked (r1)",
  ],
  [
    "is of an account that is refused",
    (w: World) => w.refuse("r2", { serviceAccount: { namespace: "shop", name: "reviews" } }),
    "service account reviews in shop has been revoked (r2)",
  ],
] as const)
  test(`a token that ${how} ends what is open by it, with the reason`, async () => {
    const w = await world();
    const c = client(w, w.server.port);
    const token = await w.give("many", "Reusable");
    const other = await w.give("other", "Reusable");
    const streams = await openAll(c, token, lasting);
    const others = how.includes("account") ? [] : await openAll(c, other, lasting);
    const told = (all: typeof streams) => all.filter(({ name }) => name === "trust" || name === "loads").every(({ got }) => got === 1);
    await until(
      "the streams are in",
      () => told(streams) && told(others) && w.metrics.opened === streams.length / lasting.length + others.length / lasting.length,
    );
    const at = performance.now();
    await revoke(w, token);
    await until("all have ended", () => streams.every(({ error }) => error !== undefined));
    expect(performance.now() - at).toBeLessThan(2_000);
    for (const why of Object.values(errorsOf(streams))) expect(why).toStartWith(`UNAUTHENTICATED ${words}`);
    await until("the receiver of metrics has been told", () => w.metrics.ended === 1);
    expect(Object.values(errorsOf(others)).filter((why) => why !== undefined)).toEqual([]);
  }, 30_000);

test("while the store is away every kind of stream says UNAVAILABLE, and none that the token is bad", async () => {
  const w = await world();
  const token = await w.give("many", "Reusable");
  const get = w.store.get.bind(w.store);
  w.store.get = () => Promise.reject(new StoreFailure("etcd does not answer"));
  const names = ["discovery", "trust", "loads", "metrics", "status"] as const;
  const c = client(w, w.server.port);
  const streams = await openAll(c, token, names);
  await until("all have ended", () => streams.every(({ error }) => error !== undefined));
  for (const why of Object.values(errorsOf(streams))) expect(why).toMatch(/^UNAVAILABLE .*etcd does not answer/);
  w.store.get = get;
  const again = await openAll(c, token, ["trust", "loads", "status"]);
  await until("let in", () => again.every(({ got }) => got === 1));
}, 30_000);

test("who has a one-time token that is used up asks in vain as often as it likes, and nothing is written", async () => {
  const w = await world();
  const token = await w.give("once", "Once");
  const c = client(w, w.server.port);
  expect(await certify(c, requestOf(w, newKey()), token)).toBe("issued 2");
  const at = { resource: tokensResource, namespace: "shop", name: "once" };
  const before = await w.store.get(at);
  const other = requestOf(w, newKey());
  const answers = await Promise.all(Array.from({ length: 100 }, () => certify(c, other, token)));
  expect(new Set(answers.map((answer) => answer.slice(0, 15)))).toEqual(new Set(["UNAUTHENTICATED"]));
  expect(await w.store.get(at)).toEqual(before);
}, 30_000);

test("revoking goes on while more is revoked all the time, however many streams there are", async () => {
  const w = await world();
  const tokens = await Promise.all(["a", "b", "c", "d"].map((name) => w.give(name, "Reusable")));
  const streams = (
    await Promise.all(
      Array.from({ length: 160 }, (_, n) => openAll(client(w, w.server.port), tokens[n % tokens.length] as string, ["trust"])),
    )
  ).flat();
  await until("all are in", () => streams.every(({ got }) => got === 1));
  let storm = true;
  const raining = (async () => {
    for (let n = 0; storm && n < 5_000; n++) {
      await w.refuse(`r${n}`, { serial: n.toString(16).padStart(8, "0") });
      if (n % 8 === 0) await Bun.sleep(1);
    }
  })();
  await Bun.sleep(20);
  for (const name of ["a", "b", "c"]) await w.revokeToken(name);
  const gone = streams.filter((_, n) => n % tokens.length !== 3);
  await until("those of the three have ended", () => gone.every(({ error }) => error !== undefined));
  storm = false;
  await raining;
  expect(new Set(gone.map(({ error }) => error?.code))).toEqual(new Set([status.UNAUTHENTICATED]));
  expect(streams.filter(({ error }) => error === undefined)).toHaveLength(40);
}, 30_000);
