// Owns: deciding whether the peer of a finished handshake is who it must be, and saying why not. The one place that reads the TLS library's verdict.
// Must never accept on the library's name check: mesh certificates have no DNS name, so it always complains; chain and URI are judged here.

import { parseIdentity } from "../../wire/spiffe.ts";
import type { SanMatcher } from "../config.ts";
import { compileString } from "../route/match.ts";
import { alternativeNames } from "./san.ts";

/** The part of Bun's TLS socket that is asked about the peer. */
export interface TlsFacts {
  readonly authorized: boolean;
  getAuthorizationError(): Error | null;
  getPeerCertificate(): unknown;
  getTLSVersion(): string;
}

/** Who is at the other end. One object a connection. */
export interface Peer {
  /** The SPIFFE ID (or the only URI name); null: no certificate, or one without a URI. */
  readonly principal: string | null;
  readonly uris: readonly string[];
  readonly dns: readonly string[];
  /** Of a SPIFFE ID in the mesh's form; empty otherwise. */
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly tlsVersion: string;
}

export interface PeerRules {
  /** There are roots, so the chain must verify. */
  readonly verify: boolean;
  /** No certificate is a refusal. */
  readonly required: boolean;
  /** Any of these; empty = any name. */
  readonly names: readonly ((names: { readonly uris: readonly string[]; readonly dns: readonly string[] }) => boolean)[];
  /** Only SPIFFE IDs of this trust domain; null = any. */
  readonly trustDomain: string | null;
  readonly minVersion13: boolean;
}

/** Compiles name matchers. Throws on a bad regular expression (configuration time). */
export function compileNames(matchers: readonly SanMatcher[]): PeerRules["names"] {
  return matchers.map((matcher) => {
    const matches = compileString(matcher.match);
    return matcher.type === "uri" ? (names) => names.uris.some(matches) : (names) => names.dns.some(matches);
  });
}

/** The peer, or the reason for refusing it as a sentence fragment for logs. `exact`: this very SPIFFE ID, over and above the rules. */
export function judgePeer(socket: TlsFacts, rules: PeerRules, exact: string | null, isClient: boolean): Peer | string {
  const tlsVersion = socket.getTLSVersion();
  if (rules.minVersion13 && tlsVersion !== "TLSv1.3") return `TLS 1.3 is required, the peer speaks ${tlsVersion}`;
  const certificate = socket.getPeerCertificate() as { raw?: Uint8Array } | null | undefined;
  const raw = certificate?.raw;
  if (raw === undefined) {
    if (rules.required || (rules.verify && isClient)) return "no certificate was presented";
    return { principal: null, uris: [], dns: [], namespace: "", serviceAccount: "", tlsVersion };
  }
  if (rules.verify) {
    const fault = chainFault(socket, isClient);
    if (fault !== null) return fault;
  }
  const names = alternativeNames(raw);
  if (names === null) return "the certificate cannot be read";
  const spiffe = names.uris.filter((uri) => uri.startsWith("spiffe://"));
  // X.509-SVID 2: exactly one URI, else the peer could choose who it is.
  if (spiffe.length > 0 && names.uris.length > 1) return "the certificate holds more than one URI name";
  const principal = names.uris.length === 1 ? (names.uris[0] as string) : null;
  const identity = principal === null ? undefined : parseIdentity(principal);
  if (rules.trustDomain !== null && identity?.trustDomain !== rules.trustDomain) {
    return `wrong identity: ${principal ?? "no SPIFFE ID"} is not of the trust domain ${rules.trustDomain}`;
  }
  if (rules.names.length > 0 && !rules.names.some((matches) => matches(names)))
    return `wrong identity: ${principal ?? "no SPIFFE ID"} is not among the names expected`;
  if (exact !== null && principal !== exact) return `wrong identity: ${principal ?? "no SPIFFE ID"}, expected ${exact}`;
  return {
    principal,
    uris: names.uris,
    dns: names.dns,
    namespace: identity?.namespace ?? "",
    serviceAccount: identity?.serviceAccount ?? "",
    tlsVersion,
  };
}

/** Why the chain does not verify; null when it does. */
function chainFault(socket: TlsFacts, isClient: boolean): string | null {
  if (socket.authorized) return null;
  const error = socket.getAuthorizationError() as (Error & { code?: string }) | null;
  const code = error?.code ?? "";
  // A client's library reports the chain's fault first and the name's only when the chain is good (tests hold it to that);
  // the name we judge ourselves. A server has no name to check, so there it can only be a fault.
  if (isClient && code === "ERR_TLS_CERT_ALTNAME_INVALID") return null;
  switch (code) {
    case "CERT_HAS_EXPIRED":
      return "the certificate has expired";
    case "CERT_NOT_YET_VALID":
      return "the certificate is not valid yet; are the clocks right?";
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "SELF_SIGNED_CERT_IN_CHAIN":
    case "UNABLE_TO_GET_ISSUER_CERT":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
    case "CERT_SIGNATURE_FAILURE":
      return `unknown authority (${code})`;
    default:
      return `the certificate does not verify (${code === "" ? "no reason given" : code})`;
  }
}

/** An error of the operating system or of the TLS protocol, as opposed to a verdict on a certificate (or to a bug, which has no code). */
export function isTransportError(error: Error & { code?: string }): boolean {
  const code = error.code;
  return code !== undefined && (code.startsWith("ERR_SSL") || code.startsWith("ERR_BORINGSSL") || /^E[A-Z]+$/.test(code));
}
