// A clock that is set, forwards and backwards, under a whole control plane; and credentials of every wrong sort.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, systemClock } from "../base/clock.ts";
import { type ControlPlane, startControlPlane } from "./plane.ts";

const hourMs = 3_600_000;
const dir = mkdtempSync(join(tmpdir(), "weft-clock-"));
/** How far the wall clock has been set; the other goes on as it does. */
let stepMs = 0;
const stepping: Clock = { ...systemClock, now: () => systemClock.now() + stepMs };
let plane: ControlPlane;
let ca = "";
let admin = "";

beforeAll(async () => {
  plane = await startControlPlane({ dataDir: dir, apiPort: 0, xdsPort: 0, dashboardPort: 0, clock: stepping });
  ca = readFileSync(join(dir, "ca.crt"), "utf8");
  admin = readFileSync(join(dir, "admin.token"), "utf8").trim();
}, 30_000);
afterAll(async () => {
  await plane?.stop();
  rmSync(dir, { recursive: true, force: true });
});

async function ask(method: string, path: string, body?: unknown, token = admin) {
  const response = await fetch(plane.apiUrl + path, {
    method,
    tls: { ca },
    headers: { authorization: token === admin || !token.includes(" ") ? `Bearer ${token}` : token, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  // biome-ignore lint/suspicious/noExplicitAny: answers of many shapes, looked into by matchers
  return { status: response.status, body: (text.startsWith("{") ? JSON.parse(text) : text) as any };
}

const services = "/api/v1/namespaces/shop/services";
const service = (name: string) => ({ apiVersion: "v1", kind: "Service", metadata: { name }, spec: { ports: [{ port: 80 }] } });
const joinToken = async (): Promise<string> =>
  (await ask("POST", "/api/v1/namespaces/shop/serviceaccounts/cart/token", { spec: { expirationSeconds: 3600 } })).body.status.token;
const mine = (token: string) => ask("GET", "/apis/networking.istio.io/v1/namespaces/shop/workloadentries", undefined, token);

describe("a clock that is set", () => {
  test("back by an hour: tokens and writes go on, revisions and history stay in order, and new tokens are good", async () => {
    stepMs = 0;
    const before = await joinToken();
    const first = await ask("POST", services, service("before"));
    stepMs = -hourMs;
    expect((await mine(before)).status).toBe(200);
    const second = await ask("POST", services, service("after"));
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(Number(second.body.metadata.resourceVersion)).toBeGreaterThan(Number(first.body.metadata.resourceVersion));
    expect(Date.parse(second.body.metadata.creationTimestamp)).toBeLessThan(Date.parse(first.body.metadata.creationTimestamp));
    const { entries } = (await ask("GET", "/weft/v1alpha1/history?namespace=shop")).body;
    expect(entries.map(({ name }: { name: string }) => name)).toEqual(["after", "before"]);
    // Back to before a revision that is "younger" by the clock.
    const back = await ask("POST", "/weft/v1alpha1/rollback", { revision: Number(first.body.metadata.resourceVersion), namespace: "shop" });
    expect(back.status).toBe(200);
    expect((await ask("GET", `${services}/after`)).status).toBe(404);
    const fresh = await joinToken();
    expect((await mine(fresh)).status).toBe(200);
    // And what was issued back there is good when the clock is right again.
    stepMs = 0;
    expect((await mine(fresh)).status).not.toBe(500);
    expect((await mine(before)).status).toBe(200);
  });

  test("forward by two days: what has ended is said to have ended, and everything else goes on", async () => {
    stepMs = 0;
    const token = await joinToken();
    expect(
      (await ask("POST", "/apis/weft.dev/v1alpha1/users", { apiVersion: "weft.dev/v1alpha1", kind: "User", metadata: { name: "al" } }))
        .status,
    ).toBe(201);
    const user = (await ask("POST", "/apis/weft.dev/v1alpha1/users/al/token", { spec: { expirationSeconds: 86_400 } })).body.status.token;
    expect((await ask("GET", "/apis", undefined, user)).status).toBe(200);
    stepMs = 48 * hourMs;
    for (const each of [token, user])
      expect(await ask("GET", "/apis", undefined, each)).toMatchObject({
        status: 401,
        body: { message: expect.stringMatching(/expired/) },
      });
    expect((await ask("POST", services, service("later"))).status).toBe(201);
    expect((await mine(await joinToken())).status).toBe(200);
    const list = await ask("GET", services);
    expect(list.status).toBe(200);
    stepMs = 0;
    expect((await ask("GET", "/apis", undefined, user)).status).toBe(200);
  });

  test("to and fro under watches and rate limits: nobody is held up or let through by it", async () => {
    stepMs = 0;
    const stop = new AbortController();
    const watch = await fetch(`${plane.apiUrl}${services}?watch=true&resourceVersion=0`, {
      tls: { ca },
      headers: { authorization: `Bearer ${admin}` },
      signal: stop.signal,
    });
    const reader = (watch.body as ReadableStream<Uint8Array>).getReader();
    let seen = "";
    for (const [n, step] of [-hourMs, 72 * hourMs, -24 * hourMs, 0].entries()) {
      stepMs = step;
      expect((await ask("POST", services, service(`s${n}`))).status).toBe(201);
    }
    while (!seen.includes('"s3"')) seen += new TextDecoder().decode((await reader.read()).value);
    expect([...seen.matchAll(/"ADDED".*?"name":"(s\d)"/g)].map(([, name]) => name)).toEqual(["s0", "s1", "s2", "s3"]);
    stop.abort();
  });
});

describe("a credential that is none", () => {
  const coded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  test("is 401 with a reason that does not quote it, whatever it is", async () => {
    stepMs = 0;
    const good = await joinToken();
    const [head = "", claims = "", signature = ""] = good.split(".");
    const read = JSON.parse(Buffer.from(claims, "base64url").toString()) as Record<string, unknown>;
    const none = coded({ alg: "none", typ: "JWT" });
    const hmac = coded({ ...JSON.parse(Buffer.from(head, "base64url").toString()), alg: "HS256" });
    const other = coded({ ...read, sub: "system:serviceaccount:shop:other" });
    const wrong: [string, string][] = [
      ["nothing", "Bearer "],
      ["another scheme", "Basic YWRtaW46YWRtaW4="],
      ["two words", "Bearer a b"],
      ["no token", "guess"],
      ["a token without signature", `${head}.${claims}.`],
      ["alg none", `${none}.${claims}.`],
      ["alg none with the old signature", `${none}.${claims}.${signature}`],
      // The public root as the secret of HMAC, an old confusion.
      ["another algorithm", `${hmac}.${claims}.${createHmac("sha256", ca).update(`${hmac}.${claims}`).digest("base64url")}`],
      ["another account's claims", `${head}.${other}.${signature}`],
      ["a broken signature", `${head}.${claims}.${signature.slice(0, -4)}AAAA`],
      ["four parts", `${good}.x`],
      ["claims that are no JSON", `${head}.${Buffer.from("{").toString("base64url")}.${signature}`],
      ["deep claims", `${head}.${Buffer.from(`${"[".repeat(2_000)}${"]".repeat(2_000)}`).toString("base64url")}.${signature}`],
      ["the administrator's, cut", admin.slice(0, -1)],
      ["the administrator's, with more", `${admin}x`],
    ];
    for (const [what, token] of wrong) {
      const answer = await ask("GET", "/apis", undefined, token);
      expect([what, answer.status]).toEqual([what, 401]);
      const said = String(answer.body.message);
      expect(said.length).toBeGreaterThan(10);
      const secret = token.replace(/^\w+ /, "");
      if (secret.length > 8) expect(said).not.toContain(secret.slice(0, 40));
    }
    expect((await mine(good)).status).toBe(200);
    expect((await ask("GET", "/apis")).status).toBe(200);
  });

  test("is refused before the program sees it where it is larger than any head may be", async () => {
    const answer = await fetch(`${plane.apiUrl}/apis`, { tls: { ca }, headers: { authorization: `Bearer ${"x".repeat(100_000)}` } });
    expect([400, 401, 431]).toContain(answer.status);
  });
});
