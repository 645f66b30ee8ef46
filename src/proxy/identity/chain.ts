// Owns: the check of certificates that the proxy is handed: does a chain lead to a root, whose name is it, is it in time. Never opens connections.

import { X509Certificate } from "node:crypto";

export interface CheckedChain {
  /** Leaf and intermediates, as a peer wants to see them. */
  readonly chainPem: string;
  readonly rootsPem: string;
  readonly uri: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly rootsNotAfterMs: number;
  readonly serial: string;
}

/** Splits PEM text into certificates. Throws what the parser throws. */
export function certificatesOf(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => new X509Certificate(block));
}

/** URI names of a certificate. */
export function uriNames(certificate: X509Certificate): readonly string[] {
  return (certificate.subjectAltName ?? "")
    .split(", ")
    .filter((name) => name.startsWith("URI:"))
    .map((name) => name.slice(4));
}

/**
 * Checks the answer to a certificate request (leaf first, roots last): the key is ours, the only URI name is the one asked for, each certificate is
 * signed by the next, the last is a root, and all are valid now. Answers what is wrong as a string.
 */
export function checkIssuedChain(certChain: readonly string[], publicKey: Uint8Array, uri: string, nowMs: number): CheckedChain | string {
  let groups: X509Certificate[][];
  try {
    groups = certChain.map(certificatesOf);
  } catch {
    return "the answer holds something that is not a certificate";
  }
  const roots = groups.at(-1) ?? [];
  const path = groups.slice(0, -1).flat();
  const leaf = path[0];
  if (groups.length < 2 || leaf === undefined || roots.length === 0) return "the answer must hold a certificate and, last, the root";
  if (!leaf.publicKey.export({ type: "spki", format: "der" }).equals(publicKey))
    return "the certificate is over another key than the one asked for";
  const names = uriNames(leaf);
  if (names.length !== 1 || names[0] !== uri) return `the certificate is for ${names.join(", ") || "no URI"} instead of ${uri}`;
  if (leaf.ca) return "the certificate is an authority's";
  for (const one of [...path, ...roots]) {
    const wrong = outOfTime(one, nowMs);
    if (wrong !== "") return wrong;
  }
  for (let n = 0; n + 1 < path.length; n++) {
    if (!signedBy(path[n] as X509Certificate, path[n + 1] as X509Certificate))
      return "the chain is broken: a certificate is not signed by the next";
  }
  const last = path.at(-1) as X509Certificate;
  if (!roots.some((root) => signedBy(last, root) && signedBy(root, root))) return "the chain does not lead to the root it came with";
  return {
    chainPem: path.map((one) => one.toString()).join(""),
    rootsPem: roots.map((one) => one.toString()).join(""),
    uri,
    notBeforeMs: Date.parse(leaf.validFrom),
    notAfterMs: Math.min(...path.map((one) => Date.parse(one.validTo))),
    rootsNotAfterMs: Math.min(...roots.map((one) => Date.parse(one.validTo))),
    serial: leaf.serialNumber,
  };
}

function outOfTime(certificate: X509Certificate, nowMs: number): string {
  // A minute of grace: clocks of one mesh are rarely better than that.
  if (nowMs + 60_000 < Date.parse(certificate.validFrom))
    return `a certificate is valid only from ${certificate.validFrom}; is the clock of this host right?`;
  if (nowMs > Date.parse(certificate.validTo)) return `a certificate expired on ${certificate.validTo}; is the clock of this host right?`;
  return "";
}

function signedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}
