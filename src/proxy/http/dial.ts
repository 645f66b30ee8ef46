// Owns: opening a socket to an instance and judging who is at its other end, for connections of either HTTP version and opaque ones alike. What becomes of
// the socket is told the connection that asked for it. Never decides about retries or pools.

import type { Endpoint } from "../balance/endpoint.ts";
import type { TcpKeepaliveConfig } from "../config.ts";
import { keepAlive } from "../net/keepalive.ts";
import type { Wire } from "../net/outbox.ts";
import type { Core } from "../runtime/core.ts";
import type { TlsMaterial } from "../tls/material.ts";
import { isTransportError, judgePeer, type Peer, type TlsFacts } from "../tls/peer.ts";
import { refusal, refuseBroken } from "../tls/refusal.ts";
import { type Failure, failures } from "./failure.ts";

/** A connection that is made from here, and what it is told of its socket. */
export interface Dialing {
  readonly core: Core;
  readonly endpoint: Endpoint;
  opened(wire: Wire): void;
  /** TLS alone: `judgeDialed` comes next. */
  handshaken(socket: DialedSocket, failed: Error | null): void;
  /** TLS alone: what makes the next handshake cheaper. */
  ticket(session: Uint8Array): void;
  received(bytes: Uint8Array): void;
  drained(): void;
  ended(): void;
  lost(error: Error | null): void;
  /** It never opened. */
  refused(error: Error & { code?: string }): void;
}

export type DialedSocket = Wire & TlsFacts & { readonly data: Dialing };

/**
 * Starts connecting; `material` null: plain text. Answers the secret generation that the handshake is made with, 0 for none. `failed`, like every other
 * word about the socket, comes later and never within this call.
 */
export function dial(connection: Dialing, material: TlsMaterial | null, failed: (failure: Failure, why: string) => void): number {
  const options = material === null ? null : material.options();
  if (typeof options === "string") {
    queueMicrotask(() => failed(failures.tls, options));
    return 0;
  }
  try {
    const connecting = Bun.connect<Dialing>({
      hostname: connection.endpoint.host,
      port: connection.endpoint.port,
      allowHalfOpen: true,
      data: connection,
      ...(options === null ? {} : { tls: options as unknown as Bun.TLSOptions }),
      socket: options === null ? plainHandlers : tlsHandlers,
    } as Bun.TCPSocketConnectOptions<Dialing>);
    connecting.catch(ignore);
  } catch (error) {
    queueMicrotask(() => failed(failures.connect, error instanceof Error ? error.message : String(error)));
  }
  return material === null ? 0 : material.generation;
}

/** After the handshake: who it is, or why it is not let in, which is counted and logged here. */
export function judgeDialed(connection: Dialing, socket: DialedSocket, material: TlsMaterial, failed: Error | null): Peer | string {
  const { core, endpoint } = connection;
  const broken = failed !== null && isTransportError(failed);
  const judged = broken ? refuseBroken(failed.message) : judgePeer(socket, material.rules, endpoint.config.identity, true, core.wallMs());
  if (typeof judged !== "string") return judged;
  core.tlsRefusedUpstream.count();
  // Addresses go from one workload to another: more often than anybody plays another's part.
  const words = refusal.reason === "wrong_identity" ? `${judged}; is another workload at ${endpoint.host}:${endpoint.port} now?` : judged;
  endpoint.tlsSession.forget();
  if (!broken && core.mayLog()) {
    const { host, port, cluster } = endpoint;
    core.log.warn({ cluster: cluster.config.name, endpoint: `${host}:${port}`, reason: judged }, "The upstream peer was refused.");
  }
  return words;
}

/** A connection that the kernel does not watch over still carries requests. */
function watchOver({ core, endpoint: { cluster } }: Dialing, socket: DialedSocket, rules: TcpKeepaliveConfig): void {
  if (keepAlive((socket as unknown as { readonly fd: number }).fd, rules) || !core.mayLog()) return;
  core.log.warn({ cluster: cluster.config.name }, "The kernel has refused TCP keep-alive as it is configured.");
}

function ignore(): void {}

/** Bun's handlers, shared by all connections. */
const plainHandlers = {
  open(socket: DialedSocket) {
    const connection = socket.data;
    const keepalive = connection.endpoint.cluster.config.connections?.keepalive;
    if (keepalive !== undefined) watchOver(connection, socket, keepalive);
    connection.opened(socket);
  },
  data(socket: DialedSocket, bytes: Uint8Array) {
    socket.data.received(bytes);
  },
  drain(socket: DialedSocket) {
    socket.data.drained();
  },
  end(socket: DialedSocket) {
    socket.data.ended();
  },
  close(socket: DialedSocket, error?: Error) {
    socket.data.lost(error ?? null);
  },
  error(socket: DialedSocket, error: Error) {
    bug(socket.data, error);
  },
  connectError(socket: DialedSocket, error: Error) {
    socket.data.refused(error);
  },
} as unknown as Bun.SocketHandler<Dialing>;

const tlsHandlers = {
  ...plainHandlers,
  handshake(socket: DialedSocket, _success: boolean, error: Error | null) {
    socket.data.handshaken(socket, error);
  },
  session(socket: DialedSocket, ticket: Uint8Array) {
    socket.data.ticket(ticket);
  },
} as unknown as Bun.SocketHandler<Dialing>;

/** A handler threw, or an established TLS session failed: that connection ends, never the process. */
function bug(connection: Dialing, error: Error): void {
  if (!isTransportError(error)) {
    connection.core.bugs.value++;
    connection.core.log.error({ error, stack: error.stack }, "A bug closed an upstream connection.");
  }
  connection.lost(error);
}
