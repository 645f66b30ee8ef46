// The server as its peers meet it: real sockets, real TLS, grpc-js as the client, both variants of the protocol.

import { afterEach, describe, expect, test } from "bun:test";
import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Client, type ClientDuplexStream, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import type { KubeObject } from "../../api/meta.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
  DiscoveryRequestSchema,
  type DiscoveryResponse,
  DiscoveryResponseSchema,
} from "../../wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { StreamMetricsMessageSchema } from "../../wire/gen/envoy/service/metrics/v3/metrics_service_pb.ts";
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from "../../wire/gen/security/v1/istioca_pb.ts";
import { typeUrl, type XdsSnapshot, type XdsType } from "../../wire/xds-types.ts";
import { openAuthority, serverNames } from "../identity/authority.ts";
import type { CheckBinding } from "../identity/jointokens.ts";
import { openTokenAuthority } from "../identity/token.ts";
import { StoreFailure } from "../store/store.ts";
import { maxStreamsPerNode, newStreamsBurst } from "./gate.ts";
import { ProxyList } from "./proxies.ts";
import { startXdsServer } from "./server.ts";
import type { Session } from "./session.ts";
import { snapshot } from "./support.ts";

const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const run of cleanups.splice(0).reverse()) await run();
});

async function until(what: string, holds: () => boolean, withinMs = 3000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await Bun.sleep(2);
  }
}

class Source {
  readonly #now = new Map<string, XdsSnapshot>();
  readonly #followers = new Map<string, Set<(snapshot: XdsSnapshot) => void>>();

  get(key: string): XdsSnapshot | undefined {
    return this.#now.get(key);
  }

  follow(key: string, onSnapshot: (snapshot: XdsSnapshot) => void): () => void {
    const set = this.#followers.get(key) ?? new Set();
    this.#followers.set(key, set.add(onSnapshot));
    return () => set.delete(onSnapshot);
  }

  put(key: string, next: XdsSnapshot): void {
    this.#now.set(key, next);
    for (const f of this.#followers.get(key) ?? []) f(next);
  }
}

const entry = (namespace: string, name: string, serviceAccount: string): KubeObject => ({
  apiVersion: "networking.istio.io/v1",
  kind: "WorkloadEntry",
  metadata: { name, namespace },
  spec: { address: "127.0.0.1", serviceAccount },
});

async function world(port = 0, dir = mkdtempSync(join(tmpdir(), "weft-xds-")), clock: Clock = systemClock, check?: CheckBinding) {
  const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
  const authority = await openAuthority({ dir, trustDomain: undefined, clock: systemClock, random });
  const tokens = openTokenAuthority(dir, authority.trustDomain, systemClock, check);
  const certificate = await authority.serverCertificate(serverNames("127.0.0.1"));
  const source = new Source();
  const proxies = new ProxyList(systemClock);
  const entries = [entry("shop", "reviews-1", "reviews"), entry("shop", "cart-1", "cart")];
  const log: string[] = [];
  const server = await startXdsServer(
    { host: "127.0.0.1", port, certificatePem: certificate.certificatePem, key: certificate.keyPem },
    {
      clock,
      log: silentLogger,
      authority,
      tokens,
      snapshots: source,
      observer: {
        opened: (s: Session) => proxies.add(s),
        changed: () => proxies.touch(),
        rejected: (_s, r) => log.push(`rejected ${r.type} ${r.reason}`),
        closed: (s) => {
          log.push(`closed ${proxies.remove(s) ? "last" : "other"}`);
        },
        sent: () => {},
        unknownType: (url) => log.push(`unknown ${url}`),
      },
      findEntry: async (namespace, name) => entries.find((e) => e.metadata.namespace === namespace && e.metadata.name === name),
      metrics: (node) => ({ message: (m) => log.push(`metrics ${node.key} ${m.envoyMetrics.length}`), end: () => log.push("metrics end") }),
      accessLogs: () => ({ message: () => {}, end: () => {} }),
      onCertificate: (identity) => log.push(`certificate ${identity.serviceAccount}`),
      identifier: "weft/test",
    },
  );
  let stopped = false;
  const stop = async () => {
    if (!stopped) await server.stop();
    stopped = true;
  };
  cleanups.push(() => rmSync(dir, { recursive: true, force: true }), stop);
  const token = async (serviceAccount: string) => (await tokens.issue({ namespace: "shop", serviceAccount }, 600)).token.reveal();
  return { dir, authority, tokens, source, proxies, log, port: server.port, token, stop };
}

type World = Awaited<ReturnType<typeof world>>;

function client(w: World, pair?: { key: string; chain: string }): Client {
  const root = Buffer.from(w.authority.rootPem);
  const ssl =
    pair === undefined ? credentials.createSsl(root) : credentials.createSsl(root, Buffer.from(pair.key), Buffer.from(pair.chain));
  const c = new Client(`127.0.0.1:${w.port}`, ssl, {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.max_receive_message_length": -1,
    // Bun, like Node, sends no server name for an address, and grpc-js would make it one.
    "grpc.ssl_target_name_override": "weft",
    "grpc.default_authority": "weft",
  });
  cleanups.push(() => c.close());
  return c;
}

const asIs = (b: Uint8Array) => Buffer.from(b);

/** One aggregated stream seen from the client; requests are sent as given, responses collected. */
class Stream<Req, Res> {
  readonly call: ClientDuplexStream<Req, Res>;
  readonly got: Res[] = [];
  error: ServiceError | undefined;
  ended = false;

