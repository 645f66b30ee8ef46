// Who a request's client is: by X-Forwarded-For as far as proxies are believed, by a PROXY header, by the connection; and that rules, limits, keys and
// records agree on it. test/peers/forwarded-envoy.test.ts has the same of Envoy.

import { afterEach, expect, test } from "bun:test";
import { compileRbac } from "../authz/rules.ts";
import type { HttpManagerConfig, ListenerFilters, RbacConfig } from "../config.ts";
import { Head, parseRequest } from "../http1/head.ts";
import { compileHeader } from "../route/header.ts";
import { catchAll, cluster, endpoint, hop, RawPeer, type Running, start, until } from "../testing/fixture.ts";
import { latin1 } from "./bytes.ts";
import { claimedAddress } from "./client-address.ts";
import { toldScheme } from "./forwarded.ts";

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

function parsed(fields: string): { bytes: Uint8Array; head: Head } {
  const bytes = latin1(`GET / HTTP/1.1\r\nHost: shop\r\n${fields}\r\n`);
  const head = new Head();
  expect(parseRequest(bytes, 0, bytes.length, head)).toBe(bytes.length);
  return { bytes, head };
}

test.each([
  ["", 0, null],
  ["X-Forwarded-For: 10.0.0.1\r\n", 0, "10.0.0.1"],
  ["X-Forwarded-For: 10.0.0.1\r\n", 1, null],
  ["X-Forwarded-For: 10.0.0.1 , \t10.0.0.2\t\r\n", 0, "10.0.0.2"],
  ["X-Forwarded-For: 10.0.0.1 , \t10.0.0.2\t\r\n", 1, "10.0.0.1"],
  ["X-Forwarded-For: 10.0.0.1\r\nA: b\r\nx-forwarded-for:\r\nx-forwarded-FOR: 10.0.0.2,10.0.0.3\r\n", 2, "10.0.0.1"],
  ["X-Forwarded-For: 10.0.0.1\r\nA: b\r\nx-forwarded-for:\r\nx-forwarded-FOR: 10.0.0.2,10.0.0.3\r\n", 3, null],
  ["X-Forwarded-For: 10.0.0.1,\r\n", 0, null],
  ["X-Forwarded-For: 10.0.0.1,\r\n", 1, "10.0.0.1"],
  ["X-Forwarded-For: ,10.0.0.1\r\n", 1, null],
  ["X-Forwarded-For: ,\r\n", 0, null],
  ["X-Forwarded-For: 2001:DB8:0:0:1:0:0:1\r\n", 0, "2001:db8::1:0:0:1"],
  // One address has one name, whichever way a proxy spells it.
  ["X-Forwarded-For: ::ffff:10.0.0.1\r\n", 0, "10.0.0.1"],
  ["X-Forwarded-For: ::FFFF:a00:1\r\n", 0, "10.0.0.1"],
  ["X-Forwarded-For: fe80::1%eth0\r\n", 0, null],
  ["X-Forwarded-For: 10.0.0.1:80\r\n", 0, null],
  ["X-Forwarded-For: [::1]\r\n", 0, null],
  ["X-Forwarded-For: 10.0.0.01\r\n", 0, null],
  ["X-Forwarded-For: 10.0.0.1.\r\n", 0, null],
  ["X-Forwarded-For: +1.0.0.1\r\n", 0, null],
  [`X-Forwarded-For: ${"1".repeat(1_000)}\r\n`, 0, null],
  ["X-Forwarded-For: 10.0.0.1\r\n", 4_294_967_295, null],
] as const)("%j, %d from the end, is %p", (fields, past, wanted) => {
  const { bytes, head } = parsed(fields);
  expect(claimedAddress(bytes, head, past)).toBe(wanted);
});

test.each([
  ["", false, false],
  ["", true, true],
  ["X-Forwarded-Proto: HTTPS\r\n", false, true],
  ["X-Forwarded-Proto: http\r\n", true, false],
  ["X-Forwarded-Proto: wss\r\n", true, true],
] as const)("%j on a connection of which TLS is %p: https is %p", (fields, secure, wanted) => {
  const { bytes, head } = parsed(fields);
  expect(toldScheme(bytes, head, secure)).toBe(wanted);
});

test("a match of the scheme sees what a client of an edge came by, which was http of everybody", () => {
  const https = compileHeader({ name: ":scheme", match: { kind: "exact", value: "https", ignoreCase: false }, invert: false });
  const of = (fields: string) => {
    const { bytes, head } = parsed(fields);
    return https(bytes, head);
  };
  expect([of("X-Forwarded-Proto: https\r\n"), of("X-Forwarded-Proto: http\r\n"), of("")]).toEqual([true, false, false]);
});

test("filters say whether they look at the client", () => {
  const filter = (principal: RbacConfig["policies"][number]["principals"][number]) =>
    compileRbac({ action: "deny", policies: [{ name: "p", permissions: [{ kind: "any" }], principals: [principal] }] }).readsClient;
  const client = { kind: "client_ip", prefix: "10.0.0.0", prefixLength: 8 } as const;
  expect(filter({ ...client, kind: "remote_ip" })).toBe(false);
  expect(filter({ kind: "and", rules: [{ kind: "any" }, { kind: "not", rule: client }] })).toBe(true);
});

