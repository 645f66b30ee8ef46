// Owns: the seam behind which a key of the authority signs. Whoever implements it may keep the key wherever it likes: this file has the one whose key is in
// this process; one on a token (PKCS#11) would call C_Sign here. Never shows a key.

import { constants, createPublicKey, type KeyObject, sign } from "node:crypto";
import { der, objectId, sequence } from "../../base/der.ts";

export interface CaSigner {
  /** SubjectPublicKeyInfo, DER: what must stand in the authority's certificate. */
  readonly publicKey: Uint8Array;
  /** AlgorithmIdentifier of its signatures, DER. */
  readonly algorithm: Uint8Array;
  /** Signs a whole certificate body or revocation list. Synchronous: a certificate is signed within one turn of the loop. Throws where the token fails. */
  sign(bytes: Uint8Array): Uint8Array;
}

const nothing = der(0x05);
/** Signature algorithms (RFC 5758 section 3.2, RFC 4055 section 5). */
const algorithms = {
  p256: { hash: "sha256", identifier: sequence(objectId("1.2.840.10045.4.3.2")) },
  p384: { hash: "sha384", identifier: sequence(objectId("1.2.840.10045.4.3.3")) },
  rsa: { hash: "sha256", identifier: sequence(objectId("1.2.840.113549.1.1.11"), nothing) },
} as const;

/** What a key lacks to sign for a mesh, as the end of a sentence; undefined: nothing. */
export function keyWeakness(key: KeyObject): string | undefined {
  const { namedCurve = "?", modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === "rsa") return modulusLength >= 2048 ? undefined : `an RSA key of ${modulusLength} bits; use 2048 or more`;
  if (key.asymmetricKeyType !== "ec") return `a key of type ${key.asymmetricKeyType ?? "unknown"}; use EC P-256, P-384 or RSA`;
  return algorithmOf(key) === undefined ? `an EC key on ${namedCurve}; use P-256 or P-384` : undefined;
}

function algorithmOf(key: KeyObject) {
  if (key.asymmetricKeyType === "rsa") return algorithms.rsa;
  const curve = key.asymmetricKeyDetails?.namedCurve;
  if (curve === "prime256v1" || curve === "P-256") return algorithms.p256;
  return curve === "secp384r1" || curve === "P-384" ? algorithms.p384 : undefined;
}

/** A signer whose key is here. Throws on a key that `keyWeakness` complains of. */
export function localSigner(key: KeyObject): CaSigner {
  const algorithm = algorithmOf(key);
  if (algorithm === undefined) throw new Error(`the authority has ${keyWeakness(key)}`);
  return {
    publicKey: new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" })),
    algorithm: algorithm.identifier,
    sign: (bytes) => sign(algorithm.hash, bytes, key.asymmetricKeyType === "rsa" ? { key, padding: constants.RSA_PKCS1_PADDING } : key),
  };
}
