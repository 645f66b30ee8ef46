// Owns: decoded configuration -> compiled forms (rule 2). Nothing in force is touched here: `apply.ts` publishes. What has not changed (`===`) keeps
// its compiled form. Each resource that cannot be built is named with a sentence, and its predecessor stays.

import { compileRbac } from "../authz/rules.ts";
import type { ClusterSlot } from "../balance/cluster.ts";
import type { Transport } from "../balance/endpoint.ts";
import type { CompiledChain, HttpChain, TcpChain } from "../chain/chain.ts";
import { checkMatches } from "../chain/select.ts";
import { buildStages } from "../chain/stages.ts";
import type {
  ClusterConfig,
  EndpointConfig,
  FilterChainConfig,
  HttpManagerConfig,
  ListenerConfig,
  SecretSource,
  TcpProxyConfig,
} from "../config.ts";
import { latin1 } from "../http/bytes.ts";
import type { OnDemand } from "../route/on-demand.ts";
import { compileTable, type TableSlot } from "../route/table.ts";
import { compileAccessLogs } from "../telemetry/access.ts";
import type { AccessLogFactory } from "../telemetry/record.ts";
import { downstreamMaterial, type TlsMaterial, upstreamMaterial } from "../tls/material.ts";

export interface BuildContext {
  readonly secrets: SecretSource;
  readonly trustDomain: string;
  /** What this proxy is called where it is a source: `app.namespace`. */
  readonly source: string;
  readonly accessLog: AccessLogFactory;
  /** From now on bodies of requests are read without their framing, for those who look into them. */
  readonly wholeBodies?: () => void;
  clusterSlot(name: string): ClusterSlot;
  tableSlot(name: string): TableSlot;
  /** Made with the first chain that asks for it. */
  onDemand(): OnDemand;
}

/** Largest head: it must fit the scratch buffer with what is added to it. */
const largestHead = 72 * 1024;

/** Throws a sentence. */
export function buildChains(config: ListenerConfig, port: number, context: BuildContext): readonly CompiledChain[] {
  checkMatches(config);
  return config.chains.map((chain) => buildChain(chain, config, port, context));
}

function buildChain(config: FilterChainConfig, listener: ListenerConfig, port: number, context: BuildContext): CompiledChain {
  const terminal = config.terminal.kind === "http" ? buildHttp(config.terminal, listener, context) : buildTcp(config.terminal, context);
  return {
    config,
    name: listener.name,
    inbound: listener.direction === "inbound",
    port,
    tls: config.tls === null ? null : downstreamMaterial(config.tls, context.secrets, context.trustDomain),
    networkRbac: config.networkRbac.map(compileRbac),
    terminal,
  };
}

/** Loaded with the first listener that asks for tokens. */
const tokens = () => require("../chain/jwt.ts") as typeof import("../chain/jwt.ts");

function buildHttp(config: HttpManagerConfig, listener: ListenerConfig, context: BuildContext): HttpChain {
  const rbac = config.rbac.map(compileRbac);
  let table: TableSlot;
  if ("rds" in config.routes) table = context.tableSlot(config.routes.rds);
  else
    table = {
      name: config.routes.inline.name || listener.name,
      current: compileTable(config.routes.inline, (name) => context.clusterSlot(name)),
    };
  const upgrades = config.upgrades.map((token) => token.toLowerCase());
  const headBytes = config.limits.headBytes;
  if (headBytes > largestHead) throw new Error(`the limit of a head is ${headBytes} bytes; at most ${largestHead} is supported`);
  const stages = config.stages ?? {};
  return {
    kind: "http",
    table,
    stages: buildStages(stages, null, listener.name, context),
    routeStages: new WeakMap(),
    buildRouteStages: (route) => buildStages(stages, route.stages, `${listener.name}/${route.name}`, context),
    rbac,
    jwt: config.jwt === undefined ? null : tokens().compileJwt(config.jwt),
    readsPath:
      config.normalForm === true || rbac.some((filter) => filter.readsPath) || limitsByPath(stages) || stages.extAuthz !== undefined,
    logs: compileAccessLogs(config.accessLogs, context.accessLog),
    generateRequestId: config.generateRequestId,
    connect: upgrades.includes("connect"),
    upgrades: upgrades.filter((token) => token !== "connect"),
    limits: config.limits,
    viaLine: config.via === null ? null : latin1(`via: 1.1 ${config.via}\r\n`),
    codec: config.codec,
    http2: config.http2,
    grpcWeb: config.grpcWeb,
    forwards: config.forwards === true,
    trustedHops: config.trustedHops ?? 0,
    appends: config.appends !== false,
    readsClient: rbac.some((filter) => filter.readsClient),
    onDemand: config.onDemand === true ? context.onDemand() : null,
    tellsDeadline: config.tellsDeadline !== false,
  };
}

/** A limit that another spelling of a path would get around. */
function limitsByPath({ rateLimit, globalRateLimit }: NonNullable<HttpManagerConfig["stages"]>): boolean {
  const actions = [...(rateLimit?.limits ?? []), ...(globalRateLimit?.limits ?? [])].flat();
  return actions.some(
    (action) =>
      (action.kind === "header" && action.name === ":path") ||
      (action.kind === "match" && action.headers.some(({ name }) => name === ":path")),
  );
}

function buildTcp(config: TcpProxyConfig, context: BuildContext): TcpChain {
  let sum = 0;
  const targets = config.clusters
    .filter((target) => target.weight > 0)
    .map((target) => {
      sum += target.weight;
      return { slot: context.clusterSlot(target.cluster), upTo: sum };
    });
  if (targets.length === 0) throw new Error("all clusters have weight 0");
  return {
    kind: "tcp",
    targets,
    totalWeight: sum,
    logs: compileAccessLogs(config.accessLogs, context.accessLog),
    idleTimeoutMs: config.idleTimeoutMs,
  };
}

/** How the endpoints of a cluster are reached: built once for each entry, so that endpoints share TLS material. Throws a sentence. */
export function buildTransports(config: ClusterConfig, secrets: SecretSource): (endpoint: EndpointConfig) => Transport {
  const make = (name: string, tls: ClusterConfig["tls"]): Transport => {
    const material: TlsMaterial | null = tls === null ? null : upstreamMaterial(tls, secrets);
    const offersHttp2 = tls?.alpn.includes("h2") === true;
    const tlsHttp1 =
      tls !== null && offersHttp2 ? upstreamMaterial({ ...tls, alpn: tls.alpn.filter((name) => name !== "h2") }, secrets) : material;
    // Everything that makes connections differ; two configurations with the same text share connections across updates.
    return { key: JSON.stringify([name, tls, config.protocol]), tls: material, tlsHttp1, protocol: config.protocol };
  };
  const matches = config.transports.map((entry) => ({ match: Object.entries(entry.match), transport: make(entry.name, entry.tls) }));
  const otherwise = make("", config.tls);
  return (endpoint) => {
    for (const { match, transport } of matches) if (match.every(([key, value]) => endpoint.transportMatch[key] === value)) return transport;
    return otherwise;
  };
}
