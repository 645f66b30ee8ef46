// Owns: what is written down of a root's replacement (`ca.rotation`), and the files of the authority as one record that changes from one whole state to the
// next. A start finds the state that was reached and goes on from there. Never decides when a step is taken.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { readCaCertificates } from "./ca-certificate.ts";
import { IdentityError } from "./failure.ts";
import { privateMode, publicMode, readIfThere, readPrivate, writeFileAtomic } from "./files.ts";

/**
 * distributing: everybody is told of the new root, the old one issues. issuing: the new one issues, both are trusted. returning: given up after the new one
 * had issued; the old one issues again, both are trusted. finishing: the new one is being put into the old one's place.
 */
export type RotationPhase = "distributing" | "issuing" | "returning" | "finishing";

export interface RotationState {
  readonly phase: RotationPhase;
  /** RFC 3339. */
  readonly startedAt: string;
  /** When the issuer changed last; null in the first phase. */
  readonly switchedAt: string | null;
  readonly next: { readonly certificatePem: string; readonly keyPem: string };
}

/** The authority, as it is kept. */
export interface CaFiles {
  readonly certificatePem: string;
  readonly keyPem: string;
  /** `ca.rotation`; undefined: no root is being replaced. */
  readonly rotation: string | undefined;
  /** Roots that were trusted once, so that a control plane that was away knows its own among them. */
  readonly retired: string;
}

/** Where the authority is kept: a folder, or etcd with the folder following. */
export interface CaStore {
  /** Puts `next` into the place of `before`, if that is what is kept. False: somebody else was first, or the lease has ended. */
  replace(before: CaFiles, next: CaFiles): Promise<boolean>;
  /** As it is kept now. */
  read(): Promise<CaFiles>;
}

export const caFileNames = { certificate: "ca.crt", key: "ca.key", rotation: "ca.rotation", retired: "ca.retired" } as const;

const phases: readonly RotationPhase[] = ["distributing", "issuing", "returning", "finishing"];

/** Throws IdentityError when the text is not what `writeRotation` made. */
export function readRotation(text: string): RotationState {
  try {
    const state = JSON.parse(text) as { format?: unknown } & RotationState;
    const { phase, startedAt, switchedAt, next } = state;
    if (
      state.format === 1 &&
      phases.includes(phase) &&
      !Number.isNaN(Date.parse(startedAt)) &&
      (switchedAt === null || !Number.isNaN(Date.parse(switchedAt))) &&
      readCaCertificates(next.certificatePem).length === 1 &&
      typeof next.keyPem === "string"
    )
      return { phase, startedAt, switchedAt, next: { certificatePem: next.certificatePem, keyPem: next.keyPem } };
  } catch {
    // Said below.
  }
  throw new IdentityError(
    `${caFileNames.rotation} cannot be read: it is damaged, or of another version of Weft; restore it from a backup, or, when no workload has a certificate of the new root yet, delete it`,
  );
}

export function writeRotation(state: RotationState): string {
  return `${JSON.stringify({ format: 1, ...state })}\n`;
}

/** What is kept when the new root has taken the old one's place. */
export function finished(files: CaFiles, state: RotationState): CaFiles {
  const old = files.certificatePem.trim();
  // Where this was cut short before, the new one may stand in its place already.
  const known = old === state.next.certificatePem.trim() || files.retired.includes(old);
  return {
    certificatePem: state.next.certificatePem,
    keyPem: state.next.keyPem,
    rotation: undefined,
    retired: known ? files.retired : `${files.retired}${old}\n`,
  };
}

/** Reads the folder; undefined where it has no authority. */
export function readCaFolder(dir: string): CaFiles | undefined {
  const certificatePem = readIfThere(join(dir, caFileNames.certificate));
  const keyPem = readPrivate(join(dir, caFileNames.key));
  if (certificatePem === undefined || keyPem === undefined) return undefined;
  return {
    certificatePem,
    keyPem,
    rotation: readPrivate(join(dir, caFileNames.rotation)),
    retired: readIfThere(join(dir, caFileNames.retired)) ?? "",
  };
}

/** Writes what differs. Where a root takes another's place this can be cut short at any point: it is first noted that it is being done, and a start does it again. */
export function writeCaFolder(dir: string, before: CaFiles, next: CaFiles): void {
  const at = (name: string) => join(dir, name);
  const moves = before.certificatePem !== next.certificatePem;
  if (moves && before.rotation !== undefined) {
    const state = readRotation(before.rotation);
    writeFileAtomic(at(caFileNames.rotation), writeRotation({ ...state, phase: "finishing" }), privateMode);
  }
  if (next.retired !== before.retired) writeFileAtomic(at(caFileNames.retired), next.retired, publicMode);
  if (next.keyPem !== before.keyPem) writeFileAtomic(at(caFileNames.key), next.keyPem, privateMode);
  if (moves) writeFileAtomic(at(caFileNames.certificate), next.certificatePem, publicMode);
  if (next.rotation === undefined) rmSync(at(caFileNames.rotation), { force: true });
  else writeFileAtomic(at(caFileNames.rotation), next.rotation, privateMode);
}

/** The authority in a folder that this control plane alone uses. */
export function folderStore(dir: string): CaStore {
  return {
    async read() {
      const files = readCaFolder(dir);
      if (files === undefined)
        throw new IdentityError(`the certificate authority in ${dir} is gone; restore ca.crt and ca.key from a backup`);
      return files;
    },
    async replace(before, next) {
      const now = readCaFolder(dir);
      if (now === undefined || !sameFiles(now, before)) return false;
      writeCaFolder(dir, before, next);
      return true;
    },
  };
}

export function sameFiles(a: CaFiles, b: CaFiles): boolean {
  return (
    a.certificatePem.trim() === b.certificatePem.trim() && a.keyPem === b.keyPem && a.rotation === b.rotation && a.retired === b.retired
  );
}
