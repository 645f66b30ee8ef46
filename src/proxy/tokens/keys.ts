// Owns: the keys of an issuer, ready to check signatures with, synchronously. Never makes a signature, and has no algorithm without a public key.

import { constants, createPublicKey, type KeyObject, verify } from "node:crypto";
import { type PublicKeyJson, readKeySet, tokenAlgorithms } from "../../wire/key-set.ts";
import { faults, type Token, type TokenFault } from "./token.ts";

interface Key {
  readonly json: PublicKeyJson;
  readonly key: KeyObject;
}

/** null: the signature is one of theirs. */
export type CheckSignature = (token: Token) => TokenFault | null;

/** Configuration time. A string: why nothing can be checked with this set. Keys of it that are none are passed over, as Envoy does. */
export function compileKeys(text: string): CheckSignature | string {
  const set = readKeySet(text);
  if (typeof set === "string") return set;
  const keys: Key[] = [];
  for (const json of set.keys) {
    try {
      keys.push({ json, key: createPublicKey({ key: { ...json }, format: "jwk" }) });
    } catch {
      // Numbers that are no key of their kind.
    }
  }
  if (keys.length === 0) return "has no key that tokens can be checked with";
  return (token) => {
    let fitting = false;
    for (const { json, key } of keys) {
      // A key or a token without a name fits any.
      if (json.kid !== undefined && token.keyId !== "" && json.kid !== token.keyId) continue;
      if (json.alg !== undefined && json.alg !== token.algorithm) continue;
      const wanted = tokenAlgorithms[token.algorithm];
      if (wanted === undefined || wanted.kty !== json.kty || (wanted.crv !== undefined && wanted.crv !== json.crv)) continue;
      fitting = true;
      if (isBy(token, key)) return null;
    }
    return fitting ? faults.signature : faults.key;
  };
}

function isBy({ algorithm, signed, signature }: Token, key: KeyObject): boolean {
  const data = Buffer.from(signed, "latin1");
  const digest = `sha${algorithm.slice(2)}`;
  try {
    switch (algorithm.slice(0, 2)) {
      case "RS":
        return verify(digest, data, { key, padding: constants.RSA_PKCS1_PADDING }, signature);
      case "PS":
        // RFC 7518 3.5: the salt is as long as the digest.
        return verify(
          digest,
          data,
          { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST },
          signature,
        );
      case "ES":
        return verify(digest, data, { key, dsaEncoding: "ieee-p1363" }, signature);
      default:
        return algorithm === "EdDSA" && verify(null, data, key, signature);
    }
  } catch {
    return false;
  }
}
