// Owns: the aggregated discovery stream: subscriptions, acknowledgements and rejections, and the passing on of what has become ready. Speaks delta or
// state of the world, whichever the bootstrap names. While there is no stream, what is in force serves on. Never binds, never routes.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Family, MetricRegistry, Series } from "../../base/metric.ts";
import type { Node } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import type { StreamType } from "../../wire/xds-types.ts";
import type { XdsStatus } from "../admin/admin.ts";
import type { ProxyConfig } from "../config.ts";
import type { ApplyFailure } from "../engine.ts";
import type { ControlChannel } from "./channel.ts";
import type { DecodeWorld } from "./decode/gate.ts";
import { DeltaSession } from "./delta.ts";
import { sayStatus } from "./grpc.ts";
import { LastingStream } from "./lasting-stream.ts";
import type { DemandedHosts } from "./on-demand.ts";
import type { AdsHost, AdsSession } from "./session.ts";
import { SotwSession } from "./sotw.ts";
import { type Incoming, type KeptResources, ResourceStore } from "./store.ts";
import { Told } from "./told.ts";
import { routeNames, type StaticResources, Warmer, warmBoundMs } from "./warming.ts";

export interface AdsOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  readonly metrics: MetricRegistry;
  readonly channel: ControlChannel;
  readonly node: Node | undefined;
  readonly delta: boolean;
  /** Whether listeners and clusters come over the stream at all. */
  readonly listeners: boolean;
  readonly clusters: boolean;
  readonly fixed: StaticResources;
  readonly world: DecodeWorld;
  /** Puts a configuration into force; answers what could not be. */
  readonly apply: (config: ProxyConfig) => readonly ApplyFailure[];
  /** Something changed that readiness may depend on. */
  readonly changed: () => void;
  /** The control plane has said something that a snapshot should hold; absent: none is kept. */
  readonly accepted?: () => void;
}

/** How often hosts that nobody uses any more are looked for. */
const expireEveryMs = 60_000;

/** When a listener is tried again that could not be opened, each time after twice as long: a try takes a bind, and with workers the whole configuration. */
const firstRetryMs = 1_000;
const longestRetryMs = 16_000;

const service = "/envoy.service.discovery.v3.AggregatedDiscoveryService/";

export class AdsClient implements AdsHost {
  readonly node: Node | undefined;
  readonly store: ResourceStore;
  readonly log: Logger;
  readonly #options: AdsOptions;
  readonly #warmer: Warmer;
  readonly #stream: LastingStream;
  readonly #updates: Family<Series>;
  #session: AdsSession | undefined;
  #waiting: readonly string[] = [];
  #applied = false;
  /** What is held came from a snapshot first. */
  #restored = false;
  /** Some listener has been in force. */
  #listened = false;
  #timer: Timer | undefined;
  /** null until a table says that hosts are asked for. */
  #demanded: DemandedHosts | null = null;
  #expiry: Timer | undefined;
  /** Failures of the last apply, so that each is logged once. */
  #failed = new Map<string, ApplyFailure>();
  /** Types of which the server has been told on this stream that something is not in force. */
  readonly #complained = new Set<StreamType>();
  /** Why streams ended that brought nothing. */
  readonly #told = new Told();
  /** While something cannot be put into force that may be possible later: a port in use. */
  #retry: Timer | undefined;
  #retries = 0;

