// The authority's key at rest. Judge: openssl reads what we encrypt, and we read what it encrypts.

import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PausedClock } from "../../base/clock.ts";
import { openAuthority } from "./authority.ts";
import { isEncrypted, readKey, readPassphrase, writeKey } from "./key-file.ts";
import { generateKeyPem } from "./pki.ts";

// Programs are started, and keys stretched: a busy machine takes its time.
setDefaultTimeout(60_000);

const dir = mkdtempSync(join(tmpdir(), "weft-key-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
const words = "correct horse battery staple";
const passphrase = readPassphrase(undefined, words);

function openssl(...args: string[]): string {
  const run = Bun.spawnSync(["openssl", ...args]);
  return run.stdout.toString() + run.stderr.toString();
}

test("openssl decrypts what we encrypt, with the passphrase alone", () => {
  const key = createPrivateKey(generateKeyPem());
  const path = join(dir, "ours.pem");
  writeFileSync(path, writeKey(key, passphrase));
  const read = openssl("pkey", "-in", path, "-passin", `pass:${words}`);
  expect(createPrivateKey(read).equals(key)).toBe(true);
  expect(openssl("pkey", "-in", path, "-passin", "pass:something else")).not.toContain("BEGIN PRIVATE KEY");
  expect(openssl("asn1parse", "-in", path)).toMatch(/PBES2[\s\S]*PBKDF2[\s\S]*0927C0[\s\S]*hmacWithSHA256[\s\S]*aes-256-cbc/);
  expect(readKey(path, readFileSync(path, "utf8"), passphrase).equals(key)).toBe(true);
});

test("we decrypt what openssl encrypts", () => {
  const pem = generateKeyPem();
  writeFileSync(join(dir, "plain.pem"), pem);
  openssl(
    "pkcs8",
    "-topk8",
    "-in",
    join(dir, "plain.pem"),
    "-out",
    join(dir, "theirs.pem"),
    "-v2",
    "aes-128-cbc",
    "-passout",
    `pass:${words}`,
  );
  expect(readKey("theirs.pem", readFileSync(join(dir, "theirs.pem"), "utf8"), passphrase).equals(createPrivateKey(pem))).toBe(true);
});

test("a folder's key is encrypted once a passphrase is given, and not opened without it or with another", async () => {
  const data = join(dir, "data");
  const open = (secret: typeof passphrase) =>
    openAuthority({ dir: data, trustDomain: undefined, clock: new PausedClock(Date.now()), random, passphrase: secret });
  const first = await open(undefined);
  expect(isEncrypted(readFileSync(join(data, "ca.key"), "utf8"))).toBe(false);
  const second = await open(passphrase);
  expect(second.rootPem).toBe(first.rootPem);
  expect(isEncrypted(readFileSync(join(data, "ca.key"), "utf8"))).toBe(true);
  expect(statSync(join(data, "ca.key")).mode & 0o777).toBe(0o600);
  await expect(open(undefined)).rejects.toThrow(
    /ca\.key is encrypted; give its passphrase with --ca-passphrase-file FILE or \$WEFT_CA_PASSPHRASE/,
  );
  await expect(open(readPassphrase(undefined, "wrong horse battery staple"))).rejects.toThrow(
    /ca\.key cannot be decrypted: the passphrase is wrong/,
  );
  expect((await open(passphrase)).rootPem).toBe(first.rootPem);
});

test("passphrases that are short or cannot be read are refused", () => {
  expect(() => readPassphrase(undefined, "short")).toThrow(/12 or more/);
  expect(() => readPassphrase(join(dir, "nowhere"), undefined)).toThrow(/cannot be read \(ENOENT\)/);
  writeFileSync(join(dir, "pass"), `${words}\r\nmore\n`);
  expect(readPassphrase(join(dir, "pass"), "something else entirely")?.reveal()).toBe(words);
  expect(String(readPassphrase(join(dir, "pass"), undefined))).toBe("[redacted]");
});
