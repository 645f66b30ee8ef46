// Owns: the roots of the mesh as a SPIFFE bundle document (SPIFFE_Trust_Domain_and_Bundle.md 4, SPIFFE_Federation.md): a JWK set that another trust domain,
// or a SPIFFE library, fetches to believe our certificates. Pure: certificates in, text out.

import { createHash, X509Certificate } from "node:crypto";

/** How long who fetches it may wait before looking again, seconds. Roots change rarely, and overlap when they do. */
export const refreshHintSeconds = 300;

/**
 * `{"spiffe_sequence", "spiffe_refresh_hint", "keys": [{"use": "x509-svid", kty, crv, x, y, x5c}]}`. The sequence is that of the newest root's time in
 * seconds, so that it grows when a root is added and is the same at every control plane.
 */
export function bundleDocument(rootsPem: string): string {
  const roots = rootsPem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  const certificates = roots.map((pem) => new X509Certificate(pem));
  const keys = certificates.map((certificate) => ({
    use: "x509-svid",
    kid: createHash("sha256").update(certificate.raw).digest("base64url").slice(0, 16),
    ...certificate.publicKey.export({ format: "jwk" }),
    x5c: [certificate.raw.toString("base64")],
  }));
  const newest = Math.max(0, ...certificates.map((certificate) => certificate.validFromDate.getTime()));
  return `${JSON.stringify({ spiffe_sequence: Math.floor(newest / 1000), spiffe_refresh_hint: refreshHintSeconds, keys }, null, 2)}\n`;
}
