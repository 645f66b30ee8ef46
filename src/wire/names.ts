// Owns: names that both processes must agree on: clusters, routes, listeners, metadata keys, headers, annotations.
// Cluster names follow Istio's form, so that its dashboards and habits carry over.

export const clusterDomain = "cluster.local";

/** `reviews.shop.svc.cluster.local` */
export function serviceHost(name: string, namespace: string): string {
  return `${name}.${namespace}.svc.${clusterDomain}`;
}

/** What a port's number is one of: a Service may have a TCP and a UDP port of one number. */
export type Transport = "tcp" | "udp";

/**
 * `outbound|80||reviews.shop.svc.cluster.local`; of UDP `outbound|53|udp|dns.shop.svc.cluster.local`: the place of the subset in Istio's form, so
 * that its tools still find port and host. A subset must not be called `udp`.
 */
export function outboundCluster(port: number, host: string, transport: Transport = "tcp"): string {
  return `outbound|${port}|${transport === "udp" ? "udp" : ""}|${host}`;
}

/** `outbound|80|v2|reviews.shop.svc.cluster.local`: a subset that a DestinationRule names; its endpoints come under the same name. */
export function subsetCluster(port: number, subset: string, host: string): string {
  return `outbound|${port}|${subset}|${host}`;
}

/** `reviews.shop.svc.cluster.local` of any outbound cluster's name; undefined for other clusters. */
export function clusterHost(cluster: string): string | undefined {
  const [direction, , , host] = cluster.split("|");
  return direction === "outbound" && host !== undefined && host !== "" ? host : undefined;
}

/** `inbound|9080||`: the application beside the proxy. */
export function inboundCluster(appPort: number): string {
  return `inbound|${appPort}||`;
}

/** Where hosts lead that nobody has made known; Istio's name. */
export const passthroughCluster = "PassthroughCluster";

/** The listener that the application's HTTP_PROXY points to, and its route configuration. */
export const httpProxyListener = "outbound-http-proxy";
export const httpProxyRoutes = "outbound-http-proxy";

/** A fixed local port for one upstream (`--upstream cart=9001`): listener and route configuration share the name. Of UDP: `upstream|53|udp|HOST`. */
export function upstreamListener(host: string, servicePort: number, transport: Transport = "tcp"): string {
  return `upstream|${servicePort}|${transport === "udp" ? "udp" : ""}|${host}`;
}

/** `inbound|http`: the listener that peers dial for one named port. */
export function inboundListener(portName: string): string {
  return `inbound|${portName}`;
}

/** A gateway's port: `gateway|443`, of UDP `gateway|53|udp`. */
export function gatewayListener(port: number, transport: Transport = "tcp"): string {
  return `gateway|${port}${transport === "udp" ? "|udp" : ""}`;
}

/** The routes of a gateway's port, or of one of its listeners that decrypt: `gateway|443|shop`. */
export function gatewayRoutes(port: number, listener?: string): string {
  return `gateway|${port}${listener === undefined ? "" : `|${listener}`}`;
}

/** SDS names of the proxy's own certificate and of the mesh's roots (Istio's names). */
export const workloadCertificateSecret = "default";
export const meshRootsSecret = "ROOTCA";

/** The static cluster in a bootstrap that leads to the control plane. */
export const controlPlaneCluster = "xds-grpc";

/** Node metadata keys in the bootstrap (Istio's names where Istio has one). */
export const nodeMetadata = {
  namespace: "NAMESPACE",
  workload: "WORKLOAD_NAME",
  serviceAccount: "SERVICE_ACCOUNT",
  labels: "LABELS",
  meshId: "MESH_ID",
} as const;

/** Label on a workload whose endpoint speaks mutual TLS, and its value (Istio's). */
export const tlsModeLabel = "security.istio.io/tlsMode";
export const tlsModeMutual = "istio";

/** In the annotation `weft.dev/uses`: and whatever else is called, given when it is first called. */
export const usesOthers = "*";

