// Owns: making certificates (RFC 5280 profiles of our root, of control plane servers, of workloads: SPIFFE X.509-SVID section 4).
// Pure but for the randomness it is given; reads and writes no file. Loaded only when something must be signed: the X.509 library costs
// about 100 ms, which a warm start does not have.

// Must come before the X.509 library, whose dependency container asks for it at import.
import "reflect-metadata";
import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { formatIdentity, type Identity } from "../../wire/spiffe.ts";
import { CsrRefused } from "./failure.ts";
import { type IssuerFacts, plainRequestKey, signWorkloadCertificate } from "./workload-certificate.ts";

export interface IssuedCertificate {
  readonly certificatePem: string;
  readonly serialNumber: string;
  readonly notAfterMs: number;
}

export interface Issuer {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** `count` random bytes. */
export type RandomBytes = (count: number) => Uint8Array;

const signing = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

/** Clocks differ: a certificate is good from a minute before it was made. */
const backdateMs = 60_000;
/** Ten years. */
const rootLifeMs = 10 * 365 * 86_400_000;

/** RFC 5280 4.1.2.2: positive, at most 20 octets. 16 random bytes with the top bit clear and never zero. */
function serialNumber(random: RandomBytes): string {
  const bytes = random(16);
  bytes[0] = ((bytes[0] as number) & 0x7f) | 0x40;
  return Buffer.from(bytes).toString("hex");
}

/** A fresh P-256 private key as PKCS#8 PEM. */
export async function generateKeyPem(): Promise<string> {
  const pair = await crypto.subtle.generateKey(signing, true, ["sign", "verify"]);
  const der = await crypto.subtle.exportKey("pkcs8", pair.privateKey);
  return x509.PemConverter.encode(der, "PRIVATE KEY");
}

async function importKeyPair(keyPem: string): Promise<CryptoKeyPair> {
  const key = createPrivateKey(keyPem);
  const pkcs8 = new Uint8Array(key.export({ format: "der", type: "pkcs8" }));
  const spki = new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }));
  return {
    privateKey: await crypto.subtle.importKey("pkcs8", pkcs8, signing, true, ["sign"]),
    publicKey: await crypto.subtle.importKey("spki", spki, signing, true, ["verify"]),
  };
}

/** The mesh's root: self-signed, may sign leaves only (path length 0), named after its trust domain. */
export async function makeRoot(keyPem: string, trustDomain: string, nowMs: number, random: RandomBytes): Promise<string> {
  const keys = await importKeyPair(keyPem);
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(random),
    name: new x509.Name([{ O: [trustDomain] }, { CN: ["Weft mesh root"] }]).toString(),
    notBefore: new Date(nowMs - backdateMs),
    notAfter: new Date(nowMs + rootLifeMs),
    signingAlgorithm: signing,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      new x509.SubjectAlternativeNameExtension([{ type: "url", value: `spiffe://${trustDomain}` }]),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return `${root.toString("pem").trim()}\n`;
}

export interface ServerNames {
  readonly dns: readonly string[];
  readonly ip: readonly string[];
  readonly identity: Identity;
}

/** A certificate for the control plane's own servers, for a key made here. */
export async function issueServer(
  issuer: Issuer,
  keyPem: string,
  names: ServerNames,
  nowMs: number,
  lifeMs: number,
  random: RandomBytes,
): Promise<IssuedCertificate> {
  const { publicKey } = await importKeyPair(keyPem);
  const alternatives: x509.JsonGeneralName[] = [
    ...names.dns.map((value) => ({ type: "dns" as const, value })),
    ...names.ip.map((value) => ({ type: "ip" as const, value })),
    { type: "url", value: formatIdentity(names.identity) },
  ];
  return issue(issuer, publicKey, "CN=weft", alternatives, [x509.ExtendedKeyUsage.serverAuth], nowMs, lifeMs, random);
}

