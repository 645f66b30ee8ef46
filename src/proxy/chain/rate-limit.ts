// Owns: local rate limits (Envoy's `envoy.filters.http.local_ratelimit`): token buckets of this process, one for all requests and one for each descriptor that
// a request's actions make of it: its headers, its client's identity or address. Buckets outlive a configuration that does not change them.

import type { LocalRateLimitConfig } from "../config.ts";
import { latin1 } from "../http/bytes.ts";
import { type Failure, failures } from "../http/failure.ts";
import { reply } from "../http/finish.ts";
import { addAnswerLines } from "../http/staged.ts";
import { type BucketConfig, TokenBucket } from "../resilience/bucket.ts";
import type { BuildContext } from "../runtime/build.ts";
import { stateOf } from "../runtime/stage-state.ts";
import { compileLimits, describe, type Entry } from "./descriptors.ts";
import { type Stage, type StageFamily, verdict } from "./stage.ts";

/** Of descriptors: by what the descriptor says (`nameOf`) and its values, the last used at the end. */
type Buckets = Map<string, TokenBucket>;

export const rateLimitFamily: StageFamily<LocalRateLimitConfig | null> = {
  build(config, where, context): Stage | null {
    if (config === null || config.enabled === 0) return null;
    return limitStage(config, where, context);
  },
};

function limitStage(config: LocalRateLimitConfig, where: string, context: BuildContext): Stage {
  // Each bucket stays as long as its own numbers do, whatever becomes of the others: rules of several policies stand in one filter.
  const shared = stateOf<{ all: TokenBucket | null }>(context, `local rate limit ${where}`, config.bucket, () => ({ all: null }));
  const dynamic = stateOf<Buckets>(context, `local rate limits ${where}`, null, () => new Map());
  const names = config.descriptors.map(nameOf);
  const makersOf = compileLimits(config.limits, context.source);
  const failure: Failure = {
    ...failures.rateLimited,
    status: config.status,
    grpc: config.resourceExhausted || config.status !== 429 ? 8 : failures.rateLimited.grpc,
  };

  const bucketOf = (index: number, entries: readonly Entry[], bucket: BucketConfig, nowMs: number): TokenBucket => {
    let key = names[index] as string;
    for (const entry of entries) key += `\u0000${entry.value}`;
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
      for (const actions of makersOf(x)) {
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
        shared.all ??= new TokenBucket(config.bucket, nowMs);
        ask(shared.all);
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
      if (config.tellHeaders && bucket.left(nowMs) <= (x.askedLimit?.answer?.remaining ?? Number.POSITIVE_INFINITY)) {
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

/** Short, for it is part of each key; alike for those alone that say the same. */
function nameOf({ entries, bucket }: LocalRateLimitConfig["descriptors"][number]): string {
  const said = new Bun.CryptoHasher("sha256").update(`${bucket.maxTokens} ${bucket.perFill} ${bucket.fillMs}`);
  // With their lengths, so that no two lists read alike.
  for (const { key, value } of entries) said.update(` ${key.length}:${key} ${value.length}:${value}`);
  return said.digest("base64").slice(0, 16);
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
