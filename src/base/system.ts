// Owns: the few system calls that Bun has no words for: handing descriptors to another process, sharing a port, closing a listener without losing a
// connection. Linux only; loaded by workers, handover and the end of a proxy, never by an ordinary start. Never decides anything.

import { dlopen, ptr, read } from "bun:ffi";

const library = open();

function open() {
  const wanted = {
    __errno_location: { args: [], returns: "ptr" },
    close: { args: ["i32"], returns: "i32" },
    connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
    fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
    getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
    recvmsg: { args: ["i32", "ptr", "i32"], returns: "i64" },
    sendmsg: { args: ["i32", "ptr", "i32"], returns: "i64" },
    setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  } as const;
  if (process.platform !== "linux") throw new Error("sharing sockets between processes is for Linux only");
  // glibc's name, then musl's.
  for (const name of ["libc.so.6", "libc.so"]) {
    try {
      return dlopen(name, wanted).symbols;
    } catch {
      // Not this system's name for the C library; the next one is tried.
    }
  }
  throw new Error("the C library of this system was not found; sharing sockets between processes needs it");
}

const afUnix = 1;
const stream = 1;
const closeOnExec = 0x80000;
const solSocket = 1;
const soReusePort = 15;
const soPeerCredentials = 17;
const soReceiveTimeout = 20;
const soAttachFilter = 26;
const soAttachGroupFilter = 51;
const scmRights = 1;
const setStatusFlags = 4;
const nonBlocking = 0x800;
const duplicateCloseOnExec = 1030;
const noSignal = 0x4000;
const closeReceivedOnExec = 0x40000000;

/** What the kernel allows in one message (SCM_MAX_FD). */
export const mostDescriptors = 253;

/** A call that failed; `code` as Node names it where it matters to us. */
export class SystemError extends Error {
  override readonly name = "SystemError";
  readonly code: string;

  constructor(call: string, errno: number) {
    const code =
      ({ 2: "ENOENT", 11: "EAGAIN", 13: "EACCES", 98: "EADDRINUSE", 111: "ECONNREFUSED" } as Record<number, string>)[errno] ??
      `errno ${errno}`;
    super(`${call}: ${code}`);
    this.code = code;
  }
}

function checked(call: string, result: number | bigint): number {
  if (Number(result) >= 0) return Number(result);
  const at = library.__errno_location();
  throw new SystemError(call, at === null ? 0 : read.i32(at, 0));
}

export function closeDescriptor(fd: number): void {
  library.close(fd);
}

/** Another descriptor of the same socket, which children do not inherit. */
export function duplicate(fd: number): number {
  return checked("fcntl", library.fcntl(fd, duplicateCloseOnExec, 0));
}

/** A pair of connected sockets. Children inherit neither by accident. */
export function socketPair(): readonly [number, number] {
  const pair = new Int32Array(2);
  checked("socketpair", library.socketpair(afUnix, stream | closeOnExec, 0, ptr(pair)));
  return [pair[0] as number, pair[1] as number];
}

/** Connects to a socket in the file system, blocking; reads give up after `limitMs`. Throws SystemError. */
export function connectUnix(path: string, limitMs: number): number {
  const bytes = Buffer.from(path);
  if (bytes.length > 107) throw new Error(`the path of a socket has at most 107 bytes, this one ${bytes.length}: ${path}`);
  const fd = checked("socket", library.socket(afUnix, stream | closeOnExec, 0));
  const address = new Uint8Array(110);
  address[0] = afUnix;
  address.set(bytes, 2);
  try {
    const time = new BigInt64Array([BigInt(Math.floor(limitMs / 1000)), BigInt((limitMs % 1000) * 1000)]);
    checked("setsockopt", library.setsockopt(fd, solSocket, soReceiveTimeout, ptr(time), 16));
    checked("connect", library.connect(fd, ptr(address), 110));
  } catch (error) {
    library.close(fd);
    throw error;
  }
  return fd;
}

export function setNonBlocking(fd: number): void {
  checked("fcntl", library.fcntl(fd, setStatusFlags, nonBlocking));
}

/** Who is at the other end of a socket in the file system. */
export function peerOf(fd: number): { readonly pid: number; readonly uid: number } {
  const credentials = new Int32Array(3);
  const size = new Uint32Array([12]);
  checked("getsockopt", library.getsockopt(fd, solSocket, soPeerCredentials, ptr(credentials), ptr(size)));
  return { pid: credentials[0] as number, uid: credentials[1] as number };
}