  constructor(options: AdsOptions) {
    this.#options = options;
    this.node = options.node;
    this.log = options.log;
    const reserved = { listener: new Set(options.fixed.listeners.keys()), cluster: new Set(options.fixed.clusters.keys()) };
    this.store = new ResourceStore(options.world, reserved, options.accepted !== undefined);
    this.#warmer = new Warmer(options.fixed);
    this.#updates = options.metrics.counter("weft_xds_updates_total", "Responses from the control plane by type and outcome.", [
      "type",
      "outcome",
    ]);
    const connected = options.metrics.gauge("weft_xds_connected", "Whether the discovery stream is open (1) or not (0).").with([]);
    options.metrics.beforeExport(() => {
      connected.value = this.#stream.call === undefined ? 0 : 1;
    });
    this.#stream = new LastingStream({
      clock: options.clock,
      random: options.random,
      channel: options.channel,
      path: service + (options.delta ? "DeltaAggregatedResources" : "StreamAggregatedResources"),
      opened: (call) => {
        const host: AdsHost = { ...this.#asHost(), send: (message) => void call.send(message) };
        this.#complained.clear();
        this.#session = options.delta ? new DeltaSession(host) : new SotwSession(host);
        this.#session.subscribe();
      },
      message: (bytes) => {
        this.#told.clear();
        this.#session?.receive(bytes);
      },
      ended: (status) => {
        this.#session = undefined;
        const words = sayStatus(status);
        const worth = this.#told.isNews(words, options.clock.mono());
        options.log[worth ? "warn" : "debug"]({ status: words }, "The discovery stream ended; what is configured serves on.");
        options.changed();
      },
    });
  }

  /** What still has to come before the proxy is ready; empty = ready, and it stays so. */
  waitingFor(): readonly string[] {
    if (this.#applied) return this.#refusedListeners();
    const missing: string[] = [];
    for (const type of ["cluster", "listener"] as const) {
      if (!this.#restored && !this.#heard(type)) missing.push(`${type}s from the control plane`);
    }
    return [...missing, ...this.#waiting];
  }

  /** Why the proxy listens nowhere although it was told to; empty = some listener is in force, or none was offered. */
  #refusedListeners(): readonly string[] {
    if (this.#listened || this.#options.fixed.listeners.size > 0) return [];
    const { held, rejected } = this.store.types.listener;
    const refused = [...held.keys()].map((name) => [name, this.#failed.get(`listener ${name}`)?.reason] as const);
    this.#listened = refused.some(([, why]) => why === undefined);
    if (this.#listened) return [];
    return [...refused, ...[...rejected].map(([name, one]) => [name, one.reason] as const)].map(
      ([name, why]) => `a listener that can be put into force (listener ${name}: ${why})`,
    );
  }

  /** What is in force came from a snapshot, and the control plane has not yet said whether it still holds. */
  get fromSnapshot(): boolean {
    return this.#restored && !(this.#heard("cluster") && this.#heard("listener"));
  }

  /** Takes a snapshot, whole or not at all (then the reason), through the same gate as what comes over the wire. Before the start; `begin` applies it. */
  restore(resources: KeptResources): string | undefined {
    const problem = this.store.restore(resources);
    if (problem !== undefined) return problem;
    this.#restored = true;
    if (resources.host !== undefined && resources.host.length > 0) {
      const { clock } = this.#options;
      this.#onDemand().restore(this.store.types.host.held.keys(), [...this.store.types.route.held.keys()], clock.mono());
      this.#armExpiry();
    }
    // The snapshot was whole: what it lacks was not there, so that nothing waits for it now.
    for (const type of ["endpoint", "route"] as const) {
      const { held, absent } = this.store.types[type];
      for (const name of this.wanted(type) as ReadonlySet<string>) if (!held.has(name)) absent.add(name);
    }
    return undefined;
  }

  /** Puts what was restored into force. */
  begin(): void {
    this.#put();
  }

  /** What a snapshot should hold; null while something is still on its way. */
  kept(): KeptResources | null {
    if (!this.#applied || this.#waiting.length > 0) return null;
    const { store } = this;
    return {
      cluster: store.kept("cluster"),
      endpoint: store.kept("endpoint"),
      listener: store.kept("listener"),
      route: store.kept("route"),
      ...(store.types.host.held.size === 0 ? {} : { host: store.kept("host") }),
    };
  }

  /** A request needs a host that its table does not have, or goes on using one that it was given for that. */
  demand(table: string, host: string): void {
    const { clock, log } = this.#options;
    const said = this.#onDemand().ask(table, host, clock.mono());
    if (said === "full") log.warn({ table, host }, "No further host can be asked for: too many are in use. Such requests fail.");
    if (said !== "again") return;
    this.#armExpiry();
    this.store.forget("host", this.wanted("host") as ReadonlySet<string>);
    this.#session?.subscribe();
  }

  #onDemand(): DemandedHosts {
    if (this.#demanded === null) {
      const { DemandedHosts } = require("./on-demand.ts") as typeof import("./on-demand.ts");
      this.#demanded = new DemandedHosts(this.#options.metrics, this.store);
    }
    return this.#demanded;
  }

  #armExpiry(): void {
    this.#expiry ??= this.#options.clock.after(expireEveryMs, () => {
      this.#expiry = undefined;
      const demanded = this.#demanded;
      if (demanded === null) return;
      if (demanded.expire(this.#options.clock.mono())) {
        this.store.forget("host", demanded.names());
        this.#session?.subscribe();
        this.#options.accepted?.();
        this.refresh();
      }
      if (demanded.size > 0) this.#armExpiry();
    });
  }

  #heard(type: "cluster" | "listener"): boolean {
    return this.wanted(type) !== "all" || this.store.types[type].heard;
  }

  status(): XdsStatus {
    return this.store.status(this.#stream.call !== undefined);
  }

  /** Runs warming and apply again; for changes that come from elsewhere. */
  refresh(): void {
    this.#put();
  }

  /** Tells of what could not be applied where `apply` could not say so at once. All that fails now; what is missing works again. */
  failed(failures: readonly ApplyFailure[]): void {
    this.#note(failures);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#retry?.cancel();
    this.#expiry?.cancel();
    this.#stream.stop();
  }

  send(): void {
    throw new Error("only a session's host sends");
  }

  wanted(type: StreamType): ReadonlySet<string> | "all" | null {
    if (type === "cluster") return this.#options.clusters ? "all" : null;
    if (type === "listener") return this.#options.listeners ? "all" : null;
    if (type === "host") return this.#demanded === null || !this.#options.delta ? null : this.#demanded.names();
    const names = new Set<string>();
    if (type === "endpoint") {
      for (const cluster of this.#options.fixed.clusters.values()) if (cluster.source.kind === "eds") names.add(cluster.source.serviceName);
      for (const { config } of this.store.types.cluster.held.values())
        if (config.source.kind === "eds") names.add(config.source.serviceName);
    } else {
      for (const listener of this.#options.fixed.listeners.values()) for (const name of routeNames(listener)) names.add(name);
      for (const { config } of this.store.types.listener.held.values()) for (const name of routeNames(config)) names.add(name);
    }
    return names;
  }

  take(type: StreamType, resources: readonly Incoming[], removed: readonly string[]): readonly string[] {
    const problems: string[] = [];
    for (const one of resources) {
      const problem = this.store.take(type, one);
      if (problem !== undefined) problems.push(problem);
    }
    for (const name of removed) this.store.remove(type, name);
    this.store.types[type].heard = true;
    if (type === "cluster") this.store.forget("endpoint", this.wanted("endpoint") as ReadonlySet<string>);
    if (type === "listener") this.store.forget("route", this.wanted("route") as ReadonlySet<string>);
    if (type === "host") this.store.forget("host", this.wanted("host") as ReadonlySet<string>);
    this.#options.accepted?.();
    this.#put(type);
    this.#updates.with([type, problems.length === 0 ? "accepted" : "rejected"]).value++;
    if (problems.length > 0) this.log.warn({ type, problems }, "Rejected a part of an update; the last good version serves on.");
    return problems;
  }

  answered(type: StreamType): void {
    // Also what was said while this response was on its way: the server could not know what it was about.
    if (this.#complained.has(type) || this.#problems(type).length > 0) this.#tellLate(type);
  }

  versions(type: StreamType): Record<string, string> {
    const made = this.store.versions(type);
    // What is not in force is asked for again, so that there is an answer that says so.
    for (const { resource } of this.#failed.values()) if (resource.type === type) delete made[resource.name];
    return made;
  }

  #asHost(): Omit<AdsHost, "send"> {
    return {
      node: this.node,
      store: this.store,
      log: this.log,
      wanted: (type) => this.wanted(type),
      take: (type, resources, removed) => this.take(type, resources, removed),
      answered: (type) => this.answered(type),
      versions: (type) => this.versions(type),
    };
  }

  /** Warms and applies. `answering`: the type whose response is about to be answered, of which nothing is told before. */
  #put(answering?: StreamType): void {
    const { clock } = this.#options;
    const { config, waiting } = this.#warmer.next(this.store, clock.mono(), this.#demanded);
    this.#waiting = waiting;
    this.#timer?.cancel();
    this.#timer = waiting.length > 0 ? clock.after(Math.min(1_000, warmBoundMs), () => this.#put()) : undefined;
    // The first configuration goes in whole, when everything it names has come: a half-configured proxy would answer with errors.
    const complete = this.#applied || this.waitingFor().length === 0;
    if (!complete) return;
    const failures = this.#options.apply(config);
    this.#applied = true;
    this.#note(failures, answering);
    this.#options.changed();
  }

  /** Keeps what fails, logs what did not fail so before, and tells the server where that has changed. */
  #note(failures: readonly ApplyFailure[], answering?: StreamType): void {
    const before = this.#failed;
    const fresh = failures.filter((f) => before.get(nameOf(f))?.reason !== f.reason);
    this.#failed = new Map(failures.map((f) => [nameOf(f), f]));
    const turned = new Set(fresh.map(({ resource }) => resource.type));
    for (const [name, { resource }] of before) if (!this.#failed.has(name)) turned.add(resource.type);
    for (const failure of fresh)
      this.log.warn({ problem: `${nameOf(failure)}: ${failure.reason}` }, "A part of the configuration could not be put into force.");
    for (const type of turned) if (type !== answering) this.#tellLate(type);
    if (!failures.some(({ resource }) => resource.type === "listener")) {
      this.#retry?.cancel();
      this.#retry = undefined;
      this.#retries = 0;
    } else
      this.#retry ??= this.#options.clock.after(Math.min(longestRetryMs, firstRetryMs * 2 ** this.#retries), () => {
        this.#retry = undefined;
        this.#retries++;
        this.refresh();
      });
  }

  /** Everything of a type that was understood and is not in force. */
  #problems(type: StreamType): readonly string[] {
    const failing = [...this.#failed.values()].filter(({ resource }) => resource.type === type);
    return failing.map((each) => `${nameOf(each)}: ${each.reason}`);
  }

  #tellLate(type: StreamType): void {
    const problems = this.#problems(type);
    if (problems.length > 0) this.#complained.add(type);
    this.#session?.tellLate(type, problems);
  }
}

function nameOf({ resource }: ApplyFailure): string {
  return `${resource.type} ${resource.name}`;
}
