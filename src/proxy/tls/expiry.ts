// Owns: when the certificates and roots of the configuration expire, for metrics. The proxy's own identity reports for itself (`identity/identity.ts`).
// Read at export, never on a connection's way.

import type { Family, MetricRegistry, Series } from "../../base/metric.ts";
import type { CertificateSource, ListenerConfig, RootsSource, UpstreamTlsConfig } from "../config.ts";
import { certificatesOf } from "../identity/x509.ts";

const families = new WeakMap<MetricRegistry, Family<Series>>();

/** `weft_certificate_expiry_timestamp_seconds{name}` of this registry: the configuration's certificates and the proxy's own share it. */
export function expiryFamily(metrics: MetricRegistry): Family<Series> {
  let family = families.get(metrics);
  if (family === undefined) {
    family = metrics.gauge(
      "weft_certificate_expiry_timestamp_seconds",
      "When a certificate, or the first of some roots, expires, in seconds of Unix time.",
      ["name"],
    );
    families.set(metrics, family);
  }
  return family;
}

/** The part of the configuration that names certificates. */
export interface TlsUsers {
  readonly listeners: Iterable<ListenerConfig>;
  readonly upstream: Iterable<UpstreamTlsConfig>;
}

/** One series a file (or static secret): its earliest certificate. Inline ones have no name and share a series. */
export class StaticExpiry {
  readonly #family: Family<Series>;
  #shown = new Map<string, Series>();
  /** By PEM text; bounded by what is configured, as each export keeps only what it saw. */
  #read = new Map<string, number>();

  constructor(metrics: MetricRegistry, users: () => TlsUsers) {
    this.#family = expiryFamily(metrics);
    metrics.beforeExport(() => this.#collect(users()));
  }

  #collect(users: TlsUsers): void {
    const before = this.#read;
    this.#read = new Map();
    const earliest = new Map<string, number>();
    const note = (name: string, pem: string): void => {
      const at = this.#read.get(pem) ?? before.get(pem) ?? earliestExpiry(pem);
      this.#read.set(pem, at);
      earliest.set(name, Math.min(earliest.get(name) ?? Number.POSITIVE_INFINITY, at));
    };
    const both = (certificate: CertificateSource | null, roots: RootsSource | null): void => {
      if (certificate?.kind === "pem") note(certificate.name ?? "inline certificate", certificate.certificatePem);
      if (roots?.kind === "pem") note(roots.name ?? "inline roots", roots.pem);
    };
    for (const listener of users.listeners) for (const { tls } of listener.chains) if (tls !== null) both(tls.certificate, tls.roots);
    for (const tls of users.upstream) both(tls.certificate, tls.roots);
    for (const [name, series] of this.#shown) {
      if (earliest.has(name)) continue;
      this.#family.remove(series);
      this.#shown.delete(name);
    }
    for (const [name, ms] of earliest) {
      const series = this.#family.with([name]);
      series.value = ms / 1000;
      this.#shown.set(name, series);
    }
  }
}

/** Milliseconds of Unix time; the text has passed the decoder, so it can be read. */
function earliestExpiry(pem: string): number {
  return certificatesOf(pem).reduce((at, one) => Math.min(at, one.notAfterMs), Number.POSITIVE_INFINITY);
}
