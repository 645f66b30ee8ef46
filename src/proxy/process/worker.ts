// Owns: a worker: an engine that accepts on the owner's sockets, does what the owner says, and tells it what happened. It knows no control plane and asks
// for no identity. Without its owner it drains and ends: nobody would give it the next certificate.

import { type Clock, systemClock } from "../../base/clock.ts";
import { jsonLogger, type Logger, type LogLevel } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import { closeDescriptor, duplicate, receiveDescriptors } from "../../base/system.ts";
import type { HostPort, ProxyConfig, SecretSource } from "../config.ts";
import { createEngine, type Engine } from "../engine.ts";
import type { AdoptedSockets } from "../net/listen.ts";
import type { LineOutput } from "../telemetry/access-log.ts";
import { registerProcessMetrics } from "../telemetry/process-metrics.ts";
import type { AccessRecord, AccessSink } from "../telemetry/record.ts";
import { createLogSinks, type LogSinks } from "../telemetry/sinks.ts";
import { Denied } from "../tls/denied.ts";
import { socketKey } from "./key.ts";
import { MetricsTeller } from "./merged-metrics.ts";
import { emptyConfig, type FromWorker, type SecretsMessage, type SocketsMessage, type ToWorker, withDelta } from "./messages.ts";

/** Where the owner's end of the descriptor socket is in a worker: the first after standard error. */
export const descriptorSocket = 3;
/** An owner that does not answer has hung; what waits for it is bounded by the queues behind this. */
const mostRecords = 2_000;
const tidyAfterMs = 1_000;
const recordsAfterMs = 100;
const batchRecords = 500;

/** What reaches the owner. */
export interface OwnerLine {
  send(message: FromWorker): void;
}

/** Runs until the owner says so, or is gone. */
export async function workerMain(level: LogLevel, writeError: (line: string) => void): Promise<number> {
  const ended = Promise.withResolvers<number>();
  const worker = new Worker(
    systemClock,
    { send: (message) => void process.send?.(message) },
    jsonLogger(level, systemClock.now, writeError),
    (status) => ended.resolve(status),
  );
  // The owner decides when a worker ends; a signal to the whole group must not cut what the owner lets finish.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => {});
  process.on("message", (message: unknown) => worker.receive(message as ToWorker));
  process.on("disconnect", () => worker.orphaned());
  return ended.promise;
}

class Worker {
  readonly #clock: Clock;
  readonly #owner: OwnerLine;
  readonly #log: Logger;
  readonly #end: (status: number) => void;
  readonly #metrics = new MetricRegistry();
  readonly #teller: MetricsTeller;
  readonly #sockets = new Map<string, SocketsMessage & { readonly fds: readonly number[] }>();
  readonly #received: number[] = [];
  readonly #waiting = new Map<number, () => void>();
  #nextId = 1;
  #denied: Denied | null = null;
  #secrets: SecretsMessage = { generation: 0, certificates: [], roots: [], lapsed: [] };
  #engine: Engine | undefined;
  #config: ProxyConfig = emptyConfig;
  #drainMs = 0;
  #tidied = false;
  #draining: Promise<void> | undefined;
  readonly #sinks: LogSinks;
  readonly #flushes: (() => Promise<void>)[] = [];

