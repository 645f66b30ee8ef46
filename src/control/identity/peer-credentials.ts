// Owns: asking the kernel who is at the other end of a Unix socket (SO_PEERCRED, unix(7)). What it says was fixed when the socket was connected, and cannot be
// forged. Loaded only where a join socket is asked for. Never decides what somebody may.

import { dlopen, FFIType, ptr } from "bun:ffi";
import { IdentityError } from "./failure.ts";

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** asm-generic/socket.h: the numbers of Linux on x86-64 and arm64. */
const solSocket = 1;
const soPeercred = 17;

/** Throws IdentityError where the system has no such thing. */
export function openPeerCredentials(): (fd: number) => PeerCredentials | undefined {
  if (process.platform !== "linux")
    throw new IdentityError(
      `--join-socket needs SO_PEERCRED, which is Linux's; on ${process.platform} give out join tokens instead (weft token create)`,
    );
  const shape = { getsockopt: { args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 } } as const;
  const { symbols } = openLibrary(shape);
  return (fd) => {
    // struct ucred: pid, uid, gid.
    const found = new Int32Array(3);
    const length = new Uint32Array([found.byteLength]);
    if (symbols.getsockopt(fd, solSocket, soPeercred, ptr(found), ptr(length)) !== 0 || length[0] !== found.byteLength) return undefined;
    return { pid: found[0] as number, uid: (found[1] as number) >>> 0, gid: (found[2] as number) >>> 0 };
  };
}

function openLibrary<S extends Parameters<typeof dlopen>[1]>(shape: S) {
  for (const name of ["libc.so.6", "libc.so"]) {
    try {
      return dlopen(name, shape);
    } catch {
      // The next one: musl has another name.
    }
  }
  throw new IdentityError(
    "--join-socket cannot ask the kernel who is calling: the C library was not found; give out join tokens instead (weft token create)",
  );
}
