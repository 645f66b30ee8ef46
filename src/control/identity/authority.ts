// Owns: the mesh's certificate authority on disk (`ca.key`, `ca.crt`) and what it signs. The root is made once, on first start, and never
// replaced by this code. Never hands out the root's key; never signs a name that is not the caller's own.

import { createPrivateKey, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { Identity } from "../../wire/spiffe.ts";
import { IdentityError } from "./failure.ts";
import { createFileOnce, ensureFolder, privateMode, publicMode, readIfThere, readPrivate, writeFileAtomic } from "./files.ts";
import { generateKeyPem, type IssuedCertificate, issueServer, issueWorkload, makeRoot, type RandomBytes } from "./pki.ts";
import { Secret } from "./secret.ts";

export interface KeyAndCertificate {
  /** Leaf first, root last. */
  readonly certificatePem: string;
  readonly keyPem: Secret;
}

export interface Authority {
  readonly trustDomain: string;
  /** The root as PEM: what everybody in the mesh trusts. */
  readonly rootPem: string;
  /** True when this start made the root. */
  readonly created: boolean;
  /** The control plane's own certificate for its servers: kept in `server.crt` and `server.key`, made anew when names change or a third of its life is left. */
  serverCertificate(names: { readonly dns: readonly string[]; readonly ip: readonly string[] }): Promise<KeyAndCertificate>;
  /**
   * Signs a workload's request. The name is the caller's, whatever the request says; a request that says otherwise is refused (CsrRefused).
   * `lifeSeconds` 0 = the default of 24 h, which is also the most.
   */
  signWorkload(
    csrPem: string,
    caller: Identity,
    lifeSeconds: number,
  ): Promise<IssuedCertificate & { readonly chainPem: readonly string[] }>;
  /** A certificate of this mesh, in its time: the identity is then to be believed. DER in. */
  isTrusted(certificateDer: Uint8Array): boolean;
}

export interface AuthorityOptions {
  /** Data folder. */
  readonly dir: string;
  /** undefined = the one of the root on disk, or `cluster.local` for a new one. */
  readonly trustDomain: string | undefined;
  readonly clock: Clock;
  readonly random: RandomBytes;
}

export const defaultTrustDomain = "cluster.local";
/** The identity in the control plane's server certificate. */
export const controlPlaneAccount = { namespace: "weft-system", serviceAccount: "weft-control-plane" } as const;

const workloadLifeMs = 24 * 3_600_000;
const serverLifeMs = 365 * 86_400_000;

/** Reads the authority from the data folder, making it on first start. Throws IdentityError in words meant for the user. */
export async function openAuthority(options: AuthorityOptions): Promise<Authority> {
  const { dir, clock, random } = options;
  ensureFolder(dir);
  const keyPath = join(dir, "ca.key");
  const certificatePath = join(dir, "ca.crt");
  let created = false;

  let keyPem = readPrivate(keyPath);
  let rootPem = readIfThere(certificatePath);
  if (keyPem === undefined && rootPem !== undefined) {
    throw new IdentityError(
      `${certificatePath} is there but its key ${keyPath} is not; restore the key, or move the certificate away to start a new mesh (every workload must then join again)`,
    );
  }
  if (keyPem === undefined) {
    createFileOnce(keyPath, generateKeyPem(), privateMode);
    keyPem = readPrivate(keyPath) as string;
    created = true;
  }
  if (rootPem === undefined) {
    // Also the way back from a crash between the two files: the key is kept, the certificate is made for it.
    createFileOnce(certificatePath, makeRoot(keyPem, options.trustDomain ?? defaultTrustDomain, clock.now(), random), publicMode);
    rootPem = readIfThere(certificatePath) as string;
    created = true;
  }

  rootPem = `${rootPem.trim()}\n`;
  const root = readRoot(certificatePath, rootPem);
  if (!root.certificate.checkPrivateKey(readKey(keyPath, keyPem))) {
    throw new IdentityError(`${keyPath} is not the key of ${certificatePath}; restore the pair that belongs together`);
  }
  if (options.trustDomain !== undefined && options.trustDomain !== root.trustDomain) {
    throw new IdentityError(
      `--trust-domain ${options.trustDomain} differs from the trust domain ${root.trustDomain} of ${certificatePath}; leave the flag out, or use another data folder for another mesh`,
    );
  }
  if (clock.now() >= root.certificate.validToDate.getTime()) {
    throw new IdentityError(
      `${certificatePath} expired at ${root.certificate.validTo}; move ca.crt away: a new one is made for the same key`,
    );
  }
  const issuer = { certificatePem: rootPem, keyPem };
  const chainEnd = rootPem;
  const { certificate, trustDomain } = root;

  return {
    trustDomain,
    rootPem,
    created,
    async serverCertificate(names) {
      const identity = { trustDomain, ...controlPlaneAccount };
      return serverCertificate(dir, issuer, certificate, { dns: [...names.dns], ip: [...names.ip], identity }, clock, random);
    },
    async signWorkload(csrPem, caller, lifeSeconds) {
      const lifeMs = lifeSeconds > 0 ? Math.min(lifeSeconds * 1000, workloadLifeMs) : workloadLifeMs;
      const issued = await issueWorkload(issuer, csrPem, caller, clock.now(), lifeMs, random);
      return { ...issued, chainPem: [`${issued.certificatePem.trim()}\n`, chainEnd] };
    },
    isTrusted(certificateDer) {
      return isTrusted(new X509Certificate(certificateDer), certificate, clock.now());
    },
  };
}

function isTrusted(leaf: X509Certificate, root: X509Certificate, nowMs: number): boolean {
  if (leaf.ca || !leaf.checkIssued(root) || !leaf.verify(root.publicKey)) return false;
  return leaf.validFromDate.getTime() <= nowMs && nowMs < leaf.validToDate.getTime();
}

function readRoot(path: string, pem: string): { certificate: X509Certificate; trustDomain: string } {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
  } catch (cause) {
    throw new IdentityError(`${path} is not a certificate: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  const trustDomain = /URI:spiffe:\/\/([a-z0-9._-]+)(?:,|$)/.exec(certificate.subjectAltName ?? "")?.[1];
  if (trustDomain === undefined || !certificate.ca) {
    throw new IdentityError(
      `${path} is not a root of a mesh: it must be a CA certificate whose subjectAltName is the URI spiffe://TRUSTDOMAIN`,
    );
  }
  return { certificate, trustDomain };
}

