// Owns: the quick way to a workload's certificate, for the one request that our own sidecars send. It does not read the request: it builds what
// the request of this caller must be and compares the bytes; anything else goes the long way through the X.509 library in pki.ts, which also
// refuses. The library takes 10 to 30 ms for what this does in one, all of it in the way of a sidecar's start.

import { createHash, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { bits, der, integer, objectId, octets, sequence, smallInteger, yes } from "../../base/der.ts";
import { certificateRequestInfo, uriNameExtension } from "../../wire/certificate-request.ts";

/** What stays the same for all certificates of one issuer. */
export interface IssuerFacts {
  /** The issuer's Name, DER. */
  readonly name: Uint8Array;
  /** The whole authorityKeyIdentifier extension, DER. */
  readonly keyIdentifier: Uint8Array;
  readonly privateKey: KeyObject;
}

const ecdsaWithSha256 = sequence(objectId("1.2.840.10045.4.3.2"));
/** AlgorithmIdentifier of an EC key on P-256 (RFC 5480), and with it the one SubjectPublicKeyInfo that is taken: an uncompressed point. */
const p256 = sequence(objectId("1.2.840.10045.2.1"), objectId("1.2.840.10045.3.1.7"));
const pointBytes = 65;
const publicKeyBytes = 91;

const extension = (id: string, critical: boolean, value: Uint8Array): Uint8Array =>
  sequence(objectId(id), ...(critical ? [yes()] : []), octets(value));

/** RFC 5280 section 4.2: not an authority; signs handshakes; for both sides of a connection. */
const fixedExtensions: readonly Uint8Array[] = [
  extension("2.5.29.19", true, sequence()),
  // keyUsage digitalSignature: the first bit, seven unused.
  extension("2.5.29.15", true, Uint8Array.of(0x03, 0x02, 0x07, 0x80)),
  extension("2.5.29.37", false, sequence(objectId("1.3.6.1.5.5.7.3.1"), objectId("1.3.6.1.5.5.7.3.2"))),
];

/** The public key (SubjectPublicKeyInfo) of a request that is, byte for byte, the one our sidecars send for `uri` and is signed by its key. */
export function plainRequestKey(csrPem: string, uri: string): Uint8Array | undefined {
  const body = /^-----BEGIN CERTIFICATE REQUEST-----\n([A-Za-z0-9+/=\n]+)-----END CERTIFICATE REQUEST-----\n$/.exec(csrPem)?.[1];
  if (body === undefined || body.length > 4096) return undefined;
  const request = new Uint8Array(Buffer.from(body, "base64"));
  const at = Buffer.from(request).indexOf(p256);
  // SubjectPublicKeyInfo begins two bytes before its algorithm: tag and length.
  const publicKey = request.slice(at - 2, at - 2 + publicKeyBytes);
  if (at < 2 || publicKey.length !== publicKeyBytes) return undefined;
  if (!same(publicKey, sequence(p256, bits(publicKey.slice(-pointBytes))))) return undefined;
  const info = certificateRequestInfo(publicKey, uri);
  const signature = signatureAfter(request, info);
  if (signature === undefined) return undefined;
  try {
    const key = createPublicKey({ key: Buffer.from(publicKey), format: "der", type: "spki" });
    return verify("sha256", info, key, signature) ? publicKey : undefined;
  } catch {
    return undefined; // not a point of the curve; the long way says so in words
  }
}

/** The signature of `SEQUENCE { info, ecdsa-with-SHA256, BIT STRING }`, if the request is that. */
function signatureAfter(request: Uint8Array, info: Uint8Array): Uint8Array | undefined {
  // An ECDSA signature on P-256 in DER is 8 to 72 bytes long; which of these it is, the whole tells.
  for (let length = 8; length <= 72; length++) {
    const signature = request.slice(-length);
    if (signature[0] === 0x30 && same(request, sequence(info, ecdsaWithSha256, bits(signature)))) return signature;
  }
  return undefined;
}

export interface Validity {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** A signed X.509 v3 certificate for one URI name, DER. `serial` is a positive number, most significant byte first. */
export function signWorkloadCertificate(
  issuer: IssuerFacts,
  publicKey: Uint8Array,
  uri: string,
  serial: Uint8Array,
  validity: Validity,
): Uint8Array {
  const keyIdentifier = createHash("sha1").update(publicKey.slice(-pointBytes)).digest();
  const body = sequence(
    der(0xa0, smallInteger(2)),
    integer(serial),
    ecdsaWithSha256,
    issuer.name,
    sequence(time(validity.notBeforeMs), time(validity.notAfterMs)),
    sequence(),
    publicKey,
    der(
      0xa3,
      sequence(...fixedExtensions, uriNameExtension(uri), extension("2.5.29.14", false, octets(keyIdentifier)), issuer.keyIdentifier),
    ),
  );
  return sequence(body, ecdsaWithSha256, bits(sign("sha256", body, issuer.privateKey)));
}

/** RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime after. */
function time(ms: number): Uint8Array {
  const text = new Date(ms)
    .toISOString()
    .replace(/\.\d+Z$/, "Z")
    .replace(/[-:T]/g, "");
  return text < "2050" ? der(0x17, Buffer.from(text.slice(2), "latin1")) : der(0x18, Buffer.from(text, "latin1"));
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.from(a).equals(b);
}
