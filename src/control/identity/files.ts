// Owns: how the data folder's small files are written: whole or not at all, with the mode they should have from the first byte.
// Never overwrites a file that holds a key.

import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";

/** Only the owner may read. */
export const privateMode = 0o600;
export const publicMode = 0o644;

/** Replaces `path` in one step (write beside it, flush, rename). A file that already says this, in this mode, is left as it is. */
export function writeFileAtomic(path: string, text: string, mode: number): void {
  if (readIfThere(path) === text && (statSync(path).mode & 0o777) === mode) return;
  const temporary = writeBeside(path, text, mode);
  renameSync(temporary, path);
  flushFolder(path);
}

/**
 * Creates `path`, or leaves what is there. True when this call made it. The content is complete before the name exists, so a crash
 * leaves either no file or a whole one.
 */
export function createFileOnce(path: string, text: string, mode: number): boolean {
  if (existsSync(path)) return false;
  const temporary = writeBeside(path, text, mode);
  try {
    linkSync(temporary, path);
  } catch (cause) {
    if (errorCode(cause) === "EEXIST") return false;
    throw cause;
  } finally {
    unlinkSync(temporary);
  }
  flushFolder(path);
  return true;
}

/** The text of a file, or undefined where there is none. */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    if (errorCode(cause) === "ENOENT") return undefined;
    throw cause;
  }
}

/** Reads a file that must be the owner's alone; a laxer mode (a copy, a careless restore) is tightened. Undefined where there is none. */
export function readPrivate(path: string): string | undefined {
  const text = readIfThere(path);
  if (text !== undefined && (statSync(path).mode & 0o077) !== 0) chmodSync(path, privateMode);
  return text;
}

/** Makes the folder with mode 0700 if it is missing. */
export function ensureFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
}

/** `ENOENT` and its like, or undefined. */
export function errorCode(cause: unknown): string | undefined {
  return cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : undefined;
}

let serial = 0;

function writeBeside(path: string, text: string, mode: number): string {
  serial++;
  const temporary = join(dirname(path), `.${process.pid}.${serial}.tmp`);
  const fd = openSync(temporary, "w", mode);
  try {
    // The file may be a left-over of an earlier process with our pid; its mode would then stay as it was.
    chmodSync(temporary, mode);
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  return temporary;
}

function flushFolder(path: string): void {
  const fd = openSync(dirname(path), "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