/** Lets other sockets of this user share the port from now on. */
export function sharePort(fd: number): void {
  checked("setsockopt", library.setsockopt(fd, solSocket, soReusePort, ptr(new Int32Array([1])), 4));
}

/** Of two listening sockets that share a port, new connections go to the one that came second, until either is closed. `fd`: one of them. */
export function leadToSecond(fd: number): void {
  // BPF: return 1, the number of that socket.
  const program = new DataView(new ArrayBuffer(8));
  program.setUint16(0, 0x06, true);
  program.setUint32(4, 1, true);
  const filter = new BigUint64Array([1n, BigInt(ptr(program))]);
  checked("setsockopt", library.setsockopt(fd, solSocket, soAttachGroupFilter, ptr(filter), 16));
}

/** BPF: drop a TCP segment with SYN and without ACK, take every other. The filter sees a segment from its TCP header on; byte 13 holds the flags. */
const withoutNewConnections = [
  [0x30, 0, 0, 13],
  [0x54, 0, 0, 0x12],
  [0x15, 0, 1, 0x02],
  [0x06, 0, 0, 0],
  [0x06, 0, 0, 0xffffffff],
] as const;

/** From now on a listening socket begins no further connection; those that have begun are still accepted. */
export function refuseNewConnections(fd: number): void {
  const program = new DataView(new ArrayBuffer(8 * withoutNewConnections.length));
  withoutNewConnections.forEach(([code, yes, no, value], n) => {
    program.setUint16(8 * n, code, true);
    program.setUint8(8 * n + 2, yes);
    program.setUint8(8 * n + 3, no);
    program.setUint32(8 * n + 4, value, true);
  });
  const filter = new BigUint64Array([BigInt(withoutNewConnections.length), BigInt(ptr(program))]);
  checked("setsockopt", library.setsockopt(fd, solSocket, soAttachFilter, ptr(filter), 16));
}

// struct msghdr and struct cmsghdr (recvmsg(2), cmsg(3)) as 64-bit Linux lays them out.

interface Message {
  readonly header: BigUint64Array;
  readonly parts: readonly ArrayBufferView[];
}

function message(data: Uint8Array, control: Uint8Array | null): Message {
  const vector = new BigUint64Array([BigInt(ptr(data)), BigInt(data.length)]);
  const header = new BigUint64Array(7);
  header[2] = BigInt(ptr(vector));
  header[3] = 1n;
  if (control !== null) {
    header[4] = BigInt(ptr(control));
    header[5] = BigInt(control.length);
  }
  // The kernel reads through addresses: what they point to must live as long as the header.
  return { header, parts: [vector, data, ...(control === null ? [] : [control])] };
}

/** Sends bytes (at least one, a few hundred at most) with descriptors beside them. The receiver gets descriptors of its own; ours stay open. */
export function sendDescriptors(socket: number, data: Uint8Array, fds: readonly number[]): void {
  const control = new Uint8Array(16 + Math.ceil((4 * fds.length) / 8) * 8);
  new BigUint64Array(control.buffer, 0, 1)[0] = BigInt(16 + 4 * fds.length);
  new Int32Array(control.buffer).set([solSocket, scmRights, ...fds], 2);
  const { header, parts } = message(data, fds.length === 0 ? null : control);
  const sent = checked("sendmsg", library.sendmsg(socket, ptr(header), noSignal));
  if (sent !== data.length || parts.length === 0) throw new Error(`sendmsg took ${sent} of ${data.length} bytes`);
}

/** What the next read gives, with the descriptors beside it; undefined at the end. Throws SystemError EAGAIN when there is nothing (in time). */
export function receiveDescriptors(socket: number): { readonly data: Uint8Array; readonly fds: readonly number[] } | undefined {
  const data = new Uint8Array(65_536);
  const control = new Uint8Array(16 + 4 * mostDescriptors + 4);
  const { header, parts } = message(data, control);
  const got = checked("recvmsg", library.recvmsg(socket, ptr(header), closeReceivedOnExec));
  if (got === 0 || parts.length === 0) return undefined;
  const fds: number[] = [];
  const used = Number(header[5]);
  if (used >= 16) {
    const length = Number(new BigUint64Array(control.buffer, 0, 1)[0]);
    const words = new Int32Array(control.buffer);
    if (words[2] === solSocket && words[3] === scmRights) for (let n = 0; n < (length - 16) / 4; n++) fds.push(words[4 + n] as number);
  }
  return { data: data.subarray(0, got), fds };
}
