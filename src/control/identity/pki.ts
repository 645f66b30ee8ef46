// Owns: issuing: which names, times and serial numbers go into the mesh's certificates. Pure but for the randomness it is given; reads and writes no file.

import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { writePem } from "../../base/pem.ts";
import { uriNameExtension } from "../../wire/certificate-request.ts";
import { formatIdentity, type Identity } from "../../wire/spiffe.ts";
import { backdateMs } from "../../wire/trust.ts";
import type { CaCertificate } from "./ca-certificate.ts";
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
import { plainRequestKey } from "./plain-request.ts";
import type { CaSigner } from "./signer.ts";

export interface IssuedCertificate {
  readonly certificatePem: string;
  readonly serialNumber: string;
  readonly notAfterMs: number;
}

/** `count` random bytes. */
export type RandomBytes = (count: number) => Uint8Array;

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

/**
 * A root of the mesh: self-signed, may sign leaves only, named after its trust domain. `kind`: tells a later one from the first, whose name has none;
 * equal names of different keys confuse whoever looks up issuers by name.
 */
export function makeRoot(key: CaSigner, trustDomain: string, nowMs: number, random: RandomBytes, kind = ""): string {
  const name = distinguishedName(trustDomain, kind === "" ? "Weft mesh root" : `Weft mesh root ${kind}`);
  const root = writeCertificate(
    { name, keyIdentifier: keyIdentifierOf(key.publicKey), key },
    {
      serial: serialNumber(random),
      subject: name,
      publicKey: key.publicKey,
      validity: { notBeforeMs: nowMs - backdateMs, notAfterMs: nowMs + rootLifeMs },
      extensions: [...rootExtensions, alternativeNames({ uri: `spiffe://${trustDomain}` })],
    },
  );
  return writePem("CERTIFICATE", root);
}

/** What certificates are signed by. What is signed names its issuer as the issuer's certificate names itself, to the byte. */
export interface Issuer extends Signer {
  /** No certificate outlives the chain above it. */
  readonly validity: Validity;
}

export function issuerOf(certificate: CaCertificate, key: CaSigner, above: readonly CaCertificate[] = []): Issuer {
  const all = [certificate, ...above];
  return {
    name: certificate.subject,
    keyIdentifier: certificate.keyIdentifier,
    key,
    validity: {
      notBeforeMs: Math.max(...all.map((one) => one.notBeforeMs)),
      notAfterMs: Math.min(...all.map((one) => one.notAfterMs)),
    },
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
  const serial = serialNumber(random);
  const notAfterMs = Math.min(nowMs + lifeMs, issuer.validity.notAfterMs);
  const validity = { notBeforeMs: Math.max(nowMs - backdateMs, issuer.validity.notBeforeMs), notAfterMs };
  const certificate = writeCertificate(issuer, { serial, subject, publicKey, validity, extensions });
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
