// Owns: reading certificates (RFC 5280), as much as checking an identity takes: names, validity, key, and who signed it. Why not node:crypto's: importing
// it costs a sidecar 1.5 MB of private memory and 6 ms of its start. Signatures are checked by WebCrypto. The TLS stack, not this, judges peers' chains.

import { readPem } from "../../base/pem.ts";

export interface Certificate {
  /** The whole of it. */
  readonly der: Uint8Array;
  /** Upper-case hexadecimal. */
  readonly serial: string;
  /** Names as DER; equal bytes are equal names here (authorities copy them). */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** SubjectPublicKeyInfo. */
  readonly publicKey: Uint8Array;
  /** basicConstraints say CA. */
  readonly ca: boolean;
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
  readonly signatureAlgorithm: string;
}

/** Bytes that are not a certificate. */
export class CertificateError extends Error {
  override readonly name = "CertificateError";
}

interface Element {
  readonly tag: number;
  /** Of the content. */
  readonly from: number;
  readonly end: number;
  /** Where the element itself begins. */
  readonly start: number;
}

/** One element at `at` that must end by `limit` (X.690; definite lengths below 16 MiB). */
function element(der: Uint8Array, at: number, limit: number): Element {
  const tag = der[at];
  let length = der[at + 1];
  if (tag === undefined || length === undefined || at + 2 > limit) throw new CertificateError("truncated");
  let from = at + 2;
  if (length >= 0x80) {
    const count = length & 0x7f;
    if (count < 1 || count > 3 || from + count > limit) throw new CertificateError("a bad length");
    length = 0;
    for (let n = 0; n < count; n++) length = length * 256 + (der[from + n] as number);
    from += count;
  }
  if (from + length > limit) throw new CertificateError("a length beyond the end");
  return { tag, from, end: from + length, start: at };
}

/** The elements inside another. */
function children(der: Uint8Array, of: Element): Element[] {
  const found: Element[] = [];
  for (let at = of.from; at < of.end; ) {
    const one = element(der, at, of.end);
    found.push(one);
    at = one.end;
  }
  return found;
}

function need(one: Element | undefined, tag: number, what: string): Element {
  if (one === undefined || one.tag !== tag) throw new CertificateError(`no ${what}`);
  return one;
}

/** Every certificate in PEM text. Throws CertificateError. */
export function certificatesOf(pemText: string): Certificate[] {
  return readPem(pemText, "CERTIFICATE").map(parseCertificate);
}

/** Throws CertificateError. */
export function parseCertificate(der: Uint8Array): Certificate {
  const whole = need(element(der, 0, der.length), 0x30, "certificate");
  const [tbs, algorithm, signature] = children(der, whole);
  const tbsElement = need(tbs, 0x30, "body");
  const parts = children(der, tbsElement);
  // version [0] is optional; without it the extensions are too.
  if (parts[0]?.tag === 0xa0) parts.shift();
  const [serial, , issuer, validity, subject, publicKey] = parts;
  const [from, until] = children(der, need(validity, 0x30, "validity"));
  const signatureBits = need(signature, 0x03, "signature");
  const extensions = readExtensions(der, parts.slice(6));
  const slice = (one: Element | undefined, tag: number, what: string): Uint8Array => {
    const found = need(one, tag, what);
    return der.slice(found.start, found.end);
  };
  const serialElement = need(serial, 0x02, "serial number");
  return {
    der,
    serial: Buffer.from(der.subarray(serialElement.from, serialElement.end))
      .toString("hex")
      .toUpperCase()
      .replace(/^00(?=..)/, ""),
    issuer: slice(issuer, 0x30, "issuer"),
    subject: slice(subject, 0x30, "subject"),
    notBeforeMs: readTime(der, from),
    notAfterMs: readTime(der, until),
    publicKey: slice(publicKey, 0x30, "public key"),
    ...extensions,
    signed: der.slice(tbsElement.start, tbsElement.end),
    // The first byte counts unused bits, of which signatures have none.
    signature: der.slice(signatureBits.from + 1, signatureBits.end),
    signatureAlgorithm: objectIdText(der, children(der, need(algorithm, 0x30, "signature algorithm"))[0]),
  };
}

function readExtensions(der: Uint8Array, rest: readonly Element[]): { ca: boolean; uris: readonly string[]; dnsNames: readonly string[] } {
  let ca = false;
  const uris: string[] = [];
  const dnsNames: string[] = [];
  const wrapper = rest.find((one) => one.tag === 0xa3);
  if (wrapper === undefined) return { ca, uris, dnsNames };
  const list = need(children(der, wrapper)[0], 0x30, "extensions");
  for (const extension of children(der, list)) {
    const parts = children(der, extension);
    const value = need(parts.at(-1), 0x04, "extension value");
    const id = objectIdText(der, parts[0]);
    if (id === "2.5.29.19") {
      const flag = children(der, need(element(der, value.from, value.end), 0x30, "basic constraints"))[0];
      ca = flag?.tag === 0x01 && der[flag.from] !== 0;
    } else if (id === "2.5.29.17") {
      for (const name of children(der, need(element(der, value.from, value.end), 0x30, "alternative names"))) {
        const text = (): string => Buffer.from(der.subarray(name.from, name.end)).toString("latin1");
        if (name.tag === 0x86) uris.push(text());
        else if (name.tag === 0x82) dnsNames.push(text());
      }
    }
  }
  return { ca, uris, dnsNames };
}

