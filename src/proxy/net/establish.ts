// Owns: the moment a connection stops being raw: its chain is known, its handshake (if any) done and judged, and the protocol's own connection takes it.
// The one place that says which protocol that is.

import { denial, judge, subject } from "../authz/judge.ts";
import type { ChainSlot, CompiledChain } from "../chain/chain.ts";
import { Exchange } from "../http/exchange.ts";
import { ServerConnection } from "../http1/server.ts";
import { Http2ServerConnection, type MakeSink } from "../http2/server.ts";
import type { Core, Downstream } from "../runtime/core.ts";
import { TcpConnection } from "../tcp/forward.ts";
import type { Peer } from "../tls/peer.ts";
import type { Wire } from "./outbox.ts";

/** What takes a connection over: the events of its socket go there from now on. */
export interface Established extends Downstream {
  readonly core: Core;
  /** Bytes came; also those that were read while the chain was being chosen. */
  received(bytes: Uint8Array): void;
  drained(): void;
  /** The peer's FIN. */
  ended(): void;
  /** The socket is gone; `error` unless in good order. Bun tells of a FIN that follows our own by this alone. */
  lost(error?: Error): void;
}

/** A socket whose `data` is its connection. */
export type EstablishedSocket = Wire & { data: unknown };

/** Hands the connection on; its `socket.data` is the answer, which may be over already (a policy refused it). */
export function establish(core: Core, slot: ChainSlot, socket: EstablishedSocket, peer: Peer | null, http2: boolean): Established {
  const chain = slot.current;
  const now = core.ticker.now();
  if (chain.terminal.kind === "tcp") {
    const connection = new TcpConnection(core, slot, socket, peer, now);
    socket.data = connection;
    connection.start();
    return connection;
  }
  const connection = establishHttp(core, slot, socket, peer, http2, now);
  socket.data = connection;
  // It was accepted before the listener closed: its first request is answered.
  if (core.draining) connection.goodbye();
  if (chain.networkRbac.length > 0 && !allowed(core, chain, socket, peer)) connection.destroy();
  return connection;
}

const makeExchange: MakeSink = (half, chain) => new Exchange(half, chain);

/** `http2`: ALPN agreed on h2, or the first bytes are its preface. */
function establishHttp(
  core: Core,
  slot: ChainSlot,
  socket: EstablishedSocket,
  peer: Peer | null,
  http2: boolean,
  now: number,
): Established & { goodbye(): void } {
  if (http2) return new Http2ServerConnection(core, slot, socket, peer, now, makeExchange);
  return new ServerConnection(core, slot, socket, peer, now);
}

/** Must the first bytes be seen before the protocol is known? Only where ALPN has not said it and the chain takes both. */
export function needsFirstBytes(chain: CompiledChain, alpn: string): boolean {
  return chain.terminal.kind === "http" && alpn === "" && chain.terminal.codec === "auto";
}

/** How long a client may say nothing: as long as for a head. */
export function firstBytesDeadline(chain: CompiledChain, nowMs: number): number {
  const wait = chain.terminal.kind === "http" ? chain.terminal.limits.headTimeoutMs : 0;
  return wait > 0 ? nowMs + wait : Number.POSITIVE_INFINITY;
}

/** Is it HTTP/2? `preface`: the first bytes are. */
export function isHttp2(chain: CompiledChain, alpn: string, preface: boolean): boolean {
  if (chain.terminal.kind !== "http") return false;
  const { codec } = chain.terminal;
  if (codec !== "auto") return codec === "http2";
  return alpn === "h2" || (alpn === "" && preface);
}

/** Network policies of an HTTP chain guard the connection. */
function allowed(core: Core, chain: CompiledChain, socket: Wire, peer: Peer | null): boolean {
  subject.head = null;
  subject.client = null;
  subject.peer = peer;
  subject.wire = socket;
  subject.port = chain.port;
  if (judge(chain.networkRbac) !== null) return true;
  if (core.mayLog())
    core.log.info({ listener: chain.name, reason: denial.reason, peer: peer?.principal ?? null }, "A connection was refused.");
  return false;
}
