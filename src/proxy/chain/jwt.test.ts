// Tokens of end users through a whole engine: every algorithm (tokens made by jose), everything that is wrong with a token, where it may stand, what the
// application is told, and what policies know.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { createServer, type IncomingHttpHeaders } from "node:http";
import { connect } from "node:http2";
import type { AddressInfo } from "node:net";
import { exportJWK, exportSPKI, type GenerateKeyPairResult, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { systemClock } from "../../base/clock.ts";
import { tokenAlgorithms } from "../../wire/key-set.ts";
import type { JwtConfig, JwtProviderConfig, Principal, RbacConfig } from "../config.ts";
import { catchAll, cluster, endpoint, hop, type Running, start } from "../testing/fixture.ts";
import { mostClaimDepth } from "../tokens/limits.ts";

const now = 1_800_000_000;
const clock = { ...systemClock, now: () => now * 1000 };
const pairs = new Map<string, GenerateKeyPairResult>();
let keySet = "";
let otherSet = "";
const seen: { line: string; headers: IncomingHttpHeaders }[] = [];
const app = createServer((request, response) => {
  seen.push({ line: `${request.method} ${request.url}`, headers: request.headers });
  response.end("ok");
});
let appPort = 0;
const running: Running[] = [];

beforeAll(async () => {
  const keys = [];
  for (const alg of Object.keys(tokenAlgorithms)) {
    const pair = await generateKeyPair(alg, { extractable: true });
    pairs.set(alg, pair);
    keys.push({ ...(await exportJWK(pair.publicKey)), kid: alg, alg });
  }
  keySet = JSON.stringify({ keys });
  const other = await generateKeyPair("ES256");
  pairs.set("other", other);
  otherSet = JSON.stringify({ keys: [{ ...(await exportJWK(other.publicKey)) }] });
  await new Promise<void>((done) => app.listen(0, "127.0.0.1", done));
  appPort = (app.address() as AddressInfo).port;
}, 60_000);
afterAll(() => {
  for (const each of running) each.engine.close();
  app.closeAllConnections();
  app.close();
});

const claims = { sub: "ann", groups: ["staff", "admins"], realm: { roles: ["r1"] }, scope: "read write", n: 7, yes: true };

function sign(payload: JWTPayload, alg = "ES256", header: { kid?: string } = { kid: alg }, by = alg): Promise<string> {
  const body = { iss: "https://issuer.test", aud: "shop", exp: now + 600, ...claims, ...payload };
  return new SignJWT(body).setProtectedHeader({ alg, ...header }).sign((pairs.get(by) as GenerateKeyPairResult).privateKey);
}

function provider(more: Partial<JwtProviderConfig> = {}): JwtProviderConfig {
  return {
    name: "p",
    issuer: "https://issuer.test",
    audiences: ["shop"],
    keys: keySet,
    forward: false,
    fromHeaders: [{ name: "authorization", prefix: "Bearer " }],
    fromParams: ["access_token"],
    fromCookies: [],
    payloadHeader: "",
    claimHeaders: [],
    payloadName: "payload",
    skewS: 60,
    spaceDelimited: ["scope"],
    ...more,
  };
}

const optional = (n = 0) => ({ kind: "any", missing: true, of: [{ kind: "provider", provider: n }] }) as const;

function run(jwt: Partial<JwtConfig> = {}, rbac: readonly RbacConfig[] = []): Running {
  const config: JwtConfig = { providers: [provider()], requires: optional(), bypassPreflights: true, ...jwt };
  const made = start(hop([cluster("app", [endpoint(appPort)])], catchAll("app"), { jwt: config, rbac }), { clock });
  running.push(made);
  return made;
}

async function ask(at: Running, headers: Record<string, string> | [string, string][] = {}, path = "/x", method = "GET") {
  seen.length = 0;
  const answer = await fetch(`http://127.0.0.1:${at.port()}${path}`, { method, headers });
  return { status: answer.status, body: await answer.text(), challenge: answer.headers.get("www-authenticate"), seen: seen[0] };
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const coded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

test("tokens of every algorithm are good, and the application does not get them", async () => {
  const at = run();
  for (const alg of Object.keys(tokenAlgorithms)) {
    for (let again = 0; again < 2; again++) {
      const said = await ask(at, { ...bearer(await sign({}, alg)), "x-other": "1" });
      expect([alg, said.status]).toEqual([alg, 200]);
      expect(said.seen?.headers.authorization).toBeUndefined();
      expect(said.seen?.headers["x-other"]).toBe("1");
    }
  }
  expect(at.count("envoy_http_jwt_authn_allowed")).toBe(2 * Object.keys(tokenAlgorithms).length);
});

test("without a token a request goes on, and nobody is known", async () => {
  const at = run();
  expect((await ask(at)).status).toBe(200);
  expect((await ask(at, { authorization: "Basic abc" })).seen?.headers.authorization).toBe("Basic abc");
  expect((await ask(at, {}, "/x?y=1&z")).seen?.line).toBe("GET /x?y=1&z");
});

describe("what is wrong with a token is told, with 401", () => {
  const secret = async () => Buffer.from(await exportSPKI((pairs.get("RS256") as GenerateKeyPairResult).publicKey));
  const cases: readonly (readonly [string, () => string | Promise<string>, string, number?])[] = [
    ["expired", () => sign({ exp: now - 61 }), "Jwt is expired"],
    ["not yet valid", () => sign({ nbf: now + 61 }), "Jwt not yet valid"],
    ["another issuer", () => sign({ iss: "https://else.test" }), "Jwt issuer is not configured"],
    ["another audience", () => sign({ aud: "bank" }), "Audiences in Jwt are not allowed", 403],
    ["no audience", () => sign({ aud: undefined as unknown as string }), "Audiences in Jwt are not allowed", 403],
    ["another key", () => sign({}, "ES256", { kid: "ES256" }, "other"), "Jwt verification fails"],
    ["a key nobody has", () => sign({}, "ES256", { kid: "nobody" }), "Jwks doesn't have key to match kid or alg from Jwt"],
    ["a key for another algorithm", () => sign({}, "RS256", { kid: "RS512" }), "Jwks doesn't have key to match kid or alg from Jwt"],
    [
      "no signature",
      () => `${coded({ alg: "none" })}.${coded({ iss: "https://issuer.test", aud: "shop" })}.`,
      "Jwt header [alg] is not supported",
    ],
    [
      "a public key as a secret",
      async () => {
        const body = `${coded({ alg: "HS256", kid: "RS256" })}.${coded({ iss: "https://issuer.test", aud: "shop" })}`;
        return `${body}.${createHmac("sha256", await secret())
          .update(body)
          .digest("base64url")}`;
      },
      "Jwt header [alg] is not supported",
    ],
    [
      "a changed payload",
      async () => {
        const [head, , signature] = (await sign({})).split(".");
        return `${head}.${coded({ iss: "https://issuer.test", aud: "shop", sub: "root", exp: now + 600 })}.${signature}`;
      },
      "Jwt verification fails",
    ],
    ["two parts", async () => (await sign({})).split(".").slice(0, 2).join("."), "Jwt is not in the form of"],
    ["padding", async () => `${await sign({})}=`, "Jwt signature is an invalid Base64url encoded"],
    ["another spelling of its last character", async () => respelled(await sign({})), "Jwt signature is an invalid Base64url encoded"],
    ["words behind it", async () => `${await sign({})} x`, "Jwt signature is an invalid Base64url encoded"],
    ["no JSON", () => `${Buffer.from("{").toString("base64url")}.e30.AA`, "Jwt header is an invalid JSON"],
    [
      "what is critical",
      () => `${coded({ alg: "ES256", crit: ["b64"], b64: false })}.e30.AA`,
      "Jwt header [crit] names what is not understood",
    ],
    ["an issuer that is no text", () => `${coded({ alg: "ES256" })}.${coded({ iss: 1 })}.AA`, "Jwt payload [iss] field is not a string"],
    [
      "a time that is none",
      () => `${coded({ alg: "ES256" })}.${coded({ exp: "soon" })}.AA`,
      "Jwt payload [exp] field is not a positive integer",
    ],
    ["claims without end", () => `${coded({ alg: "ES256" })}.${coded(deep(mostClaimDepth + 1))}.AA`, "Jwt payload is nested too deeply"],
    ["no character of a token", () => "?!", "Jwt is not in the form of"],
  ];
  for (const [name, make, sentence, status] of cases)
    test(name, async () => {
      const at = run();
      const said = await ask(at, bearer(await make()), '/p"q?a=1');
      expect(said.body).toContain(sentence);
      expect(said.status).toBe(status ?? 401);
      expect(said.challenge).toBe(`Bearer realm="http://127.0.0.1:${at.port()}/p%22q?a=1", error="invalid_token"`);
      expect(said.seen).toBeUndefined();
      expect(at.count("envoy_http_jwt_authn_denied")).toBe(1);
    });
});

function respelled(token: string): string {
  // 64 bytes of a signature leave four bits of the last character unused.
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  return token.slice(0, -1) + alphabet[alphabet.indexOf(token.at(-1) as string) + 1];
}

function deep(levels: number): unknown {
  return levels === 0 ? 1 : { a: deep(levels - 1) };
}

test("clocks may differ by a minute", async () => {
  const at = run();
  expect((await ask(at, bearer(await sign({ exp: now - 60, nbf: now + 60 })))).status).toBe(200);
});

test("a token that was good is not once it has expired", async () => {
  let seconds = now;
  const config: JwtConfig = { providers: [provider()], requires: optional(), bypassPreflights: true };
  const at = start(hop([cluster("app", [endpoint(appPort)])], catchAll("app"), { jwt: config }), {
    clock: { ...systemClock, now: () => seconds * 1000 },
  });
  running.push(at);
  const token = await sign({ exp: now + 10 });
  expect((await ask(at, bearer(token))).status).toBe(200);
  seconds = now + 71;
  expect((await ask(at, bearer(token))).body).toContain("Jwt is expired");
});

test("all tokens of a request must be good", async () => {
  const at = run();
  const [good, bad] = [await sign({}), await sign({ exp: now - 1_000 })];
  for (const [first, second] of [
    [good, bad],
    [bad, good],
  ] as const) {
    expect((await ask(at, bearer(first), `/x?access_token=${second}`)).status).toBe(401);
    const two: [string, string][] = [
      ["authorization", `Bearer ${first}`],
      ["authorization", `Bearer ${second}`],
    ];
    expect((await ask(at, two)).status).toBe(401);
  }
  expect((await ask(at, bearer(good), `/x?access_token=${good}`)).seen?.line).toBe("GET /x");
});

test("tokens stand where the provider says: parameters leave the query, cookies stay", async () => {
  const token = await sign({});
  const at = run({
    providers: [provider({ fromHeaders: [{ name: "x-token", prefix: "" }], fromParams: ["t"], fromCookies: ["session"] })],
  });
  expect((await ask(at, bearer("nonsense"))).seen?.headers.authorization).toBe("Bearer nonsense");
  expect((await ask(at, { "X-Token": token })).seen?.headers["x-token"]).toBeUndefined();
  expect((await ask(at, {}, `/a/b?x=1&t=${token}&y=%20`)).seen?.line).toBe("GET /a/b?x=1&y=%20");
  expect((await ask(at, {}, `/a?%74=${token}`)).seen?.line).toBe("GET /a");
  expect((await ask(at, {}, "/a?t=nonsense")).status).toBe(401);
  const cookie = `a=b; session="${token}"; c=d`;
  expect((await ask(at, { cookie })).seen?.headers.cookie).toBe(cookie);
  expect((await ask(at, { cookie: `session=${token}x` })).status).toBe(401);
});

test("names in other letters are found as their bytes", async () => {
  const at = run({ providers: [provider({ fromParams: ["ü"], fromHeaders: [] })] });
  expect((await ask(at, {}, "/a?%C3%BC=nonsense&b")).status).toBe(401);
  expect((await ask(at, {}, `/a?%C3%BC=${await sign({})}&b`)).seen?.line).toBe("GET /a?b");
});

test("a provider that forwards leaves the token, and what it writes nobody else may have written", async () => {
  const token = await sign({ name: "Ånn", bad: "a\r\nx-evil: 1", list: [1] });
  const claimHeaders = ["sub", "n", "yes", "realm.none", "groups", "name", "bad"].map((claim) => ({
    header: `x-claim-${claim.split(".")[0]}`,
    claim: claim.split("."),
  }));
  const at = run({ providers: [provider({ forward: true, payloadHeader: "x-payload", claimHeaders })] });
  const said = await ask(at, { ...bearer(token), "X-Claim-Sub": "root", "x-payload": "forged" });
  const headers = said.seen?.headers ?? {};
  expect(headers.authorization).toBe(`Bearer ${token}`);
  expect(headers["x-payload"]).toBe(token.split(".")[1] as string);
  expect([headers["x-claim-sub"], headers["x-claim-n"], headers["x-claim-yes"]]).toEqual(["ann", "7", "true"]);
  expect(Buffer.from(headers["x-claim-name"] as string, "latin1").toString("utf8")).toBe("Ånn");
  expect([headers["x-claim-groups"], headers["x-claim-realm"], headers["x-claim-bad"], headers["x-evil"]]).toEqual(
    Array(4).fill(undefined),
  );
  const anonymous = await ask(at, { "x-claim-sub": "root", "x-payload": "forged" });
  expect([anonymous.seen?.headers["x-claim-sub"], anonymous.seen?.headers["x-payload"]]).toEqual([undefined, undefined]);
});

test("two providers in one place: a token of either is good, of nobody else", async () => {
  const two = [provider(), provider({ name: "q", issuer: "https://other.test", keys: otherSet, audiences: [] })];
  const both = { kind: "all", of: [optional(0), optional(1)] } as const;
  const requires = {
    kind: "any",
    missing: false,
    of: [{ kind: "provider", provider: 0 }, { kind: "provider", provider: 1 }, both],
  } as const;
  const at = run({ providers: two, requires });
  expect((await ask(at)).status).toBe(200);
  expect((await ask(at, bearer(await sign({})))).status).toBe(200);
  expect((await ask(at, bearer(await sign({ iss: "https://other.test" }, "ES256", {}, "other")))).status).toBe(200);
  expect((await ask(at, bearer(await sign({ iss: "https://other.test" })))).status).toBe(401);
  expect((await ask(at, bearer(await sign({ iss: "https://third.test" })))).body).toContain("Jwt issuer is not configured");
});

test("a token that is required is asked for without a word on errors, and preflights pass where they may", async () => {
  const requires = { kind: "provider", provider: 0 } as const;
  const strict = run({ requires, bypassPreflights: false });
  const none = await ask(strict);
  expect([none.status, none.challenge]).toEqual([401, `Bearer realm="http://127.0.0.1:${strict.port()}/x"`]);
  const preflight = { origin: "http://a.test", "access-control-request-method": "PUT" };
  expect((await ask(strict, preflight, "/x", "OPTIONS")).status).toBe(401);
  const lenient = run({ requires });
  expect((await ask(lenient, preflight, "/x", "OPTIONS")).status).toBe(200);
  expect((await ask(lenient, { origin: "http://a.test" }, "/x", "OPTIONS")).status).toBe(401);
  expect(lenient.count("envoy_http_jwt_authn_cors_preflight_bypassed")).toBe(1);
});

describe("policies know what good tokens say", () => {
  const exact = (value: string) => ({ kind: "string", match: { kind: "exact", value, ignoreCase: false } }) as const;
  const claim = (
    path: readonly string[],
    match: Parameters<typeof exact>[0] | Extract<Principal, { kind: "claim" }>["match"],
    invert = false,
  ) => ({ kind: "claim", path: ["payload", ...path], match: typeof match === "string" ? exact(match) : match, invert }) as const;
  const rules = (principal: Principal, action: "allow" | "deny" = "allow"): RbacConfig[] => [
    { action, policies: [{ name: "r", permissions: [{ kind: "any" }], principals: [principal] }] },
  ];
  const cases: readonly (readonly [string, Principal, boolean, boolean])[] = [
    ["a text", claim(["sub"], "ann"), true, false],
    ["another text", claim(["sub"], "bob"), false, false],
    ["an entry of a list", claim(["groups"], { kind: "list", of: exact("admins") }), true, false],
    ["an entry nobody has", claim(["groups"], { kind: "list", of: exact("guests") }), false, false],
    ["what is nested", claim(["realm", "roles"], { kind: "or", of: [exact("r1"), { kind: "list", of: exact("r1") }] }), true, false],
    ["what is separated by blanks", claim(["scope"], { kind: "list", of: exact("write") }), true, false],
    ["what is there", claim(["n"], { kind: "present", present: true }), true, false],
    ["what is not there", claim(["__proto__"], { kind: "present", present: true }), false, false],
    ["no text", claim(["n"], "7"), false, false],
    ["not", { kind: "not", rule: claim(["sub"], "ann") }, false, true],
    ["inverted", claim(["sub"], "ann", true), false, true],
  ];
  for (const [name, principal, known, unknown] of cases)
    test(name, async () => {
      const at = run({}, rules(principal));
      expect((await ask(at, bearer(await sign({})))).status).toBe(known ? 200 : 403);
      // What was known of the last request is not known of the next one on the same connection.
      expect((await ask(at)).status).toBe(unknown ? 200 : 403);
      const denying = run({}, rules(principal, "deny"));
      expect((await ask(denying, bearer(await sign({})))).status).toBe(known ? 403 : 200);
      expect((await ask(denying)).status).toBe(unknown ? 403 : 200);
    });
});

test("over HTTP/2 a gRPC call hears it as a status, and others as an answer", async () => {
  const at = run();
  const session = connect(`http://127.0.0.1:${at.port()}`);
  const call = (headers: Record<string, string>) =>
    new Promise<Record<string, unknown>>((done, fail) => {
      const stream = session.request({ ":method": "POST", ":path": "/a.B/C", ...headers });
      let got: Record<string, unknown> = {};
      stream.on("response", (head) => {
        got = { ...head };
      });
      stream.on("trailers", (trailers) => Object.assign(got, trailers));
      stream.on("error", fail);
      stream.on("close", () => done(got));
      stream.resume();
      stream.end();
    });
  const grpc = { "content-type": "application/grpc", te: "trailers" };
  const bad = await call({ ...grpc, authorization: "Bearer nonsense" });
  expect([bad[":status"], bad["grpc-status"]]).toEqual([200, "16"]);
  const audience = await call({ ...grpc, authorization: `Bearer ${await sign({ aud: "bank" })}` });
  expect(audience["grpc-status"]).toBe("7");
  const plain = await call({ authorization: "Bearer nonsense" });
  expect([plain[":status"], plain["www-authenticate"]]).toEqual([401, expect.stringContaining('error="invalid_token"')]);
  expect((await call({ authorization: `Bearer ${await sign({})}` }))[":status"]).toBe(200);
  expect(seen.at(-1)?.headers.authorization).toBeUndefined();
  session.close();
});

test("the body of a request arrives whole beside a head that was written anew", async () => {
  const bodies: string[] = [];
  const origin = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: async (request) => {
      bodies.push(await request.text());
      return new Response("ok");
    },
  });
  const config: JwtConfig = { providers: [provider({ payloadHeader: "x-payload" })], requires: optional(), bypassPreflights: true };
  const at = start(hop([cluster("app", [endpoint(origin.port as number)])], catchAll("app"), { jwt: config }), { clock });
  running.push(at);
  for (const body of ["", "short", "x".repeat(200_000)]) {
    await fetch(`http://127.0.0.1:${at.port()}/`, { method: "POST", body, headers: bearer(await sign({})) });
    expect(bodies.pop()).toBe(body);
  }
  origin.stop(true);
});
