// Owns: Weft's own authority for client certificates of people and programs (`weft up --client-ca own`): its key in the data folder, and what it signs for the
// administrator. Has nothing to do with the mesh's authority: what it signs opens no xDS stream and no workload. Loaded with that flag alone.

import "reflect-metadata";
import { createPublicKey, randomBytes } from "node:crypto";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import type { Clock } from "../base/clock.ts";
import type { Caller } from "./apiserver/deps.ts";
import { IdentityError } from "./identity/failure.ts";
import { createFileOnce, privateMode, readIfThere, readPrivate } from "./identity/files.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const authorityLifeMs = 10 * 365 * 86_400_000;
/** Clocks differ. */
const backdateMs = 5 * 60_000;
export const leastSeconds = 600;
/** There is no revocation, so not the year of a token. */
export const mostSeconds = 90 * 86_400;
const defaultSeconds = 30 * 86_400;
const mostGroups = 32;
/** A name in a certificate: no control characters, and none that a list of names would be read apart by. */
const nameForm = /^[^\p{C},+"\\<>;=#]{1,64}$/u;

export const clientCertificatesPath = "/weft/v1alpha1/client-certificates";

export interface ClientAuthority {
  readonly certificatePem: string;
  /** Answers `POST /weft/v1alpha1/client-certificates`: the administrator's, whatever roles say, as whoever has it can be anybody. */
  answer(request: Request, caller: Caller): Promise<Response>;
}

/** Makes it at the first start. Throws IdentityError. */
export async function openClientAuthority(dir: string, clock: Clock): Promise<ClientAuthority> {
  const [keyPath, certificatePath] = [join(dir, "client-ca.key"), join(dir, "client-ca.crt")];
  if (readIfThere(keyPath) === undefined && readIfThere(certificatePath) === undefined) await make(keyPath, certificatePath, clock.now());
  const [keyPem, certificatePem] = [readPrivate(keyPath), readIfThere(certificatePath)];
  if (keyPem === undefined || certificatePem === undefined)
    throw new IdentityError(
      `one of ${keyPath} and ${certificatePath} is missing; put it back, or remove both for a new authority (certificates of the old one are worthless then)`,
    );
  const certificate = new x509.X509Certificate(certificatePem);
  const key = await crypto.subtle.importKey("pkcs8", x509.PemConverter.decodeFirst(keyPem), algorithm, false, ["sign"]);
  return {
    certificatePem,
    async answer(request, caller) {
      if (caller.kind !== "admin")
        return said(403, "Forbidden", `${caller.user} cannot have client certificates signed: that is the administrator's`);
      const asked = readRequest(await request.text().catch(() => ""));
      if (typeof asked === "string") return said(400, "BadRequest", asked);
      const publicKey = await importPublic(asked.publicKey);
      if (publicKey === undefined) return said(400, "BadRequest", "publicKey takes the public key of a P-256 pair as PEM");
      const notAfter = new Date(Math.min(clock.now() + asked.expirationSeconds * 1000, certificate.notAfter.getTime()));
      const subject = new x509.Name([...asked.groups.map((O) => ({ O: [O] })), { CN: [asked.user] }]);
      const made = await x509.X509CertificateGenerator.create({
        serialNumber: `40${randomBytes(15).toString("hex")}`,
        subject: subject.toString(),
        issuer: certificate.subject,
        publicKey,
        signingKey: key,
        signingAlgorithm: algorithm,
        notBefore: new Date(clock.now() - backdateMs),
        notAfter,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension(["1.3.6.1.5.5.7.3.2"]),
        ],
      });
      return Response.json({ certificate: `${made.toString("pem")}\n`, expirationTimestamp: notAfter.toISOString() }, { status: 201 });
    },
  };
}

async function make(keyPath: string, certificatePath: string, nowMs: number): Promise<void> {
  const keys = (await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as CryptoKeyPair;
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: `40${randomBytes(15).toString("hex")}`,
    name: "CN=Weft client authority",
    keys,
    signingAlgorithm: algorithm,
    notBefore: new Date(nowMs - backdateMs),
    notAfter: new Date(nowMs + authorityLifeMs),
    extensions: [new x509.BasicConstraintsExtension(true, 0, true), new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true)],
  });
  createFileOnce(
    keyPath,
    `${x509.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY")}\n`,
    privateMode,
  );
  createFileOnce(certificatePath, `${made.toString("pem")}\n`, 0o644);
}

interface SigningRequest {
  readonly user: string;
  readonly groups: readonly string[];
  readonly expirationSeconds: number;
  readonly publicKey: string;
}

/** Or what is wrong, in a sentence. */
function readRequest(text: string): SigningRequest | string {
  let body: Record<string, unknown>;
  try {
    body = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return "the body is not valid JSON";
  }
  if (typeof body !== "object" || body === null) return "the body is not an object";
  const { user, groups = [], expirationSeconds = defaultSeconds, publicKey, ...others } = body;
  const [odd] = Object.keys(others);
  if (odd !== undefined) return `unknown field ${JSON.stringify(odd)}; known are user, groups, expirationSeconds and publicKey`;
  const isName = (value: unknown): value is string => typeof value === "string" && nameForm.test(value) && value.trim() === value;
  if (!isName(user)) return 'user takes a name of at most 64 characters, without , + " \\ < > ; = #';
  if (!Array.isArray(groups) || groups.length > mostGroups || !groups.every(isName)) return `groups takes at most ${mostGroups} such names`;
  if (
    typeof expirationSeconds !== "number" ||
    !Number.isInteger(expirationSeconds) ||
    expirationSeconds < leastSeconds ||
    expirationSeconds > mostSeconds
  )
    return `expirationSeconds takes a whole number from ${leastSeconds} to ${mostSeconds}`;
  return { user, groups, expirationSeconds, publicKey: typeof publicKey === "string" ? publicKey : "" };
}

async function importPublic(pem: string): Promise<CryptoKey | undefined> {
  try {
    const der = createPublicKey(pem).export({ format: "der", type: "spki" });
    return await crypto.subtle.importKey("spki", der, algorithm, true, ["verify"]);
  } catch {
    return undefined;
  }
}

function said(code: number, reason: string, message: string): Response {
  return Response.json({ kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code }, { status: code });
}