  constructor(call: ClientDuplexStream<Req, Res>) {
    this.call = call;
    call.on("data", (m: Res) => this.got.push(m));
    call.on("error", (e: ServiceError) => {
      this.error = e;
    });
    call.on("end", () => {
      this.ended = true;
    });
    cleanups.push(() => call.cancel());
  }
}

type StateRequest = MessageInitShape<typeof DiscoveryRequestSchema>;
type DeltaRequest = MessageInitShape<typeof DeltaDiscoveryRequestSchema>;

function metadata(token?: string): Metadata {
  const m = new Metadata();
  if (token !== undefined) m.set("authorization", `Bearer ${token}`);
  return m;
}

function state(c: Client, token?: string): Stream<StateRequest, DiscoveryResponse> {
  return new Stream(
    c.makeBidiStreamRequest(
      "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
      (m: StateRequest) => asIs(toBinary(DiscoveryRequestSchema, create(DiscoveryRequestSchema, m))),
      (b: Buffer) => fromBinary(DiscoveryResponseSchema, b),
      metadata(token),
    ),
  );
}

function delta(c: Client, token?: string): Stream<DeltaRequest, DeltaDiscoveryResponse> {
  return new Stream(
    c.makeBidiStreamRequest(
      "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
      (m: DeltaRequest) => asIs(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, m))),
      (b: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, b),
      metadata(token),
    ),
  );
}

const node = {
  id: "sidecar~shop~reviews-1",
  userAgentName: "test",
  userAgentVersionType: { case: "userAgentVersion" as const, value: "1" },
};
const url = (type: XdsType) => typeUrl[type];

function makeCsr(dir: string, uri: string): { csr: string; key: string } {
  const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "pem", type: "pkcs8" }).toString();
  writeFileSync(join(dir, "w.key"), key);
  const run = Bun.spawnSync([
    "openssl",
    "req",
    "-new",
    "-key",
    join(dir, "w.key"),
    "-subj",
    "/",
    "-addext",
    `subjectAltName=URI:${uri}`,
    "-out",
    join(dir, "w.csr"),
  ]);
  if (run.exitCode !== 0) throw new Error(run.stderr.toString());
  return { csr: readFileSync(join(dir, "w.csr"), "utf8"), key };
}

function createCertificate(c: Client, csr: string, token?: string): Promise<string[]> {
  return new Promise((resolve, reject) => {
    c.makeUnaryRequest(
      "/istio.v1.auth.IstioCertificateService/CreateCertificate",
      (m: string) =>
        asIs(toBinary(IstioCertificateRequestSchema, create(IstioCertificateRequestSchema, { csr: m, validityDuration: 86_400n }))),
      (b: Buffer) => fromBinary(IstioCertificateResponseSchema, b).certChain,
      csr,
      metadata(token),
      (error, chain) => (error ? reject(error) : resolve(chain ?? [])),
    );
  });
}

