// Owns: how a sidecar that starts gets the ports that are led past it meanwhile: the predecessor's side of the protocol by which a proxy takes another's place
// (its other side is the proxy's `--handover`), so that no connection is refused in between. Never accepts a connection of the application.

import { rmSync } from "node:fs";
import { peerOf, sendDescriptors } from "../../base/system.ts";

export interface HandedSocket {
  readonly port: number;
  readonly fd: number;
}

/** A counter of this process, told to the sidecar so that it stands among its metrics. */
export interface HandedCounter {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  readonly series: readonly { readonly labels: readonly string[]; readonly value: number }[];
}

type Connection = Bun.Socket<{ rest: string }>;

/** A line of this protocol from a sidecar is short. */
const mostLine = 4096;

export class Handback {
  readonly #server: Bun.UnixSocketListener<{ rest: string }>;
  readonly #path: string;
  readonly #sockets: () => readonly HandedSocket[];
  readonly #counters: () => readonly HandedCounter[];
  readonly #leave: () => void;
  #successor: Connection | undefined;
  #left = false;

  /** `leave`: a sidecar serves; nothing is accepted here from its return on. Throws when the socket cannot be made. */
  constructor(path: string, sockets: () => readonly HandedSocket[], counters: () => readonly HandedCounter[], leave: () => void) {
    this.#path = path;
    this.#sockets = sockets;
    this.#counters = counters;
    this.#leave = leave;
    // Left behind by the sidecar that was killed.
    rmSync(path, { force: true });
    const before = process.umask(0o177);
    try {
      this.#server = Bun.listen<{ rest: string }>({
        unix: path,
        socket: {
          open: (socket) => {
            socket.data = { rest: "" };
          },
          data: (socket, bytes) => this.#read(socket, bytes),
          close: (socket) => {
            if (this.#successor === socket) this.#successor = undefined;
          },
          error() {},
        },
      });
    } finally {
      process.umask(before);
    }
  }

  /** Idempotent. */
  close(): void {
    if (this.#left) return;
    this.#left = true;
    this.#server.stop(true);
    rmSync(this.#path, { force: true });
  }

  #read(socket: Connection, bytes: Uint8Array): void {
    const lines = (socket.data.rest + Buffer.from(bytes).toString("latin1")).split("\n");
    socket.data.rest = lines.pop() as string;
    if (socket.data.rest.length > mostLine) {
      socket.terminate();
      return;
    }
    for (const line of lines) {
      let said: { readonly take?: number; readonly ready?: number };
      try {
        said = JSON.parse(line) as typeof said;
      } catch {
        socket.terminate();
        return;
      }
      if (said.take !== undefined) this.#hand(socket);
      else if (said.ready !== undefined && socket === this.#successor && !this.#left) this.#handed(socket);
      else socket.terminate();
    }
  }

  #hand(socket: Connection): void {
    const { fd } = socket as unknown as { readonly fd: number };
    const { uid } = peerOf(fd);
    if ((uid !== process.getuid?.() && uid !== 0) || this.#successor !== undefined || this.#left) {
      socket.end(`${JSON.stringify({ refused: "these ports are not for you" })}\n`);
      return;
    }
    this.#successor = socket;
    const sockets = this.#sockets();
    const told = sockets.map(({ port }) => ({ name: `direct|${port}`, address: { host: "127.0.0.1", port }, port, count: 1 }));
    // One message holds 253 descriptors, and a command line fewer upstreams than that.
    const head = Buffer.from(`${JSON.stringify({ sockets: told, pid: process.pid })}\n`);
    sendDescriptors(
      fd,
      head,
      sockets.map((one) => one.fd),
    );
  }

  #handed(socket: Connection): void {
    this.#left = true;
    // Before the sidecar hears of it: it makes its own socket in the same place.
    this.#server.stop(false);
    this.#leave();
    socket.write(`${JSON.stringify({ leaving: 1 })}\n`);
    socket.end(`${JSON.stringify({ metrics: metricsOf(this.#counters()) })}\n`);
  }
}

function metricsOf(counters: readonly HandedCounter[]) {
  const series = counters.flatMap((one, family) => one.series.map(({ labels, value }) => ({ family, labels, value })));
  return {
    families: counters.map(({ name, help, labelNames }, id) => ({ id, name, help, kind: "counter", labelNames, bounds: [] })),
    series: series.map(({ family, labels }, id) => ({ id, family, labels })),
    values: series.flatMap(({ value }, id) => [id, value]),
    histograms: [],
    gone: [],
  };
}
