// Owns: the few calls of the C library that Bun has no words for. Opened on the first call, so that a proxy that needs none never loads it.

export interface Libc {
  getsockopt(fd: number, level: number, option: number, value: Uint8Array, size: Uint32Array): number;
  setsockopt(fd: number, level: number, option: number, value: Uint32Array, size: number): number;
  dup(fd: number): number;
}

let opened: Libc | null = null;

/** Throws a sentence where there is no such library. */
export function libc(): Libc {
  if (opened !== null) return opened;
  // rule: loaded on first use; the module costs memory that only those who need it should pay.
  const { dlopen } = require("bun:ffi") as typeof import("bun:ffi");
  let last: unknown = null;
  // glibc, musl, macOS.
  const names = ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`, "libSystem.dylib"];
  for (const name of names) {
    try {
      const { symbols } = dlopen(name, {
        getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
        setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
        dup: { args: ["i32"], returns: "i32" },
      });
      opened = symbols as unknown as Libc;
      return opened;
    } catch (error) {
      last = error;
    }
  }
  throw new Error(`the C library cannot be opened: ${last instanceof Error ? last.message : String(last)}`);
}