describe("state of the world", () => {
  test("a client that acknowledges gets everything, then only what changes", async () => {
    const w = await world();
    w.source.put("shop/reviews-1", snapshot("shop/reviews-1", { cluster: ["a"], endpoint: ["a"], listener: ["l"], route: ["r"] }));
    const s = state(client(w), await w.token("reviews"));
    const ack = (m: DiscoveryResponse, names: string[]) =>
      s.call.write({ typeUrl: m.typeUrl, versionInfo: m.versionInfo, responseNonce: m.nonce, resourceNames: names });
    s.call.write({ node, typeUrl: url("cluster") });
    await until("clusters", () => s.got.length === 1);
    expect(s.got[0]?.resources.map((r) => r.typeUrl)).toEqual([url("cluster")]);
    expect(s.got[0]?.controlPlane?.identifier).toBe("weft/test");
    ack(s.got[0]!, []);
    s.call.write({ typeUrl: url("endpoint"), resourceNames: ["a"] });
    await until("endpoints", () => s.got.length === 2);
    ack(s.got[1]!, ["a"]);
    w.source.put("shop/reviews-1", snapshot("shop/reviews-1", { cluster: ["a"], endpoint: ["a=2"], listener: ["l"], route: ["r"] }));
    await until("the changed endpoints", () => s.got.length === 3);
    expect(Buffer.from(s.got[2]!.resources[0]!.value).toString()).toBe("2");
    expect(s.got[2]?.typeUrl).toBe(url("endpoint"));
    ack(s.got[2]!, ["a"]);
    await until("the proxy is shown as in step", () => w.proxies.list()[0]?.status.synced === true);
    expect(w.proxies.list()[0]?.status).toMatchObject({
      connected: true,
      agent: "test/1",
      mode: "sotw",
      identity: "spiffe://cluster.local/ns/shop/sa/reviews",
      lastRejection: null,
    });
  });
});

