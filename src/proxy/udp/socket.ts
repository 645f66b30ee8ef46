// Owns: what is used of Bun's UDP sockets, and making them without waiting: with literal addresses Bun has the socket at once, within its promise.

/** A socket bound for clients. */
export interface ServerSocket {
  /** False: the kernel's buffer is full, and the datagram is gone. Throws for what can never be sent. */
  send(bytes: Uint8Array, port: number, host: string): boolean;
  close(): void;
  readonly port: number;
}

/** A socket connected to one endpoint: the kernel drops what others send to it, and tells of ICMP errors. `owner` is ours. */
export interface EndpointSocket {
  send(bytes: Uint8Array): boolean;
  close(): void;
  owner: EndpointOwner | null;
}

export interface EndpointOwner {
  answered(bytes: Uint8Array, truncated: boolean): void;
  /** The endpoint's host refused something that was sent before. */
  refused(error: Error): void;
}

export interface ServerOwner {
  received(bytes: Uint8Array, port: number, host: string, truncated: boolean): void;
  refused(error: Error): void;
}

interface Flags {
  readonly truncated: boolean;
}

type Make = (options: object) => Promise<unknown>;

/** SO_REUSEPORT, in the flags of Bun's UDP sockets (those of `node:dgram`'s binding). */
const reusePort = 4;

/** `shared`: others may bind it too, and the kernel keeps each client with one. Throws what Bun throws when the address cannot be bound. */
export function bindSocket(host: string, port: number, shared: boolean, owner: ServerOwner): ServerSocket {
  return made({
    hostname: host,
    port,
    ...(shared ? { flags: reusePort } : {}),
    socket: {
      data(_socket: unknown, bytes: Uint8Array, from: number, address: string, flags: Flags) {
        owner.received(bytes, from, address, flags.truncated);
      },
      error(error: Error) {
        owner.refused(error);
      },
      drain() {},
    },
  }) as ServerSocket;
}

/** Throws when no socket can be had or the address cannot be reached. */
export function connectSocket(host: string, port: number, owner: EndpointOwner): EndpointSocket {
  const socket = made({ connect: { hostname: host, port }, socket: endpointHandlers }) as EndpointSocket;
  socket.owner = owner;
  return socket;
}

/** One object for every session. Bun gives an error without its socket, which is `this`. */
const endpointHandlers = {
  data(socket: EndpointSocket, bytes: Uint8Array, _port: number, _address: string, flags: Flags) {
    socket.owner?.answered(bytes, flags.truncated);
  },
  error(this: EndpointSocket, error: Error) {
    this.owner?.refused(error);
  },
  drain() {},
};

function made(options: object): unknown {
  const promise = (Bun.udpSocket as unknown as Make)(options);
  const result: unknown = Bun.peek(promise);
  if (result === promise) {
    // A name where an address belongs; names of clusters are looked up long before.
    promise.then((late) => (late as { close(): void }).close()).catch(ignore);
    throw new Error("the address is no IP address");
  }
  if (result instanceof Error) {
    promise.catch(ignore);
    throw result;
  }
  return result;
}

function ignore(): void {}
