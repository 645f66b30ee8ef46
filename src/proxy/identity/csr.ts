// Owns: the proxy's key pair and the request for a certificate over it (PKCS#10, RFC 2986, with a subjectAltName per RFC 5280 section 4.2.1.6).
// The private key leaves this file as PEM for the TLS stack only, and prints as nothing.

import { bits, integer, objectId, sequence } from "../../base/der.ts";
import { writePem } from "../../base/pem.ts";
import { certificateRequestInfo } from "../../wire/certificate-request.ts";

const ecdsaWithSha256 = objectId("1.2.840.10045.4.3.2");

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
  const exported = await Promise.all([subtle.exportKey("spki", pair.publicKey), subtle.exportKey("pkcs8", pair.privateKey)]);
  const [publicKey, privateKey] = exported.map((bytes) => new Uint8Array(bytes)) as [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>];
  const info = certificateRequestInfo(publicKey, uri);
  const signature = new Uint8Array(await subtle.sign({ name: "ECDSA", hash: "SHA-256" }, pair.privateKey, new Uint8Array(info)));
  const encoded = sequence(integer(signature.subarray(0, 32)), integer(signature.subarray(32)));
  const csrPem = writePem("CERTIFICATE REQUEST", sequence(info, sequence(ecdsaWithSha256), bits(encoded)));
  const pem = writePem("PRIVATE KEY", privateKey);
  return { privateKeyPem: () => pem, publicKey, csrPem };
}