describe("delta", () => {
  test("what was rejected is not offered on the next stream, nor to a new process for longer than it says so", async () => {
    const w = await world();
    const key = "shop/reviews-1";
    const put = (route: string[]) => w.source.put(key, snapshot(key, { route }));
    put(["r"]);
    const c = client(w);
    const token = await w.token("reviews");
    const open = async (versions: Record<string, string>) => {
      const s = delta(c, token);
      s.call.write({ node, typeUrl: url("route"), resourceNamesSubscribe: ["r"], initialResourceVersions: versions });
      await until("an answer", () => s.got.length === 1);
      const end = async () => {
        s.call.end();
        await until("the proxy is shown as lost", () => w.proxies.list()[0]?.status.connected === false);
      };
      return { ...s, end };
    };
    const first = await open({});
    first.call.write({ typeUrl: url("route"), responseNonce: first.got[0]!.nonce });
    put(["r=2"]);
    await until("the changed route", () => first.got.length === 2);
    first.call.write({ typeUrl: url("route"), responseNonce: first.got[1]!.nonce, errorDetail: { code: 3, message: "route r: no" } });
    await until("the rejection is noted", () => w.log.some((l) => l.startsWith("rejected")));
    await first.end();

    const again = await open({ r: "r@1" });
    expect(again.got[0]?.resources).toEqual([]);
    expect(w.proxies.list()[0]?.status.quarantine).toEqual([{ type: "route", name: "r", version: "r@2", reason: "route r: no" }]);
    put(["r=3"]);
    again.call.write({ typeUrl: url("route"), responseNonce: again.got[0]!.nonce });
    await until("the mended route", () => again.got.length === 2);
    expect(again.got[1]?.resources.map((r) => r.version)).toEqual(["r@3"]);
    put(["r=2"]);
    await again.end();

    // A process that holds nothing is another one, and is asked.
    const fresh = await open({});
    expect(fresh.got[0]?.resources.map((r) => r.version)).toEqual(["r@2"]);
    await fresh.end();
  });

  test("subscribe, change, reject, mend, reconnect with what is held", async () => {
    const w = await world();
    const key = "shop/reviews-1";
    const put = (route: string[], cluster = ["a"]) => w.source.put(key, snapshot(key, { cluster, endpoint: ["a"], route }));
    put(["r"]);
    const c = client(w);
    const token = await w.token("reviews");
    const s = delta(c, token);
    s.call.write({ node, typeUrl: url("cluster") });
    s.call.write({ typeUrl: url("route"), resourceNamesSubscribe: ["r"] });
    s.call.write({ typeUrl: url("endpoint"), resourceNamesSubscribe: ["a"] });
    await until("all three types", () => s.got.length === 3);
    expect(s.got.map((m) => m.typeUrl).sort()).toEqual([url("cluster"), url("endpoint"), url("route")].sort());
    for (const m of s.got) s.call.write({ typeUrl: m.typeUrl, responseNonce: m.nonce });
    put(["r=2"]);
    await until("the changed route", () => s.got.length === 4);
    expect(s.got[3]?.resources.map((r) => [r.name, r.version])).toEqual([["r", "r@2"]]);
    s.call.write({
      typeUrl: url("route"),
      responseNonce: s.got[3]!.nonce,
      errorDetail: { code: 3, message: "route r: weights add up to zero" },
    });
    await until("the rejection is noted", () => w.log.some((l) => l.startsWith("rejected")));
    const shown = w.proxies.list()[0]!.status;
    expect(shown.lastRejection).toMatchObject({ type: "route", reason: "route r: weights add up to zero" });
    expect(shown.synced).toBe(false);
    expect(shown.types.route.accepted).not.toBe(shown.types.route.sent);
    put(["r=3"]);
    await until("the mended route", () => s.got.length === 5);
    s.call.write({ typeUrl: url("route"), responseNonce: s.got[4]!.nonce });
    await until("in step again", () => w.proxies.list()[0]?.status.synced === true);
    s.call.end();
    await until("the proxy is shown as lost", () => w.proxies.list()[0]?.status.connected === false);

    const again = delta(c, token);
    again.call.write({ node, typeUrl: url("route"), resourceNamesSubscribe: ["r"], initialResourceVersions: { r: "r@3" } });
    again.call.write({ typeUrl: url("cluster"), initialResourceVersions: { a: "a@1", old: "old@1" } });
    await until("the difference", () => again.got.length >= 2);
    expect(again.got.every((m) => m.resources.length === 0)).toBe(true);
    for (const m of again.got) again.call.write({ typeUrl: m.typeUrl, responseNonce: m.nonce });
    await until("what no longer exists is removed", () => again.got.some((m) => m.removedResources.includes("old")));
  });

  test("a client that reads nothing costs one response, holds up nobody, and gets the latest when it wakes", async () => {
    const w = await world();
    const wide = (v: number) => ({ cluster: Array.from({ length: 200 }, (_, i) => `cluster-${i}=${v}`) });
    w.source.put("shop/reviews-1", snapshot("w", wide(1)));
    w.source.put("shop/cart-1", snapshot("w", wide(1)));
    const slow = delta(client(w), await w.token("reviews"));
    slow.call.write({ node, typeUrl: url("cluster") });
    const quick = delta(client(w), await w.token("cart"));
    quick.call.on("data", (m: DeltaDiscoveryResponse) => quick.call.write({ typeUrl: m.typeUrl, responseNonce: m.nonce }));
    quick.call.write({ node: { id: "sidecar~shop~cart-1" }, typeUrl: url("cluster") });
    await until("both have the first", () => slow.got.length === 1 && quick.got.length === 1);
    slow.call.pause();
    for (let v = 2; v <= 40; v++) {
      w.source.put("shop/reviews-1", snapshot("w", wide(v)));
      w.source.put("shop/cart-1", snapshot("w", wide(v)));
      await until("the quick one follows", () => quick.got.at(-1)?.resources[0]?.version.endsWith(`@${v}`) === true);
    }
    slow.call.resume();
    expect(slow.got.length).toBe(1);
    slow.call.write({ typeUrl: url("cluster"), responseNonce: slow.got[0]!.nonce });
    await until("the slow one gets the latest", () => slow.got.length === 2);
    expect(slow.got[1]?.resources[0]?.version.endsWith("@40")).toBe(true);
  });

  test("an unknown type is told once and leaves the stream alone", async () => {
    const w = await world();
    w.source.put("shop/reviews-1", snapshot("w", { cluster: ["a"] }));
    const s = delta(client(w), await w.token("reviews"));
    const secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    s.call.write({ node, typeUrl: secret, resourceNamesSubscribe: ["default"] });
    s.call.write({ typeUrl: secret, resourceNamesSubscribe: ["ROOTCA"] });
    s.call.write({ typeUrl: url("cluster") });
    await until("clusters", () => s.got.length === 1);
    expect(w.log.filter((l) => l.startsWith("unknown"))).toEqual([`unknown ${secret}`]);
  });
});

