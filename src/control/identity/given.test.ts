// An authority given by the user: what openssl made is taken or refused in words, and what is issued from it openssl verifies.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PausedClock } from "../../base/clock.ts";
import { openAuthority } from "./authority.ts";
import { IdentityError } from "./failure.ts";
import { type GivenFiles, readGiven } from "./given.ts";
import { readPassphrase } from "./key-file.ts";

// Programs are started, and keys stretched: a busy machine takes its time.
setDefaultTimeout(60_000);

const dir = mkdtempSync(join(tmpdir(), "weft-given-"));
const at = (name: string) => join(dir, name);
const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function openssl(...args: string[]): string {
  const run = Bun.spawnSync(["openssl", ...args], { env: { ...process.env } });
  return run.stdout.toString() + run.stderr.toString();
}

interface Made {
  readonly name: string;
  readonly under?: string;
  readonly extensions: readonly string[];
  readonly key?: readonly string[];
  readonly days?: readonly string[];
}

const authority = "basicConstraints=critical,CA:TRUE";
const mayfollow = (n: number) => `basicConstraints=critical,CA:TRUE,pathlen:${n}`;
const signs = "keyUsage=critical,keyCertSign,cRLSign";

function make({ name, under, extensions, key = ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], days = ["-days", "30"] }: Made): void {
  openssl("genpkey", "-algorithm", ...key, "-out", at(`${name}.key`));
  openssl("req", "-new", "-key", at(`${name}.key`), "-subj", `/O=Example/CN=${name}`, "-out", at(`${name}.csr`));
  writeFileSync(at(`${name}.ext`), `${["subjectKeyIdentifier=hash", ...extensions].join("\n")}\n`);
  const signer =
    under === undefined ? ["-signkey", at(`${name}.key`)] : ["-CA", at(`${under}.crt`), "-CAkey", at(`${under}.key`), "-CAcreateserial"];
  const out = openssl(
    "x509",
    "-req",
    "-in",
    at(`${name}.csr`),
    ...signer,
    ...days,
    "-extfile",
    at(`${name}.ext`),
    "-out",
    at(`${name}.crt`),
  );
  if (!out.includes("ok")) throw new Error(out);
}

function chain(file: string, ...names: string[]): string {
  writeFileSync(at(file), names.map((name) => readFileSync(at(`${name}.crt`), "utf8")).join(""));
  return at(file);
}

