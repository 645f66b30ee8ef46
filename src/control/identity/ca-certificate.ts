// Owns: what can be read out of an authority's certificate and node:crypto does not tell: its subject as bytes, its key identifier, how far a chain below it may
// go, what it may sign, for which names. Never judges.

import { X509Certificate } from "node:crypto";
import { objectId } from "../../base/der.ts";
import { type DerElement, DerError, derBytes, derChildren, derElement } from "../../base/der-read.ts";
import { readPem, writePem } from "../../base/pem.ts";
import { keyIdentifierOf } from "./certificate.ts";

export interface CaCertificate {
  readonly pem: string;
  readonly x509: X509Certificate;
  /** Name, DER: what certificates below it must name as their issuer, to the byte. */
  readonly subject: Uint8Array;
  /** Of its key: as the certificate says, else as RFC 5280 4.2.1.2 (1) has it. */
  readonly keyIdentifier: Uint8Array;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array;
  readonly selfSigned: boolean;
  /** basicConstraints: CA. node:crypto's word for it heeds keyUsage too, and could not say what is wrong. */
  readonly isAuthority: boolean;
  /** basicConstraints: how many authorities may follow below; undefined: any number. */
  readonly pathLength: number | undefined;
  /** keyUsage, where there is one. */
  readonly signsCertificates: boolean;
  readonly signsLists: boolean;
  /** spiffe://TRUSTDOMAIN, without a path, among its names. */
  readonly trustDomains: readonly string[];
  /** nameConstraints on URIs (RFC 5280 4.2.1.10). */
  readonly permittedUris: readonly string[];
  readonly excludedUris: readonly string[];
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** First bytes of SHA-256 of the whole, for people: `3F:AC:01:9B`. */
  readonly fingerprint: string;
}

const id = (dotted: string): string => Buffer.from(objectId(dotted)).toString("hex");
const known = {
  keyIdentifier: id("2.5.29.14"),
  keyUsage: id("2.5.29.15"),
  alternativeNames: id("2.5.29.17"),
  basicConstraints: id("2.5.29.19"),
  nameConstraints: id("2.5.29.30"),
};

/** Every certificate in PEM text, in its order. Throws where one cannot be read. */
export function readCaCertificates(pemText: string): CaCertificate[] {
  return readPem(pemText, "CERTIFICATE").map(readCaCertificate);
}

function readCaCertificate(bytes: Uint8Array): CaCertificate {
  const x509 = new X509Certificate(bytes);
  const whole = derElement(bytes);
  const body = derChildren(bytes, whole)[0];
  if (body === undefined) throw new DerError("no certificate");
  const parts = derChildren(bytes, body);
  if (parts[0]?.tag === 0xa0) parts.shift();
  // serial, algorithm, issuer, validity, subject, key
  const [, , , , subject, key] = parts;
  if (subject === undefined || key === undefined) throw new DerError("no subject or key");
  const publicKey = derBytes(bytes, key);
  const extensions = readExtensions(bytes, parts);
  return {
    pem: writePem("CERTIFICATE", bytes),
    x509,
    subject: derBytes(bytes, subject),
    publicKey,
    selfSigned: x509.checkIssued(x509) && x509.verify(x509.publicKey),
    notBeforeMs: x509.validFromDate.getTime(),
    notAfterMs: x509.validToDate.getTime(),
    fingerprint: x509.fingerprint256.slice(0, 23),
    ...extensions,
    keyIdentifier: extensions.keyIdentifier ?? keyIdentifierOf(publicKey),
  };
}

function readExtensions(bytes: Uint8Array, parts: readonly DerElement[]) {
  let keyIdentifier: Uint8Array | undefined;
  let pathLength: number | undefined;
  let isAuthority = false;
  let usage = 0xff;
  const trustDomains: string[] = [];
  const permittedUris: string[] = [];
  const excludedUris: string[] = [];
  const wrapper = parts.find((one) => one.tag === 0xa3);
  const list = wrapper === undefined ? undefined : derChildren(bytes, wrapper)[0];
  for (const extension of list === undefined ? [] : derChildren(bytes, list)) {
    const pieces = derChildren(bytes, extension);
    const value = pieces.at(-1);
    if (pieces[0] === undefined || value === undefined) continue;
    const inner = derElement(bytes, value.from, value.end);
    switch (Buffer.from(derBytes(bytes, pieces[0])).toString("hex")) {
      case known.keyIdentifier:
        keyIdentifier = bytes.slice(inner.from, inner.end);
        break;
      case known.keyUsage:
        usage = bytes[inner.from + 1] ?? 0;
        break;
      case known.basicConstraints: {
        const [flag] = derChildren(bytes, inner);
        isAuthority = flag?.tag === 0x01 && bytes[flag.from] !== 0;
        const limit = derChildren(bytes, inner).find((one) => one.tag === 0x02);
        if (limit !== undefined) pathLength = bytes.slice(limit.from, limit.end).reduce((sum, byte) => sum * 256 + byte, 0);
        break;
      }
      case known.alternativeNames:
        for (const uri of texts(bytes, derChildren(bytes, inner))) {
          const domain = /^spiffe:\/\/([a-z0-9._-]+)$/.exec(uri)?.[1];
          if (domain !== undefined) trustDomains.push(domain);
        }
        break;
      case known.nameConstraints:
        for (const subtrees of derChildren(bytes, inner)) {
          const bases = derChildren(bytes, subtrees).flatMap((subtree) => derChildren(bytes, subtree).slice(0, 1));
          (subtrees.tag === 0xa0 ? permittedUris : excludedUris).push(...texts(bytes, bases));
        }
        break;
    }
  }
  const signsCertificates = (usage & 0x04) !== 0;
  return {
    keyIdentifier,
    isAuthority,
    pathLength,
    signsCertificates,
    signsLists: (usage & 0x02) !== 0,
    trustDomains,
    permittedUris,
    excludedUris,
  };
}

/** The URIs among general names. */
function texts(bytes: Uint8Array, names: readonly DerElement[]): string[] {
  return names.filter((name) => name.tag === 0x86).map((name) => Buffer.from(bytes.slice(name.from, name.end)).toString("latin1"));
}
