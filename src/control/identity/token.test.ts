// Join tokens: what is wrong with a bad one is said, each way in its own words. And who may do what.

import { afterEach, describe, expect, test } from "bun:test";
import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SignJWT } from "jose";
import { PausedClock } from "../../base/clock.ts";
import type { Access, Caller } from "../apiserver/deps.ts";
import { authenticate, authorize, openAdminToken } from "./access.ts";
import { openTokenAuthority } from "./token.ts";

const reviews = { namespace: "shop", serviceAccount: "reviews" };
const folders: string[] = [];

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), "weft-token-"));
  folders.push(dir);
  return dir;
}

afterEach(() => {
  for (const dir of folders.splice(0)) rmSync(dir, { recursive: true, force: true });
});

describe("join token", () => {
  test("is accepted for the account it was issued to, also after a restart", async () => {
    const dir = folder();
    const clock = new PausedClock();
    const issued = await openTokenAuthority(dir, "cluster.local", clock).issue(reviews, 3600);
    expect(issued.expiresAtMs).toBe(Math.floor(clock.now() / 1000) * 1000 + 3_600_000);
    expect(String(issued.token)).toBe("[redacted]");
    expect(statSync(join(dir, "signing.key")).mode & 0o777).toBe(0o600);
    expect(await openTokenAuthority(dir, "cluster.local", clock).verify(issued.token.reveal())).toMatchObject({
      ok: true,
      account: reviews,
    });
  });

  test("has a life within bounds", async () => {
    const tokens = openTokenAuthority(folder(), "cluster.local", new PausedClock());
    expect(tokens.issue(reviews, 599)).rejects.toThrow(/expirationSeconds is 599/);
    expect(tokens.issue(reviews, 86_401)).rejects.toThrow(/86400/);
    expect(tokens.issue(reviews, Number.NaN)).rejects.toThrow(/NaN/);
  });

  test("each way of being wrong has its own sentence", async () => {
    const dir = folder();
    const clock = new PausedClock();
    const tokens = openTokenAuthority(dir, "cluster.local", clock);
    const own = createPrivateKey(readFileSync(join(dir, "signing.key")));
    const foreign = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
    const now = Math.floor(clock.now() / 1000);
    const sign = (key: typeof own, claims: { iss?: string; aud?: string; sub?: string; exp?: number }) => {
      const jwt = new SignJWT({}).setProtectedHeader({ alg: "ES256" }).setIssuedAt(now);
      jwt.setIssuer(claims.iss ?? "https://weft.cluster.local").setAudience(claims.aud ?? "weft");
      return jwt
        .setSubject(claims.sub ?? "system:serviceaccount:shop:reviews")
        .setExpirationTime(claims.exp ?? now + 600)
        .sign(key);
    };
    const unsigned = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from('{"sub":"x"}').toString("base64url")}.`;
    const cases: [string, string, RegExp][] = [
      ["expired", await sign(own, { exp: now - 60 }), /expired at 2023-/],
      ["audience", await sign(own, { aud: "vault" }), /audience is "vault"/],
      ["issuer", await sign(own, { iss: "https://weft.other.example" }), /issued by "https:\/\/weft\.other\.example".*another mesh/],
      ["foreign key", await sign(foreign, {}), /not signed by this control plane/],
      ["subject", await sign(own, { sub: "root" }), /subject "root"/],
      ["no algorithm", unsigned, /neither the admin token nor a join token|ES256/],
      ["rubbish", "abc", /neither the admin token nor a join token of this mesh, nor the token of a user/],
    ];
    const sentences = new Set<string>();
    for (const [name, token, says] of cases) {
      const verdict = await tokens.verify(token);
      expect(verdict.ok, name).toBe(false);
      if (verdict.ok) continue;
      expect(verdict.reason, name).toMatch(says);
      if (token.length > 10) expect(verdict.reason).not.toContain(token);
      sentences.add(verdict.reason);
    }
    expect(sentences.size).toBeGreaterThanOrEqual(6);
    expect((await tokens.verify(await sign(own, {}))).ok).toBe(true);
  });
});

describe("caller", () => {
  test("is told apart by the Authorization header", async () => {
    const dir = folder();
    const tokens = openTokenAuthority(dir, "cluster.local", new PausedClock());
    const admin = openAdminToken(dir);
    expect(openAdminToken(dir).reveal()).toBe(admin.reveal());
    expect(statSync(join(dir, "admin.token")).mode & 0o777).toBe(0o600);
    const join1 = (await tokens.issue(reviews, 600)).token.reveal();
    expect(await authenticate(`Bearer ${admin.reveal()}`, admin, tokens)).toEqual({ ok: true, caller: { kind: "admin", user: "admin" } });
    expect(await authenticate(`bearer ${join1}`, admin, tokens)).toMatchObject({
      ok: true,
      caller: { kind: "workload", user: "system:serviceaccount:shop:reviews", ...reviews },
    });
    for (const header of [null, "", "Basic abc", "Bearer", `Bearer ${admin.reveal()}x`, `Bearer ${admin.reveal()} x`]) {
      expect((await authenticate(header, admin, tokens)).ok).toBe(false);
    }
    expect(await authenticate(`Bearer ${"x".repeat(20_000)}`, admin, tokens)).toEqual({
      ok: false,
      reason: "the bearer credential has 20000 characters; no token of this mesh has more than 8192",
    });
  });

  const workload: Caller = { kind: "workload", user: "system:serviceaccount:shop:reviews", ...reviews };
  const access = (verb: string, resource: string, namespace: string, subresource = ""): Access =>
    ({ type: "resource", verb, resource, subresource, namespace, name: verb === "list" || verb === "create" ? "" : "x" }) as Access;
  const entries = "workloadentries.networking.istio.io";
  const allowed: Access[] = [
    ...["get", "list", "create", "update", "patch", "delete"].map((verb) => access(verb, entries, "shop")),
    access("patch", entries, "shop", "status"),
    access("get", "services", "shop"),
    access("create", "services", "shop"),
    access("get", "meshes.weft.dev", ""),
    access("get", "workloadgroups.networking.istio.io", "shop"),
    access("list", "proxyconfigs.networking.istio.io", "shop"),
    access("list", "proxyconfigs.networking.istio.io", "weft-system"),
  ];
  const denied: Access[] = [
    access("list", entries, ""),
    access("create", entries, "bank"),
    access("deletecollection", entries, "shop"),
    access("update", "services", "shop"),
    access("delete", "services", "shop"),
    access("list", "services", "shop"),
    access("get", "services", "bank"),
    access("create", "serviceaccounts", "shop", "token"),
    access("get", "httproutes.gateway.networking.k8s.io", "shop"),
    access("create", "authorizationpolicies.security.istio.io", "shop"),
    access("list", "proxies.weft.dev", "shop"),
    access("list", "meshes.weft.dev", ""),
    access("get", "workloadgroups.networking.istio.io", "bank"),
    access("list", "workloadgroups.networking.istio.io", "shop"),
    access("update", "workloadgroups.networking.istio.io", "shop"),
    access("list", "proxyconfigs.networking.istio.io", "bank"),
    access("create", "proxyconfigs.networking.istio.io", "shop"),
    { type: "path", verb: "get", path: "/insight/v1alpha1/graph" },
    { type: "path", verb: "get", path: "/metrics" },
  ];

  test("a workload may do what weft run needs, and nothing else; an admin everything", () => {
    for (const a of allowed) expect(authorize(workload, a).allowed, JSON.stringify(a)).toBe(true);
    for (const a of denied) {
      expect(authorize(workload, a).allowed, JSON.stringify(a)).toBe(false);
      expect(authorize({ kind: "admin", user: "admin" }, a).allowed).toBe(true);
    }
  });

  test("a workload owns the entries of its own account only", () => {
    const decision = authorize(workload, access("patch", entries, "shop"));
    if (!decision.allowed || decision.owns === undefined) throw new Error("must narrow to own entries");
    const entry = (serviceAccount?: string) => ({
      apiVersion: "v1",
      kind: "WorkloadEntry",
      metadata: { name: "x" },
      spec: { address: "127.0.0.1", serviceAccount },
    });
    expect(decision.owns(entry("reviews"))).toBe(true);
    expect(decision.owns(entry("cart"))).toBe(false);
    expect(decision.owns(entry())).toBe(false);
  });
});
