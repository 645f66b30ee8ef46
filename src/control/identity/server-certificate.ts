// Owns: the certificate of the control plane's own servers: kept in `server.crt` and `server.key`, made anew when names or the authority change or a third of
// its life is left. Nobody pins its key.

import { createPrivateKey, X509Certificate } from "node:crypto";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { Identity } from "../../wire/spiffe.ts";
import type { KeyAndCertificate, LiveIssuer } from "./authority.ts";
import { privateMode, publicMode, readIfThere, readPrivate, writeFileAtomic } from "./files.ts";
import { generateKeyPem, issueServer, type RandomBytes } from "./pki.ts";
import { Secret } from "./secret.ts";

const serverLifeMs = 365 * 86_400_000;

export function signedBy(leaf: X509Certificate, { certificate: { x509 } }: LiveIssuer): boolean {
  return leaf.checkIssued(x509) && leaf.verify(x509.publicKey);
}

export function inTime(leaf: X509Certificate, nowMs: number): boolean {
  return leaf.validFromDate.getTime() <= nowMs && nowMs < leaf.validToDate.getTime();
}

/** The one that is kept, or another; `abovePem`: what a client needs beside the leaf. */
export async function serverCertificate(
  dir: string,
  issuer: LiveIssuer,
  abovePem: string,
  names: { readonly dns: readonly string[]; readonly ip: readonly string[]; readonly identity: Identity },
  clock: Clock,
  random: RandomBytes,
): Promise<KeyAndCertificate> {
  const keyPath = join(dir, "server.key");
  const certificatePath = join(dir, "server.crt");
  const oldKey = readPrivate(keyPath);
  const oldCertificate = readIfThere(certificatePath);
  if (oldKey !== undefined && oldCertificate !== undefined && serves(oldCertificate, oldKey, issuer, names, clock.now())) {
    return { certificatePem: `${oldCertificate.trim()}\n${abovePem}`, keyPem: new Secret(oldKey) };
  }
  const keyPem = generateKeyPem();
  const issued = issueServer(issuer, keyPem, names, clock.now(), serverLifeMs, random);
  // A crash between the two leaves a pair that does not fit, which `serves` sees; this key is replaced freely, nobody pins it.
  writeFileAtomic(keyPath, keyPem, privateMode);
  writeFileAtomic(certificatePath, `${issued.certificatePem.trim()}\n`, publicMode);
  return { certificatePem: `${issued.certificatePem.trim()}\n${abovePem}`, keyPem: new Secret(keyPem) };
}

function serves(
  certificatePem: string,
  keyPem: string,
  issuer: LiveIssuer,
  names: { readonly dns: readonly string[]; readonly ip: readonly string[] },
  nowMs: number,
): boolean {
  try {
    const leaf = new X509Certificate(certificatePem);
    if (leaf.ca || !signedBy(leaf, issuer) || !inTime(leaf, nowMs) || !leaf.checkPrivateKey(createPrivateKey(keyPem))) return false;
    const left = leaf.validToDate.getTime() - nowMs;
    if (left * 3 < leaf.validToDate.getTime() - leaf.validFromDate.getTime() && left < issuer.validity.notAfterMs - nowMs) return false;
    return names.dns.every((name) => leaf.checkHost(name) !== undefined) && names.ip.every((ip) => leaf.checkIP(ip) !== undefined);
  } catch {
    return false;
  }
}