/** Annotations of a WorkloadEntry that say how its sidecar is laid out on the host. Written by `weft run`. */
export const annotations = {
  /** `http=9080`: comma-separated PORTNAME=APPLICATIONPORT; the sidecar forwards an inbound port to 127.0.0.1:APPLICATIONPORT. */
  inbound: "weft.dev/inbound",
  /** Port on 127.0.0.1 of the forward proxy (HTTP_PROXY). */
  httpProxyPort: "weft.dev/http-proxy-port",
  /** `cart=9001,stock.shop:5432=9002,dns=5300/udp`: comma-separated SERVICE[.NAMESPACE][:PORT]=LOCALPORT[/udp]. */
  upstreams: "weft.dev/upstreams",
  /** Name of the Gateway (of the entry's own namespace) whose ports the process opens, instead of those of an instance. Written by `weft gateway`. */
  gateway: "weft.dev/gateway",
  /** `cart,stock.shop,db.bank:5432`: comma-separated SERVICE[.NAMESPACE][:PORT], or `usesOthers`, that the forward proxy leads to; absent = all of the mesh. */
  uses: "weft.dev/uses",
  /** `reported`: somebody reports this entry's health, so that it is no endpoint before the first report. */
  health: "weft.dev/health",
} as const;

/**
 * Cluster metadata `filter_metadata["weft.dev"].http_between_sidecars = "auto"`: requests to endpoints with mutual TLS may ride HTTP/2 where ALPN agrees.
 * Envoy has no such option beside endpoints in plain text, and passes over it.
 */
export const sidecarMetadata = { filter: "weft.dev", protocol: "http_between_sidecars" } as const;

/**
 * More of `filter_metadata["weft.dev"]` of a cluster: what Envoy has no field for, and passes over, taking `lb_policy` and the like instead.
 * `policy`: peak_ewma (`decayMs`) or least_connections (`choices`); `heedsRateLimits`: true; `endpointRequests`: most requests at one endpoint;
 * `latencyFactor`: endpoints slower than the median by this factor are outliers. `nearFirst`: the nearer a locality is to the proxy's own, the higher its
 * priority; an object says which region comes after the proxy's own. `localityShares`: shares of localities by the proxy's own, both `region/zone/sub-zone`
 * with `*` for any rest. `connectionMs`: how long a connection of opaque bytes may last, whichever listener or tunnel it comes by.
 */
export const balanceMetadata = {
  policy: "balance",
  decayMs: "balance_decay_ms",
  choices: "balance_choices",
  heedsRateLimits: "heeds_rate_limits",
  endpointRequests: "endpoint_max_requests",
  endpointRetries: "endpoint_max_retries",
  latencyFactor: "latency_outlier_factor",
  nearFirst: "near_first",
  localityShares: "locality_shares",
  connectionMs: "max_connection_ms",
} as const;

/** Route metadata `filter_metadata["weft.dev"]`: what Envoy has no word for that means the same, and passes over. A read goes to another instance too after so long. */
export const routeMetadata = { filter: "weft.dev", hedgeAfterMs: "hedge_after_ms", limits: "rate_limits" } as const;

/** What our RateLimitPolicies are to Envoy's RateLimit API: the domain, and the entry that each descriptor begins with: `NAMESPACE/POLICY/RULE`. */
export const globalLimitDomain = "weft";
export const globalRuleKey = "weft.dev/rule";

/** Headers of local replies: why, in words, and whether the request certainly never reached an application. */
export const reasonHeader = "x-weft-reason";
export const notDeliveredHeader = "x-weft-not-delivered";

/** Node id on the xDS stream: `sidecar~NAMESPACE~WORKLOADENTRY`. */
export function nodeId(namespace: string, workload: string): string {
  return `sidecar~${namespace}~${workload}`;
}

export function parseNodeId(id: string): { namespace: string; workload: string } | undefined {
  const [kind, namespace, workload, extra] = id.split("~");
  if (kind !== "sidecar" || !namespace || !workload || extra !== undefined) return undefined;
  return { namespace, workload };
}