beforeAll(() => {
  make({ name: "root", extensions: [authority, signs] });
  make({ name: "shallow", extensions: [mayfollow(0), signs] });
  make({ name: "other", extensions: [authority, signs] });
  make({ name: "middle", under: "root", extensions: [mayfollow(1), signs] });
  make({ name: "mesh", under: "middle", extensions: [mayfollow(0), signs, "subjectAltName=URI:spiffe://example.org"] });
  make({ name: "big", under: "root", extensions: [mayfollow(0), signs], key: ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"] });
  make({ name: "p384", under: "root", extensions: [mayfollow(0), signs], key: ["EC", "-pkeyopt", "ec_paramgen_curve:P-384"] });
  make({ name: "p521", under: "root", extensions: [mayfollow(0), signs], key: ["EC", "-pkeyopt", "ec_paramgen_curve:P-521"] });
  make({ name: "leaf", under: "root", extensions: ["basicConstraints=critical,CA:FALSE"] });
  make({ name: "mute", under: "root", extensions: [mayfollow(0), "keyUsage=critical,digitalSignature"] });
  make({ name: "below-shallow", under: "shallow", extensions: [mayfollow(0), signs] });
  make({ name: "old", under: "root", extensions: [mayfollow(0), signs], days: ["-days", "1"] });
  make({ name: "narrow", under: "root", extensions: [mayfollow(0), signs, "nameConstraints=critical,permitted;URI:example.net"] });
});

const now = () => Date.now();
function given(certificate: string, key: string, rootFile?: string, trustDomain = "example.org", nowMs = now()) {
  const files: GivenFiles = { certificateFile: certificate, keyFile: at(`${key}.key`), rootFile };
  return readGiven(files, trustDomain, undefined, nowMs);
}

describe("what is issued from an intermediate", () => {
  for (const [issuing, between] of [
    ["mesh", ["middle"]],
    ["big", []],
    ["p384", []],
    ["root", []],
  ] as const) {
    test(`${issuing}: openssl verifies the chain to the root, and nothing without the intermediate`, async () => {
      const data = mkdtempSync(join(dir, "data-"));
      const file = chain(`${issuing}-chain.pem`, ...new Set([issuing, ...between, "root"]));
      const opened = await openAuthority({
        dir: data,
        trustDomain: "example.org",
        clock: new PausedClock(now()),
        random,
        given: { certificateFile: file, keyFile: at(`${issuing}.key`), rootFile: undefined },
      });
      expect(opened.trustDomain).toBe("example.org");
      expect(opened.rootPem.trim()).toBe(new X509Certificate(readFileSync(at("root.crt"))).toString().trim());
      openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", join(data, "w.key"));
      const uri = "URI:spiffe://example.org/ns/shop/sa/cart";
      openssl("req", "-new", "-key", join(data, "w.key"), "-subj", "/", "-addext", `subjectAltName=${uri}`, "-out", join(data, "w.csr"));
      const caller = { trustDomain: "example.org", namespace: "shop", serviceAccount: "cart" };
      const { chainPem } = await opened.signWorkload(readFileSync(join(data, "w.csr"), "utf8"), caller, 0);
      const middle = chainPem.slice(1, -1);
      expect(middle.length).toBe(issuing === "root" ? 0 : 1 + between.length);
      writeFileSync(join(data, "w.crt"), chainPem[0] as string);
      writeFileSync(join(data, "middle.pem"), middle.join(""));
      writeFileSync(join(data, "roots.pem"), chainPem.at(-1) as string);
      const untrusted = middle.length === 0 ? [] : ["-untrusted", join(data, "middle.pem")];
      const verify = (...more: string[]) =>
        openssl("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", join(data, "roots.pem"), ...more, join(data, "w.crt"));
      expect(verify(...untrusted)).toContain(": OK");
      if (middle.length > 0) expect(verify()).toContain("unable to get local issuer");
      const server = await opened.serverCertificate({ dns: ["localhost"], ip: ["127.0.0.1"] });
      writeFileSync(join(data, "s.pem"), server.certificatePem);
      expect(
        openssl("verify", "-x509_strict", "-CAfile", join(data, "roots.pem"), "-untrusted", join(data, "s.pem"), join(data, "s.pem")),
      ).toContain(": OK");
      expect(opened.isTrusted(new X509Certificate(chainPem[0] as string).raw)).toBe(true);
    });
  }
});

describe("is refused in words", () => {
  const cases: readonly (readonly [string, () => unknown, RegExp])[] = [
    [
      "another key",
      () => given(chain("a.pem", "mesh", "middle", "root"), "middle"),
      /middle\.key is not the key of the certificate of .*CN=mesh/,
    ],
    ["no authority", () => given(chain("b.pem", "leaf", "root"), "leaf"), /CN=leaf .* is not a certificate authority/],
    ["no right to sign", () => given(chain("c.pem", "mute", "root"), "mute"), /CN=mute .* lacks keyCertSign/],
    [
      "expired",
      () => given(chain("d.pem", "old", "root"), "old", undefined, "example.org", now() + 3 * 86_400_000),
      /CN=old .* expired at/,
    ],
    [
      "not yet valid",
      () => given(chain("e.pem", "mesh", "middle", "root"), "mesh", undefined, "example.org", now() - 86_400_000),
      /valid only from .* clock/,
    ],
    [
      "no room below",
      () => given(chain("f.pem", "below-shallow", "shallow"), "below-shallow"),
      /CN=shallow .* allows 0 authorities below it \(pathlen:0\), and this chain has 1/,
    ],
    [
      "another trust domain",
      () => given(chain("g.pem", "mesh", "middle", "root"), "mesh", undefined, "cluster.local"),
      /is of the trust domain example\.org, and this mesh is cluster\.local/,
    ],
    [
      "names it may not sign",
      () => given(chain("h.pem", "narrow", "root"), "narrow"),
      /may not sign names of the trust domain example\.org .*permit example\.net/,
    ],
    ["wrong order", () => given(chain("i.pem", "middle", "mesh", "root"), "middle"), /CN=middle .* is not signed by .*CN=mesh/],
    ["root first", () => given(chain("j.pem", "root", "middle"), "root"), /certificate 1 is a root, and others follow it/],
    ["no root", () => given(chain("k.pem", "mesh", "middle"), "mesh"), /--ca-root FILE/],
    ["another root", () => given(chain("l.pem", "mesh", "middle"), "mesh", at("other.crt")), /is none of the roots given/],
    [
      "intermediate as root",
      () => given(chain("m.pem", "mesh"), "mesh", at("middle.crt")),
      /CN=middle .* is not a root .*belong into --ca-cert/,
    ],
    ["weak curve", () => given(chain("n.pem", "p521", "root"), "p521"), /an EC key on .*P-256 or P-384/],
    ["no certificate", () => given(at("mesh.key"), "mesh"), /holds no certificate in PEM/],
    ["no file", () => given(at("nowhere.pem"), "mesh"), /cannot be read \(ENOENT\)/],
  ];
  for (const [name, run, words] of cases)
    test(name, () => {
      expect(run).toThrow(IdentityError);
      expect(run).toThrow(words);
    });

  test("an authority that names no trust domain needs it said", () => {
    const files = { certificateFile: chain("o.pem", "big", "root"), keyFile: at("big.key"), rootFile: undefined };
    expect(() => readGiven(files, undefined, undefined, now())).toThrow(/--trust-domain NAME/);
    expect(
      readGiven(
        { ...files, certificateFile: chain("p.pem", "mesh", "middle", "root"), keyFile: at("mesh.key") },
        undefined,
        undefined,
        now(),
      ).trustDomain,
    ).toBe("example.org");
  });

  test("an encrypted key without its passphrase, and with the wrong one", () => {
    openssl("pkcs8", "-topk8", "-in", at("mesh.key"), "-out", at("mesh-enc.key"), "-passout", "pass:correct horse battery");
    const files = { certificateFile: chain("q.pem", "mesh", "middle", "root"), keyFile: at("mesh-enc.key"), rootFile: undefined };
    expect(() => readGiven(files, undefined, undefined, now())).toThrow(/is encrypted; give its passphrase/);
    expect(() => readGiven(files, undefined, readPassphrase(undefined, "wrong horse battery"), now())).toThrow(/the passphrase is wrong/);
    expect(readGiven(files, undefined, readPassphrase(undefined, "correct horse battery"), now()).trustDomain).toBe("example.org");
  });
});

describe("two authorities for one mesh", () => {
  const open = (data: string, file: string, key: string, rootFile?: string) =>
    openAuthority({
      dir: data,
      trustDomain: "example.org",
      clock: new PausedClock(now()),
      random,
      given: { certificateFile: file, keyFile: at(`${key}.key`), rootFile },
    });

  test("the folder of one is not opened by another, unless both roots are trusted", async () => {
    const data = mkdtempSync(join(dir, "two-"));
    await openAuthority({ dir: data, trustDomain: "example.org", clock: new PausedClock(now()), random });
    const file = chain("two.pem", "mesh", "middle");
    const refused = open(data, file, "mesh", at("root.crt"));
    await expect(refused).rejects.toThrow(
      /two certificate authorities claim one mesh: .* Workloads of one would not trust those of the other/,
    );
    writeFileSync(at("both.pem"), readFileSync(at("root.crt"), "utf8") + readFileSync(join(data, "ca.crt"), "utf8"));
    const moved = await open(data, file, "mesh", at("both.pem"));
    expect(moved.rootPem.match(/BEGIN/g)?.length).toBe(2);
    // And on: the old root is dropped later, and the folder opened without the files says what it lacks.
    expect((await open(data, file, "mesh", at("root.crt"))).rootPem.match(/BEGIN/g)?.length).toBe(1);
  });

  test("another root is trusted beside our own, which goes on issuing, and must be one", async () => {
    const data = mkdtempSync(join(dir, "beside-"));
    const open = (rootFile: string) =>
      openAuthority({ dir: data, trustDomain: "example.org", clock: new PausedClock(now()), random, rootFile });
    const opened = await open(at("root.crt"));
    expect(opened.rootPem).toBe(readFileSync(join(data, "ca.crt"), "utf8") + new X509Certificate(readFileSync(at("root.crt"))).toString());
    expect(opened.issuing.certificate.pem).toBe(readFileSync(join(data, "ca.crt"), "utf8"));
    await expect(open(at("middle.crt"))).rejects.toThrow(/CN=middle .* is not a root/);
    await expect(open(at("leaf.crt"))).rejects.toThrow(/is not a root/);
  });

  test("the folder of a given authority is not opened without it", async () => {
    const data = mkdtempSync(join(dir, "given-"));
    await open(data, chain("r.pem", "mesh", "middle", "root"), "mesh");
    await expect(openAuthority({ dir: data, trustDomain: undefined, clock: new PausedClock(now()), random })).rejects.toThrow(
      /give it again \(--ca-cert, --ca-key\)/,
    );
  });
});
