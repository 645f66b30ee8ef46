// Owns: the wiring and the life of a proxy process: bootstrap, engine, admin, and (only when the bootstrap asks) control plane and identity.
// The one place that names the real clock, randomness and process. Never decides anything about traffic.

import { writeSync } from "node:fs";
import { systemClock } from "../base/clock.ts";
import { jsonLogger, type Logger } from "../base/log.ts";
import { MetricRegistry } from "../base/metric.ts";
import type { AdminListener } from "./admin/responder.ts";
import { type BootstrapConfig, loadBootstrap } from "./bootstrap/bootstrap.ts";
import { BootstrapError, reason } from "./bootstrap/read.ts";
import type { ProxyConfig, SecretSource } from "./config.ts";
import type { Control } from "./control.ts";
import type { ApplyFailure, Engine } from "./engine.ts";
import { type ProxyFlags, parseProxyFlags } from "./flags.ts";
import { registerProcessMetrics } from "./telemetry/process-metrics.ts";
import { createLogSinks, type LogSinks } from "./telemetry/sinks.ts";
import type { DnsResolver } from "./xds/dns.ts";

const version = "0.1.0";

/** Late enough that what comes right after the start (the first streams, the first requests) is over. */
const tidyAfterMs = 1_000;

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
  #engine: Engine | undefined;
  #control: Control | undefined;
  #dns: DnsResolver | undefined;
  #config: ProxyConfig;
  #applied = false;
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
    registerProcessMetrics(this.#metrics, this.#startedAtMs);
    this.#sinks = createLogSinks({ clock: systemClock, metrics: this.#metrics });
  }

  #makeEngine(): Engine {
    const { createEngine } = require("./engine.ts") as typeof import("./engine.ts");
    const control = (): SecretSource | null | undefined => this.#control?.secrets;
    const secrets: SecretSource = {
      get generation() {
        return control()?.generation ?? 0;
      },
      certificate: (name) => control()?.certificate(name),
      roots: (name) => control()?.roots(name),
    };
    return createEngine({
      clock: systemClock,
      log: this.#log,
      metrics: this.#metrics,
      // rule 9: the entry point is where randomness comes in.
      random: Math.random,
      secrets,
      local: this.#bootstrap.local,
      accessLog: this.#sinks.factory,
    });
  }

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
      this.#engine?.close();
      this.#control?.stop();
      await this.#sinks.flush();
    }
  }

  async #start(): Promise<void> {
    const { ads, metricsService } = this.#bootstrap;
    if (ads !== null || metricsService !== null || this.#flags.tokenFile !== null) {
      const { createControl } = await import("./control.ts");
      this.#control = await createControl({
        clock: systemClock,
        log: this.#log,
        random: Math.random,
        metrics: this.#metrics,
        bootstrap: this.#bootstrap,
        version,
        tokenFile: this.#flags.tokenFile,
        sinks: this.#sinks,
        apply: (config) => this.#apply(config),
        changed: () => this.#checkReady(),
      });
      this.#control.start();
    }
    // While the control plane answers. Loaded in one go, without letting go of the thread: no answer can come before the engine is there.
    this.#engine = this.#makeEngine();
    this.#openAdmin();
    // With a control plane the first configuration is the whole one; without, it is here.
    if (ads !== null) return;
    const failures = this.#apply(this.#config);
    if (failures.length > 0) throw new Error(failures.map((f) => `${f.resource.type} ${f.resource.name}: ${f.reason}`).join("\n"));
    this.#checkReady();
  }

  /** Puts a configuration into force: names resolved, and without the clusters that carry control traffic. */
  #apply(config: ProxyConfig): readonly ApplyFailure[] {
    const usable = new Map([...config.clusters].filter(([, cluster]) => !cluster.control));
    if (this.#dns === undefined && [...usable.values()].some((one) => one.source.kind === "strict_dns")) this.#dns = this.#openDns();
    const clusters = this.#dns?.resolve(usable) ?? usable;
    this.#config = config;
    this.#applied = true;
    return this.#made().apply({ ...config, clusters });
  }

  #made(): Engine {
    if (this.#engine === undefined) throw new Error("the engine is not there yet");
    return this.#engine;
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
    return [...(this.#applied ? [] : ["the first configuration"]), ...(this.#dns?.pending() ?? []), ...(this.#control?.waitingFor() ?? [])];
  }

  #checkReady(): void {
    if (this.#ready || this.#waitingFor().length > 0) return;
    this.#ready = true;
    this.#sayReady();
    // Starting leaves garbage, and code that runs once, which nothing would collect in an idle sidecar for a long time: a third of its memory.
    systemClock.after(tidyAfterMs, () => {
      Bun.gc(true);
      Bun.shrink();
    });
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
    this.#draining ??= this.#engine === undefined ? Promise.resolve() : this.#engine.drain(this.#flags.drainMs);
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

  #openAdmin(): void {
    const address = this.#bootstrap.admin;
    if (address === null) return;
    const { openAdmin } = require("./admin/admin.ts") as typeof import("./admin/admin.ts");
    try {
      this.#admin = openAdmin(address, {
        version,
        local: this.#bootstrap.local,
        startedAtMs: this.#startedAtMs,
        nowMs: systemClock.now,
        metrics: this.#metrics,
        waitingFor: () => this.#waitingFor(),
        draining: () => this.#draining !== undefined,
        config: () => this.#config,
        stats: () => this.#made().stats(),
        xds: () => this.#control?.xds() ?? null,
        certificates: () => this.#control?.certificates() ?? [],
        drain: () => void this.#drain(),
        quit: () => this.#quit(),
      });
    } catch (error) {
      throw new Error(`cannot open the admin address ${address.host}:${address.port}: ${reason(error)}`);
    }
  }

  /** One line whatever the log level: whoever started the proxy waits for it. */
  #sayReady(): void {
    const now = systemClock.now();
    const listeners = this.#made()
      .stats()
      .listeners.map((one) => ({ name: one.name, address: `${one.address.host}:${one.address.port}` }));
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

/** Straight to the descriptor: Node's stream object for it costs memory and 7 ms. A full pipe loses the line, not the proxy. */
function writeError(line: string): void {
  try {
    writeSync(2, line);
  } catch {
    // Nobody is left to tell.
  }
}
