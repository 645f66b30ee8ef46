// Owns: the API's TLS socket where client certificates are credentials: it shows certificates, which Bun's HTTPS server does not, and hands the decrypted bytes of
// each connection to the HTTP server behind it on the loopback address. That one knows each connection by its port, and answers no other.
// Not loaded, and nothing in between, without `--client-ca`. Never looks into the bytes.

import { type CertificateVerdict, judgeCertificate, type ShownCertificate } from "./client-certificate.ts";

/** A connection behind the front. */
export interface Fronted {
  readonly remote: { readonly address: string; readonly port: number };
  /** null = no certificate was shown; another credential decides. */
  readonly certificate: CertificateVerdict | null;
}

export interface Front {
  readonly port: number;
  /** By the port from which the connection comes to the server behind; undefined = it is not one of ours. */
  find(port: number): Fronted | undefined;
  /** Accepts no more; resolves when the last connection is over. */
  refuse(): Promise<void>;
  stop(): void;
}

export interface FrontOptions {
  readonly hostname: string;
  readonly port: number;
  readonly cert: string;
  readonly key: string;
  /** Beside a listener of this process that has the port. */
  readonly reusePort?: boolean;
  /** PEM: authorities whose certificates are credentials. */
  readonly clientCa: string;
  /** Of the HTTP server on 127.0.0.1. */
  readonly behind: number;
  /** A client that does not finish its handshake in time is closed. */
  readonly handshakeSeconds: number;
  /** What a client may take for the last bytes of an answer after the server has closed. */
  readonly lingerSeconds: number;
  /** Connections at once; further ones are closed. */
  readonly most: number;
}

/** Ten times what a fleet's tools hold; a descriptor and some kilobytes each. */
export const frontLimits = { handshakeSeconds: 10, lingerSeconds: 60, most: 10_000 } as const;

type Side = Bun.Socket<Pair>;

interface Pair {
  client: Side | undefined;
  server: Side | undefined;
  /** What one side did not take yet; the other is not read meanwhile. */
  toServer: Uint8Array[];
  toClient: Uint8Array[];
  clientEnded: boolean;
  serverEnded: boolean;
  over: boolean;
}

interface TlsSide {
  readonly authorized: boolean;
  getPeerCertificate(): ShownCertificate | null | undefined;
}

/** Throws what Bun throws when the port cannot be bound. */
export function openFront(options: FrontOptions): Front {
  const fronted = new Map<number, Fronted>();
  let open = 0;
  let lastGone: (() => void) | undefined;

  const server = Bun.listen<Pair>({
    hostname: options.hostname,
    port: options.port,
    reusePort: options.reusePort === true,
    allowHalfOpen: true,
    tls: { cert: options.cert, key: options.key, ca: options.clientCa, requestCert: true, rejectUnauthorized: false },
    socket: {
      open(socket: Side) {
        socket.data = {
          client: socket,
          server: undefined,
          toServer: [],
          toClient: [],
          clientEnded: false,
          serverEnded: false,
          over: false,
        };
        open++;
        if (open > options.most) finish(socket.data);
        else socket.timeout(options.handshakeSeconds);
      },
      handshake(socket: Side, _good: boolean, problem: unknown) {
        if (socket.data.over) return;
        socket.timeout(0);
        void lead(socket, certificateOf(socket as unknown as TlsSide, problem));
      },
      data: (socket: Side, bytes: Uint8Array) => pass(socket.data, "toServer", bytes),
      drain: (socket: Side) => flush(socket.data, "toClient"),
      timeout: (socket: Side) => finish(socket.data),
      end(socket: Side) {
        socket.data.clientEnded = true;
        flush(socket.data, "toServer");
      },
      close(socket: Side) {
        open--;
        finish(socket.data);
        if (open === 0) lastGone?.();
      },
      error: (socket: Side) => finish(socket.data),
    },
  } as unknown as Bun.TCPSocketListenOptions<Pair>);

  async function lead(client: Side, certificate: CertificateVerdict | null): Promise<void> {
    const pair = client.data;
    try {
      await Bun.connect<Pair>({
        hostname: "127.0.0.1",
        port: options.behind,
        allowHalfOpen: true,
        data: pair,
        socket: {
          open(socket) {
            pair.server = socket;
            if (pair.over) {
              socket.terminate();
              return;
            }
            const { localPort } = socket;
            fronted.set(localPort, { remote: { address: client.remoteAddress, port: client.remotePort }, certificate });
            ports.set(pair, localPort);
            flush(pair, "toServer");
          },
          data: (_socket, bytes) => pass(pair, "toClient", bytes),
          drain: () => flush(pair, "toServer"),
          end() {
            pair.serverEnded = true;
            flush(pair, "toClient");
          },
          close() {
            // What it has said before it closed is still the client's.
            unlist(pair);
            pair.server = undefined;
            pair.serverEnded = true;
            pair.client?.timeout(options.lingerSeconds);
            flush(pair, "toClient");
          },
          error: () => finish(pair),
        },
      });
    } catch {
      finish(pair);
    }
  }

  const ports = new WeakMap<Pair, number>();

  /** Before its port can be anybody else's. */
  function unlist(pair: Pair): void {
    const port = ports.get(pair);
    if (port === undefined) return;
    fronted.delete(port);
    ports.delete(pair);
  }

  function finish(pair: Pair): void {
    if (pair.over) return;
    pair.over = true;
    unlist(pair);
    pair.client?.terminate();
    pair.server?.terminate();
  }

  return {
    port: server.port,
    find: (port) => fronted.get(port),
    refuse() {
      server.stop(false);
      return open === 0
        ? Promise.resolve()
        : new Promise((resolve) => {
            lastGone = resolve;
          });
    },
    stop: () => server.stop(true),
  };

  function pass(pair: Pair, way: "toServer" | "toClient", bytes: Uint8Array): void {
    if (pair.over) return;
    const to = way === "toServer" ? pair.server : pair.client;
    const took = pair[way].length > 0 || to === undefined ? 0 : Math.max(0, to.write(bytes));
    if (took === bytes.length || (way === "toServer" && pair.serverEnded)) return;
    // A copy: Bun's buffer is used again.
    pair[way].push(bytes.slice(took));
    (way === "toServer" ? pair.client : pair.server)?.pause();
  }

  function flush(pair: Pair, way: "toServer" | "toClient"): void {
    if (pair.over) return;
    const [from, to] = way === "toServer" ? [pair.client, pair.server] : [pair.server, pair.client];
    if (to === undefined) return;
    const waiting = pair[way];
    while (waiting.length > 0) {
      const first = waiting[0] as Uint8Array;
      const took = Math.max(0, to.write(first));
      if (took < first.length) {
        waiting[0] = first.subarray(took);
        return;
      }
      waiting.shift();
    }
    if (way === "toServer" ? pair.clientEnded : pair.serverEnded) {
      to.end();
      return;
    }
    from?.resume();
  }
}

function certificateOf(socket: TlsSide, problem: unknown): CertificateVerdict | null {
  const shown = socket.getPeerCertificate();
  if (shown === null || shown === undefined || shown.subject === undefined) return null;
  const code = String((problem as { readonly code?: unknown } | undefined)?.code ?? "not trusted");
  const message = problem instanceof Error ? problem.message : "";
  return judgeCertificate(shown, socket.authorized ? undefined : `${code}${message === "" ? "" : ` (${message})`}`);
}
