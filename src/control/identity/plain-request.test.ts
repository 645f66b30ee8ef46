// The request of our own sidecars is recognised, and nothing near it; and whichever way a request is taken, the certificate is the same.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bits, objectId, sequence } from "../../base/der.ts";
import { certificateRequestInfo } from "../../wire/certificate-request.ts";
import { formatIdentity } from "../../wire/spiffe.ts";
import { type CaCertificate, readCaCertificates } from "./ca-certificate.ts";
import { generateKeyPem, issuerOf, issueWorkload, makeRoot } from "./pki.ts";
import { plainRequestKey } from "./plain-request.ts";
import { localSigner } from "./signer.ts";

// Programs are started, and keys stretched: a busy machine takes its time.
setDefaultTimeout(60_000);

const dir = mkdtempSync(join(tmpdir(), "weft-certificate-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const caller = { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "reviews" };
const uri = formatIdentity(caller);
const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));

/** As a sidecar sends it. */
function request(name: string, key = generateKeyPairSync("ec", { namedCurve: "P-256" })): { der: Uint8Array; publicKey: KeyObject } {
  const spki = new Uint8Array(key.publicKey.export({ format: "der", type: "spki" }));
  const info = certificateRequestInfo(spki, name);
  const signature = sign("sha256", info, key.privateKey);
  return { der: sequence(info, sequence(objectId("1.2.840.10045.4.3.2")), bits(signature)), publicKey: key.publicKey };
}

function pem(der: Uint8Array, extra = ""): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE REQUEST-----\n${lines.join("\n")}\n-----END CERTIFICATE REQUEST-----\n${extra}`;
}

function openssl(...args: string[]): string {
  const { stdout, stderr } = Bun.spawnSync(["openssl", ...args]);
  return `${stdout}${stderr}`;
}

async function issuer() {
  return authorityAt(Date.now());
}

function authorityAt(nowMs: number) {
  const key = localSigner(createPrivateKey(generateKeyPem()));
  const certificatePem = makeRoot(key, caller.trustDomain, nowMs, random);
  return { certificatePem, ...issuerOf(readCaCertificates(certificatePem)[0] as CaCertificate, key) };
}

describe("the request of a sidecar", () => {
  test("is taken, and its key with it; openssl can read it", () => {
    const { der, publicKey } = request(uri);
    const found = plainRequestKey(pem(der), uri) as Uint8Array;
    expect(Buffer.from(found).equals(publicKey.export({ format: "der", type: "spki" }))).toBe(true);
    writeFileSync(join(dir, "plain.csr"), pem(der));
    expect(openssl("req", "-in", join(dir, "plain.csr"), "-noout", "-verify")).toMatch(/verify OK/i);
  });

  test("with any byte changed is not", () => {
    const { der } = request(uri);
    for (let at = 0; at < der.length; at++) {
      const changed = new Uint8Array(der);
      changed[at] = (changed[at] as number) ^ 0x01;
      expect(plainRequestKey(pem(changed), uri)).toBeUndefined();
    }
    for (let length = 0; length < der.length; length++) expect(plainRequestKey(pem(der.slice(0, length)), uri)).toBeUndefined();
  });

  test("for another name, over a key of another curve, or with more after it is not", () => {
    expect(plainRequestKey(pem(request("spiffe://cluster.local/ns/shop/sa/cart").der), uri)).toBeUndefined();
    const other = generateKeyPairSync("ec", { namedCurve: "P-384" });
    expect(plainRequestKey(pem(request(uri, other).der), uri)).toBeUndefined();
    expect(plainRequestKey(pem(request(uri).der, "more\n"), uri)).toBeUndefined();
    expect(plainRequestKey("", uri)).toBeUndefined();
  });
});

describe("the certificate", () => {
  test("is the same whichever way its request was taken, and openssl takes it", async () => {
    const authority = await issuer();
    const key = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const plain = pem(request(uri, key).der);
    // A line break less: not the form of our sidecars, so that the library takes it.
    const long = plain.trimEnd();
    expect(plainRequestKey(plain, uri)).toBeDefined();
    expect(plainRequestKey(long, uri)).toBeUndefined();
    const now = Math.floor(Date.now() / 1000) * 1000;
    const serial = (): Uint8Array => new Uint8Array(16).fill(0x5a);
    const texts: string[] = [];
    for (const [name, csr] of [
      ["quick", plain],
      ["long", long],
    ] as const) {
      const issued = await issueWorkload(authority, csr, caller, now, 3_600_000, serial);
      const path = join(dir, `${name}.pem`);
      writeFileSync(path, issued.certificatePem);
      writeFileSync(join(dir, "root.pem"), authority.certificatePem);
      for (const purpose of ["sslclient", "sslserver"]) {
        expect(openssl("verify", "-x509_strict", "-CAfile", join(dir, "root.pem"), "-purpose", purpose, path)).toContain(": OK");
      }
      expect(new X509Certificate(issued.certificatePem).publicKey.equals(key.publicKey)).toBe(true);
      // Everything but the signature, which ECDSA makes anew each time.
      texts.push(openssl("x509", "-in", path, "-noout", "-text").replace(/Signature Value:[\s\S]*/, ""));
    }
    expect(texts[0]).toBe(texts[1] as string);
    expect(texts[0]).toContain("Serial Number:");
  });

  test("has times that openssl reads, also beyond 2050", async () => {
    const late = Date.UTC(2051, 0, 2, 3, 4, 5);
    const authority = authorityAt(late);
    const issued = await issueWorkload(authority, pem(request(uri).der), caller, late, 3_600_000, random);
    expect(new X509Certificate(issued.certificatePem).validToDate.getTime()).toBe(late + 3_600_000);
  });
});
