// Owns: one bound listener and the first moments of its connections: which chain takes them, their handshake, and handing them on.
// A connection is raw until its chain is known; TLS then starts on the accepted socket, with the certificates of that moment, so that a rotated
// certificate serves the next connection. A listener that only speaks TLS has no `data` handler for the raw socket: Bun would call it with
// ciphertext for every read (1 us each).

import { denial, judge, subject } from "../authz/judge.ts";
import type { ChainSlot, CompiledChain } from "../chain/chain.ts";
import type { Chains } from "../chain/select.ts";
import type { HostPort } from "../config.ts";
import { ServerConnection } from "../http1/server.ts";
import type { Timed } from "../resilience/ticker.ts";
import type { Core, Downstream } from "../runtime/core.ts";
import { TcpConnection } from "../tcp/forward.ts";
import { isTransportError, judgePeer, type Peer, type TlsFacts } from "../tls/peer.ts";
import type { Wire } from "./outbox.ts";

/** Handshakes that take longer are attacks or dead peers. */
const handshakeMs = 10_000;

type Established = ServerConnection | TcpConnection;
/** Whatever `socket.data` is at the moment: an accepted connection becomes an established one. */
type Member = Accepted | Established;
type AcceptedSocket = Wire & TlsFacts & { data: Member; upgradeTLS(options: unknown): [unknown, AcceptedSocket] };

/** Sockets that listen at an address already: `fds` are the taker's to close. */
export interface AdoptedSockets {
  readonly fds: readonly number[];
  /** The bound one. */
  readonly port: number;
}

/** Finds sockets that were bound elsewhere (by the process that is replaced, or by the owner of the workers); null: bind one. Throws like a bind. */
export type AdoptSockets = (name: string, address: HostPort) => AdoptedSockets | null;

/** A socket that listens, for whoever hands it on. */
export interface ListeningSocket {
  readonly name: string;
  /** As configured; `port` may be 0. */
  readonly address: HostPort;
  /** The bound one. */
  readonly port: number;
  readonly fd: number;
}

interface Server {
  stop(force?: boolean): void;
  readonly port: number;
  readonly fd: number;
}

/** What listens; the chains behind it may be replaced at any time. */
export class BoundListener {
  readonly name: string;
  readonly core: Core;
  chains: Chains;
  #servers: readonly Server[] = [];
  readonly #configured: HostPort;
  readonly #adopt: AdoptSockets | undefined;
  address: HostPort;

  constructor(core: Core, name: string, address: HostPort, chains: Chains, adopt?: AdoptSockets) {
    this.core = core;
    this.name = name;
    this.address = address;
    this.#configured = address;
    this.chains = chains;
    this.#adopt = adopt;
  }

  /** Throws what Bun throws when the address cannot be bound. `tlsOnly`: every connection starts with TLS. */
  bind(tlsOnly: boolean): void {
    this.#tlsOnly = tlsOnly;
    const adopted = this.#adopt?.(this.name, this.address) ?? null;
    const shared = {
      allowHalfOpen: true,
      data: this,
      socket: (tlsOnly ? rawTlsHandlers(this) : rawHandlers(this)) as unknown as Bun.SocketHandler<BoundListener>,
    };
    const listen = (where: object): Server =>
      Bun.listen({ ...where, ...shared } as unknown as Parameters<typeof Bun.listen<BoundListener>>[0]) as unknown as Server;
    if (adopted === null) {
      const server = listen({ hostname: this.address.host, port: this.address.port });
      this.#servers = [server];
      this.address = { host: this.address.host, port: server.port };
      return;
    }
    this.#servers = adopted.fds.map((fd) => listen({ fd }));
    this.address = { host: this.address.host, port: adopted.port };
  }

  /** What a successor may listen on. */
  sockets(): readonly ListeningSocket[] {
    return this.#servers.map((server) => ({ name: this.name, address: this.#configured, port: this.address.port, fd: server.fd }));
  }

  #tlsOnly = false;

  /** As it was bound. */
  get tlsOnly(): boolean {
    return this.#tlsOnly;
  }

  stop(): void {
    for (const server of this.#servers) server.stop(false);
    this.#servers = [];
  }
}

/** An accepted connection until it is established; then it passes events on. */
class Accepted implements Timed, Downstream {
  readonly listener: BoundListener;
  deadlineMs: number;
  slot = -1;
  #target: Established | null = null;
  #chain: ChainSlot | null = null;
  #wire: Wire | null;
  #over = false;

  constructor(listener: BoundListener, wire: Wire, nowMs: number) {
    this.listener = listener;
    this.#wire = wire;
    this.deadlineMs = nowMs + handshakeMs;
  }

  /** A raw connection: TLS at once, plain at once, or a look at the first byte. */
  open(socket: AcceptedSocket): void {
    const chains = this.listener.chains;
    if (chains.sniff) {
      this.#register();
      return;
    }
    this.#choose(socket, chains.first, null);
  }

  #register(): void {
    this.listener.core.ticker.add(this);
    this.listener.core.open.add(this);
  }

