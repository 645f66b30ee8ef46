// Owns: why a TLS peer was refused: the fixed list of reasons that the metric's label takes, and the table from the TLS library's words to them.
// A peer cannot add to the list: whatever is not in the table is `other`.

import type { MetricRegistry, Series } from "../../base/metric.ts";

export const tlsReasons = [
  "expired",
  "not_yet_valid",
  "unknown_authority",
  "revoked",
  "wrong_identity",
  "no_certificate",
  "bad_certificate",
  "protocol_version",
  "no_shared_cipher",
  "no_shared_alpn",
  "plain_text",
  "bad_client_hello",
  "refused_by_peer",
  "timeout",
  "no_secret",
  "other",
] as const;

export type TlsReason = (typeof tlsReasons)[number];

/** Of the last refusal, filled by whoever refuses (as `denial` is for policies). */
export const refusal: { reason: TlsReason } = { reason: "other" };

/** Says no: notes the reason, answers the sentence. */
export function refuse(reason: TlsReason, sentence: string): string {
  refusal.reason = reason;
  return sentence;
}

interface Known {
  readonly word: string;
  readonly reason: TlsReason;
  /** As the end of a sentence that begins "the handshake failed: ". */
  readonly sentence: string;
}

/** BoringSSL's names of failures (its ssl.errordata), as Bun puts them into the message. First match wins. */
const known: readonly Known[] = [
  { word: "HTTP_REQUEST", reason: "plain_text", sentence: "the peer sent plain HTTP to a TLS port" },
  { word: "HTTPS_PROXY_REQUEST", reason: "plain_text", sentence: "the peer sent a plain CONNECT request to a TLS port" },
  { word: "WRONG_VERSION_NUMBER", reason: "plain_text", sentence: "the peer does not speak TLS here" },
  { word: "UNSUPPORTED_PROTOCOL", reason: "protocol_version", sentence: "the peer offers no TLS version that is allowed here" },
  { word: "TLSV1_ALERT_PROTOCOL_VERSION", reason: "protocol_version", sentence: "the peer allows none of our TLS versions" },
  { word: "INAPPROPRIATE_FALLBACK", reason: "protocol_version", sentence: "the peer fell back to an older TLS version" },
  { word: "NO_SHARED_CIPHER", reason: "no_shared_cipher", sentence: "no cipher suite is common to both" },
  { word: "NO_SHARED_GROUP", reason: "no_shared_cipher", sentence: "no key exchange group is common to both" },
  { word: "NO_COMMON_SIGNATURE_ALGORITHMS", reason: "no_shared_cipher", sentence: "no signature algorithm is common to both" },
  { word: "WRONG_CURVE", reason: "no_shared_cipher", sentence: "no curve is common to both" },
  { word: "HANDSHAKE_FAILURE", reason: "no_shared_cipher", sentence: "the peer finds nothing common to both (alert handshake_failure)" },
  { word: "NO_APPLICATION_PROTOCOL", reason: "no_shared_alpn", sentence: "no application protocol (ALPN) is common to both" },
  { word: "PEER_DID_NOT_RETURN_A_CERTIFICATE", reason: "no_certificate", sentence: "no certificate was presented" },
  {
    word: "CERTIFICATE_REQUIRED",
    reason: "refused_by_peer",
    sentence: "the peer wants a certificate of ours (alert certificate_required)",
  },
  { word: "ALERT_UNKNOWN_CA", reason: "refused_by_peer", sentence: "the peer does not know our authority (alert unknown_ca)" },
  {
    word: "CERTIFICATE_REVOKED",
    reason: "refused_by_peer",
    sentence: "the peer says that our certificate has been revoked (alert certificate_revoked)",
  },
  {
    word: "CERTIFICATE_EXPIRED",
    reason: "refused_by_peer",
    sentence: "the peer finds our certificate expired (alert certificate_expired)",
  },
  { word: "BAD_CERTIFICATE", reason: "refused_by_peer", sentence: "the peer refuses our certificate (alert bad_certificate)" },
  { word: "CERTIFICATE_UNKNOWN", reason: "refused_by_peer", sentence: "the peer refuses our certificate (alert certificate_unknown)" },
  { word: "before secure TLS connection", reason: "other", sentence: "the peer closed the connection within it; does it speak TLS here?" },
  { word: "_ALERT_", reason: "refused_by_peer", sentence: "the peer broke off" },
];

/** The sentence for a handshake that broke, with its reason noted. */
export function refuseBroken(message: string): string {
  for (const one of known) {
    // The name stands at the end of "error:…:SSL routines:OPENSSL_internal:NAME".
    if (message.includes(one.word)) return refuse(one.reason, `the handshake failed: ${one.sentence}`);
  }
  return refuse("other", `the handshake failed: ${message}`);
}

/** `…_tls_refused_total{reason=…}` of one side. */
export class TlsRefusals {
  readonly #series: Readonly<Record<TlsReason, Series>>;

  constructor(metrics: MetricRegistry, name: string, help: string) {
    const family = metrics.counter(name, help, ["reason"]);
    this.#series = Object.fromEntries(tlsReasons.map((reason) => [reason, family.with([reason])])) as Record<TlsReason, Series>;
  }

  /** Counts the last refusal. */
  count(): void {
    this.#series[refusal.reason].value++;
  }
}
