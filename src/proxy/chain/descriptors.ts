// Owns: what the actions of a rate limit make of a request: the entries of a descriptor, or none. Shared by local and global limits. Counts nothing.

import type { RateAction } from "../config.ts";
import { latin1, text } from "../http/bytes.ts";
import { clientOf } from "../http/client-address.ts";
import type { Exchange } from "../http/exchange.ts";
import { fieldNamed } from "../http/grpc.ts";
import type { Head } from "../http1/head.ts";
import { compileHeader } from "../route/header.ts";
import { compileBytes } from "../route/match.ts";
import { type RouteMetadata, textIn } from "../route/metadata.ts";
import { chooseTarget } from "../route/table.ts";
import type { HttpChain } from "./chain.ts";

export interface Entry {
  readonly key: string;
  readonly value: string;
}

/** Bytes of a value that is told as it is. A longer one goes by its digest: clients choose headers, and each value is the name of a bucket that is kept. */
export const mostValue = 1_024;

function bounded(value: string): string {
  return value.length <= mostValue ? value : `sha256:${new Bun.CryptoHasher("sha256").update(value).digest("hex")}`;
}

/** An action compiled: its entry of a descriptor; null: the request has none, so that there is no descriptor; `skip`: a descriptor without it. */
export type Maker = (x: Exchange, bytes: Uint8Array, head: Head) => Entry | null | "skip";

/** `source`: what this proxy calls itself to others, for `source_cluster`. */
function compileActions(actions: readonly RateAction[], source: string): readonly Maker[] {
  return actions.map((action) => maker(action, source));
}

/** For each limit what makes a descriptor, of those that a request can have at all by its route: what is for other routes alone is not looked at. */
export function compileLimits(limits: readonly (readonly RateAction[])[], source: string): (x: Exchange) => readonly (readonly Maker[])[] {
  const all = limits.map((actions) => compileActions(actions, source));
  if (!limits.some((actions) => actions.some(({ kind }) => kind === "route"))) return () => all;
  const of = (metadata: RouteMetadata | null) => all.filter((_, n) => (limits[n] ?? []).every((action) => possible(action, metadata)));
  const none = of(null);
  const known = new WeakMap<RouteMetadata, readonly (readonly Maker[])[]>();
  return (x) => {
    const metadata = x.route?.metadata ?? null;
    if (metadata === null) return none;
    let found = known.get(metadata);
    if (found === undefined) {
      found = of(metadata);
      known.set(metadata, found);
    }
    return found;
  };
}

function possible(action: RateAction, metadata: RouteMetadata | null): boolean {
  if (action.kind !== "route" || action.skipIfAbsent || action.value !== "") return true;
  return metadata !== null && textIn(metadata, action.path) !== "";
}

function maker(action: RateAction, source: string): Maker {
  switch (action.kind) {
    case "header": {
      const name = latin1(action.name.toLowerCase());
      return (x, bytes, head) => {
        if (action.name === ":path") return { key: action.key, value: bounded(pathText(x, bytes, head)) };
        if (action.name === ":method") return { key: action.key, value: text(bytes, head.from, head.methodTo) };
        if (action.name === ":authority") return { key: action.key, value: bounded(text(bytes, head.authorityFrom, head.authorityTo)) };
        const i = fieldNamed(bytes, head, name);
        // An empty value names nobody: sending one is no way around a limit.
        if (i < 0 || head.valueFrom[i] === head.valueTo[i]) return action.skipIfAbsent ? "skip" : null;
        return { key: action.key, value: bounded(text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number)) };
      };
    }
    case "remote":
      return (x, bytes, head) => ({ key: "remote_address", value: clientOf(x, x.chain.terminal as HttpChain, bytes, head) });
    case "generic": {
      const entry = { key: action.key, value: action.value };
      return () => entry;
    }
    case "route":
      return (x) => {
        const metadata = x.route?.metadata ?? null;
        const value = (metadata === null ? "" : textIn(metadata, action.path)) || action.value;
        if (value === "") return action.skipIfAbsent ? "skip" : null;
        return { key: action.key, value };
      };
    case "peer":
      return (x) => {
        const peer = x.down.peer;
        if (peer === null || peer.principal === null) return action.skipIfAbsent ? "skip" : null;
        return { key: action.key, value: peer.principal };
      };
    case "source":
      return () => ({ key: "source_cluster", value: source });
    case "destination":
      return (x) => {
        const forward = x.route?.forward ?? null;
        if (forward === null) return null;
        // Drawn now rather than later: what is counted must be where it goes.
        x.target ??= chooseTarget(forward, x.down.core.random);
        return { key: "destination_cluster", value: x.target.slot.name };
      };
    case "match": {
      const tests = action.headers.map((header): Test => {
        if (header.name !== ":path" || header.match === null) return ignoringPath(compileHeader(header));
        // The path as it was judged and will be forwarded: another spelling is no way around a limit.
        const matches = compileBytes(header.match);
        return (x, bytes, head) => {
          const found = x.path === null ? matches(bytes, head.pathFrom, head.pathTo) : matches(x.path, 0, x.path.length);
          return found !== header.invert;
        };
      });
      return (x, bytes, head) => {
        for (const test of tests) if (!test(x, bytes, head)) return action.expect ? null : { key: action.key, value: action.value };
        return action.expect ? { key: action.key, value: action.value } : null;
      };
    }
  }
}

type Test = (x: Exchange, bytes: Uint8Array, head: Head) => boolean;

function ignoringPath(matches: (bytes: Uint8Array, head: Head) => boolean): Test {
  return (_x, bytes, head) => matches(bytes, head);
}

function pathText(x: Exchange, bytes: Uint8Array, head: Head): string {
  return x.path === null ? text(bytes, head.pathFrom, head.pathTo) : text(x.path, 0, x.path.length);
}

/** The descriptor of a request, or null where it has none. */
export function describe(actions: readonly Maker[], x: Exchange, bytes: Uint8Array, head: Head): Entry[] | null {
  const entries: Entry[] = [];
  for (const make of actions) {
    const entry = make(x, bytes, head);
    if (entry === null) return null;
    if (entry !== "skip") entries.push(entry);
  }
  return entries.length === 0 ? null : entries;
}
