// Judge: openssl. What it says of our root, our server certificate and our workload certificates counts, not what the library that made them says.

import { afterEach, describe, expect, test } from "bun:test";
import { createPublicKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PausedClock } from "../../base/clock.ts";
import { formatIdentity, type Identity } from "../../wire/spiffe.ts";
import { openAuthority, serverNames } from "./authority.ts";
import { CsrRefused, IdentityError } from "./failure.ts";

const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
const reviews: Identity = { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "reviews" };
const folders: string[] = [];

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), "weft-ca-"));
  folders.push(dir);
  return dir;
}

afterEach(() => {
  for (const dir of folders.splice(0)) rmSync(dir, { recursive: true, force: true });
});

function openssl(args: string[], input = ""): string {
  const run = Bun.spawnSync(["openssl", ...args], { stdin: Buffer.from(input) });
  return run.stdout.toString() + run.stderr.toString();
}

/** A request made by openssl. `san` and `extra` go into its extensions as they are. */
function makeCsr(
  dir: string,
  san: string,
  options: { key?: string[]; subject?: string; extra?: string } = {},
): { csr: string; key: string } {
  const keyPath = join(dir, "leaf.key");
  const csrPath = join(dir, "leaf.csr");
  const key = options.key ?? ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
  openssl([key[0] as string, "-out", keyPath, ...key.slice(1)]);
  const extensions = [
    ...(san === "" ? [] : ["-addext", `subjectAltName=${san}`]),
    ...(options.extra === undefined ? [] : ["-addext", options.extra]),
  ];
  const out = openssl(["req", "-new", "-key", keyPath, "-subj", options.subject ?? "/", ...extensions, "-out", csrPath]);
  if (out.includes("rror")) throw new Error(out);
  return { csr: readFileSync(csrPath, "utf8"), key: readFileSync(keyPath, "utf8") };
}

const open = (dir: string, trustDomain?: string, clock = new PausedClock(Date.now())) => openAuthority({ dir, trustDomain, clock, random });

describe("root", () => {
  test("is made once, with a private key only its owner can read", async () => {
    const dir = folder();
    const first = await open(dir);
    expect(first.created).toBe(true);
    expect(statSync(join(dir, "ca.key")).mode & 0o777).toBe(0o600);
    const key = readFileSync(join(dir, "ca.key"), "utf8");
    const second = await open(dir);
    expect(second.created).toBe(false);
    expect(second.rootPem).toBe(first.rootPem);
    expect(readFileSync(join(dir, "ca.key"), "utf8")).toBe(key);
  });

  test("openssl reads it as a P-256 CA of ten years that may sign leaves only", async () => {
    const dir = folder();
    await open(dir, "mesh.example");
    const text = openssl(["x509", "-in", join(dir, "ca.crt"), "-noout", "-text"]);
    expect(text).toContain("CA:TRUE, pathlen:0");
    expect(text).toContain("NIST CURVE: P-256");
    expect(text).toContain("URI:spiffe://mesh.example");
    expect(text).toMatch(/Key Usage: critical\s+Certificate Sign, CRL Sign/);
    const certificate = new X509Certificate(readFileSync(join(dir, "ca.crt")));
    const years = (certificate.validToDate.getTime() - certificate.validFromDate.getTime()) / (365 * 86_400_000);
    expect(Math.round(years)).toBe(10);
  });

  test("a crash between key and certificate keeps the key", async () => {
    const dir = folder();
    await open(dir);
    const key = readFileSync(join(dir, "ca.key"), "utf8");
    rmSync(join(dir, "ca.crt"));
    await open(dir);
    expect(readFileSync(join(dir, "ca.key"), "utf8")).toBe(key);
  });

  test("refuses a folder whose files do not belong together, naming them", async () => {
    const dir = folder();
    await open(dir);
    const other = folder();
    await open(other);
    writeFileSync(join(dir, "ca.key"), readFileSync(join(other, "ca.key")));
    expect(open(dir)).rejects.toThrow(/ca\.key is not the key of .*ca\.crt/);
    rmSync(join(dir, "ca.key"));
    expect(open(dir)).rejects.toThrow(/ca\.crt is there but its key/);
  });

  test("refuses another trust domain than its own, naming both", async () => {
    const dir = folder();
    await open(dir, "one.example");
    expect((await open(dir)).trustDomain).toBe("one.example");
    const failure = await open(dir, "two.example").catch((e: unknown) => e);
    expect(failure).toBeInstanceOf(IdentityError);
    expect((failure as Error).message).toContain("two.example");
    expect((failure as Error).message).toContain("one.example");
  });
});

