import { expect, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import type { AddressFamilies, ClusterConfig } from "../config.ts";
import { DnsResolver } from "./dns.ts";

function cluster(name: string, ...hosts: string[]): ClusterConfig {
  return {
    name,
    connectTimeoutMs: 1000,
    balance: { kind: "round_robin" },
    source: {
      kind: "strict_dns",
      endpoints: hosts.map((host) => ({
        address: { host, port: 80 },
        weight: 3,
        priority: 0,
        healthy: true,
        transportMatch: {},
        workload: null,
        identity: null,
      })),
    },
    transports: [],
    tls: null,
    limits: { maxConnections: 1, maxPending: 1, maxRequests: 1, maxRetries: 1 },
    protocol: "http1",
    control: false,
    service: null,
  };
}

const settle = async (): Promise<void> => {
  for (let n = 0; n < 5; n++) await Promise.resolve();
};

test("names become addresses, again and again; a failure keeps the last answer; identity lasts as long as the answer", async () => {
  const clock = new PausedClock();
  let answer: string[] | Error = ["10.0.0.2", "10.0.0.1", "10.0.0.2"];
  let asked = 0;
  let changes = 0;
  const dns = new DnsResolver({
    clock,
    log: silentLogger,
    lookup: async () => {
      asked++;
      if (answer instanceof Error) throw answer;
      return answer.map((address) => ({ address }));
    },
    changed: () => {
      changes++;
    },
  });
  const clusters = new Map([
    ["a", cluster("a", "db", "192.0.2.1")],
    ["b", cluster("b", "db")],
  ]);
  const hosts = (name: string): string[] => {
    const source = dns.resolve(clusters).get(name)?.source;
    return source?.kind === "strict_dns" ? source.endpoints.map((e) => `${e.address.host}:${e.address.port}/${e.weight}`) : [];
  };
  expect(hosts("a")).toEqual(["192.0.2.1:80/3"]);
  expect(dns.pending()).toEqual(["the address of db"]);
  await settle();
  expect([asked, changes, dns.pending()]).toEqual([1, 1, []]);
  expect(hosts("a")).toEqual(["10.0.0.1:80/3", "10.0.0.2:80/3", "192.0.2.1:80/3"]);
  expect(hosts("b")).toEqual(["10.0.0.1:80/3", "10.0.0.2:80/3"]);
  const before = dns.resolve(clusters).get("a");
  clock.advance(5_000);
  await settle();
  expect([asked, changes]).toEqual([2, 1]);
  expect(dns.resolve(clusters).get("a")).toBe(before as ClusterConfig);
  answer = new Error("SERVFAIL");
  clock.advance(5_000);
  await settle();
  expect(hosts("b")).toEqual(["10.0.0.1:80/3", "10.0.0.2:80/3"]);
  answer = ["10.0.0.3"];
  clock.advance(5_000);
  await settle();
  expect([asked, changes]).toEqual([4, 2]);
  expect(hosts("b")).toEqual(["10.0.0.3:80/3"]);
  dns.resolve(new Map());
  clock.advance(60_000);
  await settle();
  expect(asked).toBe(4);
  dns.stop();
});

test("a name without any answer leaves the cluster empty and does not hold anything up for ever", async () => {
  const clock = new PausedClock();
  const dns = new DnsResolver({ clock, log: silentLogger, lookup: () => Promise.reject(new Error("NXDOMAIN")), changed: () => {} });
  const clusters = new Map([["a", cluster("a", "nowhere")]]);
  dns.resolve(clusters);
  await settle();
  expect(dns.pending()).toEqual([]);
  const source = dns.resolve(clusters).get("a")?.source;
  expect(source?.kind === "strict_dns" && source.endpoints.length).toBe(0);
  dns.stop();
});

test("only the addresses of the families that a cluster wants are taken; without a word all are", async () => {
  const answers: Record<string, string[]> = { both: ["2001:db8::1", "10.0.0.1"], six: ["2001:db8::2"] };
  const dns = new DnsResolver({
    clock: new PausedClock(),
    log: silentLogger,
    lookup: async (host) => (answers[host] ?? []).map((address) => ({ address })),
    changed: () => {},
  });
  const wanting = (name: string, families?: AddressFamilies): [string, ClusterConfig] => {
    const one = cluster(name, "both", "six");
    if (one.source.kind === "eds") throw new Error("not by names");
    return [name, { ...one, source: { ...one.source, ...(families === undefined ? {} : { families }) } }];
  };
  const clusters = new Map([wanting("all"), wanting("four", "ipv4"), wanting("sixes", "ipv6"), wanting("first", "ipv4-first")]);
  dns.resolve(clusters);
  await settle();
  const found = dns.resolve(clusters);
  const hosts = (name: string): string[] => {
    const source = found.get(name)?.source;
    return source?.kind === "strict_dns" ? source.endpoints.map((e) => e.address.host) : [];
  };
  expect([hosts("all"), hosts("four"), hosts("sixes"), hosts("first")]).toEqual([
    ["10.0.0.1", "2001:db8::1", "2001:db8::2"],
    ["10.0.0.1"],
    ["2001:db8::1", "2001:db8::2"],
    // Each name for itself: where there is no other way, IPv6 it is.
    ["10.0.0.1", "2001:db8::2"],
  ]);
  dns.stop();
});