describe("caller", () => {
  test("without credentials, with a bad token, with a foreign certificate: refused in words", async () => {
    const w = await world();
    const foreign = await world();
    const { csr, key } = makeCsr(foreign.dir, "spiffe://cluster.local/ns/shop/sa/reviews");
    const chain = (
      await foreign.authority.signWorkload(csr, { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "reviews" }, 0)
    ).chainPem.join("");
    const cases: [Stream<DeltaRequest, DeltaDiscoveryResponse>, RegExp][] = [
      [delta(client(w)), /no credentials: come with a join token/],
      [delta(client(w), "abc"), /neither the admin token nor a join token/],
      [delta(client(w), await foreign.token("reviews")), /not signed by this control plane/],
      [delta(client(w, { key, chain })), /no credentials/],
    ];
    for (const [s, says] of cases) {
      s.call.write({ node, typeUrl: url("cluster") });
      await until("the refusal", () => s.error !== undefined);
      expect(s.error?.code).toBe(status.UNAUTHENTICATED);
      expect(s.error?.details).toMatch(says);
    }
    expect(w.proxies.list()).toEqual([]);
  });

  test("a node that is not the caller's is refused, naming both", async () => {
    const w = await world();
    const c = client(w);
    const token = await w.token("reviews");
    const cases: [string, RegExp][] = [
      [
        "sidecar~shop~cart-1",
        /cart-1 of spiffe:\/\/cluster\.local\/ns\/shop\/sa\/cart, but the caller is spiffe:\/\/cluster\.local\/ns\/shop\/sa\/reviews/,
      ],
      ["sidecar~bank~x", /namespace bank, but the caller is .*ns\/shop\/sa\/reviews/],
      ["sidecar~shop~gone", /WorkloadEntry shop\/gone, which does not exist/],
      ["envoy-1", /"envoy-1" .* sidecar~NAMESPACE~WORKLOADENTRY/],
    ];
    for (const [id, says] of cases) {
      const [a, b] = [state(c, token), delta(c, token)];
      a.call.write({ node: { id }, typeUrl: url("cluster") });
      b.call.write({ node: { id }, typeUrl: url("cluster") });
      for (const s of [a, b]) {
        await until("the refusal", () => s.error !== undefined);
        expect(s.error?.code).toBe(status.PERMISSION_DENIED);
        expect(s.error?.details).toMatch(says);
      }
    }
  });

  test("a token gets a certificate, the certificate opens a stream and gets the next certificate", async () => {
    const w = await world();
    w.source.put("shop/reviews-1", snapshot("w", { cluster: ["a"] }));
    const uri = "spiffe://cluster.local/ns/shop/sa/reviews";
    const { csr, key } = makeCsr(w.dir, uri);
    const chain = await createCertificate(client(w), csr, await w.token("reviews"));
    expect(chain).toHaveLength(2);
    expect(new X509Certificate(chain[0]!).subjectAltName).toBe(`URI:${uri}`);
    writeFileSync(join(w.dir, "leaf.pem"), chain[0]!);
    writeFileSync(join(w.dir, "root.pem"), chain[1]!);
    expect(Bun.spawnSync(["openssl", "verify", "-CAfile", join(w.dir, "root.pem"), join(w.dir, "leaf.pem")]).stdout.toString()).toContain(
      ": OK",
    );

    const mutual = client(w, { key, chain: chain.join("") });
    const s = delta(mutual);
    s.call.write({ node, typeUrl: url("cluster") });
    await until("clusters", () => s.got.length === 1);
    // What it came with, and what it got since.
    const shown = () => w.proxies.list()[0]?.status.certificate;
    const leaf = new X509Certificate(chain[0]!);
    expect(Date.parse(shown()?.notAfter ?? "")).toBe(Date.parse(leaf.validTo));
    expect(Date.parse(shown()?.notBefore ?? "")).toBe(Date.parse(leaf.validFrom));
    expect(await createCertificate(mutual, csr)).toHaveLength(2);
    expect(Date.parse(shown()?.notAfter ?? "")).toBeGreaterThanOrEqual(Date.parse(leaf.validTo));
    expect(Date.parse(shown()?.notBefore ?? "")).toBeGreaterThan(Date.parse(leaf.validFrom));
    expect(w.log.filter((l) => l === "certificate reviews")).toHaveLength(2);

    const other = makeCsr(w.dir, "spiffe://cluster.local/ns/shop/sa/cart");
    const failure = (await createCertificate(mutual, other.csr).catch((e: unknown) => e)) as ServiceError;
    expect(failure.code).toBe(status.PERMISSION_DENIED);
    expect(failure.details).toContain("sa/cart");
    const rubbish = (await createCertificate(mutual, "rubbish").catch((e: unknown) => e)) as ServiceError;
    expect(rubbish.code).toBe(status.INVALID_ARGUMENT);
  });
});

