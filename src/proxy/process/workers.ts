// Owns: the workers of a proxy, as one data plane: starting them, replacing those that die, telling each what to serve and with which certificates, and
// adding up what they tell. The owner accepts nothing itself, so that no fault on the data path takes identity and configuration with it.
// rule 1: longer than 400 lines; every message to a worker is sent here and every answer taken here.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger, LogLevel } from "../../base/log.ts";
import type { MetricRegistry, Series } from "../../base/metric.ts";
import { closeDescriptor, mostDescriptors, sendDescriptors, socketPair } from "../../base/system.ts";
import type { ListenerConfig, LocalWorkload, ProxyConfig, SecretSource } from "../config.ts";
import type { ApplyFailure, EngineStats } from "../engine.ts";
import type { ListeningSocket } from "../net/listen.ts";
import type { AccessSink } from "../telemetry/record.ts";
import { type KeptListener, SocketKeeper } from "./keeper.ts";
import { socketKey } from "./key.ts";
import { type MergedMetrics, MetricsPart } from "./merged-metrics.ts";
import {
  configDelta,
  emptyConfig,
  type FromWorker,
  type SecretsMessage,
  type SocketsMessage,
  secretNames,
  type ToWorker,
} from "./messages.ts";

/** A worker that does not answer a scrape in this time is left out of it. */
export const answerWithinMs = 500;
const refreshMs = 500;
const askEveryMs = 5_000;
const leastDelayMs = 100;
const mostDelayMs = 5_000;
/** A worker that lived this long is replaced at once again. */
const goodLifeMs = 30_000;
/** Connections wait for a worker that is back soon; for one that keeps dying they do not. */
const keepSocketsMs = 500;
/** Beyond the drain time, for what a worker has to flush. */
const endsWithinMs = 2_000;

export interface WorkerPoolDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: MetricRegistry;
  readonly merged: MergedMetrics;
  readonly count: number;
  readonly local: LocalWorkload;
  readonly secrets: SecretSource;
  readonly drainMs: number;
  readonly logLevel: LogLevel;
  readonly inherited: readonly KeptListener[];
  /** Argument vector of a worker, before its own arguments. */
  readonly command: readonly string[];
  /** Where the records of workers go. */
  readonly records: (logName: string, cluster: string) => AccessSink;
  /** Writes a worker's log lines. */
  readonly lines: (path: string, chunk: string) => Promise<unknown>;
  /** A worker has done something that readiness may depend on. */
  readonly changed: () => void;
  /** All workers have tried a configuration; what some could not apply (the first reason of each). */
  readonly applied: (failures: readonly ApplyFailure[]) => void;
  /** A worker asks for a host, as `EngineDeps.demand`. */
  readonly demand: (table: string, host: string) => void;
}

interface WorkerState {
  readonly index: number;
  readonly child: Bun.Subprocess;
  /** Our end of the descriptor socket. */
  readonly descriptors: number;
  readonly bornMs: number;
  readonly part: MetricsPart;
  sent: ProxyConfig;
  /** Keys of the listeners whose sockets it has. */
  readonly sockets: Set<string>;
  applied: number;
  failures: readonly ApplyFailure[];
  stats: EngineStats;
  drained: boolean;
}

const noStats: EngineStats = { connections: 0, activeRequests: 0, listeners: [], clusters: [] };

/** Several processes behind the door of one engine. */
export class WorkerPool {
  readonly #deps: WorkerPoolDeps;
  readonly #keeper: SocketKeeper;
  readonly #workers: (WorkerState | undefined)[];
  readonly #delays: number[];
  readonly #timers = new Set<Timer>();
  readonly #restarts: Series;
  readonly #silent: Series;
  readonly #asked = new Map<number, { readonly left: Set<WorkerState>; readonly done: () => void }>();
  #config: ProxyConfig | undefined;
  #version = 0;
  #lastFailures = "";
  #failures: readonly ApplyFailure[] = [];
  readonly #secretNames = new Set<string>();
  #refused: ApplyFailure[] = [];
  /** UDP addresses that are ours. */
  readonly #datagrams = new Set<string>();
  #secrets: SecretsMessage = { generation: -1, certificates: [], roots: [], lapsed: [] };
  #sourceGeneration = -1;
  #nextAsk = 1;
  #refreshedMs = Number.NEGATIVE_INFINITY;
  #served = false;
  #goodbye = false;
  #draining = false;
  #closed = false;