/** A workload's certificate for the key in its request. Checks the request first: see `checkRequest`. */
export async function issueWorkload(
  issuer: Issuer,
  csrPem: string,
  caller: Identity,
  nowMs: number,
  lifeMs: number,
  random: RandomBytes,
): Promise<IssuedCertificate> {
  const plainKey = plainRequestKey(csrPem, formatIdentity(caller));
  if (plainKey !== undefined) {
    const root = await openIssuer(issuer);
    const serial = serialNumber(random);
    const notAfterMs = Math.min(nowMs + lifeMs, root.notAfterMs);
    const validity = { notBeforeMs: Math.max(nowMs - backdateMs, root.notBeforeMs), notAfterMs };
    const der = signWorkloadCertificate(root.facts, plainKey, formatIdentity(caller), Buffer.from(serial, "hex"), validity);
    return { certificatePem: x509.PemConverter.encode(der, "CERTIFICATE"), serialNumber: serial, notAfterMs };
  }
  const request = await checkRequest(csrPem, caller);
  const usages = [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth];
  const alternatives: x509.JsonGeneralName[] = [{ type: "url", value: formatIdentity(caller) }];
  return issue(issuer, request.publicKey, "", alternatives, usages, nowMs, lifeMs, random);
}

/** What of an issuer is the same for every certificate: parsing root and key again took half of the time that a certificate costs. */
interface OpenIssuer {
  readonly name: x509.Name;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly privateKey: CryptoKey;
  readonly keyIdentifier: x509.AuthorityKeyIdentifierExtension;
  readonly facts: IssuerFacts;
}

const openIssuers = new WeakMap<Issuer, Promise<OpenIssuer>>();

/** Reads root and key, once per issuer. Worth calling early: whoever asks for the first certificate then does not wait for it. */
export function openIssuer(issuer: Issuer): Promise<OpenIssuer> {
  let open = openIssuers.get(issuer);
  if (open === undefined) {
    open = readIssuer(issuer);
    openIssuers.set(issuer, open);
  }
  return open;
}

async function readIssuer(issuer: Issuer): Promise<OpenIssuer> {
  const root = new x509.X509Certificate(issuer.certificatePem);
  const keyIdentifier = await x509.AuthorityKeyIdentifierExtension.create(root.publicKey);
  return {
    name: root.subjectName,
    notBeforeMs: root.notBefore.getTime(),
    notAfterMs: root.notAfter.getTime(),
    privateKey: (await importKeyPair(issuer.keyPem)).privateKey,
    keyIdentifier,
    facts: {
      name: new Uint8Array(root.subjectName.toArrayBuffer()),
      keyIdentifier: new Uint8Array(keyIdentifier.rawData),
      privateKey: createPrivateKey(issuer.keyPem),
    },
  };
}

async function issue(
  issuer: Issuer,
  publicKey: CryptoKey | x509.PublicKey,
  subject: string,
  alternatives: x509.JsonGeneralName[],
  usages: string[],
  nowMs: number,
  lifeMs: number,
  random: RandomBytes,
): Promise<IssuedCertificate> {
  const root = await openIssuer(issuer);
  const notAfterMs = Math.min(nowMs + lifeMs, root.notAfterMs);
  const serial = serialNumber(random);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial,
    subject,
    issuer: root.name.toString(),
    notBefore: new Date(Math.max(nowMs - backdateMs, root.notBeforeMs)),
    notAfter: new Date(notAfterMs),
    signingAlgorithm: signing,
    publicKey,
    signingKey: root.privateKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(usages),
      // RFC 5280 4.2.1.6: critical when the subject is empty.
      new x509.SubjectAlternativeNameExtension(alternatives, subject === ""),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      root.keyIdentifier,
    ],
  });
  return { certificatePem: certificate.toString("pem"), serialNumber: serial, notAfterMs };
}

/** More than any honest request needs; parsing is ours to pay. */
const maxCsrBytes = 16_384;

