// Owns: everything of a proxy that talks to the control plane, wired together: the channel, discovery, identity, metrics and log streams.
// Loaded only when the bootstrap asks for one of them. Never decides anything about traffic.

import { readFileSync } from "node:fs";
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { MetricRegistry, MetricSource } from "../base/metric.ts";
import { controlPlaneCluster } from "../wire/names.ts";
import { formatIdentity, parseIdentity } from "../wire/spiffe.ts";
import type { CertificateStatus, XdsStatus } from "./admin/admin.ts";
import type { BootstrapConfig } from "./bootstrap/bootstrap.ts";
import type { ProxyConfig, SecretSource } from "./config.ts";
import type { ApplyFailure } from "./engine.ts";
import type { Identity, WhenUnrenewed } from "./identity/identity.ts";
import { followTrust } from "./identity/trust-stream.ts";
import type { Kept } from "./snapshot/format.ts";
import type { SnapshotKeeper } from "./snapshot/keeper.ts";
import type { AlsSink } from "./telemetry/als.ts";
import type { LogSinks } from "./telemetry/sinks.ts";
import type { OpenCall } from "./workload-api/relay.ts";
import type { WorkloadApi } from "./workload-api/server.ts";
import { ControlChannel } from "./xds/channel.ts";
import { AdsClient } from "./xds/client.ts";
import type { GrpcTarget } from "./xds/decode/sources.ts";
import type { KeptResources } from "./xds/store.ts";

export interface ControlDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  /** Where what happens here is counted. */
  readonly metrics: MetricRegistry;
  /** What is told to the control plane: of this process, or of all that belong to the proxy. */
  readonly exported: MetricSource;
  readonly bootstrap: BootstrapConfig;
  /** Of this program, for the control plane to show. */
  readonly version: string;
  readonly tokenFile: string | null;
  readonly sinks: LogSinks;
  /** null: nothing is kept on disk. */
  readonly snapshot: SnapshotKeeper | null;
  readonly whenUnrenewed: WhenUnrenewed;
  /** Path of the SPIFFE Workload API's socket; null: none. */
  readonly workloadApi: string | null;
  /** Folder for the identity as files; null: none. */
  readonly identityFiles: string | null;
  readonly apply: (config: ProxyConfig) => readonly ApplyFailure[];
  readonly changed: () => void;
}

export interface Control {
  readonly secrets: SecretSource | null;
  waitingFor(): readonly string[];
  xds(): XdsStatus | null;
  certificates(): readonly CertificateStatus[];
  /** No listener may be open: the certificate has expired, and `--when-unrenewed close` was given. */
  closed(): boolean;
  /** When the snapshot was written that is in force, while the control plane has not said whether it still holds; null: it has, or there was none. */
  fromSnapshot(): number | null;
  /** Connects; call once. */
  start(): void;
  /** Puts what the snapshot held into force; call once, when `apply` can be. */
  begin(): void;
  /** Runs warming and apply again. */
  refresh(): void;
  /** A request needs a host that its route table does not have, or uses one that it was given for that. */
  demand(table: string, host: string): void;
  /** What could not be put into force, when `apply` could not tell at once. */
  failed(failures: readonly ApplyFailure[]): void;
  /** Sends the last metrics and no more: a successor tells from now on. */
  stopMetrics(): void;
  stop(): void;
}

