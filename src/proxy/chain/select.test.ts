import { expect, test } from "bun:test";
import type { FilterChainConfig, ListenerFilters } from "../config.ts";
import { chain, http, listener, tcpProxy } from "../testing/fixture.ts";
import type { ChainSlot } from "./chain.ts";
import { type ConnectionFacts, checkMatches, listenerFilterDefaults, makeChains } from "./select.ts";

type Match = Partial<FilterChainConfig["match"]>;

const any: FilterChainConfig["match"] = { transport: null, alpn: [], serverNames: [] };

function slot(name: string, match: Match, more: Partial<FilterChainConfig> = {}): ChainSlot {
  const config = chain(tcpProxy("c"), { name, match: { ...any, ...match }, ...more });
  return { current: { config, tls: null } as unknown as ChainSlot["current"], members: new Set() };
}

const plain: ConnectionFacts = {
  destinationPort: 80,
  destination: "10.0.0.1",
  source: "10.1.2.3",
  sourcePort: 5000,
  serverName: "",
  tls: false,
  alpn: [],
};

function chooser(slots: readonly ChainSlot[], before?: Partial<ListenerFilters>) {
  const chains = makeChains(slots, { ...listenerFilterDefaults, ...before });
  return (facts: Partial<ConnectionFacts>) => chains.select({ ...plain, ...facts })?.current.config.name ?? "none";
}

test("server names: the whole name, then the longest suffix, then none", () => {
  const choose = chooser([
    slot("exact", { serverNames: ["www.example.com"] }),
    slot("near", { serverNames: ["*.example.com"] }),
    slot("far", { serverNames: ["*.com"] }),
    slot("rest", {}),
  ]);
  expect(choose({ serverName: "www.example.com" })).toBe("exact");
  expect(choose({ serverName: "a.example.com" })).toBe("near");
  expect(choose({ serverName: "a.b.example.com" })).toBe("near");
  expect(choose({ serverName: "example.com" })).toBe("far");
  expect(choose({ serverName: "com" })).toBe("rest");
  expect(choose({})).toBe("rest");
});

test("a step that was taken is not taken back: the fallback gets what is left", () => {
  const slots = [slot("named", { serverNames: ["a.example"], alpn: ["h2"] }), slot("open", {})];
  expect(chooser(slots)({ serverName: "a.example", alpn: ["http/1.1"] })).toBe("none");
  expect(chooser([...slots, slot("last", {}, { fallback: true })])({ serverName: "a.example", alpn: ["http/1.1"] })).toBe("last");
  expect(chooser(slots)({ serverName: "b.example" })).toBe("open");
});

test("Envoy's order: port, address, name, transport, ALPN, source", () => {
  const choose = chooser([
    slot("port", { destinationPort: 443 }),
    slot("net8", { destinationPrefixes: [{ prefix: "10.0.0.0", length: 8 }] }),
    slot("net32", { destinationPrefixes: [{ prefix: "10.0.0.9", length: 32 }] }),
    slot("name", { serverNames: ["a.example"] }),
    slot("tls", { transport: "tls" }),
    slot("alpn", { alpn: ["h2c"] }),
    slot("local", { sourceType: "local" }),
    slot("from", { sourcePrefixes: [{ prefix: "192.0.2.0", length: 24 }] }),
    slot("sport", { sourcePorts: [1, 2] }),
  ]);
  expect(choose({ destinationPort: 443, serverName: "a.example", tls: true })).toBe("port");
  expect(choose({ destination: "10.0.0.9", serverName: "a.example" })).toBe("net32");
  expect(choose({ destination: "10.9.9.9", tls: true })).toBe("net8");
  const out = { destination: "172.16.0.1" };
  expect(choose({ ...out, serverName: "a.example", tls: true, alpn: ["h2c"] })).toBe("name");
  expect(choose({ ...out, tls: true, alpn: ["h2c"] })).toBe("tls");
  expect(choose({ ...out, alpn: ["x", "h2c"], source: "127.0.0.1" })).toBe("alpn");
  expect(choose({ ...out, source: "127.0.0.1" })).toBe("local");
  expect(choose({ ...out, source: "172.16.0.1" })).toBe("local");
  expect(choose({ ...out, source: "192.0.2.77" })).toBe("from");
  expect(choose({ ...out, sourcePort: 2 })).toBe("sport");
  expect(choose(out)).toBe("none");
});