test("a request that is refused does not use a one-time token up, and a store that is away is no bad token", async () => {
  let uses = 0;
  let away = false;
  const w = await world(0, undefined, undefined, async (_binding, _account, purpose) => {
    if (away) throw new StoreFailure("etcd does not answer");
    if (purpose === "api") return undefined;
    return uses++ === 0 ? undefined : "it was used";
  });
  const { token } = await w.tokens.issue({ namespace: "shop", serviceAccount: "reviews" }, 600, { namespace: "shop", name: "t", uid: "u" });
  const ask = async (account: string) => {
    const { csr } = makeCsr(w.dir, `spiffe://cluster.local/ns/shop/sa/${account}`);
    return createCertificate(client(w), csr, token.reveal()).then(
      () => "issued",
      (cause: ServiceError) => `${status[cause.code]} ${cause.details}`,
    );
  };
  expect(await ask("cart")).toContain("PERMISSION_DENIED");
  away = true;
  expect(await ask("reviews")).toBe("UNAVAILABLE whether the join token is good cannot be found out: etcd does not answer");
  const stream = delta(client(w), token.reveal());
  stream.call.write({ node, typeUrl: url("cluster") });
  await until("the end of the stream", () => stream.error !== undefined);
  expect(stream.error?.code).toBe(status.UNAVAILABLE);
  away = false;
  expect(await ask("reviews")).toBe("issued");
  expect(await ask("reviews")).toBe("UNAUTHENTICATED it was used");
  expect(w.log.filter((line) => line === "certificate reviews")).toHaveLength(1);
});

test("metrics are taken from the node's own caller only", async () => {
  const w = await world();
  const c = client(w);
  const token = await w.token("reviews");
  const send = (id: string, count: number) =>
    new Promise<string>((resolve) => {
      const call = c.makeClientStreamRequest(
        "/envoy.service.metrics.v3.MetricsService/StreamMetrics",
        (m: MessageInitShape<typeof StreamMetricsMessageSchema>) =>
          asIs(toBinary(StreamMetricsMessageSchema, create(StreamMetricsMessageSchema, m))),
        () => "done",
        metadata(token),
        (error, answer) => resolve(error ? error.details : (answer ?? "")),
      );
      call.write({ identifier: { node: { id } }, envoyMetrics: [{ name: "istio_requests_total" }] });
      for (let i = 1; i < count; i++) call.write({ envoyMetrics: [{ name: "a" }, { name: "b" }] });
      call.end();
    });
  expect(await send("sidecar~shop~reviews-1", 3)).toBe("done");
  expect(w.log).toEqual(["metrics shop/reviews-1 1", "metrics shop/reviews-1 2", "metrics shop/reviews-1 2", "metrics end"]);
  expect(await send("sidecar~shop~cart-1", 1)).toMatch(/cart-1 of .* but the caller is/);
  expect(w.log).toHaveLength(4);
});