/** Throws a message for the user when the bootstrap lacks what the flags ask for. */
export async function createControl(deps: ControlDeps): Promise<Control> {
  const { clock, log, random, metrics, bootstrap, sinks } = deps;
  const node = describeSelf(bootstrap.node, deps.version);
  const channels = new Map<string, ControlChannel>();
  let stopMetrics = (): void => {};
  const token = (): string | undefined => (deps.tokenFile === null ? undefined : readToken(deps.tokenFile, log));
  let workloadApi: WorkloadApi | null = null;
  let relayed: ControlChannel | undefined;
  let keepFiles = (): void => {};
  const changed = (): void => {
    workloadApi?.changed();
    keepFiles();
    deps.changed();
  };
  const identity = deps.tokenFile === null ? null : await createIdentity(deps, changed);
  if (deps.workloadApi !== null) {
    if (identity === null) throw new Error("--workload-api tells others this proxy's identity, and without --token-file it has none");
    const { serveWorkloadApi } = await import("./workload-api/server.ts");
    // Discovery streams of local programs go where this proxy's own go; the channel is made below.
    const open: OpenCall = (path, events) => relayed?.call(path, events);
    workloadApi = await serveWorkloadApi({ path: deps.workloadApi, log, current: () => identity.svid(), open });
  }
  if (deps.identityFiles !== null) {
    if (identity === null) throw new Error("--identity-files keeps this proxy's identity, and without --token-file it has none");
    const { keepIdentityFiles } = await import("./identity/keep-files.ts");
    const folder = deps.identityFiles;
    let generation = 0;
    keepFiles = () => {
      const svid = identity.svid();
      if (svid === undefined || identity.generation === generation) return;
      try {
        keepIdentityFiles(folder, svid);
        generation = identity.generation;
      } catch (error) {
        log.error({ problem: error instanceof Error ? error.message : String(error) }, "The identity's files are not up to date.");
      }
    };
  }
  const kept = deps.snapshot?.load() ?? null;
  let restoredAtMs: number | null = null;

  const channelFor = (target: GrpcTarget): ControlChannel => {
    let channel = channels.get(target.cluster);
    if (channel === undefined) {
      const cluster = bootstrap.clusters.get(target.cluster);
      if (cluster === undefined) throw new Error(`the bootstrap has no static cluster "${target.cluster}"`);
      if (cluster.protocol !== "http2")
        throw new Error(`cluster "${target.cluster}" must speak HTTP/2 (http2_protocol_options) to carry gRPC`);
      channel = new ControlChannel({
        clock,
        log,
        random,
        cluster,
        target,
        credentials: { certificate: () => identity?.current(), token, roots: () => identity?.trusted() },
      });
      channels.set(target.cluster, channel);
    }
    return channel;
  };

  const main = bootstrap.ads?.target ?? bootstrap.metricsService ?? { cluster: controlPlaneCluster, authority: "", metadata: [] };
  const strange = kept === null || identity === null ? undefined : identityProblem(kept, identity);
  // The identity's request goes out first on a new connection: everything encrypted waits for it.
  if (identity !== null) identity.askOver(channelFor(main));
  const trust =
    identity === null
      ? null
      : followTrust({ clock, log, random, channel: channelFor(main), node, take: (update) => identity.takeTrust(update) });
  if (workloadApi !== null) relayed = channelFor(main);
  let ads: AdsClient | null = null;
  if (bootstrap.ads !== null) {
    ads = new AdsClient({
      clock,
      log,
      random,
      metrics,
      channel: channelFor(bootstrap.ads.target),
      node,
      delta: bootstrap.ads.delta,
      listeners: bootstrap.ads.listeners,
      clusters: bootstrap.ads.clusters,
      fixed: bootstrap,
      world: {
        // A control plane configures this proxy; it has no business reading files of its host.
        readFile: () => {
          throw new Error("files may be named in the bootstrap only, not over xDS");
        },
        readSystemFile: (path) => readFileSync(path),
        staticSecrets: new Map(),
        controlClusters: new Set([...bootstrap.clusters.values()].filter((c) => c.control).map((c) => c.name)),
        delta: bootstrap.ads.delta,
      },
      apply: deps.apply,
      changed: deps.changed,
      ...(deps.snapshot === null ? {} : { accepted: () => deps.snapshot?.touch() }),
    });
  }
  if (kept !== null && deps.snapshot !== null) {
    // All of it or nothing: a certificate without the configuration it was for would be half a proxy.
    const problem = strange ?? ads?.restore(kept.resources);
    if (problem === undefined) restoredAtMs = kept.writtenAtMs;
    else {
      identity?.forget();
      deps.snapshot.refuse("rejected", problem);
    }
  }
  deps.snapshot?.keep(() => {
    const resources = ads === null ? noResources : ads.kept();
    const own = identity === null ? null : identity.kept();
    return resources === null || (identity !== null && own === null) ? null : { resources, identity: own };
  });
  if (bootstrap.metricsService !== null) {
    const { streamMetrics } = await import("./telemetry/metrics-service.ts");
    const stream = streamMetrics({
      clock,
      random,
      metrics: deps.exported,
      channel: channelFor(bootstrap.metricsService),
      node,
      periodMs: bootstrap.flushIntervalMs,
    });
    stopMetrics = () => {
      stopMetrics = () => {};
      stream.stop();
    };
  }
  const dropped = metrics
    .counter("weft_als_dropped_total", "Access log entries not sent because the log service was slow or away.")
    .with([]);
  const alsSinks = new Map<string, AlsSink>();
  sinks.sendAlsTo((logName, cluster) => {
    const key = `${cluster}\n${logName}`;
    let sink = alsSinks.get(key);
    if (sink === undefined) {
      // Loaded on first use: a proxy without such a log does not pay for it.
      const als = require("./telemetry/als.ts") as typeof import("./telemetry/als.ts");
      const channel = channelFor({
        cluster,
        authority: "",
        metadata: bootstrap.ads?.target.cluster === cluster ? bootstrap.ads.target.metadata : [],
      });
      sink = new als.AlsSink({ clock, random, channel, node, logName, dropped });
      alsSinks.set(key, sink);
      channel.start();
    }
    return sink;
  });

  return {
    secrets: identity,
    waitingFor: () => [
      ...(ads?.waitingFor() ?? []),
      ...(identity?.waitingFor() ?? []),
      ...(ads === null || ads.waitingFor().length === 0
        ? []
        : [...channels.values()].flatMap((c) => (c.problem === "" ? [] : [`a connection (${c.problem})`]))),
    ],
    xds: () => ads?.status() ?? null,
    certificates: () => identity?.status() ?? [],
    closed: () => identity?.closed ?? false,
    fromSnapshot: () => (ads?.fromSnapshot === true ? restoredAtMs : null),
    begin() {
      if (restoredAtMs !== null) ads?.begin();
    },
    start() {
      for (const channel of channels.values()) channel.start();
    },
    refresh: () => ads?.refresh(),
    demand: (table, host) => ads?.demand(table, host),
    failed: (failures) => ads?.failed(failures),
    stopMetrics: () => stopMetrics(),
    stop() {
      stopMetrics();
      for (const sink of alsSinks.values()) sink.stop();
      ads?.stop();
      trust?.stop();
      identity?.stop();
      workloadApi?.close();
      for (const channel of channels.values()) channel.close();
    },
  };
}

