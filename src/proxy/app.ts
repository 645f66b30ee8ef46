// Owns: the wiring and the life of a proxy process: bootstrap, engine, admin, and (only when the bootstrap asks) control plane and identity.
// The one place that names the real clock, randomness and process. Never decides anything about traffic.
// rule 1: longer than 400 lines, as one life from start to end is read in one place; what has a life of its own is in `process/`.

import { existsSync, writeSync } from "node:fs";
import { availableParallelism } from "node:os";
import { ownProxyCommand } from "../base/built.ts";
import { systemClock } from "../base/clock.ts";
import { jsonLogger, type Logger, type LogLevel } from "../base/log.ts";
import { MetricRegistry, type MetricSource } from "../base/metric.ts";
import type { AdminSources, SnapshotStatus } from "./admin/admin.ts";
import type { AdminListener } from "./admin/responder.ts";
import { type BootstrapConfig, loadBootstrap } from "./bootstrap/bootstrap.ts";
import { BootstrapError, reason } from "./bootstrap/read.ts";
import type { ProxyConfig, SecretSource } from "./config.ts";
import type { Control } from "./control.ts";
import { controlAsked } from "./control-asked.ts";
import type { DirectKeeper } from "./direct/keeper.ts";
import type { ApplyFailure, Engine } from "./engine.ts";
import { type ProxyFlags, parseProxyFlags } from "./flags.ts";
import type { ListeningSocket } from "./net/listen.ts";
import type { HandoverServer, Takeover } from "./process/handover.ts";
import type { KeptListener } from "./process/keeper.ts";
import { socketKey } from "./process/key.ts";
import type { MergedMetrics } from "./process/merged-metrics.ts";
import type { WorkerPool } from "./process/workers.ts";
import type { SnapshotKeeper } from "./snapshot/keeper.ts";
import type { LineOutput } from "./telemetry/access-log.ts";
import { registerProcessMetrics } from "./telemetry/process-metrics.ts";
import type { AccessSink } from "./telemetry/record.ts";
import { createLogSinks, type LogSinks } from "./telemetry/sinks.ts";
import type { DnsResolver } from "./xds/dns.ts";

const version = "0.1.0";

/** Late enough that what comes right after the start (the first streams, the first requests) is over. */
const tidyAfterMs = 1_000;
/** A proxy that takes another's place must be ready by then, or it gives up and the other serves on. */
const takeOverWithinMs = 60_000;
/** Handshakes with this proxy that have begun when it is told to stop end well within this. */
const settleMs = 100;
const noListeners: ProxyConfig["listeners"] = new Map();

/** What serves: the engine in this process, or workers. */
type DataPlane = Pick<Engine, "apply" | "drain" | "goodbye" | "sockets" | "close" | "stats"> & Partial<Pick<Engine, "recheck">>;

/** Runs `weft proxy` until it is told to stop. Resolves to the exit status: 0 stopped, 1 could not start, 2 bad arguments or bootstrap. */
export async function main(argv: readonly string[]): Promise<number> {
  if (argv[0] === "--as-worker") {
    const { workerMain } = await import("./process/worker.ts");
    return await workerMain(argv[2] as LogLevel, writeError);
  }
  const flags = parseProxyFlags(argv, availableParallelism);
  if ("problem" in flags) return complain(flags.problem, 2);
  let bootstrap: BootstrapConfig;
  try {
    bootstrap = await loadBootstrap(flags.bootstrap);
  } catch (error) {
    if (error instanceof BootstrapError) return complain(error.message, 2);
    throw error;
  }
  const log = jsonLogger(flags.logLevel, systemClock.now, writeError);
  try {
    return await new ProxyProcess(bootstrap, log, flags).run();
  } catch (error) {
    return complain(reason(error), 1);
  }
}

