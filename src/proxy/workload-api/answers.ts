// Owns: what the local socket says of this proxy's identity: X.509-SVIDs and bundles as the SPIFFE Workload API has them (SPIFFE_Workload_API.md 5), and
// the same as Envoy secrets under the names that SPIRE's agent gives them. Pure: an identity in, bytes out. Never keeps a key.

import { readPem } from "../../base/pem.ts";
import { parseIdentity } from "../../wire/spiffe.ts";
import { encodeBinary } from "../xds/proto/encode.ts";
import { Secret, X509BundlesResponse, X509SvidResponse } from "../xds/proto/types.ts";

/** An identity as it is now. */
export interface Svid {
  readonly uri: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly rootsPem: string;
  /** Revocation lists, PEM; empty or absent: none. */
  readonly crlPem?: string;
}

/** SPIRE's names: the identity, the bundle of its trust domain, and every bundle. Envoy configurations written for SPIRE use them. */
export const secretNames = { identity: "default", bundle: "ROOTCA", everyBundle: "ALL" } as const;

const certificatesIn = (pem: string): Uint8Array => Buffer.concat(readPem(pem, "CERTIFICATE"));

/** The standard has each list by itself, in DER. */
const listsIn = (svid: Svid): Uint8Array[] => readPem(svid.crlPem ?? "", "X509 CRL");

/** `X509SVIDResponse`: one identity, the only one this socket has. */
export function svidResponse(svid: Svid): Uint8Array {
  return encodeBinary(X509SvidResponse, {
    svids: [
      {
        spiffeId: svid.uri,
        x509Svid: certificatesIn(svid.certificatePem),
        x509SvidKey: readPem(svid.privateKeyPem, "PRIVATE KEY")[0] ?? new Uint8Array(0),
        bundle: certificatesIn(svid.rootsPem),
        hint: "",
      },
    ],
    crl: listsIn(svid),
    federatedBundles: {},
  });
}

/** `X509BundlesResponse`: the bundle of our trust domain by its SPIFFE ID. */
export function bundlesResponse(svid: Svid): Uint8Array {
  return encodeBinary(X509BundlesResponse, { crl: listsIn(svid), bundles: { [trustDomainOf(svid.uri)]: certificatesIn(svid.rootsPem) } });
}

function trustDomainOf(uri: string): string {
  return `spiffe://${parseIdentity(uri)?.trustDomain ?? ""}`;
}

const inline = (text: string) => ({ specifier: { case: "inlineBytes" as const, value: Buffer.from(text) } });

/** A secret by name: SPIRE's names, the SPIFFE ID itself, or its trust domain's. undefined: there is none of that name. */
export function secretOf(svid: Svid, name: string): Uint8Array | undefined {
  if (name === secretNames.identity || name === svid.uri)
    return encodeBinary(Secret, {
      name,
      type: {
        case: "tlsCertificate",
        value: { certificateChain: inline(svid.certificatePem), privateKey: inline(svid.privateKeyPem) },
      },
    });
  if (name === secretNames.bundle || name === secretNames.everyBundle || name === trustDomainOf(svid.uri))
    return encodeBinary(Secret, {
      name,
      type: {
        case: "validationContext",
        value: {
          trustedCa: inline(svid.rootsPem),
          // Of intermediates and roots there are no lists; without this word Envoy would then refuse everybody.
          ...((svid.crlPem ?? "") === "" ? {} : { crl: inline(svid.crlPem as string), onlyVerifyLeafCertCrl: true }),
        },
      },
    });
  return undefined;
}