const oid = { subjectAltName: "2.5.29.17", keyUsage: "2.5.29.15", extendedKeyUsage: "2.5.29.37", subjectKeyIdentifier: "2.5.29.14" };
/** Extensions a request may carry. What they ask for beyond the name is ignored: the profile above decides. */
const tolerated: ReadonlySet<string> = new Set(Object.values(oid));

/**
 * Reads a PKCS#10 request and says no to anything but: a good signature by its own key, a key we trust to be strong, and exactly one name,
 * the caller's SPIFFE ID. Throws CsrRefused.
 */
async function checkRequest(csrPem: string, caller: Identity): Promise<x509.Pkcs10CertificateRequest> {
  if (csrPem.length > maxCsrBytes)
    throw new CsrRefused("malformed", `the certificate request is ${csrPem.length} bytes long; at most ${maxCsrBytes} are read`);
  let request: x509.Pkcs10CertificateRequest;
  let key: KeyObject;
  try {
    request = new x509.Pkcs10CertificateRequest(csrPem);
    key = createPublicKey({ key: Buffer.from(request.publicKey.rawData), format: "der", type: "spki" });
  } catch (cause) {
    throw new CsrRefused(
      "malformed",
      `the certificate request cannot be read as PEM of a PKCS#10 request: ${cause instanceof Error ? cause.message : String(cause)}`,
    );
  }
  const weakness = weakKey(key);
  if (weakness !== undefined) throw new CsrRefused("malformed", weakness);
  const signed = await request.verify().catch(() => false);
  if (!signed) throw new CsrRefused("malformed", "the certificate request is not signed by the key it carries");

  const wanted = formatIdentity(caller);
  for (const extension of request.extensions) {
    if (!tolerated.has(extension.type)) {
      throw new CsrRefused(
        "forbidden",
        `the certificate request asks for extension ${extension.type}; a workload certificate carries a SPIFFE ID and nothing else`,
      );
    }
  }
  const subject = request.subject;
  if (/(^|,\s*)CN=/i.test(subject)) {
    const common = /(?:^|,\s*)CN=([^,]*)/i.exec(subject)?.[1] ?? "";
    if (common !== "" && common !== wanted) {
      throw new CsrRefused(
        "forbidden",
        `the certificate request asks for the common name ${JSON.stringify(common)}; leave the subject empty, the name is ${wanted}`,
      );
    }
  }
  const names = request.extensions.flatMap((extension) =>
    extension instanceof x509.SubjectAlternativeNameExtension ? [...extension.names.items] : [],
  );
  for (const name of names) {
    if (name.type !== "url" || name.value !== wanted) {
      throw new CsrRefused(
        "forbidden",
        `the certificate request asks for ${name.type === "url" ? "URI" : name.type} ${JSON.stringify(name.value)}, but the caller is ${wanted}; only that name is issued to it`,
      );
    }
  }
  if (names.length === 0)
    throw new CsrRefused("forbidden", `the certificate request names nobody; its subjectAltName must be the one URI ${wanted}`);
  if (names.length > 1) throw new CsrRefused("forbidden", `the certificate request names ${wanted} ${names.length} times; once is enough`);
  return request;
}

function weakKey(key: KeyObject): string | undefined {
  const details = key.asymmetricKeyDetails;
  if (key.asymmetricKeyType === "ec") {
    const curve = details?.namedCurve ?? "an unnamed curve";
    return curve === "prime256v1" || curve === "secp384r1" || curve === "P-256" || curve === "P-384"
      ? undefined
      : `the certificate request has an EC key on ${curve}; use P-256 or P-384`;
  }
  if (key.asymmetricKeyType === "rsa") {
    const bits = details?.modulusLength ?? 0;
    return bits >= 2048 ? undefined : `the certificate request has an RSA key of ${bits} bits; use 2048 or more, or EC P-256`;
  }
  return `the certificate request has a key of type ${key.asymmetricKeyType ?? "unknown"}; use EC P-256, P-384 or RSA of 2048 bits or more`;
}