/** The bootstrap's node with our name on it, as every xDS client signs. */
function describeSelf(node: BootstrapConfig["node"], version: string): BootstrapConfig["node"] {
  if (node === undefined) return undefined;
  return { ...node, userAgentName: "weft", userAgentVersionType: { case: "userAgentVersion", value: version } };
}

async function createIdentity(deps: ControlDeps, changed: () => void): Promise<Identity> {
  const { local } = deps.bootstrap;
  const uri = formatIdentity(local);
  if (parseIdentity(uri) === undefined) {
    throw new Error(
      `--token-file asks for an identity, but node.metadata of the bootstrap does not say whose: NAMESPACE "${local.namespace}", SERVICE_ACCOUNT "${local.serviceAccount}", MESH_ID "${local.trustDomain}" (the trust domain)`,
    );
  }
  const { Identity } = await import("./identity/identity.ts");
  const { clock, log, random, metrics, snapshot, whenUnrenewed } = deps;
  const accepted = (): void => snapshot?.touch();
  return new Identity({ clock, log, random, metrics, uri, changed, accepted, whenUnrenewed });
}

const noResources: KeptResources = { cluster: [], endpoint: [], listener: [], route: [] };

function identityProblem(kept: Kept, identity: Identity): string | undefined {
  return kept.identity === null ? "it holds no certificate, and this proxy is to have one" : identity.restore(kept.identity);
}

/** Read each time: whoever wrote it may have written a fresh one. */
function readToken(path: string, log: Logger): string | undefined {
  try {
    const text = readFileSync(path, "utf8").trim();
    if (/^[A-Za-z0-9._~+/=-]{1,16384}$/.test(text)) return text;
    log.warn({ path }, "The token file does not hold a token.");
  } catch (error) {
    log.warn({ path, error }, "Cannot read the token file.");
  }
  return undefined;
}