/** UTCTime or GeneralizedTime in the forms that RFC 5280 section 4.1.2.5 allows. */
function readTime(der: Uint8Array, one: Element | undefined): number {
  if (one === undefined) throw new CertificateError("no validity");
  const text = Buffer.from(der.subarray(one.from, one.end)).toString("latin1");
  const short = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  const long = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  const match = one.tag === 0x17 ? short : one.tag === 0x18 ? long : null;
  if (match === null) throw new CertificateError("a bad time");
  const [year, month, day, hour, minute, second] = match.slice(1).map(Number) as [number, number, number, number, number, number];
  const full = one.tag === 0x18 ? year : year >= 50 ? 1900 + year : 2000 + year;
  return Date.UTC(full, month - 1, day, hour, minute, second);
}

function objectIdText(der: Uint8Array, one: Element | undefined): string {
  const found = need(one, 0x06, "object identifier");
  const arcs: number[] = [];
  let arc = 0;
  for (let n = found.from; n < found.end; n++) {
    const byte = der[n] as number;
    arc = arc * 128 + (byte & 0x7f);
    if (byte >= 0x80) continue;
    if (arcs.length > 0) arcs.push(arc);
    else arcs.push(Math.min(2, Math.floor(arc / 40)), arc - 40 * Math.min(2, Math.floor(arc / 40)));
    arc = 0;
  }
  return arcs.join(".");
}

type Verifier = { readonly name: "ECDSA"; readonly hash: string } | { readonly name: "RSASSA-PKCS1-v1_5"; readonly hash: string };

const verifiers: Readonly<Record<string, Verifier>> = {
  "1.2.840.10045.4.3.2": { name: "ECDSA", hash: "SHA-256" },
  "1.2.840.10045.4.3.3": { name: "ECDSA", hash: "SHA-384" },
  "1.2.840.10045.4.3.4": { name: "ECDSA", hash: "SHA-512" },
  "1.2.840.113549.1.1.11": { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  "1.2.840.113549.1.1.12": { name: "RSASSA-PKCS1-v1_5", hash: "SHA-384" },
  "1.2.840.113549.1.1.13": { name: "RSASSA-PKCS1-v1_5", hash: "SHA-512" },
};

/** Curves by the identifier in a SubjectPublicKeyInfo, with the size of a coordinate. */
const curves: Readonly<Record<string, { readonly name: string; readonly bytes: number }>> = {
  "1.2.840.10045.3.1.7": { name: "P-256", bytes: 32 },
  "1.3.132.0.34": { name: "P-384", bytes: 48 },
  "1.3.132.0.35": { name: "P-521", bytes: 66 },
};

/** Whether `issuer` is an authority that signed `certificate`. False for algorithms we do not know. */
export async function signedBy(certificate: Certificate, issuer: Certificate): Promise<boolean> {
  if (!issuer.ca || !Buffer.from(certificate.issuer).equals(issuer.subject)) return false;
  const verifier = verifiers[certificate.signatureAlgorithm];
  if (verifier === undefined) return false;
  try {
    if (verifier.name === "ECDSA") {
      const curve = curveOf(issuer.publicKey);
      if (curve === undefined) return false;
      const key = await crypto.subtle.importKey("spki", bytes(issuer.publicKey), { name: "ECDSA", namedCurve: curve.name }, false, [
        "verify",
      ]);
      return await crypto.subtle.verify(
        verifier,
        key,
        bytes(plainSignature(certificate.signature, curve.bytes)),
        bytes(certificate.signed),
      );
    }
    const key = await crypto.subtle.importKey("spki", bytes(issuer.publicKey), verifier, false, ["verify"]);
    return await crypto.subtle.verify(verifier, key, bytes(certificate.signature), bytes(certificate.signed));
  } catch {
    return false;
  }
}

/** WebCrypto's types want a buffer of their own. */
function bytes(view: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(view);
}

function curveOf(publicKey: Uint8Array): { readonly name: string; readonly bytes: number } | undefined {
  const algorithm = children(publicKey, element(publicKey, 0, publicKey.length))[0];
  const parameter = algorithm === undefined ? undefined : children(publicKey, algorithm)[1];
  return parameter?.tag === 0x06 ? curves[objectIdText(publicKey, parameter)] : undefined;
}

/** ECDSA-Sig-Value (RFC 3279 section 2.2.3) to the two plain numbers that WebCrypto takes. */
function plainSignature(der: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(2 * size);
  children(der, element(der, 0, der.length)).forEach((one, n) => {
    let from = one.from;
    while (from < one.end && der[from] === 0) from++;
    if (n > 1 || one.end - from > size) throw new CertificateError("a bad signature");
    out.set(der.subarray(from, one.end), (n + 1) * size - (one.end - from));
  });
  return out;
}
