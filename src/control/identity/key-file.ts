// Owns: the authority's key as text: PKCS#8 in PEM, plain or under a passphrase (RFC 8018: PBES2, PBKDF2 with HMAC-SHA-256, AES-256-CBC), which openssl reads.
// Never prints a key or a passphrase.

import { createCipheriv, createPrivateKey, type KeyObject, pbkdf2Sync, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { der, integer, objectId, octets, sequence } from "../../base/der.ts";
import { writePem } from "../../base/pem.ts";
import { IdentityError } from "./failure.ts";
import { Secret } from "./secret.ts";

/** OWASP's advice for PBKDF2 with SHA-256 (2023); some 200 ms at each start. What node:crypto writes has 2 048, a file that leaks is guessed at 300 times as fast. */
const iterations = 600_000;
const shortestPassphrase = 12;

/** Of `--ca-passphrase-file` (its first line) or `$WEFT_CA_PASSPHRASE`. Throws IdentityError. */
export function readPassphrase(path: string | undefined, inEnvironment: string | undefined): Secret | undefined {
  if (path === undefined)
    return inEnvironment === undefined || inEnvironment === "" ? undefined : longEnough(inEnvironment, "$WEFT_CA_PASSPHRASE");
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new IdentityError(`the passphrase file ${path} cannot be read (${(cause as NodeJS.ErrnoException).code ?? String(cause)})`);
  }
  return longEnough((text.split("\n")[0] ?? "").replace(/\r$/, ""), `the passphrase file ${path}`);
}

function longEnough(text: string, where: string): Secret {
  if (text.length < shortestPassphrase)
    throw new IdentityError(`${where} holds a passphrase of ${text.length} characters; use ${shortestPassphrase} or more`);
  return new Secret(text);
}

export function isEncrypted(pem: string): boolean {
  return pem.includes("-----BEGIN ENCRYPTED PRIVATE KEY-----") || /^Proc-Type: 4,ENCRYPTED/m.test(pem);
}

/** Reads a private key. `path` is for messages alone. Throws IdentityError: no key, no passphrase, the wrong one. */
export function readKey(path: string, pem: string, passphrase: Secret | undefined): KeyObject {
  const encrypted = isEncrypted(pem);
  if (encrypted && passphrase === undefined)
    throw new IdentityError(`${path} is encrypted; give its passphrase with --ca-passphrase-file FILE or $WEFT_CA_PASSPHRASE`);
  try {
    return encrypted ? createPrivateKey({ key: pem, format: "pem", passphrase: (passphrase as Secret).reveal() }) : createPrivateKey(pem);
  } catch {
    throw new IdentityError(
      encrypted
        ? `${path} cannot be decrypted: the passphrase is wrong, or the file is damaged`
        : `${path} is not a private key in PEM; restore it from a copy`,
    );
  }
}

/** The key as PEM, under the passphrase if there is one. */
export function writeKey(key: KeyObject, passphrase: Secret | undefined): string {
  const plain = key.export({ format: "der", type: "pkcs8" });
  if (passphrase === undefined) return writePem("PRIVATE KEY", plain);
  const salt = randomBytes(16);
  const iv = randomBytes(16);
  const cipher = createCipheriv("aes-256-cbc", pbkdf2Sync(passphrase.reveal(), salt, iterations, 32, "sha256"), iv);
  const body = Buffer.concat([cipher.update(plain), cipher.final()]);
  const count = Uint8Array.of(iterations >>> 16, (iterations >>> 8) & 0xff, iterations & 0xff);
  const hmacWithSha256 = sequence(objectId("1.2.840.113549.2.9"), der(0x05));
  const derivation = sequence(objectId("1.2.840.113549.1.5.12"), sequence(octets(salt), integer(count), hmacWithSha256));
  const encryption = sequence(objectId("2.16.840.1.101.3.4.1.42"), octets(iv));
  const pbes2 = sequence(objectId("1.2.840.113549.1.5.13"), sequence(derivation, encryption));
  return writePem("ENCRYPTED PRIVATE KEY", sequence(pbes2, octets(body)));
}
