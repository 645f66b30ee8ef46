// Owns: TLS contexts of listeners and clusters, and the table of transport sockets. Certificates from files or inline are read and checked here;
// SDS names must be the two that the proxy serves from its own identity.

import type { DataSource } from "../../../wire/gen/envoy/config/core/v3/base_pb.ts";
import type { ConfigSource } from "../../../wire/gen/envoy/config/core/v3/config_source_pb.ts";
import type {
  CertificateValidationContext,
  TlsCertificate,
} from "../../../wire/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts";
import type { SdsSecretConfig } from "../../../wire/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts";
import type { CommonTlsContext } from "../../../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { meshRootsSecret, workloadCertificateSecret } from "../../../wire/names.ts";
import type { CertificateSource, DownstreamTlsConfig, RootsSource, SanMatcher, TlsVersion, UpstreamTlsConfig } from "../../config.ts";
import { readSystemRoots, systemRootFiles } from "../../identity/system-roots.ts";
import { certificatesOf } from "../../identity/x509.ts";
import { DownstreamTlsContext, RawBuffer, UpstreamTlsContext } from "../proto/types.ts";
import { at, choose, dataSource, type Extension, extension, type Gate } from "./gate.ts";
import { stringMatch } from "./match.ts";

const noCertificate: CertificateSource = { kind: "pem", certificatePem: "", privateKeyPem: "" };

export const downstreamTransportSockets: readonly Extension<DownstreamTlsConfig | "plain">[] = [
  extension(DownstreamTlsContext, (gate, context, path): DownstreamTlsConfig => {
    const common = commonTls(gate, context.commonTlsContext, at(path, "common_tls_context"));
    if (common.certificate === null)
      gate.add(at(path, "common_tls_context.tls_certificates"), "needs a certificate for a listener to speak TLS");
    const require = context.requireClientCertificate ?? false;
    if (require && common.roots === null) {
      gate.add(at(path, "require_client_certificate"), "true needs a trusted_ca (or the SDS secret of the roots) to verify against");
    }
    return {
      certificate: common.certificate ?? noCertificate,
      roots: common.roots,
      requireClientCertificate: require,
      peerNames: common.peerNames,
      alpn: common.alpn,
      minVersion: common.minVersion,
    };
  }),
  extension(RawBuffer, () => "plain" as const),
];

export const upstreamTransportSockets: readonly Extension<UpstreamTlsConfig | "plain">[] = [
  extension(UpstreamTlsContext, (gate, context, path): UpstreamTlsConfig => {
    return { ...commonTls(gate, context.commonTlsContext, at(path, "common_tls_context")), sni: context.sni };
  }),
  extension(RawBuffer, () => "plain" as const),
];

interface CommonTls {
  readonly certificate: CertificateSource | null;
  readonly roots: RootsSource | null;
  readonly peerNames: readonly SanMatcher[];
  readonly alpn: readonly string[];
  readonly minVersion: TlsVersion;
  readonly maxVersion?: TlsVersion;
}

const protocols = "envoy.extensions.transport_sockets.tls.v3.TlsParameters.TlsProtocol";

function commonTls(gate: Gate, common: CommonTlsContext | undefined, path: string): CommonTls {
  if (common === undefined) return { certificate: null, roots: null, peerNames: [], alpn: [], minVersion: "TLSv1.2" };
  const own = certificate(gate, common, path);
  const checked = validation(gate, common, path);
  // Envoy's AUTO begins at 1.2, which the outside world needs. Between the mesh's own identities both sides speak 1.3 unless a configuration says otherwise.
  const auto: TlsVersion = own?.kind === "secret" || checked.roots?.kind === "secret" ? "TLSv1.3" : "TLSv1.2";
  const minVersion = choose<TlsVersion>(
    gate,
    at(path, "tls_params.tls_minimum_protocol_version"),
    protocols,
    common.tlsParams?.tlsMinimumProtocolVersion ?? 0,
    { TLS_AUTO: auto, TLSv1_2: "TLSv1.2", TLSv1_3: "TLSv1.3" },
    "TLSv1.3",
  );
  const maximum = at(path, "tls_params.tls_maximum_protocol_version");
  const maxVersion = choose<TlsVersion>(
    gate,
    maximum,
    protocols,
    common.tlsParams?.tlsMaximumProtocolVersion ?? 0,
    { TLS_AUTO: "TLSv1.3", TLSv1_2: "TLSv1.2", TLSv1_3: "TLSv1.3" },
    "TLSv1.3",
  );
  if (maxVersion < minVersion) gate.add(maximum, `${maxVersion} is older than the oldest version allowed, ${minVersion}`);
  return {
    certificate: own,
    ...checked,
    alpn: alpn(gate, common, path),
    minVersion,
    ...(maxVersion === "TLSv1.3" ? {} : { maxVersion }),
  };
}

