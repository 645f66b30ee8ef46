// Owns: deciding whether the peer of a finished handshake is who it must be, and saying why not. The one place that reads the TLS library's verdict.
// Must never accept on the library's name check: mesh certificates have no DNS name, so it always complains; chain and names are judged here.

import type { SanMatcher } from "../config.ts";
import { compileString } from "../route/match.ts";
import { factsOf } from "./certificate.ts";
import type { Denied, Presented } from "./denied.ts";
import { refuse } from "./refusal.ts";

/** The part of Bun's TLS socket that is asked about the peer. */
export interface TlsFacts {
  readonly authorized: boolean;
  /** What ALPN agreed on; false: nothing. */
  readonly alpnProtocol: string | false | null;
  getAuthorizationError(): Error | null;
  /** Its `raw` is the leaf in DER. A twelfth of the cost of `getPeerCertificate`. */
  getPeerX509Certificate(): { readonly raw: Uint8Array } | undefined;
  getTLSVersion(): string;
  /** The chain was verified when the session was made, not now. */
  isSessionReused(): boolean;
}

/** Who is at the other end. Shared by every connection of that certificate. */
export interface Peer {
  /** The SPIFFE ID (or the only URI name); null: no certificate, or one without a URI. */
  readonly principal: string | null;
  readonly uris: readonly string[];
  readonly dns: readonly string[];
  /** Of a SPIFFE ID in the mesh's form; empty otherwise. */
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly tlsVersion: string;
  /** Of its certificate, for the deny list; absent: there is none. */
  readonly presented?: Presented;
}

type NameRule = (names: { readonly uris: readonly string[]; readonly dns: readonly string[] }) => boolean;

export interface PeerRules {
  /** There are roots, so the chain must verify. */
  readonly verify: boolean;
  /** No certificate is a refusal. */
  readonly required: boolean;
  /** Any of these; empty = any name. */
  readonly names: readonly NameRule[];
  /** Only SPIFFE IDs of this trust domain; null = any. */
  readonly trustDomain: string | null;
  readonly minVersion13: boolean;
  /** Who is refused although the chain verifies; absent or null: nobody. */
  readonly denied?: Denied | null;
}

/** Compiles name matchers. Throws on a bad regular expression (configuration time). */
export function compileNames(matchers: readonly SanMatcher[]): PeerRules["names"] {
  return matchers.map((matcher): NameRule => {
    const matches = compileString(matcher.match);
    if (matcher.type === "uri") return (names) => names.uris.some(matches);
    if (matcher.match.kind !== "exact") return (names) => names.dns.some(matches);
    // As Envoy has it: an exact DNS matcher also accepts a certificate's wildcard for that name.
    const wanted = matcher.match.value.toLowerCase();
    return (names) => names.dns.some((name) => coversDns(name, wanted));
  });
}

/** Does a certificate's DNS name cover this host (RFC 6125 6.4.3: the wildcard is the whole left-most label and stands for one)? */
export function coversDns(name: string, host: string): boolean {
  const pattern = name.toLowerCase();
  if (!pattern.startsWith("*.")) return pattern === host;
  const dot = host.indexOf(".");
  // At least two labels under the star: "*.com" would cover half of the world.
  return dot > 0 && pattern.indexOf(".", 2) > 0 && host.slice(dot) === pattern.slice(1);
}

const nobody = new Map<string, Peer>();

/** One for each version: most connections of an HTTPS listener have no certificate. */
function anonymous(tlsVersion: string): Peer {
  let peer = nobody.get(tlsVersion);
  if (peer === undefined) {
    peer = { principal: null, uris: [], dns: [], namespace: "", serviceAccount: "", tlsVersion };
    nobody.set(tlsVersion, peer);
  }
  return peer;
}

/**
 * The peer, or the reason for refusing it as a sentence fragment for logs (with `refusal` filled). `exact`: this very SPIFFE ID, over and above the
 * rules. `wallMs`: the time of day, for certificates of resumed sessions.
 */
export function judgePeer(socket: TlsFacts, rules: PeerRules, exact: string | null, isClient: boolean, wallMs: number): Peer | string {
  const tlsVersion = socket.getTLSVersion();
  if (rules.minVersion13 && tlsVersion !== "TLSv1.3")
    return refuse("protocol_version", `TLS 1.3 is required, the peer speaks ${tlsVersion}`);
  const raw = socket.getPeerX509Certificate()?.raw;
  if (raw === undefined) {
    if (rules.required || (rules.verify && isClient) || exact !== null) return refuse("no_certificate", "no certificate was presented");
    return anonymous(tlsVersion);
  }
  if (rules.verify) {
    const fault = chainFault(socket, isClient);
    if (fault !== null) return fault;
  }
  const facts = factsOf(raw);
  if (facts === null) return refuse("bad_certificate", "the certificate cannot be read");
  // A ticket may outlive the certificate it was given to: what a full handshake would say is said here.
  if (rules.verify && socket.isSessionReused()) {
    if (wallMs > facts.notAfterMs) return refuse("expired", "the peer's certificate has expired");
    if (wallMs < facts.notBeforeMs) return refuse("not_yet_valid", "the peer's certificate is not valid yet; are the clocks right?");
  }
  if (facts.fault !== "") return refuse("bad_certificate", facts.fault);
  const { identity } = facts;
  const peer = facts.peer(tlsVersion);
  if (rules.denied != null) {
    const why = rules.denied.why({ serial: facts.serial, notBeforeMs: facts.notBeforeMs, principal: peer.principal });
    if (why !== null) return refuse("revoked", why);
  }
  const shown = peer.principal ?? (peer.dns.length === 0 ? "no SPIFFE ID" : peer.dns.join(", "));
  if (rules.trustDomain !== null && identity?.trustDomain !== rules.trustDomain) {
    return refuse("wrong_identity", `wrong identity: ${shown} is not of the trust domain ${rules.trustDomain}`);
  }
  if (rules.names.length > 0 && !rules.names.some((matches) => matches(peer)))
    return refuse("wrong_identity", `wrong identity: ${shown} is not among the names expected`);
  if (exact !== null && peer.principal !== exact) return refuse("wrong_identity", `wrong identity: ${shown}, expected ${exact}`);
  return peer;
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
      return refuse("expired", "the peer's certificate has expired");
    case "CERT_NOT_YET_VALID":
      return refuse("not_yet_valid", "the peer's certificate is not valid yet; are the clocks right?");
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "SELF_SIGNED_CERT_IN_CHAIN":
    case "UNABLE_TO_GET_ISSUER_CERT":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
    case "CERT_SIGNATURE_FAILURE":
      return refuse("unknown_authority", `unknown authority (${code})`);
    default:
      return refuse("bad_certificate", `the certificate does not verify (${code === "" ? "no reason given" : code})`);
  }
}

/** An error of the operating system or of the TLS protocol, as opposed to a verdict on a certificate (or to a bug, which has no code). */
export function isTransportError(error: Error & { code?: string }): boolean {
  const code = error.code;
  return code !== undefined && (code.startsWith("ERR_SSL") || code.startsWith("ERR_BORINGSSL") || /^E[A-Z]+$/.test(code));
}
