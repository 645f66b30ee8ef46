// Owns: how a proxy takes the place of another without a refused connection: a private socket in the file system over which the new one gets the listening
// sockets of the old, and says when it is ready. Until then the old one serves as if nothing were; if the new one goes away first, it serves on.
//
//   new: {"take":1}                          old: {"sockets":[…]} with all descriptors beside it
//   new: serves, {"ready":1}                 old: stops accepting, {"leaving":1}, then {"metrics":…} each second and at its end
//
// Both processes hold the same sockets, so that what waits in their queues is accepted by whoever does. Never decides when to replace.

import { existsSync, rmSync } from "node:fs";
import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { HostPort } from "../config.ts";
import type { ListeningSocket } from "../net/listen.ts";
import type { KeptListener } from "./keeper.ts";
import { socketKey } from "./key.ts";
import type { MetricsDelta, MetricsTeller } from "./merged-metrics.ts";

/** How long the old one may take to hand its sockets over: it does nothing but write them. */
const answerWithinMs = 2_000;
const tellEveryMs = 1_000;
/** Lines of this protocol are short, but for those with metrics. */
const mostLine = 64 * 1024 * 1024;

/** An admin address is handed over under this name. */
const adminName = "\u0000admin";

interface SocketsLine {
  readonly sockets: readonly { readonly name: string; readonly address: HostPort; readonly port: number; readonly count: number }[];
  readonly pid: number;
}

type Line =
  | { readonly take: number; readonly pid: number }
  | { readonly ready: number }
  | { readonly leaving: number }
  | { readonly metrics: MetricsJson }
  | { readonly refused: string };

type MetricsJson = Omit<MetricsDelta, "values" | "histograms"> & {
  readonly values: readonly number[];
  readonly histograms: readonly { readonly id: number; readonly counts: readonly number[]; readonly sum: number }[];
};

const system = (): typeof import("../../base/system.ts") => require("../../base/system.ts") as typeof import("../../base/system.ts");

type Connection = Bun.Socket<{ rest: string }>;

// ---- the one that is replaced ----------------------------------------------------------------------------------------------

export interface HandoverDeps {
  readonly path: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly sockets: () => readonly ListeningSocket[];
  readonly admin: () => ListeningSocket | null;
  /** Stops accepting before it returns, and resolves when all is over. Called once. */
  readonly leave: () => Promise<void>;
  /** What the successor counts on from; made when it is ready. */
  readonly teller: () => MetricsTeller;
}

/** Answers successors. One at a time. */
export class HandoverServer {
  readonly #deps: HandoverDeps;
  readonly #server: Bun.UnixSocketListener<{ rest: string }>;
  #successor: Connection | undefined;
  #left = false;
  #timer: Timer | undefined;

