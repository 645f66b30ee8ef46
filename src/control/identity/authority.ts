// Owns: the mesh's certificate authority: whose key signs, which roots are trusted, and what it signs. It is made once, on first start (`ca.key`, `ca.crt`), or
// given by the user (`given.ts`); a root is replaced by `rotation.ts` alone. Never hands out a key; never signs a name that is not the caller's own.

import { generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { Identity } from "../../wire/spiffe.ts";
import { type CaCertificate, readCaCertificates } from "./ca-certificate.ts";
import { IdentityError } from "./failure.ts";
import { createFileOnce, ensureFolder, privateMode, publicMode, readIfThere, readPrivate, writeFileAtomic } from "./files.ts";
import { type GivenFiles, readGiven, readRoots } from "./given.ts";
import { isEncrypted, readKey, writeKey } from "./key-file.ts";
import { type IssuedCertificate, type Issuer, issuerOf, issueWorkload, makeRoot, type RandomBytes } from "./pki.ts";
import { type CaFiles, caFileNames, finished, type RotationState, readCaFolder, readRotation, writeCaFolder } from "./rotation-state.ts";
import type { Secret } from "./secret.ts";
import { inTime, serverCertificate, signedBy } from "./server-certificate.ts";
import { localSigner } from "./signer.ts";

export interface KeyAndCertificate {
  /** Leaf first, root last. */
  readonly certificatePem: string;
  readonly keyPem: Secret;
}

/** Who signs now, or did a moment ago: what revocation lists are signed by. */
export interface LiveIssuer extends Issuer {
  readonly certificate: CaCertificate;
}

export interface Authority {
  readonly trustDomain: string;
  /** The roots as PEM: what everybody in the mesh trusts now. The one whose certificates are issued comes first. */
  readonly rootPem: string;
  /** True when this start made the root. */
  readonly created: boolean;
  /** The user gave it; its roots are replaced by other files and a restart. */
  readonly given: boolean;
  /** The authority that signs workloads' certificates. */
  readonly issuing: LiveIssuer;
  /** All of which certificates may be alive; `issuing` first. */
  readonly issuers: readonly LiveIssuer[];
  /** What is kept, where it is ours: for `rotation.ts`. */
  readonly files: CaFiles | undefined;
  readonly rotation: RotationState | undefined;
  /** Takes up another state of what is kept. Throws IdentityError and stays as it was. */
  adopt(files: CaFiles): void;
  /** A key and a root for it, to come after the present one. Nobody knows them yet. */
  makeNext(): RotationState["next"];
  /** Called when roots or issuer have changed. */
  onChange(run: () => void): () => void;
  /** The control plane's own certificate for its servers: kept in `server.crt` and `server.key`, made anew when names or the root change or a third of its life is left. */
  serverCertificate(names: { readonly dns: readonly string[]; readonly ip: readonly string[] }): Promise<KeyAndCertificate>;
  /**
   * Signs a workload's request. The name is the caller's, whatever the request says; a request that says otherwise is refused (CsrRefused).
   * `lifeSeconds` 0 = the default of 24 h, which is also the most. `chainPem`: leaf, intermediates, and last all roots.
   */
  signWorkload(
    csrPem: string,
    caller: Identity,
    lifeSeconds: number,
  ): Promise<IssuedCertificate & { readonly chainPem: readonly string[] }>;
  /** A certificate of this mesh whose chain TLS has verified, in its time: the identity is then to be believed. DER in. */
  isTrusted(certificateDer: Uint8Array): boolean;
  /** Which of `issuers` signed it; undefined: none, or nobody knows. */
  issuerOf(certificateDer: Uint8Array): LiveIssuer | undefined;
}

export interface AuthorityOptions {
  /** Data folder. */
  readonly dir: string;
  /** undefined = the one of the root on disk, or `cluster.local` for a new one. */
  readonly trustDomain: string | undefined;
  readonly clock: Clock;
  readonly random: RandomBytes;
  /** The user's own authority; absent: ours. */
  readonly given?: GivenFiles | undefined;
  /** Roots that are trusted beside those of our own authority: what the mesh is to move to, or comes from. */
  readonly rootFile?: string | undefined;
  /** Of the authority's key; a plain one that is ours is encrypted with it at once. */
  readonly passphrase?: Secret | undefined;
}

export const defaultTrustDomain = "cluster.local";
/** The identity in the control plane's server certificate. */
export const controlPlaneAccount = { namespace: "weft-system", serviceAccount: "weft-control-plane" } as const;

export const workloadLifeMs = 24 * 3_600_000;

/** What follows from what is kept, or given. */
interface Trust {
  readonly issuing: LiveIssuer;
  readonly issuers: readonly LiveIssuer[];
  /** Signs the servers of the control plane: the root that the mesh is known by, until a new one has taken its place. */
  readonly server: LiveIssuer;
  readonly roots: readonly CaCertificate[];
  /** Between leaf and root. */
  readonly chain: readonly CaCertificate[];
  readonly trustDomain: string;
  readonly files: CaFiles | undefined;
  readonly rotation: RotationState | undefined;
}

/** Reads the authority from the data folder, making it on first start. Throws IdentityError in words meant for the user. */
export async function openAuthority(options: AuthorityOptions): Promise<Authority> {
  const { dir, clock, random, passphrase } = options;
  ensureFolder(dir);
  const beside = options.given !== undefined || options.rootFile === undefined ? [] : readRoots(options.rootFile, clock.now());
  const opened = options.given === undefined ? openOwn(options) : openGiven(options, options.given);
  const { created } = opened;
  let trust = opened.trust;
  const { trustDomain } = trust;
  const changed = new Set<() => void>();
  const keys: OpenKeys = new Map();
  const rootPem = () =>
    [...trust.roots, ...beside.filter((one) => !trust.roots.some((root) => root.pem === one.pem))].map((root) => root.pem).join("");
  const chainPem = (issuer: LiveIssuer) => (trust.chain[0] === issuer.certificate ? trust.chain.map((one) => one.pem) : []);

  return {
    trustDomain,
    created,
    given: options.given !== undefined,
    get rootPem() {
      return rootPem();
    },
    get issuing() {
      return trust.issuing;
    },
    get issuers() {
      return trust.issuers;
    },
    get files() {
      return trust.files;
    },
    get rotation() {
      return trust.rotation;
    },
    adopt(files) {
      trust = trustOf(files, dir, passphrase, keys);
      for (const run of [...changed]) run();
    },
    makeNext() {
      const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
      const signer = localSigner(privateKey);
      const keyPem = writeKey(privateKey, passphrase);
      keys.set(keyPem, privateKey);
      const kind = Buffer.from(random(4)).toString("hex");
      return {
        certificatePem: makeRoot(signer, trustDomain, clock.now(), random, kind),
        keyPem,
      };
    },
    onChange(run) {
      changed.add(run);
      return () => changed.delete(run);
    },
    async serverCertificate(names) {
      const identity = { trustDomain, ...controlPlaneAccount };
      const shown = { dns: [...names.dns], ip: [...names.ip], identity };
      const chain = [
        ...chainPem(trust.server),
        trust.chain.length > 0 ? (trust.roots[0] as CaCertificate).pem : trust.server.certificate.pem,
      ];
      return serverCertificate(dir, trust.server, chain.join(""), shown, clock, random);
    },
    async signWorkload(csrPem, caller, lifeSeconds) {
      const lifeMs = lifeSeconds > 0 ? Math.min(lifeSeconds * 1000, workloadLifeMs) : workloadLifeMs;
      const { issuing } = trust;
      const issued = await issueWorkload(issuing, csrPem, caller, clock.now(), lifeMs, random);
      return { ...issued, chainPem: [`${issued.certificatePem.trim()}\n`, ...chainPem(issuing), rootPem()] };
    },
    isTrusted(certificateDer) {
      const leaf = new X509Certificate(certificateDer);
      if (leaf.ca || !inTime(leaf, clock.now())) return false;
      // Of a given authority another intermediate may have signed it, which TLS has seen and we have not.
      return options.given !== undefined || trust.issuers.some((issuer) => signedBy(leaf, issuer));
    },
    issuerOf(certificateDer) {
      const leaf = new X509Certificate(certificateDer);
      return trust.issuers.find((issuer) => signedBy(leaf, issuer));
    },
  };
}

function openGiven(options: AuthorityOptions, files: GivenFiles): { readonly trust: Trust; readonly created: boolean } {
  const { dir, clock, passphrase } = options;
  const given = readGiven(files, options.trustDomain, passphrase, clock.now());
  const certificatePath = join(dir, caFileNames.certificate);
  const before = readIfThere(certificatePath);
  if (before !== undefined) {
    const known = readFolderRoots(certificatePath, before);
    if (!known.some((root) => given.roots.some((one) => one.pem === root.pem)))
      throw new IdentityError(
        `two certificate authorities claim one mesh: ${certificatePath} is ${describe(known)}, the one of --ca-cert ${files.certificateFile} is ${describe(given.roots)}. ` +
          "Workloads of one would not trust those of the other. To move this mesh over, append the old root to the file of --ca-root until every workload has renewed; for another mesh use another data folder (--data DIR).",
      );
    const domain = known.flatMap((root) => root.trustDomains)[0];
    if (domain !== undefined && domain !== given.trustDomain)
      throw new IdentityError(
        `--ca-cert ${files.certificateFile} is for the trust domain ${given.trustDomain}, and the mesh in ${dir} is ${domain}; use another data folder for another mesh`,
      );
  }
  // What the mesh trusts, for people and for the next start to compare with. The key stays where the user keeps it.
  writeFileAtomic(certificatePath, given.roots.map((root) => root.pem).join(""), publicMode);
  const issuing: LiveIssuer = {
    ...issuerOf(given.issuing, given.signer, [...given.chain.slice(1), given.roots[0] as CaCertificate]),
    certificate: given.issuing,
  };
  const trust: Trust = {
    issuing,
    issuers: [issuing],
    server: issuing,
    roots: given.roots,
    chain: given.chain,
    trustDomain: given.trustDomain,
    files: undefined,
    rotation: undefined,
  };
  return { trust, created: before === undefined };
}

function openOwn(options: AuthorityOptions): { readonly trust: Trust; readonly created: boolean } {
  const { dir, clock, random, passphrase } = options;
  const keyPath = join(dir, caFileNames.key);
  const certificatePath = join(dir, caFileNames.certificate);
  let created = false;
  let keyPem = readPrivate(keyPath);
  if (keyPem === undefined && readIfThere(certificatePath) !== undefined) {
    throw new IdentityError(
      `${certificatePath} is there but its key ${keyPath} is not; if the authority was given, give it again (--ca-cert, --ca-key); otherwise restore the key, or move the certificate away to start a new mesh (every workload must then join again)`,
    );
  }
  if (keyPem === undefined) {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    createFileOnce(keyPath, writeKey(privateKey, passphrase), privateMode);
    keyPem = readPrivate(keyPath) as string;
    created = true;
  }
  const key = readKey(keyPath, keyPem, passphrase);
  if (readIfThere(certificatePath) === undefined) {
    // Also the way back from a crash between the two files: the key is kept, the certificate is made for it.
    const root = makeRoot(localSigner(key), options.trustDomain ?? defaultTrustDomain, clock.now(), random);
    createFileOnce(certificatePath, root, publicMode);
    created = true;
  }
  let files = readCaFolder(dir) as CaFiles;
  if (files.rotation !== undefined) {
    const state = readRotation(files.rotation);
    if (state.phase === "finishing") {
      // Cut short while the new root took the old one's place; the certificate may or may not have been written.
      writeCaFolder(dir, files, finished(files, state));
      files = readCaFolder(dir) as CaFiles;
    }
  }
  files = encryptedAtRest(dir, files, passphrase);
  const trust = trustOf(files, dir, passphrase);
  const { certificate } = trust.server;
  if (options.trustDomain !== undefined && options.trustDomain !== trust.trustDomain) {
    throw new IdentityError(
      `--trust-domain ${options.trustDomain} differs from the trust domain ${trust.trustDomain} of ${certificatePath}; leave the flag out, or use another data folder for another mesh`,
    );
  }
  if (clock.now() >= certificate.notAfterMs) {
    throw new IdentityError(
      `${certificatePath} expired at ${certificate.x509.validTo}; move ca.crt away: a new one is made for the same key`,
    );
  }
  return { trust, created };
}

/** With a passphrase no key of the authority lies there plain. */
function encryptedAtRest(dir: string, files: CaFiles, passphrase: Secret | undefined): CaFiles {
  if (passphrase === undefined) return files;
  const sealed = (pem: string, path: string) => (isEncrypted(pem) ? pem : writeKey(readKey(path, pem, undefined), passphrase));
  const keyPem = sealed(files.keyPem, join(dir, caFileNames.key));
  let { rotation } = files;
  if (rotation !== undefined) {
    const state = readRotation(rotation);
    const next = { ...state.next, keyPem: sealed(state.next.keyPem, join(dir, caFileNames.rotation)) };
    if (next.keyPem !== state.next.keyPem) rotation = `${JSON.stringify({ format: 1, ...state, next })}\n`;
  }
  if (keyPem === files.keyPem && rotation === files.rotation) return files;
  const after = { ...files, keyPem, rotation };
  writeCaFolder(dir, files, after);
  return after;
}

/** Keys by their text, so that a long-winded passphrase is gone through once for each; a rotation adds one. */
type OpenKeys = Map<string, KeyObject>;

/** What follows from what is kept. Throws IdentityError where it does not fit together. */
function trustOf(files: CaFiles, dir: string, passphrase: Secret | undefined, keys: OpenKeys = new Map()): Trust {
  const certificatePath = join(dir, caFileNames.certificate);
  const current = readPair(certificatePath, files.certificatePem, join(dir, caFileNames.key), files.keyPem, passphrase, keys);
  const rotation = files.rotation === undefined ? undefined : readRotation(files.rotation);
  const { trustDomain } = current;
  if (rotation === undefined)
    return {
      issuing: current.issuer,
      issuers: [current.issuer],
      server: current.issuer,
      roots: [current.issuer.certificate],
      chain: [],
      trustDomain,
      files,
      rotation,
    };
  const path = join(dir, caFileNames.rotation);
  const next = readPair(path, rotation.next.certificatePem, path, rotation.next.keyPem, passphrase, keys);
  if (next.trustDomain !== trustDomain)
    throw new IdentityError(
      `${path} holds a root of the trust domain ${next.trustDomain}, and ${certificatePath} is of ${trustDomain}; restore the files that belong together`,
    );
  const newFirst = rotation.phase === "issuing" || rotation.phase === "finishing";
  const issuers = newFirst ? [next.issuer, current.issuer] : [current.issuer, next.issuer];
  return {
    issuing: issuers[0] as LiveIssuer,
    issuers,
    server: current.issuer,
    roots: issuers.map((issuer) => issuer.certificate),
    chain: [],
    trustDomain,
    files,
    rotation,
  };
}

function readPair(
  certificatePath: string,
  certificatePem: string,
  keyPath: string,
  keyPem: string,
  passphrase: Secret | undefined,
  keys: OpenKeys,
) {
  const root = readFolderRoots(certificatePath, certificatePem)[0] as CaCertificate;
  const trustDomain = root.trustDomains[0];
  if (trustDomain === undefined || !root.x509.ca) {
    throw new IdentityError(
      `${certificatePath} is not a root of a mesh: it must be a CA certificate whose subjectAltName is the URI spiffe://TRUSTDOMAIN`,
    );
  }
  const key = keys.get(keyPem) ?? readKey(keyPath, keyPem, passphrase);
  keys.set(keyPem, key);
  if (!root.x509.checkPrivateKey(key)) {
    throw new IdentityError(`${keyPath} is not the key of ${certificatePath}; restore the pair that belongs together`);
  }
  const issuer: LiveIssuer = { ...issuerOf(root, localSigner(key)), certificate: root };
  return { issuer, trustDomain };
}

function readFolderRoots(path: string, pem: string): CaCertificate[] {
  let found: CaCertificate[];
  try {
    found = readCaCertificates(pem);
  } catch (cause) {
    throw new IdentityError(`${path} is not a certificate: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  if (found.length === 0) throw new IdentityError(`${path} is not a certificate: there is none in it`);
  return found;
}

function describe(roots: readonly CaCertificate[]): string {
  return roots
    .map((root) => `${root.fingerprint}…${root.trustDomains.length === 0 ? "" : ` of trust domain ${root.trustDomains.join(", ")}`}`)
    .join(" and ");
}

/** The names the control plane's servers answer to, for one listen address. */
export function serverNames(listen: string): { dns: string[]; ip: string[] } {
  const ip = new Set(["127.0.0.1"]);
  const dns = new Set(["localhost", "weft"]);
  if (isIP(listen) !== 0) ip.add(listen);
  else dns.add(listen);
  return { dns: [...dns], ip: [...ip] };
}