test("after a restart on the same folder and port, clients come back with what they have", async () => {
  const w = await world();
  w.source.put("shop/reviews-1", snapshot("w", { cluster: ["a"] }));
  const c = client(w);
  const token = await w.token("reviews");
  const s = delta(c, token);
  s.call.write({ node, typeUrl: url("cluster") });
  await until("clusters", () => s.got.length === 1);
  await w.stop();
  await until("the stream's end", () => s.error !== undefined);
  expect(s.error?.code).toBe(status.UNAVAILABLE);

  const next = await world(w.port, w.dir);
  next.source.put("shop/reviews-1", snapshot("w", { cluster: ["a", "b"] }));
  const again = delta(client(next), token);
  again.call.write({ node, typeUrl: url("cluster"), initialResourceVersions: { a: "a@1" } });
  await until("the difference", () => again.got.length === 1);
  expect(again.got[0]?.resources.map((r) => r.name)).toEqual(["b"]);
});

describe("clients that take and do not read", () => {
  test("one that does not read, and answers with guessed nonces, is ended; others are served", async () => {
    const w = await world();
    const big = new Uint8Array(9 * 1024 * 1024);
    const next = (n: number): XdsSnapshot => {
      const base = snapshot("shop/reviews-1", { cluster: [`big=${n}`] });
      const value = { ...base.resources.cluster.get("big"), value: big } as never;
      return { ...base, resources: { ...base.resources, cluster: new Map([["big", value]]) } };
    };
    w.source.put("shop/reviews-1", next(0));
    const token = await w.token("reviews");
    const c = client(w);
    const call = c.makeBidiStreamRequest(
      "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
      (m: DeltaRequest) => asIs(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, m))),
      (b: Buffer) => b,
      metadata(token),
    );
    // Nobody listens to "data": nothing is read.
    let ended: ServiceError | undefined;
    call.on("error", (error: ServiceError) => {
      ended = error;
    });
    cleanups.push(() => call.cancel());
    call.write({ node, typeUrl: url("cluster") });
    await until("the stream is open", () => w.proxies.connected === 1);
    for (let n = 1; n < 12 && w.proxies.connected === 1; n++) {
      call.write({ typeUrl: url("cluster"), responseNonce: n.toString(36) });
      w.source.put("shop/reviews-1", next(n));
      await Bun.sleep(20);
    }
    await until("it is ended", () => w.proxies.connected === 0, 10_000);
    call.resume();
    await until("it is told", () => ended !== undefined, 10_000);
    expect(ended?.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(ended?.details).toContain("does not read");
    w.source.put("shop/reviews-1", snapshot("shop/reviews-1", { cluster: ["a"] }));
    const other = delta(client(w), token);
    other.call.write({ node, typeUrl: url("cluster") });
    await until("another is served", () => other.got.length === 1);
  }, 30_000);

  test("a node has so many streams and no more", async () => {
    const w = await world();
    w.source.put("shop/reviews-1", snapshot("shop/reviews-1", { cluster: ["a"] }));
    const token = await w.token("reviews");
    const c = client(w);
    const streams = Array.from({ length: maxStreamsPerNode + 1 }, () => delta(c, token));
    for (const stream of streams) stream.call.write({ node, typeUrl: url("cluster") });
    await until("one is refused", () => streams.some((stream) => stream.error !== undefined), 20_000);
    const refused = streams.filter((stream) => stream.error !== undefined);
    expect(refused.map((stream) => stream.error?.code)).toEqual([status.PERMISSION_DENIED]);
    expect(refused[0]?.error?.details).toContain(`has ${maxStreamsPerNode} streams open already`);
  }, 30_000);
});

