// Owns: the wiring and the life of a proxy process: bootstrap, engine, admin, and (only when the bootstrap asks) control plane and identity.
// The one place that names the real clock, randomness and process. Never decides anything about traffic.

import { systemClock } from "../base/clock.ts";
import { jsonLogger, type Logger } from "../base/log.ts";
import { MetricRegistry } from "../base/metric.ts";
import type { AdminListener } from "./admin/responder.ts";
import { type BootstrapConfig, loadBootstrap } from "./bootstrap/bootstrap.ts";
import { BootstrapError, reason } from "./bootstrap/read.ts";
import type { ProxyConfig, SecretSource } from "./config.ts";
import { createEngine, type Engine } from "./engine.ts";
import { parseProxyFlags } from "./flags.ts";
import { registerProcessMetrics } from "./telemetry/process-metrics.ts";
import { createLogSinks, type LogSinks } from "./telemetry/sinks.ts";

const version = "0.1.0";

const noSecrets: SecretSource = { generation: 0, certificate: () => undefined, roots: () => undefined };

/** Runs `weft proxy` until it is told to stop. Resolves to the exit status: 0 stopped, 1 could not start, 2 bad arguments or bootstrap. */
export async function main(argv: readonly string[]): Promise<number> {
  const flags = parseProxyFlags(argv);
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
    return await new ProxyProcess(bootstrap, log, flags.drainMs).run();
  } catch (error) {
    return complain(reason(error), 1);
  }
}

class ProxyProcess {
  readonly #bootstrap: BootstrapConfig;
  readonly #log: Logger;
  readonly #drainMs: number;
  readonly #startedAtMs = systemClock.now() - systemClock.mono();
  readonly #metrics = new MetricRegistry();
  readonly #sinks: LogSinks;
  readonly #engine: Engine;
  #config: ProxyConfig;
  #admin: AdminListener | undefined;
  #waiting: string[] = [];
  #draining: Promise<void> | undefined;
  #stop: (status: number) => void = () => {};
  readonly #stopped = new Promise<number>((resolve) => {
    this.#stop = resolve;
  });

  constructor(bootstrap: BootstrapConfig, log: Logger, drainMs: number) {
    this.#bootstrap = bootstrap;
    this.#log = log;
    this.#drainMs = drainMs;
    this.#config = { listeners: bootstrap.listeners, routes: new Map(), clusters: bootstrap.clusters, endpoints: new Map() };
    registerProcessMetrics(this.#metrics, this.#startedAtMs);
    this.#sinks = createLogSinks({ clock: systemClock, metrics: this.#metrics });
    this.#engine = createEngine({
      clock: systemClock,
      log,
      metrics: this.#metrics,
      // rule 9: the entry point is where randomness comes in.
      random: Math.random,
      secrets: noSecrets,
      local: bootstrap.local,
      accessLog: this.#sinks.factory,
    });
  }

  async run(): Promise<number> {
    if (this.#bootstrap.ads !== null) throw new Error("dynamic_resources are not served by this build yet");
    const failures = this.#engine.apply(this.#config);
    if (failures.length > 0) {
      this.#engine.close();
      throw new Error(failures.map((f) => `${f.resource.type} ${f.resource.name}: ${f.reason}`).join("\n"));
    }
    await this.#openAdmin();
    // Nothing else keeps the process alive once every listener is gone; a month-long timer costs no wake-ups.
    const alive = setInterval(() => {}, 0x7fff_ffff);
    process.on("SIGTERM", this.#onSignal).on("SIGINT", this.#onSignal);
    this.#sayReady();
    const status = await this.#stopped;
    clearInterval(alive);
    process.off("SIGTERM", this.#onSignal).off("SIGINT", this.#onSignal);
    this.#admin?.close();
    this.#engine.close();
    await this.#sinks.flush();
    return status;
  }

  readonly #onSignal = (signal: string): void => {
    if (this.#draining !== undefined) {
      this.#log.warn({ signal }, "A second signal: open connections are cut.");
      this.#stop(0);
      return;
    }
    this.#log.info({ signal, drainMs: this.#drainMs }, "Stopping: no new connections, open requests may end.");
    this.#quit();
  };

  #drain(): Promise<void> {
    this.#draining ??= this.#engine.drain(this.#drainMs);
    return this.#draining;
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

  async #openAdmin(): Promise<void> {
    const address = this.#bootstrap.admin;
    if (address === null) return;
    const { openAdmin } = await import("./admin/admin.ts");
    try {
      this.#admin = openAdmin(address, {
        version,
        local: this.#bootstrap.local,
        startedAtMs: this.#startedAtMs,
        nowMs: systemClock.now,
        metrics: this.#metrics,
        waitingFor: () => this.#waiting,
        draining: () => this.#draining !== undefined,
        config: () => this.#config,
        stats: () => this.#engine.stats(),
        xds: () => null,
        certificates: () => [],
        drain: () => void this.#drain(),
        quit: () => this.#quit(),
      });
    } catch (error) {
      this.#engine.close();
      throw new Error(`cannot open the admin address ${address.host}:${address.port}: ${reason(error)}`);
    }
  }

  /** One line whatever the log level: whoever started the proxy waits for it. */
  #sayReady(): void {
    const now = systemClock.now();
    const listeners = this.#engine.stats().listeners.map((one) => ({ name: one.name, address: `${one.address.host}:${one.address.port}` }));
    const admin = this.#admin === undefined ? null : `${this.#admin.address.host}:${this.#admin.address.port}`;
    const line = {
      time: new Date(now).toISOString(),
      level: "info",
      msg: "ready",
      admin,
      listeners,
      startMs: Math.round(systemClock.mono()),
    };
    writeError(`${JSON.stringify(line)}\n`);
  }
}

function complain(text: string, status: number): number {
  for (const line of text.split("\n")) writeError(`weft proxy: ${line}\n`);
  return status;
}

function writeError(line: string): void {
  process.stderr.write(line);
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
