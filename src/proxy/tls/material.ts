// Owns: turning configured certificate sources into the options a handshake takes, read anew whenever the secrets change.
// Must never print key material.

import type { CertificateSource, DownstreamTlsConfig, RootsSource, SecretSource, TlsVersion, UpstreamTlsConfig } from "../config.ts";
import { latin1 } from "../http/bytes.ts";
import { compileNames, type PeerRules } from "./peer.ts";

/** What Bun's `tls` option takes here; `minVersion` is the protocol's number on the wire. */
export interface HandshakeOptions {
  readonly cert?: string;
  readonly key?: string;
  readonly ca?: readonly string[];
  readonly requestCert: boolean;
  readonly rejectUnauthorized: false;
  readonly ALPNProtocols?: Uint8Array;
  readonly minVersion: number;
  readonly serverName?: string;
}

/** One TLS configuration, compiled. `options()` is cheap: it makes a new object only after the secrets changed. */
export class TlsMaterial {
  readonly rules: PeerRules;
  readonly #secrets: SecretSource;
  readonly #certificate: CertificateSource | null;
  readonly #roots: RootsSource | null;
  readonly #fixed: Pick<HandshakeOptions, "requestCert" | "rejectUnauthorized" | "minVersion"> & {
    ALPNProtocols?: Uint8Array;
    serverName?: string;
  };
  #generation = -1;
  #options: HandshakeOptions | string = "";

  constructor(
    secrets: SecretSource,
    certificate: CertificateSource | null,
    roots: RootsSource | null,
    rules: PeerRules,
    alpn: readonly string[],
    minVersion: TlsVersion,
    serverName: string,
    requestCert: boolean,
  ) {
    this.#secrets = secrets;
    this.#certificate = certificate;
    this.#roots = roots;
    this.rules = rules;
    this.#fixed = { requestCert, rejectUnauthorized: false, minVersion: minVersion === "TLSv1.3" ? 0x0304 : 0x0303 };
    if (alpn.length > 0) this.#fixed.ALPNProtocols = alpnWire(alpn);
    if (serverName !== "") this.#fixed.serverName = serverName;
  }

  /** Grows when the certificates change. */
  get generation(): number {
    return this.#secrets.generation;
  }

  /** The options for the next handshake, or why there are none. */
  options(): HandshakeOptions | string {
    const generation = this.#secrets.generation;
    if (generation !== this.#generation) {
      this.#options = this.#read();
      this.#generation = generation;
    }
    return this.#options;
  }

  #read(): HandshakeOptions | string {
    const options: { -readonly [K in keyof HandshakeOptions]: HandshakeOptions[K] } = { ...this.#fixed };
    const own = this.#certificate;
    if (own !== null) {
      const found = own.kind === "pem" ? own : this.#secrets.certificate(own.name);
      if (found === undefined) return `the certificate ${own.kind === "secret" ? own.name : ""} has not arrived yet`;
      options.cert = found.certificatePem;
      options.key = found.privateKeyPem;
    }
    const roots = this.#roots;
    if (roots !== null) {
      const found = roots.kind === "pem" ? roots.pem : this.#secrets.roots(roots.name);
      if (found === undefined) return `the roots ${roots.kind === "secret" ? roots.name : ""} have not arrived yet`;
      // One certificate each: a bundle that lacks a line break between two of them is still a bundle.
      options.ca = found.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [found];
    }
    return options;
  }
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

/** Throws with a sentence when the configuration makes no sense. `trustDomain`: of this proxy, applied to roots that come as a secret. */
export function downstreamMaterial(config: DownstreamTlsConfig, secrets: SecretSource, trustDomain: string): TlsMaterial {
  if (config.roots === null && config.requireClientCertificate)
    throw new Error("client certificates are required, but there are no roots to verify them with");
  if (config.roots === null && config.peerNames.length > 0)
    throw new Error("peer names are given, but there are no roots to verify certificates with");
  const rules: PeerRules = {
    verify: config.roots !== null,
    required: config.requireClientCertificate,
    names: compileNames(config.peerNames),
    trustDomain: config.roots?.kind === "secret" && trustDomain !== "" ? trustDomain : null,
    minVersion13: config.minVersion === "TLSv1.3",
  };
  return new TlsMaterial(secrets, config.certificate, config.roots, rules, config.alpn, config.minVersion, "", config.roots !== null);
}

/** Throws with a sentence when the configuration makes no sense. */
export function upstreamMaterial(config: UpstreamTlsConfig, secrets: SecretSource): TlsMaterial {
  if (config.roots === null && config.peerNames.length > 0)
    throw new Error("peer names are given, but there are no roots to verify certificates with");
  const rules: PeerRules = {
    verify: config.roots !== null,
    required: config.roots !== null,
    names: compileNames(config.peerNames),
    trustDomain: null,
    minVersion13: config.minVersion === "TLSv1.3",
  };
  return new TlsMaterial(secrets, config.certificate, config.roots, rules, config.alpn, config.minVersion, config.sni, false);
}
