// Judge: Envoy with the same configuration, made by our own compiler of RequestAuthentications and AuthorizationPolicies, takes and refuses the same tokens, tells
// the application the same of them, and says the same to the client. The tokens are made by jose and by openssl.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHmac, createPublicKey } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportJWK, type GenerateKeyPairResult, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { tokenAlgorithms } from "../../src/wire/key-set.ts";
import { needsPeers } from "../support/peers.ts";
import { Alike, type Ask, type Difference, omit, type Seen, told, words } from "./alike.ts";

const ready = needsPeers("alike-tokens.test.ts", "envoy", "openssl");

const differences: readonly Difference[] = [
  {
    why: "in the realm Envoy tells the scheme that x-forwarded-proto says, quotes and all; we leave quotes and backslashes out, which would end the text",
    without: (seen, ask) => (/["\\]/.test(ask.path) ? { ...seen, headers: omit(seen.headers, ["www-authenticate"]) } : seen),
  },
  {
    why: "where a parameter is taken out of the query Envoy writes the others anew, y as y=; we leave them as they are",
    without: (seen, ask) => {
      const body = seen.body as { path?: string } | null;
      return ask.path.endsWith("&y") && body?.path !== undefined ? { ...seen, body: { ...body, path: body.path.replace(/=$/, "") } } : seen;
    },
  },
];

/** What may differ of one token alone, with the reason. */
const stricter: Readonly<Record<string, string>> = {
  "critical header": "RFC 7515 4.1.11 has a token refused whose crit is not understood; Envoy passes it over",
  "another spelling":
    "RFC 4648 3.5: a last character with bits that mean nothing is another spelling of the same signature; Envoy takes it",
};

const issuer = "https://issuer.test";
const other = "https://other.test/";
const rule = (more: string, keys: string): string =>
  `{issuer: "${issuer}", audiences: [shop, "https://cart.test/"], jwks: '${keys}'${more}}`;

interface Guard {
  readonly rules: (keys: string, second: string) => string;
  readonly allow?: string;
  readonly deny?: string;
}

const guarded: Readonly<Record<string, Guard>> = {
  plain: { rules: (keys) => rule("", keys) },
  forward: {
    rules: (keys) =>
      rule(
        ", forwardOriginalToken: true, outputPayloadToHeader: X-Payload, outputClaimToHeaders: [{header: X-Sub, claim: sub}, {header: x-n, claim: n}, {header: x-yes, claim: yes}, {header: x-role, claim: realm.role}, {header: x-none, claim: nothing}]",
        keys,
      ),
  },
  places: {
    rules: (keys) =>
      rule(', fromHeaders: [{name: X-Token}, {name: X-Auth, prefix: "Tok "}], fromParams: [t, u], fromCookies: [session]', keys),
  },
  two: { rules: (keys, second) => `${rule("", keys)}, {issuer: "${other}", jwks: '${second}'}` },
  unknown: { rules: () => `{issuer: "${issuer}", jwksUri: "https://issuer.test/keys"}` },
  must: { rules: (keys) => rule("", keys), allow: '{from: [{source: {requestPrincipals: ["*"]}}]}' },
  named: {
    rules: (keys, second) => `${rule("", keys)}, {issuer: "${other}", jwks: '${second}'}`,
    allow: `{from: [{source: {requestPrincipals: ["${issuer}/ann", "${other}*", "*/bob/x"]}}]}`,
  },
  private: {
    rules: (keys) => rule("", keys),
    deny: '{from: [{source: {notRequestPrincipals: ["*"]}}], to: [{operation: {paths: [/private*]}}]}',
  },
  claims: {
    rules: (keys) => rule(", spaceDelimitedClaims: [words]", keys),
    allow:
      '{when: [{key: "request.auth.claims[groups]", values: [admins, "team-*"]}]}, {when: [{key: "request.auth.claims[realm][role]", values: [owner]}]}, {when: [{key: "request.auth.claims[scope]", values: [write]}]}, {when: [{key: "request.auth.claims[words]", values: [two]}]}, {when: [{key: request.auth.presenter, values: [robot]}]}, {when: [{key: request.auth.audiences, values: ["https://cart.test/"]}]}',
    deny: `{when: [{key: "request.auth.claims[banned]", values: ["*"]}]}, {when: [{key: request.auth.principal, values: ["${issuer}/eve"]}]}`,
  },
};
const names = Object.keys(guarded);

const parts = (name: string, ports: Readonly<Record<string, number>>, n: number, keys: string, second: string): string => {
  const { rules, allow, deny } = guarded[name] as Guard;
  const policy = (action: string, text: string | undefined): string =>
    text === undefined
      ? ""
      : `---\n{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: ${name}-${action.toLowerCase()}, namespace: shop}, spec: {selector: {matchLabels: {app: ${name}}}, action: ${action}, rules: [${text}]}}`;
  return `{apiVersion: v1, kind: Service, metadata: {name: ${name}, namespace: shop}, spec: {selector: {app: ${name}}, ports: [{name: http, port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: ${name}-1, namespace: shop, labels: {app: ${name}}, annotations: {weft.dev/inbound: "http=${ports[name]}"}}, spec: {address: 127.0.0.1, ports: {http: ${41_100 + n}}, serviceAccount: ${name}}}
---
{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: ${name}, namespace: shop}, spec: {selector: {matchLabels: {app: ${name}}}, jwtRules: [${rules(keys, second)}]}}
${policy("ALLOW", allow)}
${policy("DENY", deny)}
---`;
};

const now = Math.floor(Date.now() / 1000);
const claims = { sub: "ann", groups: ["staff"], n: 7, yes: true, realm: { role: "guest" }, scope: "read", words: "one" };
const coded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Tokens by their name; filled before any is asked with. */
const tokens: Record<string, string> = {};

async function makeTokens(folder: string): Promise<{ keys: string; second: string }> {
  const pairs = new Map<string, GenerateKeyPairResult>();
  const keys = [];
  for (const alg of Object.keys(tokenAlgorithms)) {
    const pair = await generateKeyPair(alg, { extractable: true });
    pairs.set(alg, pair);
    keys.push({ ...(await exportJWK(pair.publicKey)), kid: alg, alg });
  }
  const stranger = await generateKeyPair("ES256");
  const second = await generateKeyPair("ES256", { extractable: true });
  const base = { iss: issuer, aud: "shop", exp: now + 600, ...claims };
  const sign = (
    payload: JWTPayload,
    alg = "ES256",
    header: Record<string, unknown> = { kid: alg },
    by = pairs.get(alg) as GenerateKeyPairResult,
  ) => new SignJWT({ ...base, ...payload }).setProtectedHeader({ alg, ...header }).sign(by.privateKey);
  const without = (name: string) => {
    const left: Record<string, unknown> = { ...base };
    delete left[name];
    return new SignJWT(left).setProtectedHeader({ alg: "ES256" }).sign((pairs.get("ES256") as GenerateKeyPairResult).privateKey);
  };
  for (const alg of pairs.keys()) tokens[alg] = await sign({}, alg);
  const pem = join(folder, "rsa.pem");
  spawnSync("openssl", ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", pem]);
  const publicPem = spawnSync("openssl", ["pkey", "-in", pem, "-pubout"]).stdout.toString();
  keys.push({ ...createPublicKey(publicPem).export({ format: "jwk" }), kid: "by-openssl" });
  const signed = `${coded({ alg: "RS256", kid: "by-openssl" })}.${coded(base)}`;
  const file = join(folder, "signed");
  writeFileSync(file, signed);
  tokens["by openssl"] = `${signed}.${spawnSync("openssl", ["dgst", "-sha256", "-sign", pem, file]).stdout.toString("base64url")}`;
  const [head = "", payload = "", signature = ""] = (tokens.ES256 as string).split(".");
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  Object.assign(tokens, {
    expired: await sign({ exp: now - 120 }),
    "just expired": await sign({ exp: now - 20 }),
    "not yet valid": await sign({ nbf: now + 300 }),
    "almost valid": await sign({ nbf: now + 20 }),
    "no expiry": await without("exp"),
    "wrong issuer": await sign({ iss: "https://else.test" }),
    "no issuer": await without("iss"),
    "wrong audience": await sign({ aud: "bank" }),
    "one audience of several": await sign({ aud: ["bank", "shop"] }),
    "audience in another spelling": await sign({ aud: "http://cart.test" }),
    "no audience": await without("aud"),
    "wrong key": await sign({}, "ES256", { kid: "ES256" }, stranger),
    "kid unknown": await sign({}, "ES256", { kid: "nobody" }),
    "no kid": await sign({}, "ES256", {}),
    "kid of another algorithm": await sign({}, "RS256", { kid: "PS256" }),
    "no signature": `${coded({ alg: "none" })}.${coded(base)}.`,
    "a public key as a secret": (() => {
      const body = `${coded({ alg: "HS256", kid: "by-openssl" })}.${coded(base)}`;
      return `${body}.${createHmac("sha256", publicPem).update(body).digest("base64url")}`;
    })(),
    "tampered payload": `${head}.${coded({ ...base, sub: "root" })}.${signature}`,
    "tampered signature": `${head}.${payload}.${signature.slice(0, 10)}${signature[10] === "A" ? "B" : "A"}${signature.slice(11)}`,
    "another spelling": `${head}.${payload}.${signature.slice(0, -1)}${alphabet[alphabet.indexOf(signature.at(-1) as string) + 1]}`,
    "two parts": `${head}.${payload}`,
    "four parts": `${head}.${payload}.${signature}.x`,
    padding: `${head}.${payload}.${signature}=`,
    "words behind": `${tokens.ES256} more`,
    "no token at all": "nonsense",
    "no JSON": `${Buffer.from("{").toString("base64url")}.${payload}.${signature}`,
    "subject is a number": await sign({ sub: 7 as unknown as string }),
    "audience is a number": await sign({ aud: 7 as unknown as string }),
    "expiry is a text": await sign({ exp: "soon" as unknown as number }),
    "critical header": await sign({}, "ES256", { kid: "ES256", crit: ["b64"], b64: true }),
    second: await sign({ iss: other }, "ES256", {}, second),
    "second by the first": await sign({ iss: other }),
    "subject with a slash": await sign({ sub: "bob/x" }),
    eve: await sign({ sub: "eve", groups: ["admins"] }),
    admin: await sign({ groups: ["staff", "admins"] }),
    team: await sign({ groups: "team-one" }),
    owner: await sign({ realm: { role: "owner" } }),
    writer: await sign({ scope: "read write" }),
    "two words": await sign({ words: "one two" }),
    robot: await sign({ azp: "robot" }),
    cart: await sign({ aud: ["https://cart.test/"] }),
    banned: await sign({ groups: ["admins"], banned: "yes" }),
    "banned by a list": await sign({ groups: ["admins"], banned: ["yes"] }),
  });
  return {
    keys: JSON.stringify({ keys: [...keys, { kty: "RSA", use: "enc", n: "AQAB", e: "AQAB" }] }),
    second: JSON.stringify({ keys: [await exportJWK(second.publicKey)] }),
  };
}

interface Case {
  readonly what: string;
  /** Names of tokens stand as `<name>` in header values and in the path. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly path?: string;
  readonly method?: string;
  readonly sends?: string;
}

const tokenNames = [
  ...Object.keys(tokenAlgorithms),
  "by openssl",
  "expired",
  "just expired",
  "not yet valid",
  "almost valid",
  "no expiry",
  "wrong issuer",
  "no issuer",
  "wrong audience",
  "one audience of several",
  "audience in another spelling",
  "no audience",
  "wrong key",
  "kid unknown",
  "no kid",
  "kid of another algorithm",
  "no signature",
  "a public key as a secret",
  "tampered payload",
  "tampered signature",
  "another spelling",
  "two parts",
  "four parts",
  "padding",
  "words behind",
  "no token at all",
  "no JSON",
  "subject is a number",
  "audience is a number",
  "expiry is a text",
  "critical header",
];
const bearer = (name: string) => ({ headers: { authorization: `Bearer <${name}>` } });
const none: Case = { what: "no token" };
const named = (...all: readonly string[]): Case[] => all.map((name) => ({ what: name, ...bearer(name) }));
const preflight = { origin: "http://a.test", "access-control-request-method": "PUT" };

const cases: Readonly<Record<string, readonly Case[]>> = {
  plain: [
    none,
    ...named(...tokenNames),
    { what: "twice the same", headers: { authorization: "Bearer <ES256>" }, path: "/x?access_token=<ES256>&y" },
    { what: "a good one and a bad one", headers: { authorization: "Bearer <ES256>" }, path: "/x?access_token=<expired>" },
    { what: "a bad one and a good one", headers: { authorization: "Bearer <expired>" }, path: "/x?access_token=<ES256>" },
    { what: "in the query", path: "/x?a=1&access_token=<ES256>&b=2" },
    { what: "bad in the query", path: "/x?access_token=<expired>" },
    { what: "another scheme", headers: { authorization: "Basic abc" } },
    { what: "another case", headers: { authorization: "bearer <expired>" } },
    { what: "a prefix in the midst", headers: { authorization: "Other Bearer <ES256>" } },
    { what: "a bad one by a prefix in the midst", headers: { authorization: "Other Bearer <expired>" } },
    { what: "an empty one", headers: { authorization: "Bearer ?" } },
    { what: "a preflight", method: "OPTIONS", headers: { ...preflight, authorization: "Bearer <expired>" } },
    { what: "half a preflight", method: "OPTIONS", headers: { origin: "http://a.test", authorization: "Bearer <expired>" } },
    { what: "a body", method: "POST", sends: "a body", ...bearer("RS256") },
    { what: "a long path", path: `/${"x".repeat(400)}`, ...bearer("expired") },
  ],
  forward: [
    none,
    { what: "forged", headers: { "x-sub": "root", "X-Payload": "forged", "x-n": "1", "x-yes": "no", "x-role": "owner", "x-none": "some" } },
    { what: "forged beside a good one", headers: { authorization: "Bearer <ES256>", "x-sub": "root", "x-none": "some" } },
    ...named("ES256", "RS512", "expired"),
    { what: "in the query", path: "/x?access_token=<ES256>" },
  ],
  places: [
    none,
    { what: "a place where nobody looks", headers: { authorization: "Bearer <expired>" }, path: "/?access_token=<expired>" },
    { what: "a header", headers: { "x-token": "<ES256>" } },
    { what: "a bad header", headers: { "x-token": "<wrong key>" } },
    { what: "a header with words", headers: { "x-auth": "Tok <ES256>" } },
    { what: "a header without its words", headers: { "x-auth": "<expired>" } },
    { what: "a parameter", path: "/x?a=1&t=<ES256>" },
    { what: "the other parameter", path: "/x?u=<ES256>&a=1" },
    { what: "a bad parameter", path: "/x?t=<expired>" },
    { what: "a cookie", headers: { cookie: "a=b; session=<ES256>; c=d" } },
    { what: "a bad cookie", headers: { cookie: "session=<expired>" } },
    { what: "another cookie", headers: { cookie: "sessions=<expired>" } },
    { what: "a header and a bad cookie", headers: { "x-token": "<ES256>", cookie: "session=<expired>" } },
    { what: "a bad header and a cookie", headers: { "x-token": "<expired>", cookie: "session=<ES256>" } },
  ],
  two: [none, ...named("ES256", "second", "second by the first", "expired", "wrong issuer", "wrong audience", "no token at all")],
  unknown: [none, ...named("ES256", "RS256", "no kid", "wrong issuer")],
  must: [none, ...named("ES256", "expired", "wrong issuer"), { what: "another scheme", headers: { authorization: "Basic abc" } }],
  named: [none, ...named("ES256", "second", "subject with a slash", "eve", "admin")],
  private: [
    none,
    { what: "no token, private", path: "/private/x" },
    { what: "a token, private", path: "/private/x", ...bearer("ES256") },
    { what: "a bad token, private", path: "/private/x", ...bearer("expired") },
  ],
  claims: [none, ...named("ES256", "admin", "team", "owner", "writer", "two words", "robot", "cart", "eve", "banned", "banned by a list")],
};

function filled({ headers = {}, path = "/x", method = "GET", sends }: Case, name: string): Ask {
  const fill = (text: string) => text.replaceAll(/<([^>]+)>/g, (_all, token: string) => tokens[token] ?? `no token ${token}`);
  return {
    method,
    host: `${name}.shop`,
    path: fill(path),
    headers: Object.fromEntries(Object.entries(headers).map(([field, value]) => [field, fill(value)])),
    ...(sends === undefined ? {} : { sends }),
  };
}

describe.skipIf(!ready)("our proxy and Envoy with one configuration of RequestAuthentications", () => {
  let alike: Alike;
  const seen = new Map<string, (readonly [Seen, Seen])[]>();
  const folder = mkdtempSync(join(tmpdir(), "weft-tokens-"));

  beforeAll(async () => {
    const { keys, second } = await makeTokens(folder);
    alike = await Alike.start(
      names,
      (ports) => `
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: shop}, spec: {mtls: {mode: DISABLE}}}
---
${names.map((name, n) => parts(name, ports, n, keys, second)).join("\n")}
`,
      names.map((name) => `shop/${name}-1`),
    );
    for (const name of names)
      seen.set(
        name,
        await alike.all(
          `shop/${name}-1 inbound|http`,
          (cases[name] ?? []).map((each) => filled(each, name)),
        ),
      );
  }, 60_000);

  afterAll(async () => {
    await alike?.stop();
    rmSync(folder, { recursive: true, force: true });
  }, 15_000);

  test("the tokens are what their names say", () => {
    const statusOf = (name: string, what: string) =>
      seen.get(name)?.[(cases[name] ?? []).findIndex((each) => each.what === what)]?.[1].status;
    for (const alg of [...Object.keys(tokenAlgorithms), "by openssl", "no token"])
      expect([alg, statusOf("plain", alg)]).toEqual([alg, 200]);
    expect([statusOf("plain", "expired"), statusOf("plain", "wrong audience"), statusOf("must", "no token")]).toEqual([401, 403, 403]);
    expect([statusOf("unknown", "ES256"), statusOf("claims", "admin"), statusOf("claims", "ES256")]).toEqual([401, 200, 403]);
  });

  for (const name of names)
    for (const [n, each] of (cases[name] ?? []).entries())
      test(`${name}: ${each.what}`, () => {
        const ask = filled(each, name);
        const [ours, theirs] = (seen.get(name) ?? [])[n] as readonly [Seen, Seen];
        if (stricter[each.what] !== undefined) {
          expect([each.what, ours.status, theirs.status]).toEqual([each.what, 401, 200]);
          return;
        }
        expect([words(ask), told(ours, ask, differences)]).toEqual([words(ask), told(theirs, ask, differences)]);
      });
});
