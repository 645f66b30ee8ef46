// Owns: recognising the one certificate request that our own sidecars send. It does not read the request: it builds what the request of this
// caller must be and compares the bytes; anything else is read, and judged, by request.ts with the X.509 library (docs/decisions/0011).

import { createPublicKey, verify } from "node:crypto";
import { bits, sequence } from "../../base/der.ts";
import { certificateRequestInfo } from "../../wire/certificate-request.ts";
import { ecdsaWithSha256, p256, pointBytes } from "./certificate.ts";

/** Of a SubjectPublicKeyInfo on P-256 with an uncompressed point. */
const publicKeyBytes = 91;

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

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.from(a).equals(b);
}