  /** Throws when the socket cannot be made. A file that nobody listens on any more is removed: `takeOver` looked. */
  constructor(deps: HandoverDeps) {
    this.#deps = deps;
    rmSync(deps.path, { force: true });
    const before = process.umask(0o177);
    try {
      this.#server = Bun.listen<{ rest: string }>({
        unix: deps.path,
        socket: {
          open: (socket) => {
            socket.data = { rest: "" };
          },
          data: (socket, bytes) => eachLine(socket, bytes, (line) => this.#line(socket, line)),
          drain: (socket) => writers.get(socket)?.push(),
          close: (socket) => this.#closed(socket),
          error() {},
        },
      });
    } finally {
      process.umask(before);
    }
  }

  close(): void {
    this.#timer?.cancel();
    // Once left, the place in the file system is the successor's: stopping would remove it.
    if (!this.#left) this.#server.stop(true);
    this.#successor?.end();
  }

  #line(socket: Connection, line: Line): void {
    if ("take" in line) {
      try {
        this.#hand(socket, line.pid);
      } catch (error) {
        this.#deps.log.error({ error }, "This proxy's sockets could not be handed over; it serves on.");
        socket.end();
      }
    } else if ("ready" in line && socket === this.#successor && !this.#left) this.#leave(socket);
    else socket.end();
  }

  #hand(socket: Connection, pid: number): void {
    const { log, sockets, admin } = this.#deps;
    const { peerOf, sendDescriptors, mostDescriptors } = system();
    const fd = (socket as unknown as { readonly fd: number }).fd;
    const peer = peerOf(fd);
    // The file's mode says so already; this holds where somebody loosened it.
    if (peer.uid !== process.getuid?.() && peer.uid !== 0) {
      log.warn({ uid: peer.uid, pid: peer.pid }, "Another user asked for this proxy's sockets.");
      socket.end(`${JSON.stringify({ refused: "only the user that runs it may replace a proxy" })}\n`);
      return;
    }
    if (this.#successor !== undefined) {
      socket.end(`${JSON.stringify({ refused: "the proxy is being replaced already" })}\n`);
      return;
    }
    this.#successor = socket;
    const adminSocket = admin();
    const all = [...sockets(), ...(adminSocket === null ? [] : [{ ...adminSocket, name: adminName }])];
    const groups: { name: string; address: HostPort; port: number; count: number }[] = [];
    for (const one of all) {
      const last = groups.at(-1);
      if (last !== undefined && last.name === one.name && socketKey(last.name, last.address) === socketKey(one.name, one.address))
        last.count++;
      else groups.push({ name: one.name, address: one.address, port: one.port, count: 1 });
    }
    const fds = all.map((one) => one.fd);
    const head = Buffer.from(`${JSON.stringify({ sockets: groups, pid: process.pid } satisfies SocketsLine)}\n`);
    sendDescriptors(fd, head, fds.slice(0, mostDescriptors));
    for (let n = mostDescriptors; n < fds.length; n += mostDescriptors)
      sendDescriptors(fd, new Uint8Array([0x0a]), fds.slice(n, n + mostDescriptors));
    log.info({ successor: pid, sockets: fds.length }, "A successor has this proxy's sockets; it takes over when it is ready.");
  }

  #leave(socket: Connection): void {
    const { clock, log, leave } = this.#deps;
    this.#left = true;
    // Before the successor hears of it: it makes its own in the same place.
    this.#server.stop(false);
    const gone = leave();
    const teller = this.#deps.teller();
    log.info({}, "The successor is ready: no new connections here, open requests may end.");
    const out = new LineWriter(socket);
    const tell = (): void => out.write(`${JSON.stringify({ metrics: toJson(teller.next()) })}\n`);
    out.write(`${JSON.stringify({ leaving: 1 })}\n`);
    tell();
    this.#timer = clock.every(tellEveryMs, tell);
    writers.set(socket, out);
    this.#gone = gone.then(() => {
      this.#timer?.cancel();
      tell();
      return out.finish();
    });
  }

  #gone: Promise<void> = Promise.resolve();

  /** The last counts are with the successor. */
  finished(): Promise<void> {
    return this.#gone;
  }

  #closed(socket: Connection): void {
    writers.get(socket)?.lost();
    if (socket !== this.#successor) return;
    this.#successor = undefined;
    if (!this.#left) this.#deps.log.warn({}, "The successor went away before it was ready; this proxy serves on.");
  }
}

/** Writers by socket, for their drain events. */
const writers = new WeakMap<object, LineWriter>();

/** Writes as the socket takes it. */
class LineWriter {
  readonly #socket: Connection;
  #waiting: Uint8Array[] = [];
  #finished: (() => void) | undefined;
  #lost = false;

  constructor(socket: Connection) {
    this.#socket = socket;
  }

