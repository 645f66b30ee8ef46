// Owns: reading a certificate request (PKCS#10) of whatever client, and saying no to all but one kind. Loaded only when a request is not the one that
// our own sidecars send (plain-request.ts): the X.509 library costs 95 ms.

// Must come before the X.509 library, whose dependency container asks for it at import.
import "reflect-metadata";
import { createPublicKey, type KeyObject } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { formatIdentity, type Identity } from "../../wire/spiffe.ts";
import { CsrRefused } from "./failure.ts";

/** More than any honest request needs; parsing is ours to pay. */
const maxCsrBytes = 16_384;

const oid = { subjectAltName: "2.5.29.17", keyUsage: "2.5.29.15", extendedKeyUsage: "2.5.29.37", subjectKeyIdentifier: "2.5.29.14" };
/** Extensions a request may carry. What they ask for beyond the name is ignored: the profile above decides. */
const tolerated: ReadonlySet<string> = new Set(Object.values(oid));

/**
 * Reads a PKCS#10 request and says no to anything but: a good signature by its own key, a key we trust to be strong, and exactly one name,
 * the caller's SPIFFE ID. Answers its public key (SubjectPublicKeyInfo). Throws CsrRefused.
 */
export async function checkRequest(csrPem: string, caller: Identity): Promise<Uint8Array> {
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
  return new Uint8Array(request.publicKey.rawData);
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
