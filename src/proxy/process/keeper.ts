// Owns: listening sockets that outlive the process that accepts on them: those of the workers (the owner keeps one for each worker and address, so that a
// worker's end loses no connection that waits), and those taken over from a predecessor. Never accepts.

import { closeDescriptor, duplicate, sharePort } from "../../base/system.ts";
import type { HostPort, ListenerConfig } from "../config.ts";
import { socketKey } from "./key.ts";

/** The sockets of one listener. */
export interface KeptListener {
  readonly name: string;
  /** As configured; `port` may be 0. */
  readonly address: HostPort;
  readonly port: number;
  readonly fds: readonly number[];
}

/** Opens one listening socket and gives it to the caller. Throws what Bun throws when it cannot be bound. */
function bind(host: string, port: number, share: boolean): { readonly fd: number; readonly port: number } {
  // Bun resolves, binds and names errors as it does for every listener; only its own descriptor is given up at once.
  const server = Bun.listen<undefined>({
    hostname: host,
    port,
    reusePort: share,
    socket: { data() {} },
  } as Bun.TCPSocketListenOptions<undefined>);
  try {
    return { fd: duplicate((server as unknown as { readonly fd: number }).fd), port: server.port };
  } finally {
    server.stop(true);
  }
}

interface Kept extends KeptListener {
  /** By worker; null: let go while that worker is down. */
  readonly slots: number[][];
}

export class SocketKeeper {
  readonly #workers: number;
  readonly #kept = new Map<string, Kept>();
  /** From a predecessor, until a listener wants them. */
  readonly #inherited = new Map<string, KeptListener>();

  /** `workers`: how many sockets each address gets. */
  constructor(workers: number, inherited: readonly KeptListener[] = []) {
    this.#workers = workers;
    for (const one of inherited) this.#inherited.set(socketKey(one.name, one.address), one);
  }

  /** Makes the sockets of a listener that are missing. Throws what a bind throws; then there are none. */
  ensure(listener: Pick<ListenerConfig, "name" | "address">): KeptListener {
    const key = socketKey(listener.name, listener.address);
    const known = this.#kept.get(key);
    if (known !== undefined) return known;
    const inherited = this.#inherited.get(key);
    this.#inherited.delete(key);
    const slots: number[][] = Array.from({ length: this.#workers }, () => []);
    let port = inherited?.port ?? listener.address.port;
    const fds = [...(inherited?.fds ?? [])];
    try {
      while (fds.length < this.#workers) {
        // The first is bound for itself alone, so that a port that somebody else has is an error even if that one would share it.
        for (const fd of fds) sharePort(fd);
        const made = bind(listener.address.host, port, fds.length > 0);
        fds.push(made.fd);
        port = made.port;
      }
    } catch (error) {
      for (const fd of fds) closeDescriptor(fd);
      throw error;
    }
    for (const [n, fd] of fds.entries()) slots[n % this.#workers]?.push(fd);
    const kept: Kept = { name: listener.name, address: listener.address, port, fds, slots };
    this.#kept.set(key, kept);
    return kept;
  }

  /** The sockets of one worker; the descriptors stay ours. Bound again where they were let go. */
  of(listener: Pick<ListenerConfig, "name" | "address">, worker: number): { readonly port: number; readonly fds: readonly number[] } {
    const kept = this.ensure(listener) as Kept;
    const slot = kept.slots[worker] as number[];
    if (slot.length === 0) slot.push(bind(kept.address.host, kept.port, true).fd);
    for (const fd of slot) sharePort(fd);
    return { port: kept.port, fds: slot };
  }

  /** Lets go of a worker's sockets, so that new connections go to the others. What waits on them is reset. */
  release(worker: number): void {
    for (const kept of this.#kept.values()) for (const fd of kept.slots[worker]?.splice(0) ?? []) closeDescriptor(fd);
  }

  /** Closes the sockets of addresses that no listener has any more. */
  retain(listeners: Iterable<Pick<ListenerConfig, "name" | "address">>): void {
    const wanted = new Set([...listeners].map((one) => socketKey(one.name, one.address)));
    for (const [key, kept] of this.#kept) {
      if (wanted.has(key)) continue;
      for (const slot of kept.slots) for (const fd of slot) closeDescriptor(fd);
      this.#kept.delete(key);
    }
  }

  /** What a successor may listen on. */
  all(): readonly KeptListener[] {
    return [...this.#kept.values()].map(({ name, address, port, slots }) => ({ name, address, port, fds: slots.flat() }));
  }

  /** Sockets of a predecessor that no listener wanted: nobody will accept on them here. */
  dropInherited(): void {
    for (const one of this.#inherited.values()) for (const fd of one.fds) closeDescriptor(fd);
    this.#inherited.clear();
  }

  close(): void {
    this.dropInherited();
    this.retain([]);
  }
}
