// Keys of token issuers: fetched when they are named and again in time, kept as they last were while nobody answers, and nothing else written.

import { afterEach, beforeEach, expect, test } from "bun:test";
import type { ConfigMapObject } from "../../api/kinds/configmap.ts";
import { fetchedKeysName } from "../../api/kinds/fetched-keys.ts";
import type { KubeObject } from "../../api/meta.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { mostKeySetBytes } from "../../wire/key-set.ts";
import type { Happening } from "../events.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import type { Store } from "../store/store.ts";
import { fetchKeysByHttps } from "./fetch.ts";
import { KeyFetcher, mostPlaces, refreshMs } from "./fetcher.ts";

const uri = "https://issuer.test/keys";
const resource = "requestauthentications.security.istio.io";
const idle: Timer = { cancel() {} };
let nowMs = Date.parse("2026-01-01T00:00:00Z");
const clock = { now: () => nowMs, mono: () => nowMs, after: () => idle, every: () => idle } as unknown as Clock;
let store: Store;
let fetcher: KeyFetcher;
let asked: string[] = [];
let told: Happening[] = [];
let answer: { keys: string } | { error: string } = { keys: '{"keys":[1]}' };

const policy = (name: string, uris: readonly string[]): KubeObject =>
  ({
    apiVersion: "security.istio.io/v1",
    kind: "RequestAuthentication",
    metadata: { name, namespace: "shop" },
    spec: { jwtRules: uris.map((jwksUri) => ({ issuer: "i", jwksUri, timeout: "2s" })) },
  }) as KubeObject;

beforeEach(() => {
  store = openSqliteStore(":memory:");
  asked = [];
  told = [];
  answer = { keys: '{"keys":[1]}' };
  fetcher = new KeyFetcher({
    store,
    clock,
    log: silentLogger,
    random: () => 0.5,
    uid: () => "u",
    fetchKeys: async (place, timeoutMs) => {
      asked.push(`${place} ${timeoutMs}`);
      return answer;
    },
    record: (happening) => told.push(happening),
  });
});
afterEach(async () => {
  await fetcher.stop();
  await store.close();
});

async function kept(place = uri): Promise<Readonly<Record<string, string>> | undefined> {
  const key = { resource: "configmaps", namespace: "weft-system", name: fetchedKeysName(place) };
  return ((await store.get(key)) as ConfigMapObject | undefined)?.data;
}

async function name(uris: readonly string[]): Promise<void> {
  await store.create({ resource, namespace: "shop", name: "a" }, policy("a", uris));
}

test("keys are fetched once and again after five minutes, and written when they change", async () => {
  await fetcher.look();
  expect(asked).toEqual([]);
  await name([uri]);
  await fetcher.look();
  await fetcher.look();
  expect(asked).toEqual([`${uri} 2000`]);
  expect(await kept()).toEqual({ uri, "jwks.json": '{"keys":[1]}' });
  const revision = await store.revision();
  nowMs += refreshMs;
  await fetcher.look();
  expect(asked).toHaveLength(2);
  expect(await store.revision()).toBe(revision);
  answer = { keys: '{"keys":[2]}' };
  nowMs += refreshMs;
  await fetcher.look();
  expect((await kept())?.["jwks.json"]).toBe('{"keys":[2]}');
  expect(told.map(({ reason }) => reason)).toEqual(["KeysFetched", "KeysFetched"]);
});

test("the last good keys stay while nobody answers, and it is tried again with patience", async () => {
  await name([uri]);
  await fetcher.look();
  answer = { error: "answered 503" };
  nowMs += refreshMs;
  await fetcher.look();
  expect(await kept()).toEqual({ uri, "jwks.json": '{"keys":[1]}', error: "answered 503" });
  const before = asked.length;
  for (let second = 0; second < 600; second++) {
    nowMs += 1_000;
    await fetcher.look();
  }
  expect(asked.length - before).toBeGreaterThan(8);
  expect(asked.length - before).toBeLessThan(20);
  expect(told.filter(({ type }) => type === "Warning")).toHaveLength(1);
  answer = { keys: '{"keys":[1]}' };
  nowMs += 60_000;
  await fetcher.look();
  expect(await kept()).toEqual({ uri, "jwks.json": '{"keys":[1]}' });
});

test("another control plane goes on with what this one has kept", async () => {
  await name([uri]);
  await fetcher.look();
  answer = { error: "cannot be fetched" };
  const next = new KeyFetcher({
    store,
    clock,
    log: silentLogger,
    random: () => 0.5,
    uid: () => "v",
    fetchKeys: async () => answer,
    record: () => {},
  });
  await next.look();
  expect((await kept())?.["jwks.json"]).toBe('{"keys":[1]}');
  await next.stop();
});

test("places are bounded, and forgotten an hour after nobody names them", async () => {
  await name(Array.from({ length: mostPlaces + 5 }, (_each, n) => `${uri}/${n}`));
  await fetcher.look();
  expect(asked).toHaveLength(mostPlaces);
  const key = { resource, namespace: "shop", name: "a" };
  const object = (await store.get(key)) as KubeObject;
  await store.delete(key, Number(object.metadata.resourceVersion));
  await fetcher.look();
  expect(await kept(`${uri}/0`)).toBeDefined();
  nowMs += 3_600_000;
  await fetcher.look();
  expect(await kept(`${uri}/0`)).toBeUndefined();
});

test("what comes is bounded and judged; nothing but https is asked", async () => {
  expect(await fetchKeysByHttps("http://127.0.0.1:1/keys", 1_000)).toEqual({ error: "is not https" });
  expect(await fetchKeysByHttps("https://127.0.0.1:1/keys", 1_000)).toEqual({ error: "cannot be fetched (ECONNREFUSED)" });
  const key = { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" };
  const answers: Readonly<Record<string, () => Response>> = {
    "/good": () =>
      Response.json({
        keys: [
          { ...key, use: "sig", x5c: ["AA"] },
          { kty: "oct", k: "AA" },
        ],
      }),
    "/large": () => new Response("x".repeat(mostKeySetBytes + 1)),
    "/elsewhere": () => Response.redirect("https://else.test/"),
    "/broken": () => new Response("no", { status: 500 }),
    "/none": () => Response.json({ keys: [{ kty: "oct", k: "AA" }] }),
    "/text": () => new Response("<html>"),
  };
  const real = globalThis.fetch;
  globalThis.fetch = (async (input: string) =>
    answers[new URL(input).pathname]?.() ?? new Response("", { status: 404 })) as unknown as typeof fetch;
  try {
    const said: string[] = [];
    for (const path of Object.keys(answers)) {
      const got = await fetchKeysByHttps(`https://issuer.test${path}`, 1_000);
      said.push("keys" in got ? got.keys : got.error);
    }
    expect(said).toEqual([
      JSON.stringify({ keys: [key] }),
      `answered more than ${mostKeySetBytes} bytes`,
      "redirects (302), which is not followed",
      "answered 500",
      "the answer has no key that tokens can be checked with; keys[0] is of no kind that is taken (RSA, EC, OKP)",
      "the answer is no JSON",
    ]);
  } finally {
    globalThis.fetch = real;
  }
});
