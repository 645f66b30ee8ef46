// Who is refused: by certificate, identity and token; and the lists for others, which openssl judges.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { revocationKind } from "../../api/kinds/revocation.ts";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { openAuthority } from "./authority.ts";
import { RevocationLists } from "./crl.ts";
import { Revocations, revocationsResource, tokenHash } from "./revocations.ts";
import { openTokenAuthority } from "./token.ts";

// Programs are started, and keys stretched: a busy machine takes its time.
setDefaultTimeout(60_000);

const dir = mkdtempSync(join(tmpdir(), "weft-revoked-"));
const ends: (() => unknown)[] = [];
afterAll(async () => {
  for (const end of ends) await end();
  rmSync(dir, { recursive: true, force: true });
});
const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
const cart = { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart" };
const now = Date.parse("2026-06-01T00:00:00Z");

async function open(name: string) {
  const store = openSqliteStore(join(dir, `${name}.db`), { onError: () => {} });
  const clock = new PausedClock(now);
  const revocations = await Revocations.open(store, clock, silentLogger, "cluster.local", () => store);
  ends.push(
    () => revocations.stop(),
    () => store.close(),
  );
  let count = 0;
  const revoke = async (spec: Record<string, unknown>) => {
    const key = { resource: revocationsResource, namespace: "", name: `r${++count}` };
    await store.create(key, { apiVersion: "weft.dev/v1alpha1", kind: "Revocation", metadata: { name: key.name }, spec });
    return key;
  };
  return { store, clock, revocations, revoke };
}

test("a serial number is one however it is written", async () => {
  const { revocations, revoke } = await open("serial");
  let told = 0;
  revocations.onChange(() => told++);
  await revoke({ serial: "00:5a:0F" });
  expect(told).toBe(1);
  expect(revocations.whyCertificate("5A0F", cart, now)).toContain("the certificate 5A0F has been revoked (r1)");
  expect(revocations.whyCertificate("5A0E", cart, now)).toBeUndefined();
  expect(revocations.list()).toEqual({ serials: ["5A0F"], identities: [] });
});

test("a service account, for good or for what was issued before", async () => {
  const { store, revocations, revoke } = await open("account");
  const before = await revoke({ serviceAccount: { namespace: "shop", name: "cart", issuedBefore: "2026-06-01T00:00:00Z" } });
  expect(revocations.whyIdentity(cart)).toBeUndefined();
  expect(revocations.whyCertificate("1", cart, now - 1)).toContain("issued before 2026-06-01T00:00:00Z have been revoked");
  expect(revocations.whyCertificate("1", cart, now)).toBeUndefined();
  expect(revocations.list().identities).toEqual([{ uri: "spiffe://cluster.local/ns/shop/sa/cart", issuedBefore: now / 1000 }]);
  const key = await revoke({ serviceAccount: { namespace: "shop", name: "cart" }, reason: "left" });
  expect(revocations.whyIdentity(cart)).toContain("(r2: left)");
  expect(revocations.whyIdentity({ ...cart, namespace: "bank" })).toBeUndefined();
  expect(revocations.whyCertificate("1", cart, now)).toContain("service account cart in shop has been revoked");
  await store.delete(key, undefined);
  await store.delete(before, undefined);
  expect(revocations.whyCertificate("1", cart, now - 1)).toBeUndefined();
});

test("a join token, however its signature is written, and everybody of a revoked account", async () => {
  const { clock, revocations, revoke } = await open("token");
  const data = join(dir, "token");
  await openAuthority({ dir: data, trustDomain: undefined, clock, random });
  const tokens = openTokenAuthority(data, "cluster.local", clock, undefined, revocations);
  const token = (await tokens.issue(cart, 600)).token.reveal();
  clock.advance(1_000);
  const other = (await tokens.issue(cart, 600)).token.reveal();
  expect(await tokens.verify(token)).toMatchObject({ ok: true });
  await revoke({ tokenSha256: tokenHash(token) });
  expect(await tokens.verify(token)).toMatchObject({ ok: false, reason: expect.stringContaining("the join token has been revoked (r1)") });
  expect(tokenHash(`${token.split(".").slice(0, 2).join(".")}.AAAA`)).toBe(tokenHash(token));
  expect(await tokens.verify(other)).toMatchObject({ ok: true });
  await revoke({ serviceAccount: { namespace: "shop", name: "cart" } });
  expect(await tokens.verify(other)).toMatchObject({
    ok: false,
    reason: expect.stringContaining("service account cart in shop has been revoked"),
  });
});

test("one that has had its time counts no more, and is forgotten", async () => {
  const { store, clock, revocations, revoke } = await open("time");
  await revoke({ serial: "AB", expiresAt: "2026-06-01T01:00:00Z" });
  expect(revocations.whyCertificate("AB", cart, now)).toBeDefined();
  clock.advance(3_600_000);
  expect(revocations.whyCertificate("AB", cart, now)).toBeUndefined();
  const end = performance.now() + 5_000;
  while ((await store.list(revocationsResource)).items.length > 0 && performance.now() < end) await Bun.sleep(2);
  expect((await store.list(revocationsResource)).items).toEqual([]);
  expect(revocations.list().serials).toEqual([]);
});

describe("the kind", () => {
  const wrong = (spec: Record<string, unknown>) =>
    revocationKind
      .validate({ apiVersion: "weft.dev/v1alpha1", kind: "Revocation", metadata: { name: "x" }, spec })
      .map(({ path, message }) => `${path} ${message}`);
  test("names one, and no more", () => {
    expect(wrong({})).toEqual([expect.stringContaining("spec names nobody")]);
    expect(wrong({ serial: "AB", tokenSha256: "0".repeat(64) })).toEqual([expect.stringContaining("names 2 at once")]);
    expect(wrong({ serial: "AB".repeat(21) })).toEqual([expect.stringContaining("spec.serial")]);
    expect(wrong({ serviceAccount: { namespace: "Shop", name: "cart" } })).toEqual([expect.stringContaining("is no namespace")]);
    expect(wrong({ serial: "AB" })).toEqual([]);
  });
});

describe("revocation lists", () => {
  const openssl = (...args: string[]): string => {
    const run = Bun.spawnSync(["openssl", ...args]);
    return run.stdout.toString() + run.stderr.toString();
  };

  test("openssl refuses the certificate that is on the list, and no other", async () => {
    const data = join(dir, "lists");
    const authority = await openAuthority({ dir: data, trustDomain: undefined, clock: new PausedClock(Date.now()), random });
    const issue = async (name: string) => {
      const at = (end: string) => join(data, `${name}.${end}`);
      openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", at("key"));
      const san = "subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/cart";
      openssl("req", "-new", "-key", at("key"), "-subj", "/", "-addext", san, "-out", at("csr"));
      const issued = await authority.signWorkload(readFileSync(at("csr"), "utf8"), cart, 0);
      writeFileSync(at("crt"), issued.certificatePem);
      return issued.serialNumber.toUpperCase();
    };
    const bad = await issue("bad");
    await issue("good");
    const lists = new RevocationLists();
    expect(lists.pem(authority.issuers, [], Date.now())).toBe("");
    // More than fits into two bytes of length.
    const many = Array.from({ length: 3_000 }, () => Buffer.from(random(16)).toString("hex").toUpperCase().replace(/^0+/, ""));
    for (const serials of [[bad], [...many, bad]]) {
      const pem = lists.pem(authority.issuers, serials, Date.now());
      expect(lists.pem(authority.issuers, serials, Date.now())).toBe(pem);
      writeFileSync(join(data, "list.pem"), pem);
      expect(openssl("crl", "-in", join(data, "list.pem"), "-CAfile", join(data, "ca.crt"), "-noout", "-text")).toContain("verify OK");
      const verify = (name: string) =>
        openssl("verify", "-crl_check", "-CAfile", join(data, "ca.crt"), "-CRLfile", join(data, "list.pem"), join(data, `${name}.crt`));
      expect(verify("bad")).toContain("certificate revoked");
      expect(verify("good")).toContain(": OK");
    }
  });
});
