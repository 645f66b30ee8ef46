// Owns: one bound listener, and the events of its sockets. What happens to a connection until a protocol takes it stands in `accepted.ts`.
// A listener that only speaks TLS has no `data` handler for the raw socket: Bun would call it with ciphertext for every read (1 us each).

import { type Chains, makeChains } from "../chain/select.ts";
import type { HostPort } from "../config.ts";
import type { Core } from "../runtime/core.ts";
import { Accepted, type AcceptedSocket, closeForBug, type Member } from "./accepted.ts";
import { libc } from "./libc.ts";

type RawSocket = AcceptedSocket & { data: Member };

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

const noChains = makeChains([]);

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
    const listen = this.#listen();
    if (adopted === null) {
      const server = listen({ hostname: this.address.host, port: this.address.port });
      this.#servers = [server];
      this.address = { host: this.address.host, port: server.port };
      return;
    }
    this.#servers = adopted.fds.map((fd) => listen({ fd }));
    this.address = { host: this.address.host, port: adopted.port };
  }

  /** From plain to TLS or back on one address: the handlers differ. The socket itself goes on, and who waits in its queue is accepted. */
  rebind(tlsOnly: boolean): void {
    this.#tlsOnly = tlsOnly;
    const listen = this.#listen();
    const before = this.#servers;
    this.#servers = before.map((server) => listen({ fd: libc().dup(server.fd) }));
    for (const server of before) server.stop(false);
  }

  #listen(): (where: object) => Server {
    const shared = {
      allowHalfOpen: true,
      data: this,
      socket: (this.#tlsOnly ? rawTlsHandlers(this) : rawHandlers(this)) as unknown as Bun.SocketHandler<BoundListener>,
    };
    return (where) =>
      Bun.listen({ ...where, ...shared } as unknown as Parameters<typeof Bun.listen<BoundListener>>[0]) as unknown as Server;
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

  /** Not a listener any more: connections that are still being looked at end. */
  remove(): void {
    this.stop();
    this.chains = noChains;
  }

  stop(): void {
    for (const server of this.#servers) server.stop(false);
    this.#servers = [];
  }
}

/** Raw sockets of a listener that only speaks TLS: everything happens on the upgraded socket. */
function rawTlsHandlers(listener: BoundListener) {
  return {
    open(socket: AcceptedSocket) {
      const accepted = new Accepted(listener, socket, listener.core.ticker.now());
      socket.data = accepted;
      accepted.open(socket);
    },
    drain() {},
    close(socket: RawSocket, error?: Error) {
      socket.data.lost(error);
    },
    error(socket: RawSocket, error: Error) {
      closeForBug(listener.core, socket.data, error);
    },
  };
}

function rawHandlers(listener: BoundListener) {
  return {
    ...rawTlsHandlers(listener),
    data(socket: RawSocket, bytes: Uint8Array) {
      socket.data.received(bytes);
    },
    drain(socket: RawSocket) {
      socket.data.drained();
    },
    end(socket: RawSocket) {
      socket.data.ended();
    },
  };
}
