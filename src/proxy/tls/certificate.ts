// Owns: what is read out of a peer's certificate, remembered by its bytes: a sidecar has few peers and many connections, and reading costs ten times
// the look-up. Says nothing about trust: the chain is verified by the TLS library at every full handshake.

import { parseIdentity } from "../../wire/spiffe.ts";
import { parseCertificate } from "../identity/x509.ts";
import type { Peer } from "./peer.ts";
import { alternativeNames } from "./san.ts";

export interface CertificateFacts {
  /** Empty, or why no certificate like this is accepted. */
  readonly fault: string;
  readonly identity: ReturnType<typeof parseIdentity>;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Upper-case hexadecimal; empty where it cannot be read. */
  readonly serial: string;
  peer(tlsVersion: string): Peer;
}

interface Entry {
  readonly der: Uint8Array;
  readonly facts: CertificateFacts;
}

/** Slots, by hash; a certificate that falls into a taken one replaces it. At most some 300 KB, with that many peers. */
const slots = 256;
const remembered: (Entry | undefined)[] = new Array<Entry | undefined>(slots);

/** The facts, or null when the bytes are not a certificate that can be walked. */
export function factsOf(der: Uint8Array): CertificateFacts | null {
  const slot = Bun.hash.crc32(der) & (slots - 1);
  const known = remembered[slot];
  if (known !== undefined && Buffer.compare(known.der, der) === 0) return known.facts;
  const facts = read(der);
  // A copy: the bytes may be part of something larger.
  if (facts !== null) remembered[slot] = { der: Uint8Array.from(der), facts };
  return facts;
}

function read(der: Uint8Array): CertificateFacts | null {
  const names = alternativeNames(der);
  if (names === null) return null;
  // Unreadable times: the TLS library has judged them in a full handshake, and a resumed one is refused.
  let notBeforeMs = Number.POSITIVE_INFINITY;
  let notAfterMs = Number.NEGATIVE_INFINITY;
  let serial = "";
  try {
    ({ notBeforeMs, notAfterMs, serial } = parseCertificate(der));
  } catch {
    // Said by the times.
  }
  const { uris, dns } = names;
  const principal = uris.length === 1 ? (uris[0] as string) : null;
  const identity = principal === null ? undefined : parseIdentity(principal);
  // X.509-SVID 2: exactly one URI, else the peer could choose who it is.
  const fault = uris.length > 1 && uris.some((uri) => uri.startsWith("spiffe://")) ? "the certificate holds more than one URI name" : "";
  const common = {
    principal,
    uris,
    dns,
    namespace: identity?.namespace ?? "",
    serviceAccount: identity?.serviceAccount ?? "",
    presented: { serial, notBeforeMs, principal },
  };
  const peers = new Map<string, Peer>();
  return {
    fault,
    identity,
    notBeforeMs,
    notAfterMs,
    serial,
    peer(tlsVersion) {
      let peer = peers.get(tlsVersion);
      if (peer === undefined) {
        peer = { ...common, tlsVersion };
        peers.set(tlsVersion, peer);
      }
      return peer;
    },
  };
}