function alpn(gate: Gate, common: CommonTlsContext, path: string): readonly string[] {
  common.alpnProtocols.forEach((name, n) => {
    // RFC 7301 section 3.1: 1 to 255 bytes.
    if (name.length === 0 || Buffer.byteLength(name) > 255) gate.add(at(path, `alpn_protocols[${n}]`), "must have 1 to 255 bytes");
  });
  return common.alpnProtocols;
}

function certificate(gate: Gate, common: CommonTlsContext, path: string): CertificateSource | null {
  const inline = common.tlsCertificates;
  const sds = common.tlsCertificateSdsSecretConfigs;
  if (inline.length + sds.length > 1) {
    gate.add(
      at(path, inline.length > 1 ? "tls_certificates" : "tls_certificate_sds_secret_configs"),
      "more than one certificate is not supported",
    );
  }
  if (inline[0] !== undefined) return pemCertificate(gate, inline[0], at(path, "tls_certificates[0]"));
  if (sds[0] === undefined) return null;
  return secretCertificate(gate, sds[0], at(path, "tls_certificate_sds_secret_configs[0]"));
}

function secretCertificate(gate: Gate, sds: SdsSecretConfig, path: string): CertificateSource {
  if (sds.sdsConfig === undefined) {
    const secret = gate.world.staticSecrets.get(sds.name);
    if (secret?.type.case === "tlsCertificate") return pemCertificate(gate, secret.type.value, at(path, "name"));
    gate.add(at(path, "name"), missingSecret(gate, sds.name, "tls_certificate"));
    return noCertificate;
  }
  ownSecret(gate, sds, workloadCertificateSecret, path);
  return { kind: "secret", name: sds.name };
}

function ownSecret(gate: Gate, sds: SdsSecretConfig, wanted: string, path: string): void {
  if (sds.name !== wanted)
    gate.add(at(path, "name"), `"${sds.name}" is not a secret of this proxy; it serves "${wanted}" here, from its own identity`);
  sdsSource(gate, sds.sdsConfig, at(path, "sds_config"));
}

/** Secrets never travel: whatever way the configuration names, the proxy answers from its own identity. Only the form is checked. */
function sdsSource(gate: Gate, source: ConfigSource | undefined, path: string): void {
  if (source?.configSourceSpecifier.case === undefined) gate.add(path, "needs ads or api_config_source");
}

function missingSecret(gate: Gate, name: string, kind: string): string {
  const names = [...gate.world.staticSecrets.keys()];
  return `"${name}" is no ${kind} among static_resources.secrets (${names.length === 0 ? "there are none" : names.join(", ")}); give it an sds_config to use the proxy's own identity`;
}

function pemCertificate(gate: Gate, source: TlsCertificate, path: string): CertificateSource {
  const chainPath = at(path, "certificate_chain");
  const keyPath = at(path, "private_key");
  if (source.certificateChain === undefined) gate.add(chainPath, "is missing");
  if (source.privateKey === undefined) gate.add(keyPath, "is missing");
  const chain = dataSource(gate, chainPath, source.certificateChain);
  const key = dataSource(gate, keyPath, source.privateKey);
  if (chain === undefined || key === undefined) return noCertificate;
  const keyText = Buffer.from(key).toString("utf8");
  if (checkCertificates(gate, chainPath, chain)) checkPrivateKey(gate, keyPath, chain, keyText);
  return { kind: "pem", certificatePem: Buffer.from(chain).toString("utf8"), privateKeyPem: keyText, ...fileName(source.certificateChain) };
}

/** What metrics call it; inline certificates have no name. */
function fileName(source: DataSource | undefined): { name?: string } {
  return source?.specifier.case === "filename" ? { name: source.specifier.value } : {};
}

function checkCertificates(gate: Gate, path: string, pem: Uint8Array): boolean {
  try {
    if (certificatesOf(Buffer.from(pem).toString("latin1")).length > 0) return true;
  } catch {
    // Said below.
  }
  gate.add(path, "is not a certificate in PEM");
  return false;
}

function checkPrivateKey(gate: Gate, path: string, chain: Uint8Array, keyText: string): void {
  // Loaded on first use: a sidecar's own key never comes this way, and the module costs 1.5 MB.
  const { createPrivateKey, X509Certificate } = require("node:crypto") as typeof import("node:crypto");
  try {
    if (!new X509Certificate(chain).checkPrivateKey(createPrivateKey(keyText))) gate.add(path, "does not belong to the certificate");
  } catch {
    // The reason stays out: it may quote the file.
    gate.add(path, "is not an unencrypted private key in PEM");
  }
}

