// Owns: the admin pages: readiness, what is configured, counters, drain and stop. Secrets never appear here. Never changes configuration.

import type { MetricSource } from "../../base/metric.ts";
import type { HostPort, LocalWorkload, ProxyConfig } from "../config.ts";
import type { EngineStats } from "../engine.ts";
import { prometheusContentType, prometheusText } from "../telemetry/prometheus.ts";
import { redact } from "./redact.ts";
import { type AdminAnswer, type AdminListener, type AdminReply, type AdminRequest, json, plain, serveAdmin } from "./responder.ts";

/** One type's state on the xDS stream. */
export interface XdsStatus {
  readonly connected: boolean;
  readonly types: readonly {
    readonly type: string;
    readonly resources: readonly { readonly name: string; readonly version: string; readonly state: string; readonly reason?: string }[];
  }[];
}

export interface CertificateStatus {
  readonly name: string;
  readonly uri: string;
  readonly notBefore: string;
  readonly notAfter: string;
  readonly serial: string;
}

export interface SnapshotStatus {
  readonly folder: string;
  /** When what is on disk was written; null: nothing yet. */
  readonly writtenAt: string | null;
  /** What serves now came from it, and the control plane has not said since whether it still holds. */
  readonly serving: boolean;
  readonly ageSeconds: number | null;
}

/** What the pages show; each is asked for when a page is read. */
export interface AdminSources {
  readonly version: string;
  readonly local: LocalWorkload;
  readonly startedAtMs: number;
  readonly nowMs: () => number;
  readonly metrics: MetricSource;
  /** Asks the workers, where there are some, before a page that shows what they count; undefined: everything is here. */
  readonly fresh?: () => Promise<void>;
  /** What still has to happen before the proxy is ready; empty = ready. */
  readonly waitingFor: () => readonly string[];
  readonly draining: () => boolean;
  readonly config: () => ProxyConfig;
  readonly stats: () => EngineStats;
  readonly xds: () => XdsStatus | null;
  readonly certificates: () => readonly CertificateStatus[];
  /** What is kept on disk for a start without the control plane; null: nothing is. */
  readonly snapshot: () => SnapshotStatus | null;
  /** `graceful`: goes on accepting for the drain time, while every connection ends with its next answer. */
  readonly drain: (graceful: boolean) => void;
  /** Says that this proxy is not to be used (false), or is again. */
  readonly setHealthy: (healthy: boolean) => void;
  /** Processes that serve traffic. */
  readonly workers: () => number;
  readonly quit: () => void;
}

type Page = (sources: AdminSources, request: AdminRequest) => AdminAnswer;

const pages: Readonly<
  Record<string, { readonly method: "GET" | "POST"; readonly what: string; readonly live?: true; readonly show: Page }>
> = {
  "/ready": { method: "GET", what: "200 once configured, 503 with what is missing", show: ready },
  "/server_info": { method: "GET", what: "version, state and node", show: serverInfo },
  "/config_dump": { method: "GET", what: "the configuration in force (JSON)", show: configDump },
  "/clusters": { method: "GET", what: "clusters and their endpoints (?format=json)", live: true, show: clusters },
  "/listeners": { method: "GET", what: "listeners and their addresses (?format=json)", live: true, show: listeners },
  "/certs": { method: "GET", what: "certificates of this proxy (JSON)", show: (s) => json(200, { certificates: s.certificates() }) },
  "/stats/prometheus": { method: "GET", what: "counters in Prometheus text", live: true, show: stats },
  "/metrics": { method: "GET", what: "the same", live: true, show: stats },
  "/drain_listeners": {
    method: "POST",
    what: "stop accepting, let open requests end (?graceful: say goodbye first, stop after the drain time)",
    show(s, request) {
      const foreign = [...request.query.keys()].filter((key) => key !== "graceful");
      if (foreign.length > 0) return plain(400, `/drain_listeners takes ?graceful; ${foreign.join(", ")} is not supported.`);
      s.drain(request.query.has("graceful"));
      return plain(200, "OK");
    },
  },
  "/healthcheck/fail": {
    method: "POST",
    what: "not ready; connections end with their next answer",
    show(s) {
      s.setHealthy(false);
      return plain(200, "OK");
    },
  },
  "/healthcheck/ok": {
    method: "POST",
    what: "takes /healthcheck/fail back",
    show(s) {
      s.setHealthy(true);
      return plain(200, "OK");
    },
  },
  "/quitquitquit": {
    method: "POST",
    what: "drain and exit",
    show(s) {
      s.quit();
      return plain(200, "OK");
    },
  },
};