function readKey(path: string, pem: string) {
  try {
    return createPrivateKey(pem);
  } catch {
    throw new IdentityError(`${path} is not a private key in PEM; restore it from a copy`);
  }
}

async function serverCertificate(
  dir: string,
  issuer: { readonly certificatePem: string; readonly keyPem: string },
  root: X509Certificate,
  names: { readonly dns: readonly string[]; readonly ip: readonly string[]; readonly identity: Identity },
  clock: Clock,
  random: RandomBytes,
): Promise<KeyAndCertificate> {
  const keyPath = join(dir, "server.key");
  const certificatePath = join(dir, "server.crt");
  const oldKey = readPrivate(keyPath);
  const oldCertificate = readIfThere(certificatePath);
  if (oldKey !== undefined && oldCertificate !== undefined && serves(oldCertificate, oldKey, root, names, clock.now())) {
    return { certificatePem: `${oldCertificate.trim()}\n${issuer.certificatePem}`, keyPem: new Secret(oldKey) };
  }
  const keyPem = generateKeyPem();
  const issued = issueServer(issuer, keyPem, names, clock.now(), serverLifeMs, random);
  // A crash between the two leaves a pair that does not fit, which `serves` sees; this key is replaced freely, nobody pins it.
  writeFileAtomic(keyPath, keyPem, privateMode);
  writeFileAtomic(certificatePath, `${issued.certificatePem.trim()}\n`, publicMode);
  return { certificatePem: `${issued.certificatePem.trim()}\n${issuer.certificatePem}`, keyPem: new Secret(keyPem) };
}

function serves(
  certificatePem: string,
  keyPem: string,
  root: X509Certificate,
  names: { readonly dns: readonly string[]; readonly ip: readonly string[] },
  nowMs: number,
): boolean {
  try {
    const leaf = new X509Certificate(certificatePem);
    if (!isTrusted(leaf, root, nowMs) || !leaf.checkPrivateKey(createPrivateKey(keyPem))) return false;
    const left = leaf.validToDate.getTime() - nowMs;
    if (left * 3 < leaf.validToDate.getTime() - leaf.validFromDate.getTime() && left < root.validToDate.getTime() - nowMs) return false;
    return names.dns.every((name) => leaf.checkHost(name) !== undefined) && names.ip.every((ip) => leaf.checkIP(ip) !== undefined);
  } catch {
    return false;
  }
}

/** The names the control plane's servers answer to, for one listen address. */
export function serverNames(listen: string): { dns: string[]; ip: string[] } {
  const ip = new Set(["127.0.0.1"]);
  const dns = new Set(["localhost", "weft"]);
  if (isIP(listen) !== 0) ip.add(listen);
  else dns.add(listen);
  return { dns: [...dns], ip: [...ip] };
}
