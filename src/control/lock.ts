// Owns: that one data folder has one control plane. A kernel lock (flock) on DIR/lock, which a dying process cannot leave behind; the pid
// is written into the file for messages. Where flock cannot be reached, the pid itself is asked.

import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { privateMode } from "./identity/files.ts";

/** Someone else holds the folder. */
export class LockedError extends Error {
  override readonly name = "LockedError";
}

export interface Lock {
  /** Idempotent. */
  release(): void;
}

/** Takes the folder or throws LockedError, which names the holder's pid. */
export function lockFolder(dir: string): Lock {
  const path = join(dir, "lock");
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, privateMode);
  const taken = tryLock(fd);
  const holder = Number(readFileSync(path, "utf8").trim());
  const busy = taken === undefined ? holder > 0 && holder !== process.pid && isAlive(holder) : !taken;
  if (busy) {
    closeSync(fd);
    const who = holder > 0 ? `process ${holder}` : "another process";
    throw new LockedError(`the data folder ${dir} is in use by ${who} (weft up); stop it, or choose another folder with --data`);
  }
  try {
    ftruncateSync(fd, 0);
    writeSync(fd, `${process.pid}\n`, 0);
  } catch {
    // A full disk: the kernel's lock holds without the note, and proxies are better served by a control plane that can only read.
  }
  let held = true;
  return {
    release() {
      if (!held) return;
      held = false;
      ftruncateSync(fd, 0);
      closeSync(fd);
    },
  };
}

const exclusive = 2;
const nonBlocking = 4;

/** True = ours now, false = someone else's, undefined = this system has no flock for us. */
function tryLock(fd: number): boolean | undefined {
  const { dlopen } = require("bun:ffi") as typeof import("bun:ffi");
  for (const library of ["libc.so.6", "libc.so", "libSystem.B.dylib"]) {
    try {
      const { symbols } = dlopen(library, { flock: { args: ["i32", "i32"], returns: "i32" } });
      return symbols.flock(fd, exclusive | nonBlocking) === 0;
    } catch {
      // Not this system's name for the C library; the next one is tried.
    }
  }
  return undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (cause) {
    return cause instanceof Error && "code" in cause && cause.code === "EPERM";
  }
}
