// Owns: turning configured certificate sources into the options a handshake takes, read anew whenever the secrets change.
// Must never print key material.

import type { CertificateSource, DownstreamTlsConfig, RootsSource, SecretSource, UpstreamTlsConfig } from "../config.ts";
import { latin1 } from "../http/bytes.ts";
import { compileNames, type PeerRules } from "./peer.ts";

/** What Bun's `tls` option takes here; `minVersion` is the protocol's number on the wire. */
export interface HandshakeOptions {
  readonly cert?: string;
  readonly key?: string;
  readonly ca?: readonly string[];
  /** Instead of the three above: made once, where parsing a large bundle for every connection would cost more than the handshake. */
  readonly secureContext?: unknown;
  readonly requestCert: boolean;
  readonly rejectUnauthorized: false;
  readonly ALPNProtocols?: Uint8Array;
  readonly minVersion: number;
  readonly maxVersion?: number;
  /** Of TLS 1.2; those of TLS 1.3 are fixed. */
  readonly ciphers?: string;
  readonly serverName?: string;
}

/** Forward secrecy and authenticated encryption (RFC 9325 4.2); what else TLS 1.2 has is never spoken. */
const tls12Ciphers =
  "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";

/** Roots longer than this are parsed once: 145 of them cost 0.3 ms a connection, and a dozen nothing that shows. */
const largeBundle = 32 * 1024;

const onTheWire = { "TLSv1.2": 0x0303, "TLSv1.3": 0x0304 } as const;

/** One TLS configuration, compiled. `options()` is cheap: it makes a new object only after the secrets changed. */
export class TlsMaterial {
  #rules: PeerRules;
  readonly #secrets: SecretSource;
  readonly #certificate: CertificateSource | null;
  readonly #roots: RootsSource | null;
  readonly #fixed: HandshakeOptions;
  #generation = -1;
  #options: HandshakeOptions | string = "";

  constructor(secrets: SecretSource, config: DownstreamTlsConfig | UpstreamTlsConfig, rules: PeerRules, isServer: boolean) {
    this.#secrets = secrets;
    this.#certificate = config.certificate;
    this.#roots = config.roots;
    this.#rules = rules;
    const maxVersion = config.maxVersion ?? "TLSv1.3";
    if (maxVersion < config.minVersion)
      throw new Error(`the newest TLS version (${maxVersion}) is older than the oldest (${config.minVersion})`);
    const sni = "sni" in config ? config.sni : "";
    this.#fixed = {
      requestCert: isServer && config.roots !== null,
      rejectUnauthorized: false,
      minVersion: onTheWire[config.minVersion],
      ...(maxVersion === "TLSv1.3" ? {} : { maxVersion: onTheWire[maxVersion] }),
      ...(config.minVersion === "TLSv1.3" ? {} : { ciphers: tls12Ciphers }),
      ...(config.alpn.length === 0 ? {} : { ALPNProtocols: alpnWire(config.alpn) }),
      ...(sni === "" ? {} : { serverName: sni }),
    };
  }

  /** Grows when the certificates change. */
  get generation(): number {
    return this.#secrets.generation;
  }

  /** As they are now: what is denied may have changed since a handshake began. */
  get rules(): PeerRules {
    if (this.#secrets.generation !== this.#generation) this.options();
    return this.#rules;
  }

  /** The options for the next handshake, or why there are none. */
  options(): HandshakeOptions | string {
    const generation = this.#secrets.generation;
    if (generation !== this.#generation) {
      this.#options = this.#read();
      // Only the mesh's own roots have a list: others' certificates are none of its business.
      if (this.#roots?.kind === "secret") this.#rules = { ...this.#rules, denied: this.#secrets.denied?.() ?? null };
      this.#generation = generation;
    }
    return this.#options;
  }

  #read(): HandshakeOptions | string {
    const options: { -readonly [K in keyof HandshakeOptions]: HandshakeOptions[K] } = { ...this.#fixed };
    const own = this.#certificate;
    if (own !== null) {
      const found = own.kind === "pem" ? own : this.#secrets.certificate(own.name);
      if (found === undefined) {
        const name = own.kind === "secret" ? own.name : "";
        return this.#secrets.lapsed?.(name) ?? `the certificate ${name} has not arrived yet`;
      }
      options.cert = found.certificatePem;
      options.key = found.privateKeyPem;
    }
    const roots = this.#roots;
    if (roots !== null) {
      const found = roots.kind === "pem" ? roots.pem : this.#secrets.roots(roots.name);
      if (found === undefined) return `the roots ${roots.kind === "secret" ? roots.name : ""} have not arrived yet`;
      // One certificate each: a bundle that lacks a line break between two of them is still a bundle.
      options.ca = found.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [found];
      if (found.length > largeBundle) return prepared(options);
    }
    return options;
  }
}

/** The same with the certificates parsed now. */
function prepared(options: HandshakeOptions): HandshakeOptions {
  // Loaded on first use: no sidecar's own roots are large, and the module costs 2 MB.
  const { createSecureContext } = require("node:tls") as typeof import("node:tls");
  const { cert, key, ca, ...rest } = options;
  const made = createSecureContext({
    ...(ca === undefined ? {} : { ca: [...ca] }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(options.ciphers === undefined ? {} : { ciphers: options.ciphers }),
    minVersion: options.minVersion === onTheWire["TLSv1.3"] ? "TLSv1.3" : "TLSv1.2",
    maxVersion: options.maxVersion === onTheWire["TLSv1.2"] ? "TLSv1.2" : "TLSv1.3",
  });
  return { ...rest, secureContext: (made as unknown as { context: unknown }).context };
}

/** ALPN as it is on the wire (RFC 7301 3.1): each name after its length. */
function alpnWire(names: readonly string[]): Uint8Array {
  const out = new Uint8Array(names.reduce((size, name) => size + 1 + name.length, 0));
  let at = 0;
  for (const name of names) {
    out[at++] = name.length;
    out.set(latin1(name), at);
    at += name.length;
  }
  return out;
}

function checkRoots(config: DownstreamTlsConfig | UpstreamTlsConfig): void {
  if (config.roots === null && config.peerNames.length > 0)
    throw new Error("peer names are given, but there are no roots to verify certificates with");
}

/** Throws with a sentence when the configuration makes no sense. `trustDomain`: of this proxy, applied to roots that come as a secret. */
export function downstreamMaterial(config: DownstreamTlsConfig, secrets: SecretSource, trustDomain: string): TlsMaterial {
  if (config.roots === null && config.requireClientCertificate)
    throw new Error("client certificates are required, but there are no roots to verify them with");
  checkRoots(config);
  const rules: PeerRules = {
    verify: config.roots !== null,
    required: config.requireClientCertificate,
    names: compileNames(config.peerNames),
    trustDomain: config.roots?.kind === "secret" && trustDomain !== "" ? trustDomain : null,
    minVersion13: config.minVersion === "TLSv1.3",
  };
  return new TlsMaterial(secrets, config, rules, true);
}

/** Throws with a sentence when the configuration makes no sense. */
export function upstreamMaterial(config: UpstreamTlsConfig, secrets: SecretSource): TlsMaterial {
  checkRoots(config);
  const rules: PeerRules = {
    verify: config.roots !== null,
    required: config.roots !== null,
    names: compileNames(config.peerNames),
    trustDomain: null,
    minVersion13: config.minVersion === "TLSv1.3",
  };
  return new TlsMaterial(secrets, config, rules, false);
}
