// Owns: the key of a request for consistent hashing: what Envoy's hash policies of a route say, in their order. A cookie that is missing is made, where
// its policy has a time to live. Made at configuration time; computing a key reads the head and keeps nothing.

import { hash64, joinHash } from "../balance/wanted.ts";
import type { HashConfig } from "../config.ts";
import { equals, indexOf, latin1 } from "../http/bytes.ts";
import { fieldNamed } from "../http/grpc.ts";
import type { Head } from "../http1/head.ts";

export interface CompiledHash {
  readonly kind: HashConfig["kind"];
  readonly name: Uint8Array;
  readonly config: HashConfig;
}

export function compileHash(configs: readonly HashConfig[]): readonly CompiledHash[] {
  return configs.map((config) => ({
    kind: config.kind,
    name: latin1(config.kind === "header" ? config.name.toLowerCase() : config.kind === "source" ? "" : config.name),
    config,
  }));
}

export function hashesSource(policies: readonly CompiledHash[]): boolean {
  for (let i = 0; i < policies.length; i++) if ((policies[i] as CompiledHash).kind === "source") return true;
  return false;
}

export interface RequestKey {
  found: boolean;
  hash: bigint;
  /** A whole Set-Cookie line for the answer; null = none. */
  cookie: Uint8Array | null;
}

/** One, reused: the answer of the last `keyOf`. */
const key: RequestKey = { found: false, hash: 0n, cookie: null };

/** `pathBytes[pathFrom, pathTo)` is the path with its query. `random` answers [0, 1). Valid until the next call. */
export function keyOf(
  policies: readonly CompiledHash[],
  bytes: Uint8Array,
  head: Head,
  pathBytes: Uint8Array,
  pathFrom: number,
  pathTo: number,
  source: string,
  random: () => number,
): RequestKey {
  key.found = false;
  key.hash = 0n;
  key.cookie = null;
  for (const policy of policies) {
    const value = partOf(policy, bytes, head, pathBytes, pathFrom, pathTo, source, random);
    if (value !== null) {
      const hash = hash64(value);
      key.hash = key.found ? joinHash(key.hash, hash) : hash;
      key.found = true;
    }
    if (policy.config.terminal && key.found) break;
  }
  return key;
}

function partOf(
  { kind, name, config }: CompiledHash,
  bytes: Uint8Array,
  head: Head,
  pathBytes: Uint8Array,
  pathFrom: number,
  pathTo: number,
  source: string,
  random: () => number,
): string | Uint8Array | null {
  switch (kind) {
    case "header": {
      const i = fieldNamed(bytes, head, name);
      return i < 0 ? null : bytes.subarray(head.valueFrom[i] as number, head.valueTo[i] as number);
    }
    case "source":
      return source;
    case "query":
      return queryValue(pathBytes, pathFrom, pathTo, name);
    case "cookie": {
      const found = cookieValue(bytes, head, name);
      if (found !== null || config.kind !== "cookie" || config.ttlMs === null) return found;
      const made = word(random) + word(random);
      key.cookie = cookieLine(config.name, made, config.ttlMs, config.path);
      return made;
    }
  }
}

function word(random: () => number): string {
  return ((random() * 0x1_0000_0000) >>> 0).toString(16).padStart(8, "0");
}

/** A Set-Cookie line with its CRLF, as Envoy writes it. `ttlMs` 0: until the browser closes. */
export function cookieLine(name: string, value: string, ttlMs: number, path: string): Uint8Array {
  const age = ttlMs === 0 ? "" : `; Max-Age=${Math.round(ttlMs / 1_000)}`;
  return latin1(`set-cookie: ${name}="${value}"${age}${path === "" ? "" : `; Path=${path}`}; HttpOnly\r\n`);
}

const cookieName = latin1("cookie");

/** The first cookie of this name, without quotes; null: none (RFC 6265 4.2.1). */
export function cookieValue(bytes: Uint8Array, head: Head, name: Uint8Array): Uint8Array | null {
  for (let i = 0; i < head.count; i++) {
    const nameFrom = head.nameFrom[i] as number;
    if ((head.nameTo[i] as number) - nameFrom !== cookieName.length || !isCookie(bytes, nameFrom)) continue;
    const to = head.valueTo[i] as number;
    for (let at = head.valueFrom[i] as number; at < to; ) {
      const semicolon = indexOf(bytes, at, to, 59);
      const end = semicolon < 0 ? to : semicolon;
      while (at < end && bytes[at] === 32) at++;
      const sign = indexOf(bytes, at, end, 61);
      if (sign >= 0 && equals(bytes, at, sign, name)) {
        let from = sign + 1;
        let last = end;
        while (last > from && bytes[last - 1] === 32) last--;
        if (last - from >= 2 && bytes[from] === 34 && bytes[last - 1] === 34) {
          from++;
          last--;
        }
        return bytes.subarray(from, last);
      }
      at = end + 1;
    }
  }
  return null;
}

function isCookie(bytes: Uint8Array, from: number): boolean {
  for (let i = 0; i < cookieName.length; i++) if (((bytes[from + i] as number) | 32) !== cookieName[i]) return false;
  return true;
}

function queryValue(bytes: Uint8Array, from: number, to: number, name: Uint8Array): Uint8Array | null {
  const mark = indexOf(bytes, from, to, 63);
  if (mark < 0) return null;
  for (let at = mark + 1; at < to; ) {
    const amp = indexOf(bytes, at, to, 38);
    const end = amp < 0 ? to : amp;
    const sign = indexOf(bytes, at, end, 61);
    if (equals(bytes, at, sign < 0 ? end : sign, name)) return bytes.subarray(sign < 0 ? end : sign + 1, end);
    at = end + 1;
  }
  return null;
}