test("ALPN: the client's order decides; Istio's split of one port", () => {
  const mesh = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
  const choose = chooser([
    slot("mesh", { transport: "tls", alpn: mesh }),
    slot("tls", { transport: "tls" }),
    slot("http", { transport: "raw_buffer", alpn: ["http/1.0", "http/1.1", "h2c"] }),
    slot("tcp", { transport: "raw_buffer" }),
  ]);
  expect(choose({ tls: true, alpn: ["istio-peer-exchange", "istio"] })).toBe("mesh");
  expect(choose({ tls: true, alpn: ["h2", "http/1.1"] })).toBe("tls");
  expect(choose({ alpn: ["http/1.1"] })).toBe("http");
  expect(choose({})).toBe("tcp");
  const order = chooser([slot("one", { alpn: ["a"] }), slot("two", { alpn: ["b"] })]);
  expect(order({ alpn: ["b", "a"] })).toBe("two");
});

test("only what must be known is looked at", () => {
  const needs = (slots: readonly ChainSlot[], before: Partial<ListenerFilters> = {}) => {
    const chains = makeChains(slots, { ...listenerFilterDefaults, ...before });
    return [chains.sniff, chains.needs.transport, chains.needs.hello, chains.needs.http];
  };
  expect(needs([slot("a", {})])).toEqual([false, false, false, false]);
  expect(needs([slot("a", {})], { inspectHttp: true })).toEqual([false, false, false, false]);
  expect(needs([slot("a", { destinationPort: 1 }), slot("b", {})])).toEqual([false, false, false, false]);
  expect(needs([slot("a", { transport: "tls" }), slot("b", {})])).toEqual([true, true, false, false]);
  expect(needs([slot("a", { serverNames: ["a"] })])).toEqual([true, true, true, false]);
  expect(needs([slot("a", { alpn: ["h2c"] })], { inspectHttp: true })).toEqual([true, true, true, true]);
  expect(needs([slot("a", {})], { proxyProtocol: { allowAbsent: false, versions: [1] } })).toEqual([true, false, false, false]);
  expect(makeChains([slot("a", {}, { fallback: true })]).only?.current.config.name).toBe("a");
  expect(makeChains([slot("a", { transport: "tls" })]).only).toBeNull();
});

test("listeners that cannot choose are refused", () => {
  const terminal = http({ rds: "r" });
  const check = (...matches: Match[]) =>
    checkMatches(
      listener(
        "l",
        matches.map((match) => chain(terminal, { match: { ...any, ...match } })),
        { inspectTls: true },
      ),
    );
  expect(() => check()).toThrow("at least one filter chain");
  expect(() => check({}, {})).toThrow("0 and 1 (counted from 0) match the same connections");
  expect(() => check({ serverNames: ["a", "b"] }, { serverNames: ["b", "c"] })).toThrow("match the same");
  expect(() => check({ serverNames: ["a", "b"], alpn: ["h2"] }, { serverNames: ["b"] })).not.toThrow();
  expect(() => check({ serverNames: ["*"] })).toThrow('server name "*" is not supported');
  expect(() => check({ serverNames: ["w*.a"] })).toThrow("is not supported");
  const many = Array.from({ length: 400 }, (_, n) => `n${n}`);
  expect(() => check({ serverNames: many, alpn: many })).toThrow("combinations");
  expect(() => checkMatches(listener("l", [chain(terminal, { match: { ...any, transport: "tls" } })]))).toThrow("tls_inspector");
});
