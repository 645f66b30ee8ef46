// Owns: the way of each explicit upstream past the sidecar, for whoever leads connections there while no sidecar does: opaque bytes in plain text, to the endpoints
// where no policy demands more. Pure. In doubt an upstream is refused: what a route, a certificate or a header would have to decide cannot be decided there.

import { type DirectTable, type DirectTarget, type DirectUpstream, directFormat, plainAllowed, plainMark } from "../../wire/direct.ts";
import type { ClusterConfig, EndpointConfig, ListenerConfig, ProxyConfig, RouteConfig, RouteTableConfig } from "../config.ts";

/** Endpoints of one cluster that are told of: an outage is bridged by less. */
export const mostEndpoints = 100;

/** By `weft run`'s `--upstream`: TCP listeners on 127.0.0.1 that the control plane names so. */
const prefix = "upstream|";

export function directTable(config: ProxyConfig): DirectTable {
  const upstreams: DirectUpstream[] = [];
  for (const listener of config.listeners.values()) {
    const { name, address } = listener;
    if (!name.startsWith(prefix) || listener.direction !== "outbound" || listener.udp !== undefined || address.host !== "127.0.0.1")
      continue;
    upstreams.push({ port: address.port, service: serviceOf(name), ...wayOf(config, listener) });
  }
  upstreams.sort((a, b) => a.port - b.port);
  return { format: directFormat, upstreams };
}

/** `upstream|80||cart.shop.svc.cluster.local` is `cart.shop`. */
function serviceOf(listener: string): string {
  return (listener.split("|")[3] ?? "").replace(/\.svc\..*$/, "");
}

type Shares = readonly { readonly cluster: string; readonly weight: number }[];
type Way = DirectUpstream extends infer U ? (U extends DirectUpstream ? Omit<U, "port" | "service"> : never) : never;

const refused = (reason: string): Way => ({ kind: "refused", reason });

function wayOf(config: ProxyConfig, listener: ListenerConfig): Way {
  const [chain, another] = listener.chains;
  if (chain === undefined || another !== undefined) return refused("its connections are told apart by the name in their handshake");
  if (chain.tls !== null) return refused("its port decrypts");
  const { terminal } = chain;
  if (terminal.kind === "tcp") return wayTo(config, terminal.clusters, 0);
  const table = "inline" in terminal.routes ? terminal.routes.inline : config.routes.get(terminal.routes.rds);
  const rest = table === undefined ? undefined : catchAll(table);
  if (rest === undefined) return refused("its routes lead no request that none of their conditions fits");
  const { action } = rest.route;
  if (action.kind !== "forward") return refused("its routes answer by themselves");
  return wayTo(config, action.clusters as Shares, rest.others);
}

/** The route of requests that fit no condition. */
function catchAll(table: RouteTableConfig): { readonly route: RouteConfig; readonly others: number } | undefined {
  const host = table.virtualHosts.find(({ domains }) => domains.includes("*")) ?? table.virtualHosts[0];
  const at = host?.routes.findIndex(({ match }) => {
    const { path, headers, query, fraction, grpc } = match;
    const whole = (path.kind === "prefix" || path.kind === "separated-prefix") && (path.value === "/" || path.value === "");
    return whole && headers.length === 0 && query.length === 0 && (fraction === undefined || fraction === 1) && grpc === undefined;
  });
  const route = at === undefined ? undefined : host?.routes[at];
  // What comes before is a condition that nobody looks at now; but the CONNECT that each host has is none.
  const others = host?.routes
    .slice(0, at)
    .filter(({ match: { path, headers, query } }) => path.kind !== "connect" || headers.length + query.length > 0);
  return route === undefined || others === undefined ? undefined : { route, others: others.length };
}

function wayTo(config: ProxyConfig, shares: Shares, passedOver: number): Way {
  const targets: DirectTarget[] = [];
  const reasons: string[] = [];
  for (const { cluster: name, weight } of shares) {
    if (weight === 0) continue;
    // Where a header or a plugin names the cluster there is no name here.
    const cluster = typeof name === "string" ? config.clusters.get(name) : undefined;
    const way = cluster === undefined ? "there is no such service" : plainEndpoints(config, cluster);
    if (typeof way === "string") reasons.push(way);
    else targets.push({ weight, endpoints: way });
  }
  if (targets.length === 0) return refused(reasons[0] ?? "it leads nowhere");
  return { kind: "plain", targets, passedOver };
}

function plainEndpoints(config: ProxyConfig, cluster: ClusterConfig): DirectTarget["endpoints"] | string {
  if (cluster.proxyProtocol !== undefined) return "its instances are told of the client by the PROXY protocol";
  const all = cluster.source.kind === "eds" ? (config.endpoints.get(cluster.source.serviceName) ?? []) : cluster.source.endpoints;
  const well = all.filter(({ healthy }) => healthy);
  if (well.length === 0) return "no instance is known";
  const may = well.filter((endpoint) => mayBePlain(cluster, endpoint));
  if (may.length === 0) {
    return transportOf(cluster, well[0] as EndpointConfig).matched
      ? "mutual TLS is demanded (PeerAuthentication STRICT, which is the default, or a DestinationRule with ISTIO_MUTUAL)"
      : "a DestinationRule demands TLS";
  }
  const first = Math.min(...may.map(({ priority }) => priority));
  return may
    .filter(({ priority }) => priority === first)
    .slice(0, mostEndpoints)
    .map(({ address: { host, port }, weight }) => ({ host, port, weight }));
}

function mayBePlain(cluster: ClusterConfig, endpoint: EndpointConfig): boolean {
  const { tls, matched } = transportOf(cluster, endpoint);
  return !tls || (matched && endpoint.transportMatch[plainMark] === plainAllowed);
}

/** `matched`: by what the endpoint says of itself, not by a setting for the whole cluster. */
function transportOf(cluster: ClusterConfig, { transportMatch }: EndpointConfig): { readonly tls: boolean; readonly matched: boolean } {
  const found = cluster.transports.find(({ match }) => Object.entries(match).every(([key, value]) => transportMatch[key] === value));
  return { tls: (found === undefined ? cluster.tls : found.tls) !== null, matched: found !== undefined };
}