function validation(gate: Gate, common: CommonTlsContext, path: string): { roots: RootsSource | null; peerNames: readonly SanMatcher[] } {
  const type = common.validationContextType;
  switch (type.case) {
    case undefined:
      return { roots: null, peerNames: [] };
    case "validationContext":
      return validationContext(gate, type.value, at(path, "validation_context"));
    case "validationContextSdsSecretConfig":
      return secretRoots(gate, type.value, at(path, "validation_context_sds_secret_config"));
    case "combinedValidationContext": {
      const inner = at(path, "combined_validation_context");
      const sds = type.value.validationContextSdsSecretConfig;
      const base = type.value.defaultValidationContext;
      if (base !== undefined) noList(gate, base, at(inner, "default_validation_context"));
      if (sds === undefined) {
        gate.add(at(inner, "validation_context_sds_secret_config"), "is missing");
        return { roots: null, peerNames: [] };
      }
      const own = secretRoots(gate, sds, at(inner, "validation_context_sds_secret_config"));
      // Envoy merges the two: repeated fields add up, and the secret's trusted_ca wins.
      const names = (base?.matchTypedSubjectAltNames ?? []).map((matcher, n) =>
        sanMatcher(gate, matcher, `${at(inner, "default_validation_context")}.match_typed_subject_alt_names[${n}]`),
      );
      return { roots: own.roots, peerNames: [...own.peerNames, ...names] };
    }
  }
}

function secretRoots(gate: Gate, sds: SdsSecretConfig, path: string): { roots: RootsSource | null; peerNames: readonly SanMatcher[] } {
  if (sds.sdsConfig === undefined) {
    const secret = gate.world.staticSecrets.get(sds.name);
    if (secret?.type.case === "validationContext") return validationContext(gate, secret.type.value, at(path, "name"));
    gate.add(at(path, "name"), missingSecret(gate, sds.name, "validation_context"));
    return { roots: null, peerNames: [] };
  }
  ownSecret(gate, sds, meshRootsSecret, path);
  return { roots: { kind: "secret", name: sds.name }, peerNames: [] };
}

/** Never accepted and passed over: it would keep nobody out. */
function noList(gate: Gate, context: CertificateValidationContext, path: string): void {
  if (context.crl !== undefined)
    gate.add(at(path, "crl"), "revocation lists of a configuration are not enforced; revoke in the mesh instead (weft ca revoke)");
}

function validationContext(
  gate: Gate,
  context: CertificateValidationContext,
  path: string,
): { roots: RootsSource | null; peerNames: readonly SanMatcher[] } {
  noList(gate, context, path);
  const peerNames = context.matchTypedSubjectAltNames.map((matcher, n) =>
    sanMatcher(gate, matcher, `${path}.match_typed_subject_alt_names[${n}]`),
  );
  // Envoy: the system's roots count only where no others are named.
  if (context.systemRootCerts !== undefined && context.trustedCa === undefined) return { roots: systemRoots(gate, path), peerNames };
  // Envoy has no other word for the system's roots than the file where a distribution keeps them: also a control plane may mean those.
  const file = context.trustedCa?.specifier.case === "filename" ? context.trustedCa.specifier.value : "";
  if (systemRootFiles.includes(file)) return { roots: systemRoots(gate, path), peerNames };
  const pem = dataSource(gate, at(path, "trusted_ca"), context.trustedCa);
  if (pem === undefined) {
    if (context.trustedCa === undefined && peerNames.length > 0) {
      gate.add(at(path, "trusted_ca"), "is missing: names in certificates prove nothing without roots to verify them against");
    }
    return { roots: null, peerNames };
  }
  checkCertificates(gate, at(path, "trusted_ca"), pem);
  return { roots: { kind: "pem", pem: Buffer.from(pem).toString("utf8"), ...fileName(context.trustedCa) }, peerNames };
}

function systemRoots(gate: Gate, path: string): RootsSource | null {
  const found = readSystemRoots(gate.world.readSystemFile ?? gate.world.readFile);
  if (found === undefined) {
    gate.add(at(path, "system_root_certs"), "this host has no bundle of authorities; install ca-certificates, or name one in trusted_ca");
    return null;
  }
  checkCertificates(gate, at(path, "system_root_certs"), found.pem);
  return { kind: "pem", pem: Buffer.from(found.pem).toString("utf8"), name: found.path };
}

function sanMatcher(gate: Gate, matcher: CertificateValidationContext["matchTypedSubjectAltNames"][number], path: string): SanMatcher {
  const type = choose<SanMatcher["type"]>(
    gate,
    at(path, "san_type"),
    "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher.SanType",
    matcher.sanType,
    { URI: "uri", DNS: "dns" },
    "uri",
  );
  return { type, match: stringMatch(gate, at(path, "matcher"), matcher.matcher) };
}
