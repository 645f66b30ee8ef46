// Owns: an authority that the user gives (`--ca-cert`, `--ca-key`, `--ca-root`), usually an intermediate of a company's own PKI: reading it and saying no to
// whatever would make certificates that nobody accepts. Never writes into those files.

import { readFileSync } from "node:fs";
import { type CaCertificate, readCaCertificates } from "./ca-certificate.ts";
import { IdentityError } from "./failure.ts";
import { readKey } from "./key-file.ts";
import type { Secret } from "./secret.ts";
import { type CaSigner, keyWeakness, localSigner } from "./signer.ts";

export interface GivenFiles {
  /** Issuing certificate first, then each one's issuer; a root at the end is taken as root. */
  readonly certificateFile: string;
  readonly keyFile: string;
  /** Roots to trust, several while one replaces another; undefined: the root at the end of the chain. */
  readonly rootFile: string | undefined;
}

export interface GivenAuthority {
  /** Issuing one first; without the root. Empty when the issuing one is the root itself. */
  readonly chain: readonly CaCertificate[];
  readonly issuing: CaCertificate;
  /** The root that the chain leads to comes first. */
  readonly roots: readonly CaCertificate[];
  readonly signer: CaSigner;
  readonly trustDomain: string;
}

/** Reads and checks. `trustDomain` undefined: the one that the certificates name. Throws IdentityError naming file, fault and way out. */
export function readGiven(
  files: GivenFiles,
  trustDomain: string | undefined,
  passphrase: Secret | undefined,
  nowMs: number,
): GivenAuthority {
  const { certificateFile, keyFile, rootFile } = files;
  const inChain = certificatesIn("--ca-cert", certificateFile);
  const selfSignedAt = inChain.findIndex((one) => one.selfSigned);
  if (selfSignedAt >= 0 && selfSignedAt < inChain.length - 1)
    throw new IdentityError(
      `--ca-cert ${certificateFile}: certificate ${selfSignedAt + 1} is a root, and others follow it; the order is issuing certificate first, root last`,
    );
  const chain = selfSignedAt < 0 ? inChain : inChain.slice(0, selfSignedAt);
  const ownRoots = selfSignedAt < 0 ? [] : inChain.slice(selfSignedAt);
  const roots = [...ownRoots];
  for (const root of rootFile === undefined ? [] : readRoots(rootFile, nowMs))
    if (!roots.some((one) => one.pem === root.pem)) roots.push(root);
  const issuing = inChain[0] as CaCertificate;
  if (roots.length === 0)
    throw new IdentityError(
      `--ca-cert ${certificateFile} does not end in a root, and no other is named; give the root that it leads to with --ca-root FILE`,
    );
  for (const [one, file] of [
    ...inChain.map((each) => [each, `--ca-cert ${certificateFile}`] as const),
    ...roots.map((each) => [each, `--ca-root ${rootFile ?? certificateFile}`] as const),
  ])
    checkAuthority(one, file, nowMs);
  const root = checkPath(chain, roots, certificateFile);

  let keyPem: string;
  try {
    keyPem = readFileSync(keyFile, "utf8");
  } catch (cause) {
    throw new IdentityError(`--ca-key ${keyFile} cannot be read (${(cause as NodeJS.ErrnoException).code ?? String(cause)})`);
  }
  const key = readKey(`--ca-key ${keyFile}`, keyPem, passphrase);
  const weakness = keyWeakness(key);
  if (weakness !== undefined) throw new IdentityError(`--ca-key ${keyFile} is ${weakness}`);
  if (!issuing.x509.checkPrivateKey(key))
    throw new IdentityError(
      `--ca-key ${keyFile} is not the key of ${nameOf(issuing)}, the first certificate of --ca-cert ${certificateFile}; give the pair that belongs together, issuing certificate first`,
    );
  const domain = trustDomainOf([...chain, root], trustDomain, certificateFile);
  const ordered = [root, ...roots.filter((one) => one !== root)];
  return { chain, issuing, roots: ordered, signer: localSigner(key), trustDomain: domain };
}

/** The roots of `--ca-root`, each one checked. Throws IdentityError. */
export function readRoots(file: string, nowMs: number): CaCertificate[] {
  const roots = certificatesIn("--ca-root", file);
  for (const root of roots) {
    if (!root.selfSigned)
      throw new IdentityError(
        `--ca-root ${file}: ${nameOf(root)} is not a root (it is signed by ${oneLine(root.x509.issuer)}); intermediates belong into --ca-cert`,
      );
    checkAuthority(root, `--ca-root ${file}`, nowMs);
  }
  return roots;
}

