// Owns: which filter chain takes a connection, in Envoy's order (FilterChainMatch): destination port, destination address, server name, transport,
// ALPN, source type, source address, source port. Each step keeps the most specific chains and never comes back: a connection whose server name is
// listed but whose ALPN is not goes to the fallback, not to a chain without a name. Compiled into nested maps: one look a step that is in use.

import { addressInPrefix } from "../authz/address.ts";
import type { AddressPrefix, FilterChainConfig, ListenerConfig, ListenerFilters } from "../config.ts";
import type { ChainSlot } from "./chain.ts";

/** What is known of a connection when its chain is chosen. One object, reused. */
export interface ConnectionFacts {
  destinationPort: number;
  destination: string;
  source: string;
  sourcePort: number;
  /** Lower case; empty: none. */
  serverName: string;
  tls: boolean;
  /** In the client's order; of plain HTTP what the inspector found. */
  alpn: readonly string[];
}

/** What must be known before the chain is. */
export interface Needs {
  /** TLS or plain: six bytes tell. */
  readonly transport: boolean;
  /** Server name or ALPN: the whole ClientHello. */
  readonly hello: boolean;
  /** Plain text: whether it is HTTP, and which. */
  readonly http: boolean;
}

/** The chains of one listener. */
export interface Chains {
  readonly slots: readonly ChainSlot[];
  /** The chain of every connection, where nothing has to be known of it; else null. */
  readonly only: ChainSlot | null;
  readonly needs: Needs;
  readonly before: ListenerFilters;
  /** Bytes are looked at before the chain is known. */
  readonly sniff: boolean;
  /** Every connection starts with TLS, and at once. */
  readonly allTls: boolean;
  select(facts: ConnectionFacts): ChainSlot | null;
}

/** Envoy's. */
export const listenerFilterDefaults: ListenerFilters = {
  proxyProtocol: null,
  originalDestination: false,
  inspectHttp: false,
  timeoutMs: 15_000,
  continueOnTimeout: false,
};

type Match = FilterChainConfig["match"];
type Select = (facts: ConnectionFacts) => ChainSlot | null;
type Step = (slots: readonly ChainSlot[], rest: number) => Select;

/** Throws a sentence for listeners that cannot choose. */
export function checkMatches(config: ListenerConfig): void {
  if (config.chains.length === 0) throw new Error("a listener needs at least one filter chain");
  const seen = new Map<string, number>();
  for (const [n, chain] of config.chains.entries()) {
    if (chain.fallback === true) continue;
    const { transport, serverNames, alpn } = chain.match;
    if ((transport !== null || serverNames.length > 0 || alpn.length > 0) && !config.inspectTls && config.before?.inspectHttp !== true)
      throw new Error(`filter chain ${chain.name} matches on the transport, which needs the tls_inspector listener filter`);
    for (const name of serverNames) checkServerName(chain.name, name);
    for (const key of keysOf(chain)) {
      const before = seen.get(key);
      if (before !== undefined) throw new Error(`the chains ${before} and ${n} (counted from 0) match the same connections`);
      seen.set(key, n);
    }
  }
  if (config.chains.filter((chain) => chain.fallback === true).length > 1) throw new Error("only one filter chain can be the default");
}

function checkServerName(chain: string, name: string): void {
  const plain = name.startsWith("*.") ? name.slice(2) : name;
  if (plain === "" || plain.includes("*")) {
    throw new Error(`filter chain "${chain}": server name "${name}" is not supported; give a whole name or "*." and what follows it`);
  }
}

/** Combinations of one chain's values; more would be a mistake, and slow to check. */
const mostKeys = 100_000;

/** One key for each combination of values that leads to this chain, so that two chains can be told to be the same. */
function keysOf(chain: FilterChainConfig): readonly string[] {
  const { match } = chain;
  const lists: (readonly string[])[] = [
    [String(match.destinationPort ?? "")],
    prefixKeys(match.destinationPrefixes),
    anyOf(match.serverNames),
    [match.transport ?? ""],
    anyOf(match.alpn),
    [match.sourceType ?? ""],
    prefixKeys(match.sourcePrefixes),
    anyOf(match.sourcePorts?.map(String)),
  ];
  let keys: string[] = [""];
  for (const list of lists) {
    if (keys.length * list.length > mostKeys)
      throw new Error(`filter chain ${chain.name}: its conditions make more than ${mostKeys} combinations`);
    keys = keys.flatMap((key) => list.map((value) => `${key}\u0000${value}`));
  }
  return keys;
}

function anyOf(values: readonly string[] | undefined): readonly string[] {
  return values === undefined || values.length === 0 ? [""] : values;
}

function prefixKeys(prefixes: readonly AddressPrefix[] | undefined): readonly string[] {
  return anyOf(prefixes?.map((one) => `${one.prefix}/${one.length}`));
}

/** Compiles the choice. The matches have passed `checkMatches`. */
export function makeChains(slots: readonly ChainSlot[], before: ListenerFilters = listenerFilterDefaults): Chains {
  const choosable = slots.filter((slot) => slot.current.config.fallback !== true);
  const fallback = slots.find((slot) => slot.current.config.fallback === true) ?? null;
  const matches = choosable.map((slot) => slot.current.config.match);
  const hello = matches.some((match) => match.serverNames.length > 0 || match.alpn.length > 0);
  const needs: Needs = {
    transport: hello || matches.some((match) => match.transport !== null),
    hello,
    // Without a condition on ALPN it would be known to nobody.
    http: before.inspectHttp && matches.some((match) => match.alpn.length > 0),
  };
  const found = choosable.length === 0 ? null : step(choosable, 0);
  const free = choosable.find((slot) => isFree(slot.current.config.match)) ?? null;
  const only = choosable.length === 0 ? fallback : choosable.length === 1 ? free : null;
  const sniff = needs.transport || before.proxyProtocol !== null;
  return {
    slots,
    only,
    needs,
    before,
    sniff,
    allTls: only !== null && !sniff && only.current.tls !== null,
    select: (facts) => found?.(facts) ?? fallback,
  };
}