describe("clients that mean harm", () => {
  test("a node with megabytes of metadata costs nothing that stays, and one message beyond the limit ends its stream alone", async () => {
    const w = await world();
    w.source.put("shop/reviews-1", snapshot("shop/reviews-1", { cluster: ["a"] }));
    const token = await w.token("reviews");
    const huge = (bytes: number) => ({ ...node, userAgentName: "x".repeat(bytes / 2), metadata: { a: "y".repeat(bytes / 2) } });
    const large = delta(client(w), token);
    large.call.write({ node: huge(6 * 1024 * 1024), typeUrl: url("cluster") });
    await until("it is served", () => large.got.length === 1, 10_000);
    expect(w.proxies.list()[0]?.status.agent.length).toBeLessThanOrEqual(200);
    const larger = delta(client(w), token);
    larger.call.write({ node: huge(9 * 1024 * 1024), typeUrl: url("cluster") });
    await until("it is refused", () => larger.error !== undefined, 10_000);
    expect(larger.error?.code).toBe(status.RESOURCE_EXHAUSTED);
    w.source.put("shop/reviews-1", snapshot("shop/reviews-1", { cluster: ["b"] }));
    large.call.write({ typeUrl: url("cluster"), responseNonce: large.got[0]!.nonce });
    await until("the first goes on", () => large.got.length > 1);
  }, 60_000);

  test("bytes that are no request end their stream alone", async () => {
    const w = await world();
    w.source.put("shop/reviews-1", snapshot("shop/reviews-1", { cluster: ["a"] }));
    const token = await w.token("reviews");
    const good = delta(client(w), token);
    good.call.write({ node, typeUrl: url("cluster") });
    await until("a good one is served", () => good.got.length === 1);
    for (const bytes of [[0xff], [0x0a, 0x7f, 1], [0x0a, 2, 0x0a, 9], Array.from({ length: 300 }, (_each, n) => (n * 89) % 256)]) {
      const errors: ServiceError[] = [];
      const call = client(w).makeBidiStreamRequest(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        (m: Buffer) => m,
        (b: Buffer) => b,
        metadata(token),
      );
      call.on("error", (error: ServiceError) => errors.push(error));
      call.on("data", () => {});
      cleanups.push(() => call.cancel());
      call.write(Buffer.from(bytes));
      await until(`an end for ${bytes.length} bytes`, () => errors.length === 1, 10_000);
    }
    expect(good.error).toBeUndefined();
    good.call.write({ typeUrl: url("cluster"), responseNonce: good.got[0]!.nonce });
    w.source.put("shop/reviews-1", snapshot("shop/reviews-1", { cluster: ["a", "b"] }));
    await until("the good one goes on", () => good.got.length === 2);
  }, 60_000);

  test("a flood of streams is let in at its pace; those within are served, and so is who comes after it", async () => {
    // Time stands still for the pace, whatever this machine takes for so many streams.
    let nowMs = 0;
    const w = await world(undefined, undefined, { ...systemClock, mono: () => nowMs });
    w.source.put("shop/reviews-1", snapshot("shop/reviews-1", { cluster: ["a"] }));
    const token = await w.token("reviews");
    const good = delta(client(w), token);
    good.call.write({ node, typeUrl: url("cluster") });
    await until("a good one is served", () => good.got.length === 1, 10_000);
    const c = client(w);
    // None of them says a word.
    const flood = Array.from({ length: newStreamsBurst + 99 }, () => delta(c, token));
    const sentAway = () => flood.filter(({ error }) => error?.code === status.UNAVAILABLE);
    await until("the rest is sent away", () => sentAway().length === 100, 30_000);
    for (const { error } of sentAway()) expect(error?.details).toContain("takes 500 new streams a second");
    w.source.put("shop/reviews-1", snapshot("shop/reviews-1", { cluster: ["a", "b"] }));
    good.call.write({ typeUrl: url("cluster"), responseNonce: good.got[0]!.nonce });
    await until("the good one goes on", () => good.got.length === 2, 10_000);
    nowMs = 1_000;
    const late = delta(client(w), token);
    late.call.write({ node, typeUrl: url("cluster") });
    await until("one that comes later is served", () => late.got.length === 1, 10_000);
    for (const stream of flood) stream.call.cancel();
  }, 90_000);
});
