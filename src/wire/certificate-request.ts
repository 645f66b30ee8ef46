// Owns: what a sidecar asks the authority to sign: a PKCS#10 request (RFC 2986) without subject, for one URI name (RFC 5280 section 4.2.1.6). Both
// processes build it: one to sign it, the other to see that what came is nothing else.

import { der, objectId, octets, sequence, set, smallInteger, yes } from "../base/der.ts";

const extensionRequest = objectId("1.2.840.113549.1.9.14");
const subjectAltName = objectId("2.5.29.17");

/** The extension that names the workload: critical, as the subject is empty. */
export function uriNameExtension(uri: string): Uint8Array {
  // uniformResourceIdentifier [6] IA5String
  const names = sequence(der(0x86, new TextEncoder().encode(uri)));
  return sequence(subjectAltName, yes(), octets(names));
}

/** CertificationRequestInfo: what the signature of the request is over. `publicKey` is a SubjectPublicKeyInfo in DER. */
export function certificateRequestInfo(publicKey: Uint8Array, uri: string): Uint8Array {
  const attributes = der(0xa0, sequence(extensionRequest, set(sequence(uriNameExtension(uri)))));
  return sequence(smallInteger(0), sequence(), publicKey, attributes);
}
