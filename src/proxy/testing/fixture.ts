// Owns: short ways for tests to write a ProxyConfig, run an engine on it and speak raw bytes with it. Used by tests alone.

import { type Clock, systemClock } from "../../base/clock.ts";
import { type Logger, silentLogger } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import type {
  ClusterConfig,
  EndpointConfig,
  FilterChainConfig,
  ForwardAction,
  HeaderEdits,
  HttpManagerConfig,
  ListenerConfig,
  LocalWorkload,
  ProxyConfig,
  RouteConfig,
  RouteTableConfig,
  SecretSource,
  TcpProxyConfig,
  VirtualHostConfig,
} from "../config.ts";
import { createEngine, type Engine, type EngineDeps } from "../engine.ts";
import { defaultLimits } from "../http1/limits.ts";
import type { AccessRecord } from "../telemetry/record.ts";

export const noEdits: HeaderEdits = { remove: [], set: [], add: [] };

export function endpoint(port: number, more: Partial<EndpointConfig> = {}): EndpointConfig {
  return {
    address: { host: "127.0.0.1", port },
    weight: 1,
    priority: 0,
    healthy: true,
    transportMatch: {},
    workload: null,
    identity: null,
    ...more,
  };
}

export function cluster(name: string, endpoints: readonly EndpointConfig[], more: Partial<ClusterConfig> = {}): ClusterConfig {
  return {
    name,
    connectTimeoutMs: 1_000,
    balance: { kind: "least_request", choices: 2 },
    source: { kind: "static", endpoints },
    transports: [],
    tls: null,
    limits: { maxConnections: 1024, maxPending: 1024, maxRequests: 1024, maxRetries: 3 },
    protocol: "http1",
    control: false,
    service: null,
    ...more,
  };
}

export function forward(name: string, more: Partial<ForwardAction> = {}): ForwardAction {
  return {
    kind: "forward",
    clusters: [{ cluster: name, weight: 1 }],
    timeoutMs: 0,
    idleTimeoutMs: 0,
    retry: { attempts: 2, on: ["connect-failure", "reset", "refused-stream"], statusCodes: [], perTryTimeoutMs: 0 },
    prefixRewrite: null,
    hostRewrite: null,
    terminateConnect: false,
    upgrades: [],
    ...more,
  };
}

export function route(action: RouteConfig["action"], more: Partial<RouteConfig> = {}): RouteConfig {
  return {
    name: "r",
    match: { path: { kind: "prefix", value: "/" }, headers: [], query: [] },
    action,
    requestHeaders: noEdits,
    responseHeaders: noEdits,
    ...more,
  };
}

export function table(virtualHosts: readonly VirtualHostConfig[], more: Partial<RouteTableConfig> = {}): RouteTableConfig {
  return { name: "routes", ignorePort: false, virtualHosts, ...more };
}

/** Every host to one cluster. */
export function catchAll(name: string, more: Partial<ForwardAction> = {}): RouteTableConfig {
  return table([{ name: "all", domains: ["*"], routes: [route(forward(name, more))] }]);
}

export function http(routes: HttpManagerConfig["routes"], more: Partial<HttpManagerConfig> = {}): HttpManagerConfig {
  return {
    kind: "http",
    statPrefix: "test",
    routes,
    rbac: [],
    accessLogs: [],
    generateRequestId: true,
    upgrades: [],
    limits: defaultLimits,
    via: null,
    codec: "auto",
    http2: {},
    grpcWeb: false,
    ...more,
  };
}

export function tcpProxy(name: string, more: Partial<TcpProxyConfig> = {}): TcpProxyConfig {
  return { kind: "tcp", statPrefix: "test", clusters: [{ cluster: name, weight: 1 }], accessLogs: [], idleTimeoutMs: 3_600_000, ...more };
}

export function chain(terminal: HttpManagerConfig | TcpProxyConfig, more: Partial<FilterChainConfig> = {}): FilterChainConfig {
  return { name: "chain", match: { transport: null, alpn: [], serverNames: [] }, tls: null, networkRbac: [], terminal, ...more };
}

export function listener(name: string, chains: readonly FilterChainConfig[], more: Partial<ListenerConfig> = {}): ListenerConfig {
  return { name, address: { host: "127.0.0.1", port: 0 }, direction: "outbound", chains, inspectTls: false, ...more };
}

export function config(
  listeners: readonly ListenerConfig[],
  clusters: readonly ClusterConfig[],
  routes: readonly RouteTableConfig[] = [],
): ProxyConfig {
  return {
    listeners: new Map(listeners.map((item) => [item.name, item])),
    clusters: new Map(clusters.map((item) => [item.name, item])),
    routes: new Map(routes.map((item) => [item.name, item])),
    endpoints: new Map(),
  };
}

