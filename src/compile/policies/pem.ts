// Owns: whether PEM that somebody has put into an object can be used, found before a proxy would refuse it: one bad Secret must not cost a whole port or
// cluster. Never says what a private key holds.

import { createPrivateKey, X509Certificate } from "node:crypto";

/** What is wrong with authorities; undefined = every certificate in them can be read. `what`: which entry of which object. */
export function authoritiesProblem(pem: string, what: string): string | undefined {
  const blocks = certificateBlocks(pem);
  if (blocks.length === 0) return `${what} holds no certificate in PEM`;
  for (const [at, block] of blocks.entries()) if (read(block) === undefined) return `certificate ${at + 1} in ${what} cannot be read`;
  return undefined;
}

/** The DNS names of a chain's first certificate, in lower case; a string is what is wrong with the chain or its key. `entries`: what they are called. */
export function namesOfPair(
  chain: string,
  privateKey: string,
  [chainEntry, keyEntry]: readonly [chain: string, key: string] = ["tls.crt", "tls.key"],
): readonly string[] | string {
  const blocks = certificateBlocks(chain);
  const certificates = blocks.map(read);
  const [first] = certificates;
  if (first === undefined || certificates.includes(undefined)) return `${chainEntry} holds no certificate that can be read`;
  try {
    if (!first.checkPrivateKey(createPrivateKey(privateKey))) return `${keyEntry} is not the key of ${chainEntry}`;
  } catch {
    return `${keyEntry} holds no private key that can be read`;
  }
  return (first.subjectAltName ?? "").split(", ").flatMap((name) => (name.startsWith("DNS:") ? [name.slice(4).toLowerCase()] : []));
}

function certificateBlocks(pem: string): readonly string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
}

function read(block: string): X509Certificate | undefined {
  try {
    return new X509Certificate(block);
  } catch {
    return undefined;
  }
}
