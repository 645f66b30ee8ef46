// Owns: certificates for tests: authorities, workload certificates with a SPIFFE ID, expired and self-signed ones. Used by tests alone.

import "reflect-metadata";
import * as x509 from "@peculiar/x509";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

export interface Authority {
  readonly pem: string;
  readonly certificate: x509.X509Certificate;
  readonly keys: CryptoKeyPair;
}

export interface Leaf {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

export async function authority(name: string): Promise<Authority> {
  const keys = (await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as CryptoKeyPair;
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: "01",
    name: `O=${name}`,
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 86_400_000),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
    ],
  });
  return { pem: certificate.toString("pem"), certificate, keys };
}

/** A certificate for these URI names. `issuer` null: self-signed. `ageMs`: shifts its validity into the past. */
export async function leaf(issuer: Authority | null, uris: readonly string[], ageMs = 0): Promise<Leaf> {
  const keys = (await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as CryptoKeyPair;
  const common = {
    serialNumber: String(Math.floor(Math.random() * 1e9) + 2),
    notBefore: new Date(Date.now() - 60_000 - ageMs),
    notAfter: new Date(Date.now() + 3_600_000 - ageMs),
    signingAlgorithm: algorithm,
    extensions: [
      new x509.SubjectAlternativeNameExtension(
        uris.map((value) => ({ type: "url" as const, value })),
        true,
      ),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
    ],
  };
  const certificate =
    issuer === null
      ? await x509.X509CertificateGenerator.createSelfSigned({ ...common, name: "O=self", keys })
      : await x509.X509CertificateGenerator.create({
          ...common,
          subject: "O=weft",
          issuer: issuer.certificate.subject,
          publicKey: keys.publicKey,
          signingKey: issuer.keys.privateKey,
        });
  const key = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  return {
    certificatePem: certificate.toString("pem"),
    privateKeyPem: `-----BEGIN PRIVATE KEY-----\n${(key.match(/.{1,64}/g) ?? []).join("\n")}\n-----END PRIVATE KEY-----\n`,
  };
}