/** Opens the admin server, on a socket that listens already where there is one. Throws if the address is taken. */
export function openAdmin(
  address: HostPort,
  sources: AdminSources,
  adopted?: { readonly fd: number; readonly port: number },
): AdminListener {
  return serveAdmin(address, (request) => answerAdmin(sources, request), adopted);
}

export function answerAdmin(sources: AdminSources, request: AdminRequest): AdminReply {
  if (request.path === "/" || request.path === "/help") {
    const lines = Object.entries(pages).map(([path, page]) => `  ${page.method.padEnd(4)} ${path.padEnd(20)} ${page.what}`);
    return plain(200, `Weft proxy ${sources.version}\n${lines.join("\n")}`);
  }
  const page = Object.hasOwn(pages, request.path) ? pages[request.path] : undefined;
  if (page === undefined) return plain(404, `There is no page ${request.path}; / lists them.`);
  if (page.method !== request.method) return { ...plain(405, `${request.path} takes ${page.method}.`), headers: { allow: page.method } };
  if (page.live !== undefined && sources.fresh !== undefined) return sources.fresh().then(() => page.show(sources, request));
  return page.show(sources, request);
}

function ready(s: AdminSources): AdminAnswer {
  if (s.draining()) return plain(503, "DRAINING");
  const missing = s.waitingFor();
  if (missing.length > 0) return plain(503, `PRE_INITIALIZING: waiting for ${missing.join(", ")}`);
  const kept = s.snapshot();
  return plain(
    200,
    kept?.serving === true ? `LIVE: from a snapshot ${kept.ageSeconds} s old; the control plane has not answered yet` : "LIVE",
  );
}

function serverInfo(s: AdminSources): AdminAnswer {
  const state = s.draining() ? "DRAINING" : s.waitingFor().length === 0 ? "LIVE" : "PRE_INITIALIZING";
  const uptime = Math.floor((s.nowMs() - s.startedAtMs) / 1000);
  return json(200, {
    version: `weft/${s.version}`,
    state,
    uptime_current_epoch: `${uptime}s`,
    node: s.local,
    pid: process.pid,
    workers: s.workers(),
  });
}

function configDump(s: AdminSources): AdminAnswer {
  const config = s.config();
  return json(
    200,
    redact({
      listeners: [...config.listeners.values()],
      routes: [...config.routes.values()],
      clusters: [...config.clusters.values()],
      endpoints: Object.fromEntries(config.endpoints),
      xds: s.xds(),
      snapshot: s.snapshot(),
    }),
  );
}

function clusters(s: AdminSources, request: AdminRequest): AdminAnswer {
  const list = s.stats().clusters;
  if (request.query.get("format") === "json") return json(200, { clusters: list });
  let out = "";
  for (const cluster of list) {
    for (const endpoint of cluster.endpoints) {
      const name = `${cluster.name}::${hostText(endpoint.address)}`;
      const flags = `${endpoint.ejectedForMs === undefined ? "" : "/failed_outlier_check"}${endpoint.failing === true ? "/failed_active_hc" : ""}`;
      const words = endpoint.healthy ? "healthy" : flags === "" ? "/failed_eds_health" : flags;
      out += `${name}::health_flags::${words}\n${name}::rq_active::${endpoint.active}\n`;
    }
    if (cluster.endpoints.length === 0) out += `${cluster.name}::no endpoints\n`;
  }
  return plain(200, out);
}

function listeners(s: AdminSources, request: AdminRequest): AdminAnswer {
  const list = s.stats().listeners;
  if (request.query.get("format") === "json") return json(200, { listeners: list });
  return plain(200, list.map((one) => `${one.name}::${hostText(one.address)}`).join("\n"));
}

function stats(s: AdminSources): AdminAnswer {
  return { status: 200, contentType: prometheusContentType, body: prometheusText(s.metrics) };
}

function hostText(address: HostPort): string {
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