/** A plain hop: one listener, one route table `routes`, whatever clusters are given. */
export function hop(
  clusters: readonly ClusterConfig[],
  routes: RouteTableConfig = catchAll(clusters[0]?.name ?? ""),
  manager: Partial<HttpManagerConfig> = {},
  more: Partial<ListenerConfig> = {},
): ProxyConfig {
  return config([listener("in", [chain(http({ rds: routes.name }, manager))], more)], clusters, [routes]);
}

export const noSecrets: SecretSource = { generation: 0, certificate: () => undefined, roots: () => undefined };

export const localWorkload: LocalWorkload = {
  workload: "front-1",
  namespace: "shop",
  app: "front",
  version: "v1",
  nodeId: "sidecar~shop~front-1",
  serviceAccount: "front",
  trustDomain: "cluster.local",
};

export interface Running {
  readonly engine: Engine;
  readonly metrics: MetricRegistry;
  readonly records: AccessRecord[];
  port(name?: string): number;
  /** Sum of a counter's series whose labels include all of these values. */
  count(family: string, ...labels: readonly string[]): number;
}

/** An engine on this configuration; throws when something of it was refused. */
export function start(first: ProxyConfig, more: Partial<EngineDeps> & { clock?: Clock; log?: Logger } = {}): Running {
  const metrics = new MetricRegistry();
  const records: AccessRecord[] = [];
  const engine = createEngine({
    clock: systemClock,
    log: silentLogger,
    metrics,
    random: Math.random,
    secrets: noSecrets,
    local: localWorkload,
    accessLog: () => ({ write: (record) => void records.push(record) }),
    ...more,
  });
  const failures = engine.apply(first);
  if (failures.length > 0) throw new Error(JSON.stringify(failures));
  return {
    engine,
    metrics,
    records,
    port: (name = "in") => {
      const found = engine.stats().listeners.find((item) => item.name === name);
      if (found === undefined) throw new Error(`no listener ${name}`);
      return found.address.port;
    },
    count: (family, ...labels) => {
      let sum = 0;
      for (const item of metrics.families()) {
        if (item.name !== family) continue;
        for (const series of item.series)
          if (labels.every((label) => series.labels.includes(label)))
            sum += "value" in series ? series.value : series.counts.reduce((a, b) => a + b, 0);
      }
      return sum;
    },
  };
}

/** Waits until `probe` holds; fails after `limitMs`. */
export async function until(probe: () => boolean, what = "the condition", limitMs = 5_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!probe()) {
    if (performance.now() > end) throw new Error(`timed out waiting for ${what}`);
    await Bun.sleep(2);
  }
}

/** A raw TCP peer that gathers what it is sent, as Latin-1. */
export class RawPeer {
  text = "";
  closed = false;
  ended = false;
  socket: Bun.Socket<RawPeer> | null = null;

  static async connect(port: number, tls?: Bun.TLSOptions): Promise<RawPeer> {
    const peer = new RawPeer();
    const shaken = Promise.withResolvers<void>();
    await Bun.connect<RawPeer>({
      hostname: "127.0.0.1",
      port,
      data: peer,
      allowHalfOpen: true,
      ...(tls === undefined ? {} : { tls }),
      socket: {
        open(socket) {
          peer.socket = socket;
          if (tls === undefined) shaken.resolve();
        },
        ...(tls === undefined ? {} : { handshake: () => shaken.resolve() }),
        data(_socket, bytes) {
          peer.text += bytes.toString("latin1");
        },
        end() {
          peer.ended = true;
        },
        close() {
          peer.closed = true;
          peer.ended = true;
          shaken.resolve();
        },
        error() {},
        drain() {},
      },
    });
    await shaken.promise;
    return peer;
  }

  send(text: string): void {
    this.socket?.write(Buffer.from(text, "latin1"));
  }

  /** Sends a request and waits for this many final answers in all. */
  async ask(text: string, answers = 1): Promise<string> {
    this.send(text);
    await until(
      () => this.text.split("HTTP/1.1 ").length > answers && /\r\n\r\n/.test(this.text),
      `${answers} answers to ${JSON.stringify(text.slice(0, 60))}, got ${JSON.stringify(this.text)}`,
    );
    return this.text;
  }

  close(): void {
    this.socket?.terminate();
  }
}

/** A raw origin: `serve` gets each read with a way to write back. */
export function rawOrigin(serve: (text: string, write: (answer: string) => void, socket: Bun.Socket<unknown>) => void): {
  port: number;
  connections: () => number;
  stop(): void;
} {
  let connections = 0;
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: {
      open() {
        connections++;
      },
      data(socket, bytes) {
        serve(bytes.toString("latin1"), (answer) => void socket.write(Buffer.from(answer, "latin1")), socket);
      },
      end(socket) {
        socket.end();
      },
      error() {},
      drain() {},
    },
  });
  return { port: server.port, connections: () => connections, stop: () => server.stop(true) };
}