describe("server certificate", () => {
  test("verifies for its names, is kept, and is made anew when names or time ask for it", async () => {
    const dir = folder();
    const clock = new PausedClock(Date.now());
    const authority = await open(dir, undefined, clock);
    const first = await authority.serverCertificate(serverNames("127.0.0.1"));
    writeFileSync(join(dir, "chain.pem"), first.certificatePem);
    for (const check of [
      ["-verify_hostname", "localhost"],
      ["-verify_hostname", "weft"],
      ["-verify_ip", "127.0.0.1"],
    ]) {
      expect(openssl(["verify", "-CAfile", join(dir, "ca.crt"), "-purpose", "sslserver", ...check, join(dir, "chain.pem")])).toContain(
        ": OK",
      );
    }
    expect(openssl(["verify", "-CAfile", join(dir, "ca.crt"), "-verify_hostname", "example.com", join(dir, "chain.pem")])).toContain(
      "mismatch",
    );
    expect((await authority.serverCertificate(serverNames("127.0.0.1"))).certificatePem).toBe(first.certificatePem);
    expect((await authority.serverCertificate(serverNames("127.0.0.9"))).certificatePem).not.toBe(first.certificatePem);
    const second = await authority.serverCertificate(serverNames("127.0.0.1"));
    clock.advance(300 * 86_400_000);
    expect((await authority.serverCertificate(serverNames("127.0.0.1"))).certificatePem).not.toBe(second.certificatePem);
    expect(String(first.keyPem)).toBe("[redacted]");
    expect(JSON.stringify(first)).not.toContain("PRIVATE KEY");
    expect(Bun.inspect(first.keyPem)).not.toContain("PRIVATE KEY");
  });
});

