// Owns: writing certificates (RFC 5280 profiles of our root, of control plane servers, of workloads: SPIFFE X.509-SVID section 4). Each is a fixed
// profile, nothing is optional; who signs stands behind a seam (`signer.ts`). Never reads anything: keys and requests are judged before.
// Why not the X.509 library: it takes 95 ms to load and 10 to 30 ms for a certificate, in the way of every start (docs/decisions/0011).

import { createHash } from "node:crypto";
import { bits, der, integer, objectId, octets, sequence, set, smallInteger, yes } from "../../base/der.ts";
import type { CaSigner } from "./signer.ts";

/** AlgorithmIdentifier ecdsa-with-SHA256. */
export const ecdsaWithSha256 = sequence(objectId("1.2.840.10045.4.3.2"));
/** AlgorithmIdentifier of an EC key on P-256 (RFC 5480). */
export const p256 = sequence(objectId("1.2.840.10045.2.1"), objectId("1.2.840.10045.3.1.7"));
/** An uncompressed point on P-256, the last bytes of its SubjectPublicKeyInfo. */
export const pointBytes = 65;

export interface Validity {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** Who signs: the Name and key identifier of its certificate, and its key. */
export interface Signer {
  /** DER. */
  readonly name: Uint8Array;
  readonly keyIdentifier: Uint8Array;
  readonly key: CaSigner;
}

export interface CertificateBody {
  /** A positive number, most significant byte first. */
  readonly serial: Uint8Array;
  readonly subject: Uint8Array;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array;
  readonly validity: Validity;
  /** Besides the two key identifiers, DER. */
  readonly extensions: readonly Uint8Array[];
}

const extension = (id: string, critical: boolean, value: Uint8Array): Uint8Array =>
  sequence(objectId(id), ...(critical ? [yes()] : []), octets(value));

const serverAuth = objectId("1.3.6.1.5.5.7.3.1");
const clientAuth = objectId("1.3.6.1.5.5.7.3.2");
const notAnAuthority = extension("2.5.29.19", true, sequence());
// digitalSignature: the first bit, seven unused.
const signsHandshakes = extension("2.5.29.15", true, Uint8Array.of(0x03, 0x02, 0x07, 0x80));

/** Of a workload: not an authority, both sides of a handshake. Its name comes beside. */
export const workloadExtensions = [notAnAuthority, signsHandshakes, extension("2.5.29.37", false, sequence(serverAuth, clientAuth))];
/** Of a server of the control plane. */
export const serverExtensions = [notAnAuthority, signsHandshakes, extension("2.5.29.37", false, sequence(serverAuth))];
/** Of the root: may sign leaves only (path length 0), and revocation lists: keyCertSign and cRLSign, one bit unused. */
export const rootExtensions = [
  extension("2.5.29.19", true, sequence(yes(), smallInteger(0))),
  extension("2.5.29.15", true, Uint8Array.of(0x03, 0x02, 0x01, 0x06)),
];

/** subjectAltName beside a subject, so not critical. */
export function alternativeNames(names: {
  readonly dns?: readonly string[];
  readonly ip?: readonly Uint8Array[];
  readonly uri: string;
}): Uint8Array {
  const text = (tag: number, value: string): Uint8Array => der(tag, Buffer.from(value, "latin1"));
  const all = [
    ...(names.dns ?? []).map((name) => text(0x82, name)),
    ...(names.ip ?? []).map((address) => der(0x87, address)),
    text(0x86, names.uri),
  ];
  return extension("2.5.29.17", false, sequence(...all));
}

/** A Name of organisation and common name; either may be left out. */
export function distinguishedName(organisation: string | undefined, commonName: string | undefined): Uint8Array {
  const part = (id: string, value: string | undefined): Uint8Array[] =>
    value === undefined ? [] : [set(sequence(objectId(id), der(0x0c, Buffer.from(value, "utf8"))))];
  return sequence(...part("2.5.4.10", organisation), ...part("2.5.4.3", commonName));
}

/** RFC 5280 section 4.2.1.2 (1): SHA-1 over the key's bits; for other keys than P-256 over the whole SubjectPublicKeyInfo, which names it as well. */
export function keyIdentifierOf(publicKey: Uint8Array): Uint8Array {
  const onP256 = Buffer.from(publicKey.slice(2, 2 + p256.length)).equals(p256);
  return createHash("sha1")
    .update(onP256 ? publicKey.slice(-pointBytes) : publicKey)
    .digest();
}

/** A signed X.509 v3 certificate, DER. The root names no authority key: it is its own. */
export function writeCertificate(signer: Signer, body: CertificateBody): Uint8Array {
  const own = keyIdentifierOf(body.publicKey);
  const selfSigned = Buffer.from(own).equals(signer.keyIdentifier);
  const identifiers = [extension("2.5.29.14", false, octets(own))];
  if (!selfSigned) identifiers.push(extension("2.5.29.35", false, sequence(der(0x80, signer.keyIdentifier))));
  const signed = sequence(
    der(0xa0, smallInteger(2)),
    integer(body.serial),
    signer.key.algorithm,
    signer.name,
    sequence(time(body.validity.notBeforeMs), time(body.validity.notAfterMs)),
    body.subject,
    body.publicKey,
    der(0xa3, sequence(...body.extensions, ...identifiers)),
  );
  return sequence(signed, signer.key.algorithm, bits(signer.key.sign(signed)));
}

/** RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime after. */
export function time(ms: number): Uint8Array {
  const text = new Date(ms)
    .toISOString()
    .replace(/\.\d+Z$/, "Z")
    .replace(/[-:T]/g, "");
  return text < "2050" ? der(0x17, Buffer.from(text.slice(2), "latin1")) : der(0x18, Buffer.from(text, "latin1"));
}