  constructor(clock: Clock, owner: OwnerLine, log: Logger, end: (status: number) => void) {
    this.#clock = clock;
    this.#owner = owner;
    this.#log = log;
    this.#end = end;
    registerProcessMetrics(this.#metrics, clock.now() - clock.mono());
    // The owner's start is the proxy's.
    this.#teller = new MetricsTeller(this.#metrics, (name) => name === "process_start_time_seconds");
    this.#sinks = createLogSinks({ clock, metrics: this.#metrics, output: (path) => this.#outputThroughOwner(path) });
    const dropped = this.#metrics
      .counter("weft_als_dropped_total", "Access log entries not sent because the log service was slow or away.")
      .with([]);
    const sinks = new Map<string, AccessSink>();
    this.#sinks.sendAlsTo((logName, cluster) => {
      const key = `${cluster}\n${logName}`;
      let sink = sinks.get(key);
      if (sink === undefined) {
        sink = this.#recordsThroughOwner(logName, cluster, () => dropped.value++);
        sinks.set(key, sink);
      }
      return sink;
    });
  }

  receive(message: ToWorker): void {
    switch (message.t) {
      case "start":
        this.#drainMs = message.drainMs;
        this.#engine = createEngine({
          clock: this.#clock,
          log: this.#log,
          metrics: this.#metrics,
          // rule 9: a worker is an entry point, as the process it serves.
          random: Math.random,
          secrets: this.#secretSource(),
          local: message.local,
          accessLog: this.#sinks.factory,
          shareDatagrams: true,
          demand: (table, host) => this.#owner.send({ t: "demand", table, host }),
          adopt: (name, address) => this.#adopt(name, address),
        });
        break;
      case "secrets":
        this.#secrets = message.secrets;
        this.#denied = message.secrets.denied === undefined ? null : new Denied(message.secrets.denied);
        this.#engine?.recheck();
        break;
      case "apply":
        for (const sockets of message.sockets) this.#takeSockets(sockets);
        this.#config = withDelta(this.#config, message.delta);
        this.#owner.send({ t: "applied", version: message.version, failures: this.#made().apply(this.#config) });
        this.#forgetSockets();
        if (!this.#tidied) this.#tidy();
        break;
      case "ask":
        this.#tell(message.ask);
        break;
      case "goodbye":
        this.#made().goodbye(message.on);
        break;
      case "drain":
        this.#drain(message.graceMs, message.idleMs);
        break;
      case "took": {
        const done = this.#waiting.get(message.id);
        this.#waiting.delete(message.id);
        done?.();
        break;
      }
    }
  }

  /** The owner is gone: no more certificates, no more configuration. What is open may end. */
  orphaned(): void {
    if (this.#draining === undefined) this.#log.error({ pid: process.pid }, "The proxy's owner is gone; this worker drains and ends.");
    for (const done of this.#waiting.values()) done();
    this.#waiting.clear();
    this.#drain(this.#drainMs, undefined);
    void this.#draining?.then(() => this.#end(1));
  }

  /** Starting leaves garbage that nothing would collect in an idle worker for a long time. */
  #tidy(): void {
    this.#tidied = true;
    this.#clock.after(tidyAfterMs, () => {
      Bun.gc(true);
      Bun.shrink();
    });
  }

  #made(): Engine {
    if (this.#engine === undefined) throw new Error("the owner did not begin with start");
    return this.#engine;
  }

  #secretSource(): SecretSource {
    const current = (): SecretsMessage => this.#secrets;
    return {
      get generation() {
        return current().generation;
      },
      certificate: (name) => current().certificates.find((one) => one.name === name),
      roots: (name) => current().roots.find((one) => one.name === name)?.pem,
      lapsed: (name) => current().lapsed.find((one) => one.name === name)?.why,
      denied: () => this.#denied,
    };
  }

  #takeSockets(sockets: SocketsMessage): void {
    // The owner wrote them before it sent this message, so that reading does not wait. They come in the order of the messages.
    while (this.#received.length < sockets.count) {
      const got = receiveDescriptors(descriptorSocket);
      if (got === undefined) throw new Error("the owner closed the descriptor socket");
      this.#received.push(...got.fds);
    }
    const fds = this.#received.splice(0, sockets.count);
    const key = socketKey(sockets.name, sockets.address);
    for (const fd of this.#sockets.get(key)?.fds ?? []) closeDescriptor(fd);
    this.#sockets.set(key, { ...sockets, fds });
  }

  #forgetSockets(): void {
    const wanted = new Set([...this.#config.listeners.values()].map((one) => socketKey(one.name, one.address)));
    for (const [key, sockets] of this.#sockets) {
      if (wanted.has(key)) continue;
      for (const fd of sockets.fds) closeDescriptor(fd);
      this.#sockets.delete(key);
    }
  }

  #adopt(name: string, address: HostPort): AdoptedSockets {
    const found =
      this.#sockets.get(socketKey(name, address)) ??
      // A listener that is bound again asks for the port it had.
      [...this.#sockets.values()].find((one) => one.address.host === address.host && one.port === address.port);
    if (found === undefined) throw new Error("the proxy's owner gave no socket for this listener");
    if (found.problem !== null) throw Object.assign(new Error(found.problem.message), { code: found.problem.code });
    return { port: found.port, fds: found.fds.map(duplicate) };
  }

  #tell(ask: number): void {
    this.#owner.send({ t: "told", ask, metrics: this.#teller.next(), stats: this.#made().stats() });
  }

  #drain(graceMs: number, idleMs: number | undefined): void {
    if (this.#draining !== undefined) return;
    for (const { fds } of this.#sockets.values()) for (const fd of fds) closeDescriptor(fd);
    this.#sockets.clear();
    this.#draining = (this.#engine?.drain(graceMs, idleMs) ?? Promise.resolve())
      .then(() => Promise.all([this.#sinks.flush(), ...this.#flushes.map((flush) => flush())]))
      .then(() => {
        if (this.#engine !== undefined) this.#tell(0);
        this.#owner.send({ t: "drained" });
      });
  }

  /** Resolves when the owner has taken it, or is gone. */
  #untilTaken(send: (id: number) => void): Promise<void> {
    const id = this.#nextId++;
    const taken = Promise.withResolvers<void>();
    this.#waiting.set(id, taken.resolve);
    send(id);
    return taken.promise;
  }

  /** Standard output is one pipe for all workers: lines of several writers would mix there, so that the owner writes them all. */
  #outputThroughOwner(path: string): LineOutput | undefined {
    if (path !== "/dev/stdout" && path !== "/dev/stderr") return undefined;
    return { write: (chunk) => this.#untilTaken((id) => this.#owner.send({ t: "lines", id, path, chunk })) };
  }

  #recordsThroughOwner(logName: string, cluster: string, drop: () => void): AccessSink {
    const queue: AccessRecord[] = [];
    let sending: Promise<void> | undefined;
    const send = async (): Promise<void> => {
      while (queue.length > 0) {
        const records = queue.splice(0, batchRecords);
        await this.#untilTaken((id) => this.#owner.send({ t: "records", id, logName, cluster, records }));
      }
      sending = undefined;
    };
    const flush = (): Promise<void> => {
      sending ??= send();
      return sending;
    };
    this.#flushes.push(flush);
    return {
      write: (record) => {
        if (queue.length >= mostRecords) {
          drop();
          return;
        }
        queue.push(record);
        if (queue.length === 1) this.#clock.after(recordsAfterMs, () => void flush());
        else if (queue.length === batchRecords) void flush();
      },
    };
  }
}
