// Owns: the check of the certificate that the proxy is given: does its chain lead to a root, whose name is it, is it in time. Never opens connections.

import { writePem } from "../../base/pem.ts";
import { type Certificate, certificatesOf, signedBy } from "./x509.ts";

export interface CheckedChain {
  /** Leaf and intermediates, as a peer wants to see them. */
  readonly chainPem: string;
  readonly rootsPem: string;
  readonly uri: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly rootsNotAfterMs: number;
  readonly serial: string;
}

/**
 * Checks the answer to a certificate request (leaf first, roots last): the key is ours, the only URI name is the one asked for, each certificate is
 * signed by the next, the last is a root, and all are valid now. Answers what is wrong as a string.
 */
export async function checkIssuedChain(
  certChain: readonly string[],
  publicKey: Uint8Array,
  uri: string,
  nowMs: number,
): Promise<CheckedChain | string> {
  let groups: Certificate[][];
  try {
    groups = certChain.map(certificatesOf);
  } catch {
    return "the answer holds something that is not a certificate";
  }
  const roots = groups.at(-1) ?? [];
  const path = groups.slice(0, -1).flat();
  const leaf = path[0];
  if (groups.length < 2 || leaf === undefined || roots.length === 0) return "the answer must hold a certificate and, last, the root";
  if (!Buffer.from(leaf.publicKey).equals(publicKey)) return "the certificate is over another key than the one asked for";
  if (leaf.uris.length !== 1 || leaf.uris[0] !== uri) return `the certificate is for ${leaf.uris.join(", ") || "no URI"} instead of ${uri}`;
  if (leaf.ca) return "the certificate is an authority's";
  for (const one of path) {
    const wrong = outOfTime(one, nowMs);
    if (wrong !== "") return wrong;
  }
  for (let n = 0; n + 1 < path.length; n++) {
    if (!(await signedBy(path[n] as Certificate, path[n + 1] as Certificate))) {
      return "the chain is broken: a certificate is not signed by the next";
    }
  }
  const last = path.at(-1) as Certificate;
  // All at once: each answer comes from another thread, and a starting sidecar waits for them.
  const leads = await Promise.all(roots.map((root) => Promise.all([signedBy(last, root), signedBy(root, root)])));
  const root = roots.find((_, n) => leads[n]?.every(Boolean));
  if (root === undefined) return "the chain does not lead to the root it came with";
  // Others may have had their time: roots overlap while one replaces another.
  const wrong = outOfTime(root, nowMs);
  if (wrong !== "") return wrong;
  return factsOf(path, roots, leaf, uri);
}

/**
 * A chain that was checked when it was issued and has been kept since, signatures and all; who kept it vouches that it is the same (a hash over the file,
 * which is this user's alone). Whether it is in time is for the caller. Answers what is wrong as a string.
 */
export function readKeptChain(chainPem: string, rootsPem: string, uri: string): CheckedChain | string {
  let path: Certificate[];
  let roots: Certificate[];
  try {
    [path, roots] = [certificatesOf(chainPem), certificatesOf(rootsPem)];
  } catch {
    return "it holds something that is not a certificate";
  }
  const leaf = path[0];
  if (leaf === undefined || roots.length === 0) return "it holds no certificate, or no root";
  if (leaf.uris.length !== 1 || leaf.uris[0] !== uri) return `its certificate is for ${leaf.uris.join(", ") || "no URI"} instead of ${uri}`;
  return factsOf(path, roots, leaf, uri);
}

/** Of these roots those that a chain leads to. Throws on what is not a certificate. */
export async function rootsAbove(chainPem: string, rootsPem: string): Promise<readonly boolean[]> {
  const last = certificatesOf(chainPem).at(-1);
  const roots = certificatesOf(rootsPem);
  return await Promise.all(roots.map(async (root) => last !== undefined && (await signedBy(last, root)) && (await signedBy(root, root))));
}

/** The same chain under other roots. */
export function withRoots(chain: CheckedChain, rootsPem: string): CheckedChain {
  const roots = certificatesOf(rootsPem);
  return { ...chain, rootsPem: roots.map(toPem).join(""), rootsNotAfterMs: Math.min(...roots.map((one) => one.notAfterMs)) };
}

function factsOf(path: readonly Certificate[], roots: readonly Certificate[], leaf: Certificate, uri: string): CheckedChain {
  return {
    chainPem: path.map(toPem).join(""),
    rootsPem: roots.map(toPem).join(""),
    uri,
    notBeforeMs: leaf.notBeforeMs,
    notAfterMs: Math.min(...path.map((one) => one.notAfterMs)),
    rootsNotAfterMs: Math.min(...roots.map((one) => one.notAfterMs)),
    serial: leaf.serial,
  };
}

function toPem(certificate: Certificate): string {
  return writePem("CERTIFICATE", certificate.der);
}

function outOfTime(certificate: Certificate, nowMs: number): string {
  const day = (ms: number): string => new Date(ms).toISOString();
  // A minute of grace: clocks of one mesh are rarely better than that.
  if (nowMs + 60_000 < certificate.notBeforeMs)
    return `a certificate is valid only from ${day(certificate.notBeforeMs)}; is the clock of this host right?`;
  if (nowMs > certificate.notAfterMs) return `a certificate expired on ${day(certificate.notAfterMs)}; is the clock of this host right?`;
  return "";
}