function certificatesIn(flag: string, file: string): CaCertificate[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    throw new IdentityError(`${flag} ${file} cannot be read (${(cause as NodeJS.ErrnoException).code ?? String(cause)})`);
  }
  let found: CaCertificate[];
  try {
    found = readCaCertificates(text);
  } catch (cause) {
    throw new IdentityError(
      `${flag} ${file} holds a certificate that cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
    );
  }
  if (found.length === 0) throw new IdentityError(`${flag} ${file} holds no certificate in PEM`);
  return found;
}

function checkAuthority(one: CaCertificate, file: string, nowMs: number): void {
  if (!one.isAuthority)
    throw new IdentityError(
      `${file}: ${nameOf(one)} is not a certificate authority (basicConstraints CA:TRUE is missing); no peer would accept what it signs`,
    );
  if (!one.signsCertificates)
    throw new IdentityError(
      `${file}: ${nameOf(one)} may not sign certificates (its keyUsage lacks keyCertSign); no peer would accept what it signs`,
    );
  if (nowMs >= one.notAfterMs) throw new IdentityError(`${file}: ${nameOf(one)} expired at ${one.x509.validTo}; give a renewed one`);
  if (nowMs < one.notBeforeMs)
    throw new IdentityError(`${file}: ${nameOf(one)} is valid only from ${one.x509.validFrom}; is the clock of this host right?`);
}

/** Each signed by the next, the last by a root, and path lengths that leave room. Returns that root. */
function checkPath(chain: readonly CaCertificate[], roots: readonly CaCertificate[], file: string): CaCertificate {
  chain.forEach((one, n) => {
    const above = chain[n + 1];
    if (above !== undefined && !signedBy(one, above))
      throw new IdentityError(
        `--ca-cert ${file}: ${nameOf(one)} is not signed by ${nameOf(above)}, which follows it; the order is issuing certificate first, then each one's issuer`,
      );
  });
  const last = chain.at(-1);
  const root = last === undefined ? roots[0] : roots.find((one) => signedBy(last, one));
  if (root === undefined)
    throw new IdentityError(
      `--ca-cert ${file}: ${nameOf(last as CaCertificate)} is signed by ${oneLine((last as CaCertificate).x509.issuer)}, which is none of the roots given; add the missing certificates, or name that root with --ca-root`,
    );
  [...chain, root].forEach((one, below) => {
    if (one.pathLength !== undefined && one.pathLength < below)
      throw new IdentityError(
        `--ca-cert ${file}: ${nameOf(one)} allows ${one.pathLength} authorities below it (pathlen:${one.pathLength}), and this chain has ${below}; have the issuing certificate signed by one that allows it`,
      );
  });
  return root;
}

function signedBy(one: CaCertificate, above: CaCertificate): boolean {
  return one.x509.checkIssued(above.x509) && one.x509.verify(above.x509.publicKey);
}

function trustDomainOf(path: readonly CaCertificate[], wanted: string | undefined, file: string): string {
  const named = [...new Set(path.flatMap((one) => one.trustDomains))];
  const domain = wanted ?? named[0];
  if (domain === undefined)
    throw new IdentityError(
      `--ca-cert ${file} names no trust domain (no spiffe:// name in its certificates); say which it is for with --trust-domain NAME`,
    );
  const other = named.find((one) => one !== domain);
  if (other !== undefined)
    throw new IdentityError(
      `--ca-cert ${file} is of the trust domain ${other}, and this mesh is ${domain}; give --trust-domain ${other}, or the authority of ${domain}`,
    );
  for (const one of path) {
    const allowed = one.permittedUris.length === 0 || one.permittedUris.some((base) => covers(base, domain));
    if (!allowed || one.excludedUris.some((base) => covers(base, domain)))
      throw new IdentityError(
        `--ca-cert ${file}: ${nameOf(one)} may not sign names of the trust domain ${domain} (its nameConstraints permit ${one.permittedUris.join(", ") || "any"} but ${one.excludedUris.join(", ") || "none"})`,
      );
  }
  return domain;
}

/** RFC 5280 4.2.1.10: a constraint that begins with a dot is for all below it, another one for that host alone. */
function covers(base: string, host: string): boolean {
  return base.startsWith(".") ? host.endsWith(base.toLowerCase()) : host === base.toLowerCase();
}

function nameOf(one: CaCertificate): string {
  return `the certificate of ${oneLine(one.x509.subject)} (${one.fingerprint}…)`;
}

function oneLine(name: string): string {
  return name.replaceAll("\n", ", ") || "nobody";
}
