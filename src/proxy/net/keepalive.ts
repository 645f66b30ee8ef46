// Owns: asking the kernel to find out whether the other end of a connection is still there (TCP keep-alive, Linux). Never decides which connections.

import type { TcpKeepaliveConfig } from "../config.ts";
import { libc } from "./libc.ts";

// asm-generic/socket.h, linux/in.h, linux/tcp.h
const solSocket = 1;
const soKeepalive = 9;
const ipprotoTcp = 6;
const tcpKeepidle = 4;
const tcpKeepintvl = 5;
const tcpKeepcnt = 6;

/** What Linux takes, net/ipv4/tcp.c: MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL are the same, in seconds, then MAX_TCP_KEEPCNT. */
export const mostKeepaliveSeconds = 32_767;
export const mostKeepaliveProbes = 127;

const value = new Uint32Array(1);

/** Sets it on an open socket, by Linux's numbers. False: the kernel has refused some of it. */
export function keepAlive(fd: number, { probes, timeSeconds, intervalSeconds }: TcpKeepaliveConfig): boolean {
  let all = set(fd, solSocket, soKeepalive, 1);
  if (timeSeconds !== undefined) all = set(fd, ipprotoTcp, tcpKeepidle, timeSeconds) && all;
  if (intervalSeconds !== undefined) all = set(fd, ipprotoTcp, tcpKeepintvl, intervalSeconds) && all;
  if (probes !== undefined) all = set(fd, ipprotoTcp, tcpKeepcnt, probes) && all;
  return all;
}

function set(fd: number, level: number, option: number, to: number): boolean {
  value[0] = to;
  return libc().setsockopt(fd, level, option, value, 4) === 0;
}
