// Owns: the proxy's key pair and the request for a certificate over it (PKCS#10, RFC 2986, with a subjectAltName per RFC 5280 section 4.2.1.6).
// The private key leaves this file as PEM for the TLS stack only, and prints as nothing.

import { bits, der, integer, objectId, octets, sequence, set, smallInteger, yes } from "./der.ts";
import { writePem } from "./pem.ts";

const ecdsaWithSha256 = objectId("1.2.840.10045.4.3.2");
const extensionRequest = objectId("1.2.840.113549.1.9.14");
const subjectAltName = objectId("2.5.29.17");

/** A key that has just been made and the request over it. */
export interface KeyAndRequest {
  /** The key in PEM; a function, so that printing shows nothing of it. */
  readonly privateKeyPem: () => string;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array;
  readonly csrPem: string;
}

/** Makes an ECDSA P-256 key and a request for one URI name. */
export async function createKeyAndRequest(uri: string): Promise<KeyAndRequest> {
  const { subtle } = crypto;
  const pair = await subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const publicKey = new Uint8Array(await subtle.exportKey("spki", pair.publicKey));
  const privateKey = new Uint8Array(await subtle.exportKey("pkcs8", pair.privateKey));
  // uniformResourceIdentifier [6] IA5String
  const names = sequence(der(0x86, new TextEncoder().encode(uri)));
  // The subject is empty, so the name is critical (RFC 5280 section 4.2.1.6).
  const extensions = sequence(sequence(subjectAltName, yes(), octets(names)));
  const attributes = der(0xa0, sequence(extensionRequest, set(extensions)));
  const info = sequence(smallInteger(0), sequence(), publicKey, attributes);
  const signature = new Uint8Array(await subtle.sign({ name: "ECDSA", hash: "SHA-256" }, pair.privateKey, new Uint8Array(info)));
  const encoded = sequence(integer(signature.subarray(0, 32)), integer(signature.subarray(32)));
  const csrPem = writePem("CERTIFICATE REQUEST", sequence(info, sequence(ecdsaWithSha256), bits(encoded)));
  const pem = writePem("PRIVATE KEY", privateKey);
  return { privateKeyPem: () => pem, publicKey, csrPem };
}
