// Owns: local rate limits (Envoy's `envoy.filters.http.local_ratelimit`): token buckets of this process, one for all requests and one for each descriptor that
// a request's actions make of it: its headers, its client's identity or address. Buckets outlive a configuration that does not change them.

import type { LocalRateLimitConfig, RateAction } from "../config.ts";
import { latin1, text } from "../http/bytes.ts";
import type { Exchange } from "../http/exchange.ts";
import { type Failure, failures } from "../http/failure.ts";
import { reply } from "../http/finish.ts";
import { fieldNamed } from "../http/grpc.ts";
import { addAnswerLines } from "../http/staged.ts";
import type { Head } from "../http1/head.ts";
import { type BucketConfig, TokenBucket } from "../resilience/bucket.ts";
import { compileHeader } from "../route/header.ts";
import type { BuildContext } from "../runtime/build.ts";
import { stateOf } from "../runtime/stage-state.ts";
import { type Stage, type StageFamily, verdict } from "./stage.ts";

interface Entry {
  readonly key: string;
  readonly value: string;
}

/** An action compiled: its entry of a descriptor, or null where the request has none, so that there is no descriptor. */
type Maker = (x: Exchange, bytes: Uint8Array, head: Head) => Entry | null | "skip";

function maker(action: RateAction): Maker {
  switch (action.kind) {
    case "header": {
      const name = latin1(action.name.toLowerCase());
      return (_x, bytes, head) => {
        if (action.name === ":path") return { key: action.key, value: text(bytes, head.pathFrom, head.pathTo) };
        if (action.name === ":method") return { key: action.key, value: text(bytes, head.from, head.methodTo) };
        if (action.name === ":authority") return { key: action.key, value: text(bytes, head.authorityFrom, head.authorityTo) };
        const i = fieldNamed(bytes, head, name);
        if (i < 0) return action.skipIfAbsent ? "skip" : null;
        return { key: action.key, value: text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number) };
      };
    }
    case "remote":
      return (x) => ({ key: "remote_address", value: x.down.remote().host });
    case "generic":
      return () => ({ key: action.key, value: action.value });
    case "peer":
      return (x) => {
        const peer = x.down.peer;
        return peer === null || peer.principal === null ? null : { key: action.key, value: peer.principal };
      };
    case "match": {
      const headers = action.headers.map(compileHeader);
      return (_x, bytes, head) =>
        headers.every((matches) => matches(bytes, head)) === action.expect ? { key: action.key, value: action.value } : null;
    }
  }
}

/** Buckets of one stage. */
interface Buckets {
  all: TokenBucket | null;
  /** By descriptor's index and values, the last used at the end. */
  readonly dynamic: Map<string, TokenBucket>;
}

export const rateLimitFamily: StageFamily<LocalRateLimitConfig | null> = {
  build(config, where, context): Stage | null {
    if (config === null || config.enabled === 0) return null;
    return limitStage(config, where, context);
  },
};

function limitStage(config: LocalRateLimitConfig, where: string, context: BuildContext): Stage {
  const buckets = stateOf<Buckets>(context, `local rate limit ${where}`, config, () => ({
    all: null,
    dynamic: new Map(),
  }));
  const makers = config.limits.map((actions) => actions.map(maker));
  const failure: Failure = {
    ...failures.rateLimited,
    status: config.status,
    grpc: config.resourceExhausted || config.status !== 429 ? 8 : failures.rateLimited.grpc,
  };

  const bucketOf = (index: number, entries: readonly Entry[], bucket: BucketConfig, nowMs: number): TokenBucket => {
    let key = String(index);
    for (const entry of entries) key += `\u0000${entry.value}`;
    const { dynamic } = buckets;
    let found = dynamic.get(key);
    if (found === undefined) {
      if (dynamic.size >= config.maxDynamic) dynamic.delete(dynamic.keys().next().value as string);
      found = new TokenBucket(bucket, nowMs);
    } else dynamic.delete(key);
    dynamic.set(key, found);
    return found;
  };

  return {
    early: null,
    request(x, bytes, head, nowMs) {
      if (config.enabled < 1 && x.down.core.random() >= config.enabled) return verdict.go;
      let tightest: TokenBucket | null = null;
      let refused: TokenBucket | null = null;
      const ask = (bucket: TokenBucket): void => {
        if (!bucket.take(nowMs)) refused ??= bucket;
        if (tightest === null || bucket.left(nowMs) < tightest.left(nowMs)) tightest = bucket;
      };
      let described = false;
      for (const actions of makers) {
        const entries = describe(actions, x, bytes, head);
        if (entries === null) continue;
        for (let d = 0; d < config.descriptors.length; d++) {
          const wanted = config.descriptors[d] as LocalRateLimitConfig["descriptors"][number];
          if (!fits(wanted.entries, entries)) continue;
          described = true;
          ask(bucketOf(d, entries, wanted.bucket, nowMs));
          break;
        }
      }
      if (config.bucket !== null && (config.alwaysDefault || !described)) {
        buckets.all ??= new TokenBucket(config.bucket, nowMs);
        ask(buckets.all);
      }
      if (config.tellHeaders) x.rateBucket = refused ?? tightest;
      if (refused === null || (config.enforced < 1 && x.down.core.random() >= config.enforced)) return verdict.go;
      x.down.core.shedding.rateLimited(where);
      x.rateBucket = refused;
      reply(x, failure, "");
      return verdict.replied;
    },
    answer(x, bytes) {
      const bucket = x.rateBucket;
      if (bucket === null) return;
      const nowMs = x.down.core.ticker.nowMs;
      const seconds = Math.max(1, Math.ceil(bucket.waitMs(nowMs) / 1_000));
      let lines = "";
      if (config.tellHeaders) {
        const window = Math.max(1, Math.round((bucket.config.maxTokens * bucket.config.fillMs) / bucket.config.perFill / 1_000));
        lines = `x-ratelimit-limit: ${bucket.config.maxTokens}, ${bucket.config.maxTokens};w=${window}\r\nx-ratelimit-remaining: ${bucket.left(nowMs)}\r\nx-ratelimit-reset: ${seconds}\r\n`;
      }
      // RFC 6585 4.
      if (bytes === null && bucket.waitMs(nowMs) > 0) lines += `retry-after: ${seconds}\r\n`;
      if (lines !== "") addAnswerLines(x, latin1(lines));
    },
    end(x) {
      x.rateBucket = null;
    },
  };
}

function describe(actions: readonly Maker[], x: Exchange, bytes: Uint8Array, head: Head): Entry[] | null {
  const entries: Entry[] = [];
  for (const make of actions) {
    const entry = make(x, bytes, head);
    if (entry === null) return null;
    if (entry !== "skip") entries.push(entry);
  }
  return entries.length === 0 ? null : entries;
}

/** In order; an empty value fits any, each of which has a bucket of its own. */
function fits(wanted: readonly Entry[], entries: readonly Entry[]): boolean {
  if (wanted.length !== entries.length) return false;
  for (let i = 0; i < wanted.length; i++) {
    const one = wanted[i] as Entry;
    const other = entries[i] as Entry;
    if (one.key !== other.key || (one.value !== "" && one.value !== other.value)) return false;
  }
  return true;
}
