// Owns: issuing: which names, times and serial numbers go into the mesh's certificates. Pure but for the randomness it is given; reads and writes no file.

import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto";
import { writePem } from "../../base/pem.ts";
import { uriNameExtension } from "../../wire/certificate-request.ts";
import { formatIdentity, type Identity } from "../../wire/spiffe.ts";
import {
  alternativeNames,
  distinguishedName,
  keyIdentifierOf,
  rootExtensions,
  type Signer,
  serverExtensions,
  type Validity,
  workloadExtensions,
  writeCertificate,
} from "./certificate.ts";
import { IdentityError } from "./failure.ts";
import { plainRequestKey } from "./plain-request.ts";

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

/** Clocks differ: a certificate is good from a minute before it was made. */
const backdateMs = 60_000;
/** Ten years. */
const rootLifeMs = 10 * 365 * 86_400_000;

/** RFC 5280 4.1.2.2: positive, at most 20 octets. 16 random bytes with the top bit clear and never zero. */
function serialNumber(random: RandomBytes): Uint8Array {
  const bytes = random(16);
  bytes[0] = ((bytes[0] as number) & 0x7f) | 0x40;
  return bytes;
}

/** A fresh P-256 private key as PKCS#8 PEM. */
export function generateKeyPem(): string {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return privateKey.export({ format: "pem", type: "pkcs8" }).toString();
}

function publicKeyOf(key: KeyObject): Uint8Array {
  return new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }));
}

const rootName = (trustDomain: string): Uint8Array => distinguishedName(trustDomain, "Weft mesh root");

/** The mesh's root: self-signed, may sign leaves only, named after its trust domain. */
export function makeRoot(keyPem: string, trustDomain: string, nowMs: number, random: RandomBytes): string {
  const privateKey = createPrivateKey(keyPem);
  const publicKey = publicKeyOf(privateKey);
  const name = rootName(trustDomain);
  const root = writeCertificate(
    { name, keyIdentifier: keyIdentifierOf(publicKey), privateKey },
    {
      serial: serialNumber(random),
      subject: name,
      publicKey,
      validity: { notBeforeMs: nowMs - backdateMs, notAfterMs: nowMs + rootLifeMs },
      extensions: [...rootExtensions, alternativeNames({ uri: `spiffe://${trustDomain}` })],
    },
  );
  return writePem("CERTIFICATE", root);
}

interface OpenIssuer extends Signer {
  readonly validity: Validity;
}

const openIssuers = new WeakMap<Issuer, OpenIssuer>();

/** Reads root and key, once per issuer. */
function openIssuer(issuer: Issuer): OpenIssuer {
  let open = openIssuers.get(issuer);
  if (open === undefined) {
    open = readIssuer(issuer);
    openIssuers.set(issuer, open);
  }
  return open;
}

function readIssuer(issuer: Issuer): OpenIssuer {
  const root = new X509Certificate(issuer.certificatePem);
  const trustDomain = /URI:spiffe:\/\/([a-z0-9._-]+)/.exec(root.subjectAltName ?? "")?.[1] ?? "";
  const name = rootName(trustDomain);
  // What is signed must name its issuer as the root names itself, to the byte.
  if (!root.raw.includes(name)) {
    throw new IdentityError(
      `the root certificate is not one that this version of Weft makes: its subject must be O=${trustDomain}, CN=Weft mesh root; move ca.crt away to have it made again for the same key`,
    );
  }
  const privateKey = createPrivateKey(issuer.keyPem);
  return {
    name,
    privateKey,
    keyIdentifier: keyIdentifierOf(publicKeyOf(privateKey)),
    validity: { notBeforeMs: root.validFromDate.getTime(), notAfterMs: root.validToDate.getTime() },
  };
}

export interface ServerNames {
  readonly dns: readonly string[];
  readonly ip: readonly string[];
  readonly identity: Identity;
}

/** A certificate for the control plane's own servers, for a key made here. */
export function issueServer(
  issuer: Issuer,
  keyPem: string,
  names: ServerNames,
  nowMs: number,
  lifeMs: number,
  random: RandomBytes,
): IssuedCertificate {
  const alternatives = alternativeNames({ dns: names.dns, ip: names.ip.map(addressBytes), uri: formatIdentity(names.identity) });
  const subject = distinguishedName(undefined, "weft");
  return issue(issuer, publicKeyOf(createPrivateKey(keyPem)), subject, [...serverExtensions, alternatives], nowMs, lifeMs, random);
}

/** A workload's certificate for the key in its request, which is checked first. Throws CsrRefused. */
export async function issueWorkload(
  issuer: Issuer,
  csrPem: string,
  caller: Identity,
  nowMs: number,
  lifeMs: number,
  random: RandomBytes,
): Promise<IssuedCertificate> {
  const uri = formatIdentity(caller);
  let publicKey = plainRequestKey(csrPem, uri);
  if (publicKey === undefined) {
    const { checkRequest } = await import("./request.ts");
    publicKey = await checkRequest(csrPem, caller);
  }
  return issue(
    issuer,
    publicKey,
    distinguishedName(undefined, undefined),
    [...workloadExtensions, uriNameExtension(uri)],
    nowMs,
    lifeMs,
    random,
  );
}

function issue(
  issuer: Issuer,
  publicKey: Uint8Array,
  subject: Uint8Array,
  extensions: readonly Uint8Array[],
  nowMs: number,
  lifeMs: number,
  random: RandomBytes,
): IssuedCertificate {
  const root = openIssuer(issuer);
  const serial = serialNumber(random);
  const notAfterMs = Math.min(nowMs + lifeMs, root.validity.notAfterMs);
  const validity = { notBeforeMs: Math.max(nowMs - backdateMs, root.validity.notBeforeMs), notAfterMs };
  const certificate = writeCertificate(root, { serial, subject, publicKey, validity, extensions });
  return { certificatePem: writePem("CERTIFICATE", certificate), serialNumber: Buffer.from(serial).toString("hex"), notAfterMs };
}

/** An address as a certificate holds it: 4 or 16 bytes. */
function addressBytes(address: string): Uint8Array {
  if (!address.includes(":")) return Uint8Array.from(address.split(".").map(Number));
  const [before = "", after] = address.split("::");
  const groups = (text: string): number[] =>
    text
      .split(":")
      .filter(Boolean)
      .map((group) => Number.parseInt(group, 16));
  const head = groups(before);
  const tail = groups(after ?? "");
  const all = [...head, ...new Array<number>(after === undefined ? 0 : 8 - head.length - tail.length).fill(0), ...tail];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}
