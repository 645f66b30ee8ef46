// Owns: the folder of a snapshot: that it is this user's alone, that one proxy has it, and that a file in it is either whole or the one before.
// Never knows what a snapshot holds.

import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { mostBytes } from "./format.ts";

/** The folder cannot be used. `fatal`: starting without it would hide a mistake or a danger; otherwise the proxy is better off without a snapshot. */
export class FolderError extends Error {
  override readonly name = "FolderError";
  readonly fatal: boolean;

  constructor(message: string, fatal: boolean) {
    super(message);
    this.fatal = fatal;
  }
}

const othersBits = 0o077;

export class SnapshotFolder {
  readonly path: string;
  readonly #file: string;
  readonly #making: string;
  readonly #lockFile: string;
  #lock: number | undefined;

  /** Makes the folder (0700). Throws FolderError. */
  constructor(path: string) {
    this.path = path;
    this.#file = join(path, "snapshot");
    this.#making = join(path, "snapshot.new");
    this.#lockFile = join(path, "lock");
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw new FolderError(`the snapshot folder ${path} cannot be made: ${reasonOf(error)}`, false);
    }
    const fault = faultOf(lstatSync(path), true);
    if (fault !== undefined)
      throw new FolderError(
        `the snapshot folder ${path} ${fault}: whoever may write there may configure this proxy. Make it mode 0700 and this user's`,
        true,
      );
  }

  get held(): boolean {
    return this.#lock !== undefined;
  }

  /** Takes the folder for this process; answers who has it instead. A process that dies leaves no lock behind. */
  lock(): string | undefined {
    if (this.#lock !== undefined) return undefined;
    let fd: number;
    try {
      fd = openSync(this.#lockFile, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    } catch (error) {
      throw new FolderError(`the snapshot folder ${this.path} cannot be locked: ${reasonOf(error)}`, false);
    }
    const holder = Number(readFileSync(fd, "utf8").trim());
    if (!flock(fd)) {
      closeSync(fd);
      return holder > 0 ? `process ${holder}` : "another process";
    }
    this.#lock = fd;
    try {
      ftruncateSync(fd, 0);
      writeSync(fd, `${process.pid}\n`, 0);
      // Left by one that was killed while it wrote.
      rmSync(this.#making, { force: true });
    } catch {
      // A full or read-only disk: the lock holds without the note.
    }
    return undefined;
  }

  /** The file as it is; undefined when there is none. Throws with a sentence for what is there and must not be used. */
  read(): Uint8Array | undefined {
    let fd: number;
    try {
      fd = openSync(this.#file, constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
    try {
      const stat = fstatSync(fd);
      const fault = faultOf(stat, false);
      if (fault !== undefined) throw new Error(`the file ${fault}`);
      if (stat.size > mostBytes) throw new Error(`it has ${stat.size} bytes; at most ${mostBytes} are read`);
      const bytes = new Uint8Array(stat.size);
      let at = 0;
      for (;;) {
        const got = readSync(fd, bytes, at, bytes.length - at, at);
        if (got <= 0) break;
        at += got;
      }
      return bytes.subarray(0, at);
    } finally {
      closeSync(fd);
    }
  }

  /** Puts `bytes` in the place of what is there, whole and on the disk, or leaves it. Off the thread that serves. */
  async write(bytes: Uint8Array): Promise<void> {
    // Loaded with the first write, which is after the start.
    const { open, rename, rm } = require("node:fs/promises") as typeof import("node:fs/promises");
    await rm(this.#making, { force: true });
    const file = await open(this.#making, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
    try {
      let at = 0;
      while (at < bytes.length) at += (await file.write(bytes, at, bytes.length - at)).bytesWritten;
      await file.sync();
    } catch (error) {
      await rm(this.#making, { force: true });
      throw error;
    } finally {
      await file.close();
    }
    await rename(this.#making, this.#file);
    const folder = await open(this.path, constants.O_RDONLY);
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  /** Another process may have it. Idempotent. */
  release(): void {
    if (this.#lock === undefined) return;
    try {
      ftruncateSync(this.#lock, 0);
    } catch {
      // Only the note.
    }
    closeSync(this.#lock);
    this.#lock = undefined;
  }
}

function faultOf(
  stat: { readonly uid: number; readonly mode: number; isDirectory(): boolean; isFile(): boolean },
  folder: boolean,
): string | undefined {
  if (folder ? !stat.isDirectory() : !stat.isFile()) return folder ? "is no folder (a link is not followed)" : "is no plain file";
  if (stat.uid !== process.getuid?.()) return `belongs to user ${stat.uid}`;
  if ((stat.mode & othersBits) !== 0) return `is open to others (mode 0${(stat.mode & 0o777).toString(8)})`;
  return undefined;
}

const exclusive = 2;
const nonBlocking = 4;

/** The kernel's lock. Throws FolderError where there is none to be had: a lock that a crash leaves behind would keep the next start from its snapshot. */
function flock(fd: number): boolean {
  const { dlopen } = require("bun:ffi") as typeof import("bun:ffi");
  for (const library of ["libc.so.6", "libc.so", "libSystem.B.dylib"]) {
    try {
      const { symbols } = dlopen(library, { flock: { args: ["i32", "i32"], returns: "i32" } });
      return symbols.flock(fd, exclusive | nonBlocking) === 0;
    } catch {
      // Not this system's name for the C library; the next one is tried.
    }
  }
  throw new FolderError("this system has no flock, which --snapshot needs", true);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
