// What clients do that mean harm, or are broken: each is bounded, and told why. The stream below is a record of what was sent.

import { describe, expect, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { typeUrl, type XdsSnapshot } from "../../wire/xds-types.ts";
import { type Admission, admitNode } from "./admission.ts";
import { firstRequestMs, Session, type StreamRequest } from "./session.ts";
import { resource, snapshot } from "./support.ts";
import { type Mode, maxDemandedHosts, maxNameChars, maxNames, type Offer } from "./type-ledger.ts";

const caller = { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "web" };
const entry = {
  apiVersion: "networking.istio.io/v1",
  kind: "WorkloadEntry",
  metadata: { name: "web-1", namespace: "shop" },
  spec: { serviceAccount: "web" },
};

function open(
  mode: Mode,
  nodeId = "sidecar~shop~web-1",
  now: XdsSnapshot = snapshot("shop/web-1", { cluster: ["a", "b"], endpoint: ["a", "b"] }),
) {
  const clock = new PausedClock(0);
  const sent: Offer[] = [];
  const ended: string[] = [];
  const unknown: string[] = [];
  let more: readonly string[] = [];
  let published = (): void => {};
  let followed = (_next: XdsSnapshot): void => {};
  const demands: (readonly string[])[] = [];
  const session = new Session(
    mode,
    { send: (offer) => sent.push(offer), end: (code, message) => ended.push(`${code}: ${message}`) },
    {
      clock,
      log: silentLogger,
      peer: "127.0.0.1:1",
      snapshots: {
        get: () => now,
        follow: (_key, onSnapshot) => {
          followed = onSnapshot;
          return () => {};
        },
        demand: (_key, hosts) => demands.push(hosts),
        resourcesFor: (_key, names) => {
          const found = [...names].filter((name) => more.includes(name));
          return snapshot("", { cluster: found, endpoint: found }).resources;
        },
        onPublished: (run) => {
          published = run;
          return () => {};
        },
      },
      observer: { opened() {}, changed() {}, rejected() {}, closed() {}, sent() {}, unknownType: (url) => unknown.push(url) },
      admit: (id): Promise<Admission> => admitNode(id, caller, async (_namespace, name) => (name === "web-1" ? entry : undefined)),
    },
  );
  const base: StreamRequest = {
    nodeId,
    agent: "test",
    typeUrl: typeUrl.cluster,
    nonce: "",
    error: undefined,
    names: [],
    versionInfo: "",
    subscribe: [],
    unsubscribe: [],
    initialVersions: {},
  };
  return {
    clock,
    session,
    sent,
    ended,
    unknown,
    demands,
    follow: (next: XdsSnapshot) => followed(next),
    say: (request: Partial<StreamRequest>) => session.receive({ ...base, ...request }),
    async begin(request: Partial<StreamRequest> = {}) {
      session.receive({ ...base, ...request });
      await Bun.sleep(0);
    },
    publish(names: readonly string[]) {
      more = names;
      published();
    },
  };
}

describe("who is not who they say", () => {
  const ids = [
    "",
    "sidecar~shop~other-1",
    "sidecar~bank~web-1",
    "sidecar~shop~../../web-1",
    "grpc~bank~web-1",
    "grpc~shop~",
    "grpc~shop~a/b",
    `grpc~shop~${"x".repeat(100_000)}`,
    "router~shop~web-1",
  ];
  for (const id of ids)
    test(JSON.stringify(id.slice(0, 40)), async () => {
      const stream = open("delta", id);
      await stream.begin();
      expect(stream.ended).toEqual([expect.stringMatching(/^permission-denied: .*node id/)]);
      expect((stream.ended[0] as string).length).toBeLessThan(1_000);
      expect(stream.sent).toEqual([]);
    });
  test("a gRPC program needs no entry, and is given no sidecar's snapshot", async () => {
    const stream = open("sotw", "grpc~shop~job-7");
    await stream.begin();
    expect(stream.session.node).toMatchObject({ client: "grpc", snapshotKey: "grpc shop/job-7" });
  });
});

describe("silence and floods", () => {
  test("a stream that says nothing is ended", () => {
    const stream = open("delta");
    stream.clock.advance(firstRequestMs - 1);
    expect(stream.ended).toEqual([]);
    stream.clock.advance(1);
    expect(stream.ended).toEqual([expect.stringContaining("deadline-exceeded: no request within 10 s")]);
  });
  test("one that never answers costs one response of a type, whatever is published", async () => {
    const stream = open("delta");
    await stream.begin();
    for (let n = 0; n < 100; n++) stream.say({ subscribe: [`made-up-${n}`] });
    expect(stream.sent.length).toBe(1);
  });
  test("answers to nothing, with guessed nonces, bring nothing", async () => {
    const stream = open("sotw");
    await stream.begin();
    for (let n = 0; n < 1_000; n++) stream.say({ nonce: n.toString(36), names: [] });
    expect(stream.sent.length).toBe(1);
  });
  for (const mode of ["delta", "sotw"] as const) {
    test(`${mode}: endless subscriptions are refused by their number`, async () => {
      const stream = open(mode);
      await stream.begin({ subscribe: ["a"], names: ["a"] });
      const names = Array.from({ length: maxNames + 1 }, (_each, n) => String(n));
      stream.say({ subscribe: names, names });
      expect(stream.ended).toEqual([expect.stringContaining(`resource-exhausted: more than ${maxNames} resource names of type cluster`)]);
    });
    test(`${mode}: and by their length, however they are cut up`, async () => {
      const stream = open(mode);
      await stream.begin({ subscribe: ["a"], names: ["a"] });
      const part = maxNameChars / 4;
      for (let n = 0; n < 6 && stream.ended.length === 0; n++) {
        const name = `${n}`.padEnd(part, "x");
        stream.say({
          subscribe: [name],
          names: mode === "delta" ? [] : Array.from({ length: n + 1 }, (_each, at) => `${at}`.padEnd(part, "x")),
        });
      }
      expect(stream.ended).toEqual([expect.stringContaining("resource-exhausted: names of type cluster")]);
    });
  }
  test("names given up make room again", async () => {
    const stream = open("delta");
    await stream.begin({ subscribe: ["a"] });
    const long = "y".repeat(maxNameChars - 10);
    for (let n = 0; n < 5; n++) {
      stream.say({ subscribe: [long] });
      stream.say({ unsubscribe: [long] });
    }
    expect(stream.ended).toEqual([]);
  });
  test("unknown types are told of, a few, and the others go on", async () => {
    const stream = open("delta");
    await stream.begin({ typeUrl: "type.googleapis.com/envoy.service.runtime.v3.Runtime" });
    for (let n = 0; n < 1_000; n++) stream.say({ typeUrl: `made.up/${n}${"z".repeat(1_000)}` });
    expect(stream.unknown.length).toBe(16);
    expect([...stream.session.unknownTypes].every((url) => url.length <= 200)).toBe(true);
    stream.say({ typeUrl: typeUrl.cluster });
    expect(stream.sent.map((offer) => offer.type)).toEqual(["cluster"]);
    expect(stream.ended).toEqual([]);
  });
});

describe("clusters on demand", () => {
  test("what is asked for by name comes with its endpoints, now or when it comes to be; the rest does not", async () => {
    const stream = open("delta");
    stream.publish(["far"]);
    await stream.begin({ subscribe: ["far", "later"] });
    expect(stream.sent.map(({ resources, removed }) => [resources.map((each) => each.name), removed])).toEqual([[["far"], ["later"]]]);
    stream.say({ nonce: stream.sent[0]?.nonce ?? "" });
    stream.say({ typeUrl: typeUrl.endpoint, subscribe: ["far"] });
    expect(stream.sent[1]?.resources.map((each) => each.name)).toEqual(["far"]);
    stream.say({ typeUrl: typeUrl.endpoint, nonce: stream.sent[1]?.nonce ?? "" });
    stream.publish(["far", "later"]);
    expect(stream.sent[2]?.resources.map((each) => each.name)).toEqual(["later"]);
    stream.say({ nonce: stream.sent[2]?.nonce ?? "" });
    stream.publish(["later"]);
    expect(stream.sent.slice(3).map((offer) => offer.removed)).toContainEqual(["far"]);
  });
});

describe("virtual hosts on demand", () => {
  const name = (host: string) => `outbound-http-proxy/${host}`;
  const of = (asked: readonly string[], found: readonly string[]): XdsSnapshot => ({
    ...snapshot("shop/web-1", { cluster: found, endpoint: found }),
    hosts: {
      asked: asked.map(name),
      found: new Map(found.map((host) => [name(host), { ...resource("cluster", name(host)), type: "host" as const }])),
    },
  });
  const ask = (request: Partial<StreamRequest>) => ({ typeUrl: typeUrl.host, ...request });

  test("a name is absent when it was looked for, and not before", async () => {
    const stream = open("delta", "sidecar~shop~web-1", of([], []));
    await stream.begin(ask({ subscribe: [name("cart"), name("nobody")] }));
    // The first response of a type is owed, and says nothing of either.
    expect(stream.sent.map(({ resources, removed }) => [resources.length, removed])).toEqual([[0, []]]);
    expect(stream.demands).toEqual([["cart", "nobody"]]);
    stream.say(ask({ nonce: stream.sent[0]?.nonce ?? "" }));
    stream.follow(of(["cart", "nobody"], ["cart"]));
    expect(stream.sent.at(-1)?.resources.map((each) => each.name)).toEqual([name("cart")]);
    expect(stream.sent.at(-1)).toMatchObject({ removed: [], absent: [name("nobody")] });
    stream.say(ask({ nonce: stream.sent.at(-1)?.nonce ?? "", unsubscribe: [name("nobody")] }));
    expect(stream.demands.at(-1)).toEqual(["cart"]);
    stream.session.close();
    expect(stream.demands.at(-1)).toEqual([]);
  });

  test("who has no such table is told that every name is absent, and costs no compile", async () => {
    const stream = open("delta");
    await stream.begin(ask({ subscribe: [name("cart")] }));
    expect(stream.sent[0]?.absent).toEqual([name("cart")]);
    expect(stream.demands).toEqual([]);
  });

  test("names of other tables, and without a host, ask for nothing; state of the world knows no such type", async () => {
    const stream = open("delta", "sidecar~shop~web-1", of([], []));
    await stream.begin(ask({ subscribe: ["other/cart", "outbound-http-proxy/", name("a/b")] }));
    expect(stream.demands).toEqual([["a/b"]]);
    expect(stream.sent[0]?.absent).toEqual(["other/cart", "outbound-http-proxy/"]);
    const sotw = open("sotw", "sidecar~shop~web-1", of([], []));
    await sotw.begin(ask({ names: [name("cart")] }));
    expect(sotw.unknown).toEqual([typeUrl.host]);
    expect(sotw.sent).toEqual([]);
  });

  test("endless names are refused by their number", async () => {
    const stream = open("delta", "sidecar~shop~web-1", of([], []));
    await stream.begin(ask({ subscribe: [name("cart")] }));
    stream.say(ask({ subscribe: Array.from({ length: maxDemandedHosts }, (_each, n) => name(`h${n}`)) }));
    expect(stream.ended).toEqual([
      expect.stringContaining(`resource-exhausted: more than ${maxDemandedHosts} resource names of type host`),
    ]);
  });
});