class ProxyProcess {
  readonly #bootstrap: BootstrapConfig;
  readonly #log: Logger;
  readonly #flags: ProxyFlags;
  readonly #startedAtMs = systemClock.now() - systemClock.mono();
  readonly #metrics = new MetricRegistry();
  readonly #sinks: LogSinks;
  /** There from `#start` on, before anything can be applied. */
  #plane: DataPlane | undefined;
  /** The same, where it is workers. */
  #pool: WorkerPool | undefined;
  /** Sums over processes, where there are or were several. */
  #merged: MergedMetrics | undefined;
  /** The proxy whose place this one takes, until it has. */
  #takeover: Takeover | undefined;
  #replaced: number | undefined;
  #handover: HandoverServer | undefined;
  /** Its sockets, until listeners take them. */
  readonly #inherited = new Map<string, KeptListener>();
  /** Nothing is served before everything is there: a predecessor does that. */
  #held = false;
  #control: Control | undefined;
  #dns: DnsResolver | undefined;
  #snapshot: SnapshotKeeper | undefined;
  #direct: DirectKeeper | undefined;
  /** No listener is open, as the certificate has expired. */
  #closed = false;
  #config: ProxyConfig;
  /** As it goes to the data plane. */
  #usable: ProxyConfig;
  #failures: readonly ApplyFailure[] = [];
  #applied = false;
  #healthy = true;
  /** It cannot be ready any more. */
  #ended = false;
  #admin: AdminListener | undefined;
  #ready = false;
  #draining: Promise<void> | undefined;
  #stop: (status: number) => void = () => {};
  readonly #stopped = new Promise<number>((resolve) => {
    this.#stop = resolve;
  });

  constructor(bootstrap: BootstrapConfig, log: Logger, flags: ProxyFlags) {
    this.#bootstrap = bootstrap;
    this.#log = log;
    this.#flags = flags;
    this.#config = { listeners: bootstrap.listeners, routes: new Map(), clusters: bootstrap.clusters, endpoints: new Map() };
    this.#usable = this.#config;
    registerProcessMetrics(this.#metrics, this.#startedAtMs);
    this.#sinks = createLogSinks({ clock: systemClock, metrics: this.#metrics });
  }

  #secrets(): SecretSource {
    const control = (): SecretSource | null | undefined => this.#control?.secrets;
    return {
      get generation() {
        return control()?.generation ?? 0;
      },
      certificate: (name) => control()?.certificate(name),
      roots: (name) => control()?.roots(name),
      lapsed: (name) => control()?.lapsed?.(name),
      denied: () => control()?.denied?.() ?? null,
    };
  }

  #makeEngine(): Engine {
    const { createEngine } = require("./engine.ts") as typeof import("./engine.ts");
    for (const one of this.#takeover?.listeners ?? []) this.#inherited.set(socketKey(one.name, one.address), one);
    return createEngine({
      clock: systemClock,
      log: this.#log,
      metrics: this.#metrics,
      // rule 9: the entry point is where randomness comes in.
      random: Math.random,
      secrets: this.#secrets(),
      local: this.#bootstrap.local,
      accessLog: this.#sinks.factory,
      shareDatagrams: this.#flags.handover !== null,
      demand: (table, host) => this.#control?.demand(table, host),
      adopt: (name, address) => {
        const key = socketKey(name, address);
        const found = this.#inherited.get(key);
        this.#inherited.delete(key);
        return found ?? null;
      },
    });
  }

  #makeWorkers(): WorkerPool {
    const { WorkerPool } = require("./process/workers.ts") as typeof import("./process/workers.ts");
    const { merged, outputs } = { merged: this.#mergedMetrics(), outputs: new Map<string, LineOutput>() };
    const records = new Map<string, AccessSink>();
    const pool = new WorkerPool({
      clock: systemClock,
      log: this.#log,
      metrics: this.#metrics,
      merged,
      count: this.#flags.workers,
      local: this.#bootstrap.local,
      secrets: this.#secrets(),
      drainMs: this.#flags.drainMs,
      logLevel: this.#flags.logLevel,
      inherited: this.#takeover?.listeners ?? [],
      command: ownProxyCommand(),
      records: (logName, cluster) => {
        const key = `${cluster}\n${logName}`;
        const sink = records.get(key) ?? this.#sinks.factory({ sink: { kind: "als", logName, cluster }, filter: null });
        records.set(key, sink);
        return sink;
      },
      lines: async (path, chunk) => {
        const { openOutput } = require("./telemetry/access-log.ts") as typeof import("./telemetry/access-log.ts");
        const output = outputs.get(path) ?? openOutput(path);
        outputs.set(path, output);
        await output.write(chunk);
      },
      changed: () => this.#checkReady(),
      applied: (failures) => this.#note(failures),
      demand: (table, host) => this.#control?.demand(table, host),
    });
    merged.onExport = () => pool.refresh();
    return pool;
  }

  #mergedMetrics(): MergedMetrics {
    if (this.#merged === undefined) {
      const { MergedMetrics } = require("./process/merged-metrics.ts") as typeof import("./process/merged-metrics.ts");
      this.#merged = new MergedMetrics(this.#metrics);
    }
    return this.#merged;
  }

  /** Of all processes of this proxy. While a predecessor serves, it tells the control plane what there is to tell. */
  readonly #exported: MetricSource = { families: () => (this.#takeover === undefined ? (this.#merged ?? this.#metrics).families() : []) };

  async run(): Promise<number> {
    // Nothing else keeps the process alive while there is no listener; a month-long timer costs no wake-ups.
    const alive = setInterval(() => {}, 0x7fff_ffff);
    process.on("SIGTERM", this.#onSignal).on("SIGINT", this.#onSignal);
    try {
      await this.#start();
      return await this.#stopped;
    } finally {
      clearInterval(alive);
      process.off("SIGTERM", this.#onSignal).off("SIGINT", this.#onSignal);
      this.#dns?.stop();
      this.#admin?.close();
      this.#handover?.close();
      this.#plane?.close();
      this.#control?.stop();
      this.#direct?.stop();
      await this.#snapshot?.stop();
      await this.#sinks.flush();
    }
  }

  async #start(): Promise<void> {
    const { ads, metricsService } = this.#bootstrap;
    const { handover, workers } = this.#flags;
    if (handover !== null && existsSync(handover)) {
      const { takeOver } = require("./process/handover.ts") as typeof import("./process/handover.ts");
      this.#takeover = takeOver(handover) ?? undefined;
      if (this.#takeover !== undefined) this.#beginTakeover(this.#takeover);
    }
    if (workers > 1) {
      this.#pool = this.#makeWorkers();
      this.#pool.start();
      this.#plane = this.#pool;
    }
    if (this.#flags.directTable !== null) {
      const { DirectKeeper } = require("./direct/keeper.ts") as typeof import("./direct/keeper.ts");
      this.#direct = new DirectKeeper(systemClock, this.#log, this.#flags.directTable);
    }
    if (this.#flags.snapshot !== null) this.#snapshot = this.#openSnapshot(this.#flags.snapshot);
    if (ads !== null || metricsService !== null || this.#flags.tokenFile !== null) {
      const { createControl } = await import("./control.ts");
      this.#control = await createControl({
        clock: systemClock,
        log: this.#log,
        random: Math.random,
        metrics: this.#metrics,
        exported: this.#exported,
        bootstrap: this.#bootstrap,
        version,
        tokenFile: this.#flags.tokenFile,
        sinks: this.#sinks,
        snapshot: this.#snapshot ?? null,
        whenUnrenewed: this.#flags.whenUnrenewed,
        workloadApi: this.#flags.workloadApi,
        identityFiles: this.#flags.identityFiles,
        apply: (config) => this.#apply(config),
        changed: () => this.#controlChanged(),
      });
      this.#control.start();
    }
    // While the control plane answers. Loaded in one go, without letting go of the thread: no answer can come before the engine is there.
    this.#plane ??= this.#makeEngine();
    // Whoever asks a proxy that is being replaced is answered by the one that serves.
    if (this.#takeover === undefined) this.#openAdmin();
    // With a control plane the first configuration is the whole one; without, it is here.
    if (ads !== null) {
      this.#control?.begin();
      return;
    }
    const failures = this.#apply(this.#config);
    if (failures.length > 0) throw new Error(sayFailures(failures));
    this.#checkReady();
  }

  /** Throws where going on without one would hide a mistake; a disk that is broken costs the snapshot, not the proxy. */
  #openSnapshot(path: string): SnapshotKeeper | undefined {
    if (this.#bootstrap.ads === null && this.#flags.tokenFile === null)
      throw new Error(
        "--snapshot keeps what a control plane gives; this bootstrap names none (dynamic_resources.ads_config) and there is no --token-file",
      );
    const { FolderError, SnapshotFolder } = require("./snapshot/folder.ts") as typeof import("./snapshot/folder.ts");
    try {
      const folder = new SnapshotFolder(path);
      // A predecessor has it until it leaves.
      const other = this.#takeover === undefined ? folder.lock() : undefined;
      if (other !== undefined) throw new FolderError(`the snapshot folder ${path} is in use by ${other}; each proxy needs its own`, true);
      const { SnapshotKeeper } = require("./snapshot/keeper.ts") as typeof import("./snapshot/keeper.ts");
      const { nodeId, trustDomain } = this.#bootstrap.local;
      const owner = { node: nodeId, trustDomain };
      return new SnapshotKeeper({ clock: systemClock, log: this.#log, metrics: this.#metrics, folder, owner, program: version });
    } catch (error) {
      if (!(error instanceof FolderError) || error.fatal) throw error;
      this.#log.error({ problem: error.message }, "There is no snapshot to start from, and none will be kept.");
      return undefined;
    }
  }

  #controlChanged(): void {
    const closed = this.#control?.closed() ?? false;
    if (closed !== this.#closed && this.#applied)
      for (const failure of this.#apply(this.#config)) this.#log.warn({ ...failure }, "A resource could not be applied.");
    // Workers do it themselves, when they are told.
    this.#plane?.recheck?.();
    this.#checkReady();
  }

  #beginTakeover(takeover: Takeover): void {
    this.#held = true;
    this.#mergedMetrics();
    this.#log.info({ pid: takeover.pid, listeners: takeover.listeners.length }, "Taking the place of a proxy that runs.");
    systemClock.after(takeOverWithinMs, () => {
      if (this.#takeover !== undefined)
        this.#giveUp(`not ready within ${takeOverWithinMs / 1000} s: waiting for ${this.#waitingFor().join(", ")}`);
    });
  }

  /** The predecessor sees the connection end, and goes on. */
  #giveUp(why: string): void {
    this.#ended = true;
    this.#log.error({ reason: why, predecessor: this.#takeover?.pid }, "This proxy could not take over; the one that runs serves on.");
    this.#stop(1);
  }

  /** What could not be applied, as the data plane tells it. */
  #note(failures: readonly ApplyFailure[]): void {
    this.#failures = failures;
    if (this.#bootstrap.ads !== null) {
      this.#control?.failed(failures);
      return;
    }
    // Everything is in the bootstrap: what is wrong in it now will not come right by itself.
    if (failures.length === 0 || this.#ready) return;
    this.#ended = true;
    this.#stop(complain(sayFailures(failures), 1));
  }

  /** Puts a configuration into force: names resolved, and without the clusters that carry control traffic. */
  #apply(config: ProxyConfig): readonly ApplyFailure[] {
    const usable = new Map([...config.clusters].filter(([, cluster]) => !cluster.control));
    for (const cluster of controlAsked(config, (this.#control?.secrets ?? null) !== null)) usable.set(cluster.name, cluster);
    if (this.#dns === undefined && [...usable.values()].some((one) => one.source.kind === "strict_dns")) this.#dns = this.#openDns();
    const clusters = this.#dns?.resolve(usable) ?? usable;
    this.#config = config;
    this.#closed = this.#control?.closed() ?? false;
    // One that ends binds nothing new: what it listened on is another's.
    const listeners = this.#draining !== undefined ? this.#usable.listeners : this.#closed ? noListeners : config.listeners;
    this.#usable = { ...config, clusters, listeners };
    this.#applied = true;
    this.#direct?.changed(this.#usable);
    if (this.#held) return [];
    this.#failures = this.#made().apply(this.#usable);
    return this.#failures;
  }

  #made(): DataPlane {
    if (this.#plane === undefined) throw new Error("the engine is not there yet");
    return this.#plane;
  }

  #openDns(): DnsResolver {
    // Loaded on first use: few configurations have names to look up.
    const dns = require("./xds/dns.ts") as typeof import("./xds/dns.ts");
    return new dns.DnsResolver({
      clock: systemClock,
      log: this.#log,
      lookup: (host) => Bun.dns.lookup(host),
      changed: () => {
        if (this.#applied)
          for (const failure of this.#apply(this.#config)) this.#log.warn({ ...failure }, "A resource could not be applied.");
        this.#checkReady();
      },
    });
  }

  #waitingFor(): readonly string[] {
    // First, as what workers could not apply decides over the rest.
    const workers = this.#pool?.waitingFor() ?? [];
    if (workers.length > 0) return workers;
    return [...(this.#applied ? [] : ["the first configuration"]), ...(this.#dns?.pending() ?? []), ...(this.#control?.waitingFor() ?? [])];
  }

  #checkReady(): void {
    this.#pool?.secretsChanged();
    if (this.#ready || this.#ended || this.#waitingFor().length > 0) return;
    if (this.#held) {
      this.#held = false;
      this.#note(this.#made().apply(this.#usable));
      this.#dropInherited();
      if (this.#ended || this.#waitingFor().length > 0) return;
    }
    this.#ready = true;
    if (this.#takeover === undefined) this.#nowReady();
    else void this.#replace(this.#takeover);
  }

  /** Sockets of listeners that the predecessor had and this configuration has not: whoever connects there is to be refused, not kept waiting. */
  #dropInherited(): void {
    if (this.#inherited.size === 0) return;
    const { closeDescriptor } = require("../base/system.ts") as typeof import("../base/system.ts");
    for (const one of this.#inherited.values()) for (const fd of one.fds) closeDescriptor(fd);
    this.#inherited.clear();
  }

  /** Everything is in force here: the predecessor may go. */
  async #replace(takeover: Takeover): Promise<void> {
    const lost = this.#failures.filter(
      ({ resource }) => resource.type === "listener" && takeover.listeners.some((one) => one.name === resource.name),
    );
    if (lost.length > 0) {
      this.#giveUp(lost.map((f) => `listener ${f.resource.name}: ${f.reason}`).join("; "));
      return;
    }
    const { MetricsPart } = require("./process/merged-metrics.ts") as typeof import("./process/merged-metrics.ts");
    const merged = this.#mergedMetrics();
    const part = new MetricsPart();
    await takeover.ready(
      (delta) => merged.take(part, delta),
      () => merged.end(part),
    );
    try {
      this.#replaced = takeover.pid;
      this.#openAdmin(takeover);
      this.#takeover = undefined;
      this.#nowReady();
    } catch (error) {
      this.#log.error({ error }, "The predecessor is gone, but its place could not be taken whole.");
      this.#stop(1);
    }
  }

  #nowReady(): void {
    if (this.#flags.handover !== null) this.#openHandover(this.#flags.handover);
    this.#sayReady();
    // Starting leaves garbage, and code that runs once, which nothing would collect in an idle sidecar for a long time: a third of its memory.
    systemClock.after(tidyAfterMs, () => {
      Bun.gc(true);
      Bun.shrink();
    });
  }

  #openHandover(path: string): void {
    const { HandoverServer } = require("./process/handover.ts") as typeof import("./process/handover.ts");
    this.#handover = new HandoverServer({
      path,
      clock: systemClock,
      log: this.#log,
      sockets: () => this.#made().sockets(),
      admin: () => this.#adminSocket(),
      leave: () => this.#leave(),
      teller: () => {
        const { MetricsTeller } = require("./process/merged-metrics.ts") as typeof import("./process/merged-metrics.ts");
        // Gauges are about now, and this process's own figures about itself.
        return new MetricsTeller(this.#merged ?? this.#metrics, (name, kind) => kind === "gauge" || name.startsWith("process_"));
      },
    });
  }

  #adminSocket(): ListeningSocket | null {
    const address = this.#bootstrap.admin;
    if (this.#admin === undefined || address === null) return null;
    return { name: "", address, port: this.#admin.address.port, fd: this.#admin.fd };
  }

  /** A successor serves: nothing is accepted from now on, and nobody waits for this process, so that idle connections may stay for their next request. */
  #leave(): Promise<void> {
    const { drainMs } = this.#flags;
    this.#control?.stopMetrics();
    // The successor's from now on.
    void this.#snapshot?.stop();
    this.#admin?.release();
    this.#draining ??= this.#made().drain(drainMs, drainMs);
    const gone = this.#draining;
    void gone.then(async () => {
      await this.#handover?.finished();
      this.#stop(0);
    });
    return gone;
  }

  readonly #onSignal = (signal: string): void => {
    if (this.#draining !== undefined) {
      this.#log.warn({ signal }, "A second signal: open connections are cut.");
      this.#stop(0);
      return;
    }
    this.#log.info({ signal, drainMs: this.#flags.drainMs }, "Stopping: no new connections, open requests may end.");
    this.#quit();
  };

  #drain(): Promise<void> {
    this.#draining ??= this.#endListeners().then(() => this.#plane?.drain(this.#flags.drainMs));
    return this.#draining;
  }

  /** A listening socket that is closed resets what waits on it to be accepted. So no new connection begins, and those that have are accepted first. */
  async #endListeners(): Promise<void> {
    const sockets = this.#plane?.sockets() ?? [];
    if (sockets.length === 0) return;
    this.#plane?.goodbye(true);
    try {
      const { refuseNewConnections } = require("../base/system.ts") as typeof import("../base/system.ts");
      for (const { fd } of sockets) refuseNewConnections(fd);
    } catch (error) {
      this.#log.debug({ error }, "New connections cannot be held off; some may be reset.");
      return;
    }
    await Bun.sleep(settleMs);
  }

  #drainByPage(graceful: boolean): void {
    if (!graceful || this.#draining !== undefined) {
      void this.#drain();
      return;
    }
    this.#healthy = false;
    this.#made().goodbye(true);
    systemClock.after(this.#flags.drainMs, () => void this.#drain());
  }

  #quit(): void {
    this.#drain().then(
      () => this.#stop(0),
      (error: unknown) => {
        this.#log.error({ error }, "Draining failed.");
        this.#stop(1);
      },
    );
  }

  #openAdmin(from?: Takeover): void {
    const address = this.#bootstrap.admin;
    if (address === null) return;
    const { admin } = from ?? { admin: null };
    const [fd] = admin !== null && socketKey("", admin.address) === socketKey("", address) ? admin.fds : [];
    const { openAdmin } = require("./admin/admin.ts") as typeof import("./admin/admin.ts");
    try {
      const sources: AdminSources = {
        version,
        local: this.#bootstrap.local,
        startedAtMs: this.#startedAtMs,
        nowMs: systemClock.now,
        metrics: this.#merged ?? this.#metrics,
        ...(this.#pool === undefined ? {} : { fresh: () => this.#pool?.fresh() ?? Promise.resolve() }),
        waitingFor: () => this.#waitingFor(),
        draining: () => this.#draining !== undefined || !this.#healthy,
        config: () => this.#config,
        stats: () => this.#made().stats(),
        xds: () => this.#control?.xds() ?? null,
        certificates: () => this.#control?.certificates() ?? [],
        snapshot: () => this.#snapshotStatus(),
        drain: (graceful) => this.#drainByPage(graceful),
        setHealthy: (healthy) => {
          this.#healthy = healthy;
          if (this.#draining === undefined) this.#made().goodbye(!healthy);
        },
        workers: () => this.#flags.workers,
        quit: () => this.#quit(),
      };
      this.#admin = openAdmin(address, sources, fd === undefined || admin === null ? undefined : { fd, port: admin.port });
    } catch (error) {
      throw new Error(`cannot open the admin address ${address.host}:${address.port}: ${reason(error)}`);
    }
  }

  #snapshotStatus(): SnapshotStatus | null {
    if (this.#snapshot === undefined) return null;
    const { folder, writtenAtMs } = this.#snapshot;
    const serving = this.#control?.fromSnapshot() ?? null;
    const atMs = serving ?? writtenAtMs;
    return {
      folder,
      writtenAt: writtenAtMs === undefined ? null : new Date(writtenAtMs).toISOString(),
      serving: serving !== null,
      ageSeconds: atMs === undefined ? null : Math.max(0, Math.round((systemClock.now() - atMs) / 1000)),
    };
  }

  /** One line whatever the log level: whoever started the proxy waits for it. */
  #sayReady(): void {
    const now = systemClock.now();
    const listeners = this.#made()
      .stats()
      .listeners.map((one) => ({ name: one.name, address: `${one.address.host}:${one.address.port}` }));
    const admin = this.#admin === undefined ? null : `${this.#admin.address.host}:${this.#admin.address.port}`;
    const kept = this.#snapshotStatus();
    const line = {
      time: new Date(now).toISOString(),
      level: "info",
      msg: "ready",
      admin,
      listeners,
      startMs: Math.round(systemClock.mono()),
      ...(kept?.serving === true ? { from: "snapshot", snapshotAgeSeconds: kept.ageSeconds } : {}),
      ...(this.#pool === undefined ? {} : { workers: this.#flags.workers }),
      ...(this.#replaced === undefined ? {} : { replaced: this.#replaced }),
    };
    writeError(`${JSON.stringify(line)}\n`);
  }
}

function sayFailures(failures: readonly ApplyFailure[]): string {
  return failures.map((f) => `${f.resource.type} ${f.resource.name}: ${f.reason}`).join("\n");
}

function complain(text: string, status: number): number {
  for (const line of text.split("\n")) writeError(`weft proxy: ${line}\n`);
  return status;
}

/** Straight to the descriptor: Node's stream object for it costs memory and 7 ms. A full pipe loses the line, not the proxy. */
function writeError(line: string): void {
  try {
    writeSync(2, line);
  } catch {
    // Nobody is left to tell.
  }
}