function servers(names: readonly string[]) {
  return names.map((name) => {
    const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response(name) });
    stops.push(() => server.stop(true));
    return endpoint(server.port as number);
  });
}

function gateway(manager: Partial<HttpManagerConfig>, more: Parameters<typeof hop>[3] = {}): Running {
  const spread = cluster("c", servers(["a", "b", "c", "d"]), { balance: { kind: "maglev", tableSize: 65_537 } });
  const logs = { accessLogs: [{ sink: { kind: "file" as const, path: "x", format: {} }, filter: null }] };
  const running = start(
    hop([spread], catchAll("c", { hash: [{ kind: "source", terminal: false }] }), { forwards: true, ...logs, ...manager }, more),
  );
  stops.push(() => running.engine.close());
  return running;
}

async function ask(running: Running, claim: string, lead = ""): Promise<string> {
  const peer = await RawPeer.connect(running.port());
  peer.send(`${lead}GET / HTTP/1.1\r\nHost: shop\r\n${claim === "" ? "" : `X-Forwarded-For: ${claim}\r\n`}\r\n`);
  await until(() => /\r\n\r\n./s.test(peer.text), "the answer");
  peer.close();
  return `${peer.text.slice(9, 12)} ${peer.text.slice(peer.text.lastIndexOf("\r\n\r\n") + 4).trim()}`;
}

test("keys, records and limits take the trusted client, however many addresses it claims before", async () => {
  const bucket = { maxTokens: 2, perFill: 1, fillMs: 3_600_000 };
  const rateLimit = {
    ...{ bucket: null, limits: [[{ kind: "remote" as const }]], status: 429, resourceExhausted: false, tellHeaders: false },
    ...{ descriptors: [{ entries: [{ key: "remote_address", value: "" }], bucket }] },
    ...{ alwaysDefault: true, enabled: 1, enforced: 1, maxDynamic: 100 },
  };
  const limited = gateway({ trustedHops: 1, stages: { rateLimit } });
  const answers: string[] = [];
  for (const claim of ["192.0.2.1", "9.9.9.9, 192.0.2.1", "8.8.8.8,192.0.2.1", "192.0.2.1, 192.0.2.2"])
    answers.push((await ask(limited, claim)).slice(0, 3));
  expect(answers).toEqual(["200", "200", "429", "200"]);
  expect(limited.records.map(({ downstreamRemote }) => downstreamRemote)).toEqual([
    { host: "192.0.2.1", port: 0 },
    { host: "192.0.2.1", port: 0 },
    { host: "192.0.2.1", port: 0 },
    { host: "192.0.2.2", port: 0 },
  ]);
  const keyed = gateway({ trustedHops: 1 });
  const where = new Map<string, Set<string>>();
  for (let n = 0; n < 16; n++)
    for (const claim of [`192.0.2.${n}`, `9.9.9.9, 192.0.2.${n}`])
      where.set(`${n}`, (where.get(`${n}`) ?? new Set()).add(await ask(keyed, claim)));
  for (const seen of where.values()) expect(seen.size).toBe(1);
  expect(new Set([...where.values()].flatMap((each) => [...each])).size).toBeGreaterThan(1);
  // Nobody is believed: one client, one place.
  const edge = gateway({});
  expect(
    new Set([await ask(edge, ""), await ask(edge, "192.0.2.1"), await ask(edge, "192.0.2.9"), await ask(edge, "192.0.2.14")]).size,
  ).toBe(1);
  expect(edge.records.every(({ downstreamRemote: { host, port } }) => host === "127.0.0.1" && port > 0)).toBe(true);
}, 30_000);

test("a PROXY header is who is connected: the client where nobody is believed, told on, and the last resort where somebody is", async () => {
  const before: ListenerFilters = {
    proxyProtocol: { allowAbsent: false, versions: [1, 2] },
    originalDestination: false,
    inspectHttp: false,
    timeoutMs: 15_000,
    continueOnTimeout: false,
  };
  const rbac: RbacConfig[] = [
    {
      action: "deny",
      policies: [{ name: "p", permissions: [{ kind: "any" }], principals: [{ kind: "client_ip", prefix: "192.0.2.0", prefixLength: 24 }] }],
    },
  ];
  const lead = (address: string) => `PROXY TCP4 ${address} 198.51.100.1 4711 443\r\n`;
  const edge = gateway({ rbac }, { before });
  expect((await ask(edge, "10.0.0.1", lead("192.0.2.7"))).slice(0, 3)).toBe("403");
  expect((await ask(edge, "192.0.2.7", lead("10.0.0.1"))).slice(0, 3)).toBe("200");
  const behind = gateway({ rbac, trustedHops: 1 }, { before });
  expect((await ask(behind, "10.0.0.1", lead("192.0.2.7"))).slice(0, 3)).toBe("200");
  expect((await ask(behind, "192.0.2.7", lead("10.0.0.1"))).slice(0, 3)).toBe("403");
  expect((await ask(behind, "nonsense", lead("192.0.2.7"))).slice(0, 3)).toBe("403");
});