function isFree(match: Match): boolean {
  return (
    match.transport === null &&
    match.serverNames.length === 0 &&
    match.alpn.length === 0 &&
    match.destinationPort === undefined &&
    match.sourceType === undefined &&
    (match.destinationPrefixes?.length ?? 0) === 0 &&
    (match.sourcePrefixes?.length ?? 0) === 0 &&
    (match.sourcePorts?.length ?? 0) === 0
  );
}

const steps: readonly Step[] = [
  byKey(
    (match) => (match.destinationPort === undefined ? [] : [match.destinationPort]),
    (facts) => facts.destinationPort,
  ),
  byPrefix(
    (match) => match.destinationPrefixes,
    (facts) => facts.destination,
  ),
  byServerName,
  byKey(
    (match) => (match.transport === null ? [] : [match.transport === "tls"]),
    (facts) => facts.tls,
  ),
  byAlpn,
  byKey(
    (match) => (match.sourceType === undefined ? [] : [match.sourceType === "local"]),
    (facts) => isLocal(facts),
  ),
  byPrefix(
    (match) => match.sourcePrefixes,
    (facts) => facts.source,
  ),
  byKey(
    (match) => match.sourcePorts ?? [],
    (facts) => facts.sourcePort,
  ),
];

/** The choice among these from step `n` on. Steps that no chain asks for cost nothing. */
function step(slots: readonly ChainSlot[], n: number): Select {
  const next = steps[n];
  if (next !== undefined) return next(slots, n + 1);
  const slot = slots[0] as ChainSlot;
  return () => slot;
}

/** Chains by their values, and those without one. */
function group<K>(
  slots: readonly ChainSlot[],
  keys: (match: Match) => readonly K[],
  rest: number,
): { by: Map<K, Select>; any: Select | null } {
  const lists = new Map<K, ChainSlot[]>();
  const open: ChainSlot[] = [];
  for (const slot of slots) {
    const values = keys(slot.current.config.match);
    if (values.length === 0) open.push(slot);
    for (const value of values) {
      const list = lists.get(value);
      if (list === undefined) lists.set(value, [slot]);
      else list.push(slot);
    }
  }
  const by = new Map<K, Select>();
  for (const [key, list] of lists) by.set(key, step(list, rest));
  return { by, any: open.length === 0 ? null : step(open, rest) };
}

function byKey<K>(keys: (match: Match) => readonly K[], key: (facts: ConnectionFacts) => K): Step {
  return (slots, rest) => {
    const { by, any } = group(slots, keys, rest);
    if (by.size === 0 && any !== null) return any;
    return (facts) => (by.get(key(facts)) ?? any)?.(facts) ?? null;
  };
}

/** The whole name, else the longest `*.` suffix, else chains without names. */
function byServerName(slots: readonly ChainSlot[], rest: number): Select {
  const { by, any } = group(slots, (match) => match.serverNames, rest);
  if (by.size === 0 && any !== null) return any;
  return (facts) => {
    const name = facts.serverName;
    let found = by.get(name);
    for (let dot = name.indexOf("."); found === undefined && dot >= 0; dot = name.indexOf(".", dot + 1))
      found = by.get(`*${name.slice(dot)}`);
    return (found ?? any)?.(facts) ?? null;
  };
}

/** The first of the client's protocols that a chain asks for. */
function byAlpn(slots: readonly ChainSlot[], rest: number): Select {
  const { by, any } = group(slots, (match) => match.alpn, rest);
  if (by.size === 0 && any !== null) return any;
  return (facts) => {
    for (const name of facts.alpn) {
      const found = by.get(name);
      if (found !== undefined) return found(facts);
    }
    return any?.(facts) ?? null;
  };
}

/** The longest prefix that holds the address. */
function byPrefix(prefixes: (match: Match) => readonly AddressPrefix[] | undefined, address: (facts: ConnectionFacts) => string): Step {
  return (slots, rest) => {
    const { by, any } = group(slots, (match) => (prefixes(match) ?? []).map((one) => `${one.prefix}/${one.length}`), rest);
    if (by.size === 0 && any !== null) return any;
    const sorted = [...by].map(([key, select]) => {
      const slash = key.lastIndexOf("/");
      const length = Number(key.slice(slash + 1));
      return { length, within: addressInPrefix(key.slice(0, slash), length), select };
    });
    sorted.sort((a, b) => b.length - a.length);
    return (facts) => {
      const text = address(facts);
      for (const one of sorted) if (one.within(text)) return one.select(facts);
      return any?.(facts) ?? null;
    };
  };
}

/** Envoy's SAME_IP_OR_LOOPBACK. */
function isLocal(facts: ConnectionFacts): boolean {
  return (
    facts.source === facts.destination ||
    facts.source.startsWith("127.") ||
    facts.source === "::1" ||
    facts.source.startsWith("::ffff:127.")
  );
}