  write(line: string): void {
    if (this.#lost) return;
    this.#waiting.push(Buffer.from(line));
    this.push();
  }

  /** Resolves when everything is written, or the reader is gone. */
  finish(): Promise<void> {
    if (this.#lost) return Promise.resolve();
    return new Promise((resolve) => {
      this.#finished = resolve;
      this.push();
    });
  }

  lost(): void {
    this.#lost = true;
    this.#waiting = [];
    this.#finished?.();
  }

  push(): void {
    while (this.#waiting.length > 0) {
      const first = this.#waiting[0] as Uint8Array;
      const took = Math.max(0, this.#socket.write(first));
      if (took < first.length) {
        this.#waiting[0] = first.subarray(took);
        return;
      }
      this.#waiting.shift();
    }
    this.#finished?.();
  }
}

// ---- the one that takes its place ------------------------------------------------------------------------------------------

export interface Takeover {
  /** The process that is replaced. */
  readonly pid: number;
  readonly listeners: readonly KeptListener[];
  readonly admin: KeptListener | null;
  /** Tells the old one to stop accepting; resolves when it has, or is gone. */
  ready(onMetrics: (delta: MetricsDelta) => void, onGone: () => void): Promise<void>;
}

/** Asks the proxy that listens at `path` for its sockets. null: there is none. Throws a sentence. Waits; nothing is served yet. */
export function takeOver(path: string): Takeover | null {
  // Before anything is loaded for it: a first start finds nothing here.
  if (!existsSync(path)) return null;
  const { closeDescriptor, connectUnix, receiveDescriptors, sendDescriptors, setNonBlocking } = system();
  let fd: number;
  try {
    fd = connectUnix(path, answerWithinMs);
  } catch (error) {
    const code = (error as { readonly code?: string }).code;
    // Left behind by a proxy that was killed.
    if (code === "ECONNREFUSED" || code === "ENOENT") return null;
    throw new Error(`cannot ask the proxy at ${path} for its sockets: ${error instanceof Error ? error.message : String(error)}`);
  }
  const fds: number[] = [];
  try {
    sendDescriptors(fd, Buffer.from(`${JSON.stringify({ take: 1, pid: process.pid })}\n`), []);
    let text = "";
    let head: SocketsLine | undefined;
    let wanted = Number.POSITIVE_INFINITY;
    while (fds.length < wanted) {
      const got = receiveDescriptors(fd);
      if (got === undefined) throw new Error("it closed the connection");
      fds.push(...got.fds);
      text += Buffer.from(got.data).toString();
      const end = text.indexOf("\n");
      if (head !== undefined || end < 0) continue;
      const line = JSON.parse(text.slice(0, end)) as SocketsLine | { readonly refused: string };
      if ("refused" in line) throw new Error(line.refused);
      head = line;
      wanted = head.sockets.reduce((sum, one) => sum + one.count, 0);
    }
    const left = [...fds];
    const listeners = (head as SocketsLine).sockets.map(
      ({ name, address, port, count }): KeptListener => ({ name, address, port, fds: left.splice(0, count) }),
    );
    setNonBlocking(fd);
    const socket = fd;
    return {
      pid: (head as SocketsLine).pid,
      listeners: listeners.filter((one) => one.name !== adminName),
      admin: listeners.find((one) => one.name === adminName) ?? null,
      ready: (onMetrics, onGone) => sayReady(socket, onMetrics, onGone),
    };
  } catch (error) {
    for (const one of [fd, ...fds]) closeDescriptor(one);
    const code = (error as { readonly code?: string }).code;
    const why =
      code === "EAGAIN" ? `it did not answer within ${answerWithinMs / 1000} s` : error instanceof Error ? error.message : String(error);
    throw new Error(`the proxy at ${path} did not hand over its sockets: ${why}`);
  }
}

function sayReady(fd: number, onMetrics: (delta: MetricsDelta) => void, onGone: () => void): Promise<void> {
  const left = Promise.withResolvers<void>();
  const options = {
    fd,
    data: { rest: "" },
    socket: {
      open(socket: Connection) {
        socket.write(`${JSON.stringify({ ready: 1 })}\n`);
      },
      data(socket: Connection, bytes: Uint8Array) {
        eachLine(socket, bytes, (line) => {
          if ("leaving" in line) left.resolve();
          if ("metrics" in line) onMetrics(fromJson(line.metrics));
        });
      },
      close() {
        left.resolve();
        onGone();
      },
      error() {},
    },
  };
  // A socket that cannot be had any more belongs to a proxy that is gone: its sockets are ours all the same.
  Bun.connect(options as unknown as Parameters<typeof Bun.connect<{ rest: string }>>[0]).catch(() => left.resolve());
  return left.promise;
}

function eachLine(socket: Connection, bytes: Uint8Array, take: (line: Line) => void): void {
  // Byte by byte until a line is whole: a character may be split between two reads.
  const text = socket.data.rest + Buffer.from(bytes).toString("latin1");
  const lines = text.split("\n");
  socket.data.rest = lines.pop() as string;
  if (socket.data.rest.length > mostLine) {
    socket.terminate();
    return;
  }
  for (const line of lines) {
    if (line === "") continue;
    let parsed: unknown;
    try {
      parsed = JSON.parse(Buffer.from(line, "latin1").toString());
    } catch {
      socket.end();
      return;
    }
    if (typeof parsed === "object" && parsed !== null) take(parsed as Line);
  }
}

function toJson(delta: MetricsDelta): MetricsJson {
  return { ...delta, values: [...delta.values], histograms: delta.histograms.map((one) => ({ ...one, counts: [...one.counts] })) };
}

function fromJson(json: MetricsJson): MetricsDelta {
  return {
    ...json,
    values: Float64Array.from(json.values),
    histograms: json.histograms.map((one) => ({ ...one, counts: Float64Array.from(one.counts) })),
  };
}