  #choose(socket: AcceptedSocket, chain: ChainSlot | null, initial: Uint8Array | null): void {
    if (chain === null) {
      this.destroy();
      return;
    }
    this.#chain = chain;
    const material = chain.current.tls;
    if (material === null) {
      this.#establish(socket, chain, null);
      if (initial !== null) this.#target?.received(initial);
      return;
    }
    const options = material.options();
    if (typeof options === "string") {
      this.#refused(options);
      return;
    }
    if (this.slot < 0) this.#register();
    const [, secure] = socket.upgradeTLS({
      isServer: true,
      tls: options,
      socket: tlsHandlers,
      data: this,
      ...(initial === null ? {} : { initialData: initial }),
    });
    this.#wire = secure;
  }

  /** First bytes of a raw connection whose chain they decide. Ciphertext that Bun also shows to the raw socket is ignored. */
  received(bytes: Uint8Array): void {
    const socket = this.#wire;
    if (this.#over || this.#chain !== null || socket === null || bytes.length === 0) return;
    // A TLS record starts with the handshake type (RFC 8446 5.1); no HTTP method starts with that byte.
    this.#choose(socket as AcceptedSocket, this.listener.chains.byTransport(bytes[0] === 0x16), bytes);
  }

  handshaken(socket: AcceptedSocket, failed: Error | null): void {
    const chain = this.#chain;
    if (this.#over || chain === null || this.#target !== null) return;
    const material = chain.current.tls;
    if (material === null) {
      this.destroy();
      return;
    }
    if (failed !== null && isTransportError(failed)) {
      this.#refused(`the handshake failed: ${failed.message}`);
      return;
    }
    const peer = judgePeer(socket, material.rules, null, false);
    if (typeof peer === "string") {
      this.#refused(peer);
      return;
    }
    this.#wire = socket;
    this.#establish(socket, chain, peer);
  }

  #establish(socket: AcceptedSocket, chain: ChainSlot, peer: Peer | null): void {
    const core = this.listener.core;
    core.ticker.remove(this);
    const now = core.ticker.now();
    const compiled: CompiledChain = chain.current;
    core.open.delete(this);
    if (compiled.terminal.kind === "tcp") {
      const connection = new TcpConnection(core, chain, socket, peer, now);
      this.#target = connection;
      socket.data = connection;
      connection.start();
      return;
    }
    const connection = new ServerConnection(core, chain, socket, peer, now);
    this.#target = connection;
    socket.data = connection;
    // It was accepted before the listener closed: its first request is answered.
    if (core.draining) connection.goodbye();
    if (compiled.networkRbac.length > 0) {
      subject.head = null;
      subject.peer = peer;
      subject.wire = socket;
      subject.port = compiled.port;
      if (judge(compiled.networkRbac) === null) {
        if (core.mayLog())
          core.log.info({ listener: compiled.name, reason: denial.reason, peer: peer?.principal ?? null }, "A connection was refused.");
        connection.destroy();
      }
    }
  }

  #refused(reason: string): void {
    const core = this.listener.core;
    core.tlsRefusedDownstream.value++;
    if (core.mayLog())
      core.log.warn(
        { listener: this.listener.name, reason, remote: this.#wire?.remoteAddress ?? "" },
        "A downstream handshake was refused.",
      );
    this.destroy();
  }

  drained(): void {}

  ended(): void {
    // The raw socket of an upgraded connection reports its end too; the upgraded one decides.
    if (this.#target === null) this.destroy();
  }

  lost(): void {
    if (this.#target !== null) this.#target.lost();
    else this.#forget();
  }

  get core(): Core {
    return this.listener.core;
  }

  onDeadline(): void {
    if (this.#chain === null) this.destroy();
    else this.#refused("the handshake took too long");
  }

  /** The handshake may end; what comes of it says goodbye. */
  goodbye(): void {}

  retire(): void {
    this.destroy();
  }

  destroy(): void {
    const wire = this.#wire;
    this.#forget();
    wire?.terminate();
  }

  #forget(): void {
    if (this.#over) return;
    this.#over = true;
    this.#wire = null;
    this.listener.core.ticker.remove(this);
    this.listener.core.closed(this);
  }
}

/** A handler threw, or an established TLS session failed: that connection ends, never the process. */
function bug(member: Member, error: Error): void {
  if (!isTransportError(error)) {
    member.core.bugs.value++;
    member.core.log.error({ error, stack: error.stack }, "A bug closed a downstream connection.");
  }
  member.destroy();
}

/** After TLS: one handler object for every connection. */
const tlsHandlers = {
  data(socket: AcceptedSocket, bytes: Uint8Array) {
    socket.data.received(bytes);
  },
  drain(socket: AcceptedSocket) {
    socket.data.drained();
  },
  handshake(socket: AcceptedSocket, _success: boolean, error: Error | null) {
    const accepted = socket.data;
    if (accepted instanceof Accepted) accepted.handshaken(socket, error);
  },
  end(socket: AcceptedSocket) {
    socket.data.ended();
  },
  close(socket: AcceptedSocket) {
    socket.data.lost();
  },
  error(socket: AcceptedSocket, error: Error) {
    bug(socket.data, error);
  },
};

/** Raw sockets of a listener that only speaks TLS: everything happens on the upgraded socket. */
function rawTlsHandlers(listener: BoundListener) {
  return {
    open(socket: AcceptedSocket) {
      const accepted = new Accepted(listener, socket, listener.core.ticker.now());
      socket.data = accepted;
      accepted.open(socket);
    },
    drain() {},
    close(socket: AcceptedSocket) {
      socket.data.lost();
    },
    error(socket: AcceptedSocket, error: Error) {
      bug(socket.data, error);
    },
  };
}

function rawHandlers(listener: BoundListener) {
  return {
    open(socket: AcceptedSocket) {
      const accepted = new Accepted(listener, socket, listener.core.ticker.now());
      socket.data = accepted;
      accepted.open(socket);
    },
    data(socket: AcceptedSocket, bytes: Uint8Array) {
      socket.data.received(bytes);
    },
    drain(socket: AcceptedSocket) {
      socket.data.drained();
    },
    end(socket: AcceptedSocket) {
      socket.data.ended();
    },
    close(socket: AcceptedSocket) {
      socket.data.lost();
    },
    error(socket: AcceptedSocket, error: Error) {
      bug(socket.data, error);
    },
  };
}