  constructor(deps: WorkerPoolDeps) {
    this.#deps = deps;
    this.#keeper = new SocketKeeper(deps.count, deps.inherited);
    this.#workers = new Array<WorkerState | undefined>(deps.count).fill(undefined);
    this.#delays = new Array<number>(deps.count).fill(leastDelayMs);
    this.#restarts = deps.metrics.counter("weft_worker_restarts_total", "Workers that ended by themselves and were replaced.").with([]);
    this.#silent = deps.metrics
      .counter("weft_worker_silent_total", "Answers of workers left out of metrics because they came too late.")
      .with([]);
    const living = deps.metrics.gauge("weft_workers", "Workers that run.").with([]);
    deps.metrics.beforeExport(() => {
      living.value = this.#living().length;
    });
  }

  start(): void {
    // What a worker has counted since it was last asked ends with it.
    this.#timers.add(this.#deps.clock.every(askEveryMs, () => this.refresh()));
    for (let index = 0; index < this.#deps.count; index++) this.#spawn(index);
  }

  /** Tells every worker. What they cannot apply comes later, through `applied`; until then what they could not before is the answer. */
  apply(wanted: ProxyConfig): readonly ApplyFailure[] {
    const config = { ...wanted, listeners: this.#withoutTakenDatagrams(wanted.listeners) };
    this.#config = config;
    this.#version++;
    for (const listener of config.listeners.values()) secretNames(listener, this.#secretNames);
    for (const cluster of config.clusters.values()) secretNames(cluster, this.#secretNames);
    this.secretsChanged();
    const sockets = this.#sockets(config);
    for (const worker of this.#living()) this.#applyTo(worker, config, sockets);
    this.#keeper.retain([...config.listeners.values()].filter((listener) => listener.udp === undefined));
    this.#keeper.dropInherited();
    return this.#failures;
  }

  /** Passes certificates on when there are new ones. */
  secretsChanged(): void {
    const { secrets } = this.#deps;
    const known = this.#secrets;
    const names = [...this.#secretNames];
    const told = known.certificates.length + known.roots.length;
    const certificates = names.flatMap((name) => {
      const found = secrets.certificate(name);
      return found === undefined ? [] : [{ name, certificatePem: found.certificatePem, privateKeyPem: found.privateKeyPem }];
    });
    const roots = names.flatMap((name) => {
      const pem = secrets.roots(name);
      return pem === undefined ? [] : [{ name, pem }];
    });
    if (secrets.generation === this.#sourceGeneration && certificates.length + roots.length === told) return;
    this.#sourceGeneration = secrets.generation;
    // Names are added as the configuration names them: a worker must look again then too.
    const lapsed = names.flatMap((name) => {
      const why = secrets.lapsed?.(name);
      return why === undefined ? [] : [{ name, why }];
    });
    const denied = secrets.denied?.() ?? null;
    this.#secrets = { generation: known.generation + 1, certificates, roots, lapsed, ...(denied === null ? {} : { denied: denied.list }) };
    for (const worker of this.#living()) send(worker, { t: "secrets", secrets: this.#secrets });
  }

  /** Empty once every worker has served; a worker that is replaced later does not take readiness back, as the others serve on. */
  waitingFor(): readonly string[] {
    if (this.#served || this.#version === 0) return [];
    const missing = this.#workers.flatMap((worker, n) => (worker === undefined || worker.applied === 0 ? [`worker ${n} to serve`] : []));
    this.#served = missing.length === 0;
    return missing;
  }

  /** Asks all workers for metrics and state; resolves when they answered, or after `answerWithinMs`. */
  async fresh(): Promise<void> {
    const left = new Set(this.#living());
    if (left.size === 0) return;
    this.#refreshedMs = this.#deps.clock.mono();
    const ask = this.#nextAsk++;
    const answered = Promise.withResolvers<void>();
    const timer = this.#deps.clock.after(answerWithinMs, () => {
      this.#silent.value += left.size;
      answered.resolve();
    });
    this.#asked.set(ask, { left, done: answered.resolve });
    for (const worker of left) send(worker, { t: "ask", ask });
    await answered.promise;
    timer.cancel();
    this.#asked.delete(ask);
  }

  /** Asks, unless that has just been done: for exporters that cannot wait, and show what was told last. */
  refresh(): void {
    const now = this.#deps.clock.mono();
    if (now - this.#refreshedMs < refreshMs) return;
    this.#refreshedMs = now;
    void this.fresh();
  }

  /** Of all workers, as they last told. */
  stats(): EngineStats {
    return mergeStats(
      this.#living().map((worker) => worker.stats),
      this.#listening(),
    );
  }

  sockets(): readonly ListeningSocket[] {
    return this.#keeper.all().flatMap(({ fds, ...listener }) => fds.map((fd) => ({ ...listener, fd })));
  }

  goodbye(on: boolean): void {
    this.#goodbye = on;
    for (const worker of this.#living()) send(worker, { t: "goodbye", on });
  }

  async drain(graceMs: number, idleMs?: number): Promise<void> {
    this.#draining = true;
    for (const timer of this.#timers) timer.cancel();
    const workers = this.#living();
    for (const worker of workers) send(worker, { t: "drain", graceMs, idleMs });
    this.#keeper.close();
    const late = this.#deps.clock.after(graceMs + endsWithinMs, () => {
      for (const worker of workers) worker.child.kill("SIGKILL");
    });
    await Promise.all(workers.map((worker) => worker.child.exited));
    late.cancel();
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) timer.cancel();
    this.#keeper.close();
    for (const worker of this.#living()) worker.child.kill("SIGKILL");
  }

  #living(): WorkerState[] {
    return this.#workers.filter((worker) => worker !== undefined);
  }

  #listening(): EngineStats["listeners"] {
    const kept = new Map(this.#keeper.all().map((one) => [socketKey(one.name, one.address), one]));
    return [...(this.#config?.listeners.values() ?? [])].flatMap(({ name, address, udp }) => {
      if (udp !== undefined) return [{ name, address }];
      const found = kept.get(socketKey(name, address));
      return found === undefined ? [] : [{ name, address: { host: address.host, port: found.port } }];
    });
  }

  #spawn(index: number): void {
    const { clock, command, local, drainMs, logLevel } = this.#deps;
    const [ours, theirs] = socketPair();
    const child = Bun.spawn([...command, "--as-worker", "--log-level", logLevel], {
      stdio: ["ignore", "inherit", "inherit", theirs],
      serialization: "advanced",
      ipc: (message) => this.#receive(worker, message as FromWorker),
    });
    closeDescriptor(theirs);
    const worker: WorkerState = {
      index,
      child,
      descriptors: ours,
      bornMs: clock.mono(),
      part: new MetricsPart(),
      sent: emptyConfig,
      sockets: new Set(),
      applied: 0,
      failures: [],
      stats: noStats,
      drained: false,
    };
    this.#workers[index] = worker;
    void child.exited.then(() => this.#ended(worker));
    send(worker, { t: "start", local, drainMs });
    if (this.#secrets.generation >= 0) send(worker, { t: "secrets", secrets: this.#secrets });
    if (this.#goodbye) send(worker, { t: "goodbye", on: true });
    if (this.#config !== undefined) this.#applyTo(worker, this.#config, this.#sockets(this.#config));
  }

  #ended(worker: WorkerState): void {
    const { clock, log, merged } = this.#deps;
    if (this.#workers[worker.index] === worker) this.#workers[worker.index] = undefined;
    closeDescriptor(worker.descriptors);
    merged.end(worker.part);
    for (const asked of this.#asked.values()) if (asked.left.delete(worker) && asked.left.size === 0) asked.done();
    if (this.#draining || this.#closed) return;
    this.#restarts.value++;
    const livedMs = clock.mono() - worker.bornMs;
    const delayMs = livedMs > goodLifeMs ? leastDelayMs : (this.#delays[worker.index] as number);
    this.#delays[worker.index] = Math.min(mostDelayMs, delayMs * 2);
    const how = worker.child.signalCode ?? `status ${worker.child.exitCode}`;
    const facts = { worker: worker.index, pid: worker.child.pid, end: how, livedMs: Math.round(livedMs), delayMs };
    log.error(facts, delayMs > keepSocketsMs ? "A worker keeps ending; the others serve on." : "A worker ended; it is replaced.");
    if (delayMs > keepSocketsMs && this.#living().length > 0) this.#keeper.release(worker.index);
    const timer = clock.after(delayMs, () => {
      this.#timers.delete(timer);
      this.#spawn(worker.index);
    });
    this.#timers.add(timer);
    this.#report();
  }

  #receive(worker: WorkerState, message: FromWorker): void {
    switch (message.t) {
      case "applied":
        worker.applied = message.version;
        worker.failures = message.failures;
        this.#report();
        this.#deps.changed();
        break;
      case "told": {
        if (this.#workers[worker.index] === worker) this.#deps.merged.take(worker.part, message.metrics);
        worker.stats = message.stats;
        const asked = this.#asked.get(message.ask);
        if (asked?.left.delete(worker) && asked.left.size === 0) asked.done();
        break;
      }
      case "records": {
        const sink = this.#deps.records(message.logName, message.cluster);
        for (const record of message.records) sink.write(record);
        send(worker, { t: "took", id: message.id });
        break;
      }
      case "lines": {
        const took = (): void => send(worker, { t: "took", id: message.id });
        this.#deps.lines(message.path, message.chunk).then(took, took);
        break;
      }
      case "demand":
        this.#deps.demand(message.table, message.host);
        break;
      case "drained":
        worker.drained = true;
        worker.child.kill("SIGKILL");
        break;
    }
  }

  /** Once all have tried the newest configuration. */
  #report(): void {
    const workers = this.#living();
    if (this.#version === 0 || workers.some((worker) => worker.applied !== this.#version)) return;
    const byResource = new Map<string, ApplyFailure>();
    for (const failure of workers.flatMap((worker) => worker.failures)) {
      const key = `${failure.resource.type} ${failure.resource.name}`;
      if (!byResource.has(key)) byResource.set(key, failure);
    }
    const failures = [...byResource.values(), ...this.#refused];
    const text = `${this.#version}${JSON.stringify(failures)}`;
    if (text === this.#lastFailures) return;
    this.#lastFailures = text;
    this.#failures = failures;
    this.#deps.applied(failures);
  }

  /** For each listener its sockets, or why there are none. */
  #sockets(config: ProxyConfig): ReadonlyMap<ListenerConfig, SocketsMessage["problem"]> {
    const found = new Map<ListenerConfig, SocketsMessage["problem"]>();
    for (const listener of config.listeners.values()) {
      // Workers bind UDP addresses themselves, side by side.
      if (listener.udp !== undefined) continue;
      try {
        this.#keeper.ensure(listener);
        found.set(listener, null);
      } catch (error) {
        found.set(listener, problemOf(error));
      }
    }
    return found;
  }

  /**
   * Workers bind UDP addresses side by side, and would do so beside a stranger's socket too: the first time, the address must be free. A listener
   * whose address is not is left out, and told among the failures.
   */
  #withoutTakenDatagrams(listeners: ProxyConfig["listeners"]): ProxyConfig["listeners"] {
    this.#refused = [];
    const usable = new Map(listeners);
    for (const { name, address, udp } of listeners.values()) {
      const key = socketKey("", address);
      if (udp === undefined || this.#datagrams.has(key)) continue;
      try {
        if (address.port === 0) throw new Error("port 0 would give each worker another UDP port; name one, or run without --workers");
        if (this.#deps.inherited.length === 0) {
          const { bindSocket } = require("../udp/socket.ts") as typeof import("../udp/socket.ts");
          bindSocket(address.host, address.port, false, { received() {}, refused() {} }).close();
        }
        this.#datagrams.add(key);
      } catch (error) {
        const taken = (error as { readonly code?: string }).code === "EADDRINUSE";
        const reason = taken ? `${address.host}:${address.port} is in use by another process` : problemOf(error).message;
        this.#refused.push({ resource: { type: "listener", name }, reason });
        usable.delete(name);
      }
    }
    return usable;
  }

  #applyTo(worker: WorkerState, config: ProxyConfig, found: ReadonlyMap<ListenerConfig, SocketsMessage["problem"]>): void {
    const sockets: SocketsMessage[] = [];
    const descriptors: number[] = [];
    const wanted = new Set<string>();
    for (const [listener, whyNot] of found) {
      const { name, address } = listener;
      const key = socketKey(name, address);
      wanted.add(key);
      if (worker.sockets.has(key)) continue;
      let problem = whyNot;
      if (problem === null) {
        try {
          const { port, fds } = this.#keeper.of(listener, worker.index);
          descriptors.push(...fds);
          worker.sockets.add(key);
          sockets.push({ name, address, port, count: fds.length, problem: null });
        } catch (error) {
          problem = problemOf(error);
        }
      }
      if (problem !== null) sockets.push({ name, address, port: 0, count: 0, problem });
    }
    for (const key of worker.sockets) if (!wanted.has(key)) worker.sockets.delete(key);
    // As few messages as can be: a worker reads them only when it gets the message below, and a socket holds some hundred.
    for (let n = 0; n < descriptors.length; n += mostDescriptors)
      sendDescriptors(worker.descriptors, new Uint8Array([1]), descriptors.slice(n, n + mostDescriptors));
    const delta = configDelta(worker.sent, config);
    worker.sent = config;
    send(worker, { t: "apply", version: this.#version, sockets, delta });
  }
}

function send(worker: WorkerState, message: ToWorker): void {
  try {
    worker.child.send(message);
  } catch {
    // It has just ended; its end is dealt with where it is noticed.
  }
}

function problemOf(error: unknown): { readonly code: string; readonly message: string } {
  const code = (error as { readonly code?: unknown }).code;
  return { code: typeof code === "string" ? code : "", message: error instanceof Error ? error.message : String(error) };
}

/** Sums; an endpoint is healthy when every worker finds it so. `listeners`: as bound. */
export function mergeStats(parts: readonly EngineStats[], listeners: EngineStats["listeners"]): EngineStats {
  const clusters = new Map<string, Map<string, EngineStats["clusters"][number]["endpoints"][number]>>();
  let connections = 0;
  let activeRequests = 0;
  for (const part of parts) {
    connections += part.connections;
    activeRequests += part.activeRequests;
    for (const cluster of part.clusters) {
      const endpoints = clusters.get(cluster.name) ?? new Map();
      clusters.set(cluster.name, endpoints);
      for (const one of cluster.endpoints) {
        const key = `${one.address.host} ${one.address.port}`;
        const before = endpoints.get(key);
        endpoints.set(key, {
          address: one.address,
          healthy: one.healthy && before?.healthy !== false,
          active: one.active + (before?.active ?? 0),
        });
      }
    }
  }
  return {
    connections,
    activeRequests,
    listeners,
    clusters: [...clusters].map(([name, endpoints]) => ({ name, endpoints: [...endpoints.values()] })),
  };
}