describe("workload certificate", () => {
  test("openssl verifies it for both purposes; it carries the one name, 24 hours, and no authority", async () => {
    const dir = folder();
    const authority = await open(dir);
    const { csr, key } = makeCsr(dir, `URI:${formatIdentity(reviews)}`);
    const issued = await authority.signWorkload(csr, reviews, 0);
    expect(issued.chainPem).toHaveLength(2);
    expect(issued.chainPem[1]).toBe(authority.rootPem);
    const path = join(dir, "leaf.pem");
    writeFileSync(path, issued.chainPem[0] as string);
    for (const purpose of ["sslclient", "sslserver"]) {
      expect(openssl(["verify", "-x509_strict", "-CAfile", join(dir, "ca.crt"), "-purpose", purpose, path])).toContain(": OK");
    }
    const text = openssl(["x509", "-in", path, "-noout", "-text"]);
    expect(text).toContain("CA:FALSE");
    expect(text).toMatch(/Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/shop\/sa\/reviews\n/);
    expect(text).toMatch(/Key Usage: critical\s+Digital Signature\n/);
    const leaf = new X509Certificate(issued.chainPem[0] as string);
    expect(leaf.publicKey.equals(createPublicKey(key))).toBe(true);
    expect(leaf.validToDate.getTime() - leaf.validFromDate.getTime()).toBe(24 * 3_600_000 + 60_000);
    expect(authority.isTrusted(leaf.raw)).toBe(true);
  });

  test("serial numbers differ; a shorter life is granted, a longer one is not", async () => {
    const dir = folder();
    const clock = new PausedClock(Math.floor(Date.now() / 1000) * 1000);
    const authority = await open(dir, undefined, clock);
    const { csr } = makeCsr(dir, `URI:${formatIdentity(reviews)}`);
    const a = await authority.signWorkload(csr, reviews, 600);
    const b = await authority.signWorkload(csr, reviews, 30 * 86_400);
    expect(a.serialNumber).not.toBe(b.serialNumber);
    expect(a.notAfterMs).toBe(clock.now() + 600_000);
    expect(b.notAfterMs).toBe(clock.now() + 86_400_000);
    const leaf = new X509Certificate(a.chainPem[0] as string);
    clock.advance(600_000);
    expect(authority.isTrusted(leaf.raw)).toBe(false);
  });

  test("a leaf of another mesh, and our own leaf used as an authority, are not trusted", async () => {
    const dir = folder();
    const other = folder();
    const authority = await open(dir);
    const foreign = await open(other);
    const { csr } = makeCsr(dir, `URI:${formatIdentity(reviews)}`);
    const issued = await foreign.signWorkload(csr, reviews, 0);
    expect(authority.isTrusted(new X509Certificate(issued.chainPem[0] as string).raw)).toBe(false);
    expect(authority.isTrusted(new X509Certificate(authority.rootPem).raw)).toBe(false);
  });

  const good = formatIdentity(reviews);
  const refusals: {
    name: string;
    san: string;
    options?: { key?: string[]; subject?: string; extra?: string };
    says: RegExp;
    kind: "malformed" | "forbidden";
  }[] = [
    {
      name: "someone else's name",
      san: "URI:spiffe://cluster.local/ns/shop/sa/cart",
      says: /sa\/cart".*the caller is .*sa\/reviews/,
      kind: "forbidden",
    },
    { name: "another namespace", san: "URI:spiffe://cluster.local/ns/bank/sa/reviews", says: /ns\/bank/, kind: "forbidden" },
    { name: "another trust domain", san: "URI:spiffe://evil.example/ns/shop/sa/reviews", says: /evil\.example/, kind: "forbidden" },
    { name: "a DNS name beside its own", san: `URI:${good},DNS:cart.shop`, says: /dns "cart\.shop"/, kind: "forbidden" },
    { name: "an address", san: "IP:127.0.0.1", says: /ip "127\.0\.0\.1"/, kind: "forbidden" },
    { name: "no name", san: "", says: /names nobody.*sa\/reviews/, kind: "forbidden" },
    {
      name: "to be an authority",
      san: `URI:${good}`,
      options: { extra: "basicConstraints=critical,CA:TRUE" },
      says: /2\.5\.29\.19/,
      kind: "forbidden",
    },
    { name: "a common name", san: `URI:${good}`, options: { subject: "/CN=admin" }, says: /common name "admin"/, kind: "forbidden" },
    { name: "a short RSA key", san: `URI:${good}`, options: { key: ["genrsa", "1024"] }, says: /RSA key of 1024 bits/, kind: "malformed" },
    {
      name: "an odd curve",
      san: `URI:${good}`,
      options: { key: ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"] },
      says: /secp256k1|cannot be read/,
      kind: "malformed",
    },
    {
      name: "an Ed25519 key",
      san: `URI:${good}`,
      options: { key: ["genpkey", "-algorithm", "ed25519"] },
      says: /ed25519/i,
      kind: "malformed",
    },
  ];
  for (const { name, san, options, says, kind } of refusals) {
    test(`a request that asks for ${name} is refused, naming it`, async () => {
      const dir = folder();
      const authority = await open(dir);
      const { csr } = makeCsr(dir, san, options);
      const failure = await authority.signWorkload(csr, reviews, 0).catch((e: unknown) => e);
      expect(failure).toBeInstanceOf(CsrRefused);
      expect((failure as CsrRefused).message).toMatch(says);
      expect((failure as CsrRefused).kind).toBe(kind);
    });
  }

  test("a request whose signature is not its key's is refused", async () => {
    const dir = folder();
    const authority = await open(dir);
    const { csr } = makeCsr(dir, `URI:${good}`);
    const der = Buffer.from(csr.replace(/-----[^-]+-----|\s/g, ""), "base64");
    // Swap the key for another one: the request is still well-formed, but was signed by the first.
    const spki = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({ format: "der", type: "spki" });
    const at = der.indexOf(spki.subarray(0, 26));
    expect(at).toBeGreaterThan(0);
    spki.copy(der, at);
    const forged = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
    expect(authority.signWorkload(forged, reviews, 0)).rejects.toThrow(/not signed by the key/);
  });

  test("rubbish is refused in words", async () => {
    const authority = await open(folder());
    for (const text of ["", "hello", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----", "x".repeat(20_000)]) {
      const failure = await authority.signWorkload(text, reviews, 0).catch((e: unknown) => e);
      expect(failure).toBeInstanceOf(CsrRefused);
    }
  });
});
