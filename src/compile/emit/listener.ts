// Owns: Listener resources: the forward proxy, the fixed local ports, and the ports that peers dial.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { speaksHttp } from "../../api/kinds/service.ts";
import { TrafficDirection } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import { ApiVersion } from "../../wire/gen/envoy/config/core/v3/config_source_pb.ts";
import type { FilterSchema } from "../../wire/gen/envoy/config/listener/v3/listener_components_pb.ts";
import { type Listener, ListenerSchema } from "../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { CorsSchema } from "../../wire/gen/envoy/extensions/filters/http/cors/v3/cors_pb.ts";
import { FilterConfigSchema as DynamicForwardProxySchema } from "../../wire/gen/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.ts";
import { ExtAuthzSchema } from "../../wire/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.ts";
import { HTTPFaultSchema } from "../../wire/gen/envoy/extensions/filters/http/fault/v3/fault_pb.ts";
import { OnDemandSchema } from "../../wire/gen/envoy/extensions/filters/http/on_demand/v3/on_demand_pb.ts";
import { RBACSchema as HttpRbacSchema } from "../../wire/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts";
import { RouterSchema } from "../../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { StatefulSessionSchema } from "../../wire/gen/envoy/extensions/filters/http/stateful_session/v3/stateful_session_pb.ts";
import { TlsInspectorSchema } from "../../wire/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.ts";
import { HttpConnectionManagerSchema } from "../../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { RBACSchema as NetworkRbacSchema } from "../../wire/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.ts";
import { TcpProxySchema } from "../../wire/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts";
import { UdpProxyConfigSchema } from "../../wire/gen/envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy_pb.ts";
import {
  SubjectAltNameMatcher_SanType,
  TlsParameters_TlsProtocol,
} from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts";
import { DownstreamTlsContextSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import {
  httpProxyListener,
  httpProxyRoutes,
  inboundCluster,
  inboundListener,
  meshRootsSecret,
  upstreamListener,
  workloadCertificateSecret,
} from "../../wire/names.ts";
import type { LimitsPlan } from "../plan/limits.ts";
import { type AuthzPlan, type InboundPlan, opaqueBackend, type UpstreamPlan } from "../plan/plan.ts";
import type { BackendPlan } from "../plan/routes.ts";
import { httpAccessLogs, tcpAccessLogs } from "./accesslog.ts";
import { http2Alpn, httpAlpn, namesCache } from "./cluster.ts";
import { address, any, duration, overAds, secret, stringMatcher } from "./common.ts";
import { limitFilters, limitsReadPaths } from "./limits.ts";
import { rbacRules } from "./rbac.ts";
import { upgrades } from "./route.ts";
import { authName, corsName, faultName, sessionName } from "./route-filters.ts";
import { tokenFilterOf } from "./tokens.ts";

export type FilterInit = MessageInitShape<typeof FilterSchema>;

/** How long a PERMISSIVE port waits for a client's first byte. */
const detectionMs = 3_000;

/** Applications reach these on their own host only. */
const loopback = "127.0.0.1";

/** Filters that only do what a route tells them to; in the order in which Envoy's users have them. */
const beforeAuth = [
  { name: corsName, configType: { case: "typedConfig" as const, value: any(CorsSchema, {}) } },
  { name: faultName, configType: { case: "typedConfig" as const, value: any(HTTPFaultSchema, {}) } },
];
const afterAuth = [{ name: sessionName, configType: { case: "typedConfig" as const, value: any(StatefulSessionSchema, {}) } }];

/** Asks nobody but for routes that name whom; the one it names itself does not exist, so that it would refuse whatever came to it. */
const authFilter = {
  name: authName,
  disabled: true,
  configType: {
    case: "typedConfig" as const,
    value: any(ExtAuthzSchema, {
      transportApiVersion: ApiVersion.V3,
      services: {
        case: "httpService",
        value: {
          serverUri: {
            uri: "http://nobody.invalid",
            httpUpstreamType: { case: "cluster", value: "nobody" },
            timeout: { $typeName: "google.protobuf.Duration", seconds: 1n, nanos: 0 },
          },
        },
      },
    }),
  },
};

/** Holds a request whose host the table lacks, and asks for it. */
const askForHosts = { name: "envoy.filters.http.on_demand", configType: { case: "typedConfig" as const, value: any(OnDemandSchema, {}) } };

const router = { name: "envoy.filters.http.router", configType: { case: "typedConfig" as const, value: any(RouterSchema, {}) } };

/** Looks up the names of clusters that lead wherever a request says; of use to Envoy alone, our proxy does it in the cluster. */
const askForNames = {
  name: "envoy.filters.http.dynamic_forward_proxy",
  configType: {
    case: "typedConfig" as const,
    value: any(DynamicForwardProxySchema, { implementationSpecifier: { case: "dnsCacheConfig", value: namesCache } }),
  },
};

/** What HTTP_PROXY points to: absolute-form requests and CONNECT. */
export function httpProxy(port: number, logToStdout: boolean, onDemand: boolean, names: boolean, auth = false): Listener {
  const before = [...(onDemand ? [askForHosts] : []), ...(names ? [askForNames] : [])];
  return create(ListenerSchema, {
    name: httpProxyListener,
    address: address(loopback, port),
    trafficDirection: TrafficDirection.OUTBOUND,
    filterChains: [
      { filters: [managerOver(httpProxyListener, httpProxyRoutes, ["CONNECT", ...upgrades], logToStdout, before, undefined, auth)] },
    ],
  });
}

/** One local port that leads to one service. */
export function upstream(plan: UpstreamPlan, logToStdout: boolean, auth = false): Listener {
  const { service, port, cluster } = plan.target;
  const base = { name: plan.name, trafficDirection: TrafficDirection.OUTBOUND };
  const whole: BackendPlan[] = [{ cluster, weight: 1, missing: false, ...opaqueBackend(plan.target) }];
  if (port.protocol === "udp") {
    // Without anybody the datagrams are dropped, as if the cluster had no endpoints.
    const to = plan.connections === undefined ? cluster : (plan.connections.backends[0]?.cluster ?? cluster);
    return create(ListenerSchema, {
      ...base,
      address: address(loopback, plan.localPort, "udp"),
      listenerFilters: [{ name: "envoy.filters.udp_listener.udp_proxy", configType: udpProxy(plan.name, to, logToStdout) }],
    });
  }
  if (speaksHttp(port.protocol))
    return create(ListenerSchema, {
      ...base,
      address: address(loopback, plan.localPort),
      filterChains: [
        { filters: [managerOver(plan.name, upstreamListener(service.host, port.port), upgrades, logToStdout, [], undefined, auth)] },
      ],
    });
  const byName = plan.connections?.byName;
  if (byName === undefined)
    return create(ListenerSchema, {
      ...base,
      address: address(loopback, plan.localPort),
      filterChains: [{ filters: [tcpProxyTo(plan.name, plan.connections?.backends ?? whole, logToStdout)] }],
    });
  // A connection whose name fits no route finds no chain, and is closed.
  return create(ListenerSchema, {
    ...base,
    address: address(loopback, plan.localPort),
    listenerFilters: [
      { name: "envoy.filters.listener.tls_inspector", configType: { case: "typedConfig", value: any(TlsInspectorSchema, {}) } },
    ],
    filterChains: byName.map(({ route, hosts, backends }) => ({
      name: route,
      filterChainMatch: { transportProtocol: "tls", serverNames: hosts.includes("*") ? [] : [...hosts] },
      filters: [tcpProxyTo(`${plan.name}|${route}`, backends, logToStdout)],
    })),
  });
}

/** What peers dial: mutual TLS, authorization, then the application. */
export function inbound(plan: InboundPlan, trustDomain: string, logToStdout: boolean): Listener {
  const name = inboundListener(plan.name);
  const filters = speaksHttp(plan.protocol)
    ? [inboundManager(name, plan, requestRules(plan.authz), logToStdout)]
    : [...connectionRules(plan.authz), tcpProxy(name, inboundCluster(plan.appPort), logToStdout)];
  return create(ListenerSchema, {
    name,
    address: address(plan.address, plan.port),
    trafficDirection: TrafficDirection.INBOUND,
    ...inboundChains(name, plan, filters, trustDomain),
  });
}

export function requestRules(authz: AuthzPlan): HttpFilterInit[] {
  const judged = rbacRules(authz).map((rules) => ({
    name: "envoy.filters.http.rbac",
    configType: { case: "typedConfig" as const, value: any(HttpRbacSchema, { rules }) },
  }));
  return authz.tokens === undefined ? judged : [tokenFilterOf(authz.tokens), ...judged];
}

export function connectionRules(authz: AuthzPlan): FilterInit[] {
  return rbacRules(authz).map((rules) => typed("envoy.filters.network.rbac", any(NetworkRbacSchema, { statPrefix: "tcp.", rules })));
}

/** Mutual TLS, plain text, or either by the first bytes: the filters are the same, but a caller in plain text has no identity. */
function inboundChains(
  name: string,
  plan: InboundPlan,
  filters: FilterInit[],
  trustDomain: string,
): MessageInitShape<typeof ListenerSchema> {
  const secure = {
    name,
    filters,
    transportSocket: {
      name: "envoy.transport_sockets.tls",
      configType: { case: "typedConfig" as const, value: downstreamTls(trustDomain, speaksHttp(plan.protocol)) },
    },
  };
  const plain = { name: `${name}|plain`, filters };
  switch (plan.mutualTls) {
    case "STRICT":
      return { filterChains: [secure] };
    case "DISABLE":
      return { filterChains: [plain] };
    case "PERMISSIVE":
      return {
        listenerFilters: [
          { name: "envoy.filters.listener.tls_inspector", configType: { case: "typedConfig", value: any(TlsInspectorSchema, {}) } },
        ],
        // A client that says nothing speaks a protocol in which servers speak first: plain text then.
        listenerFiltersTimeout: duration(detectionMs),
        continueOnListenerFiltersTimeout: true,
        filterChains: [
          { ...secure, filterChainMatch: { transportProtocol: "tls" } },
          { ...plain, filterChainMatch: { transportProtocol: "raw_buffer" } },
        ],
      };
  }
}

function downstreamTls(trustDomain: string, http: boolean): Any {
  return any(DownstreamTlsContextSchema, {
    requireClientCertificate: true,
    commonTlsContext: {
      tlsParams: {
        tlsMinimumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3,
        tlsMaximumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3,
      },
      tlsCertificateSdsSecretConfigs: [secret(workloadCertificateSecret)],
      validationContextType: {
        case: "combinedValidationContext",
        value: {
          // The roots vouch for the certificate; the name must be a workload's of this trust domain.
          defaultValidationContext: {
            matchTypedSubjectAltNames: [
              { sanType: SubjectAltNameMatcher_SanType.URI, matcher: stringMatcher({ kind: "prefix", value: `spiffe://${trustDomain}/` }) },
            ],
          },
          validationContextSdsSecretConfig: secret(meshRootsSecret),
        },
      },
      alpnProtocols: http ? [http2Alpn, httpAlpn] : [],
    },
  });
}

/** Our proxy judges, routes and forwards the normal form of what policies read anyway; Envoy has to be told, or `/x/../secret` passes a policy on /secret. */
const normalForm = { normalizePath: true, mergeSlashes: true };

export function managerOver(
  name: string,
  routeConfigName: string,
  upgradeTypes: readonly string[],
  logToStdout: boolean,
  rules: readonly HttpFilterInit[] = [],
  limits: LimitsPlan | undefined = undefined,
  /** Some route of the mesh asks an authorization service. */
  auth = false,
  /** `rules` are policies, which may read paths. */
  judged = false,
  /** Clients are not of the mesh: what they say of their address is no more than a claim, but for so many proxies. */
  edge: { readonly trustedProxies: number } | undefined = undefined,
): FilterInit {
  return typed(
    "envoy.filters.network.http_connection_manager",
    any(HttpConnectionManagerSchema, {
      statPrefix: name,
      routeSpecifier: { case: "rds", value: { configSource: overAds, routeConfigName } },
      httpFilters: [...rules, ...beforeAuth, ...(auth ? [authFilter] : []), ...afterAuth, ...limitFilters(limits), router],
      ...(judged || limitsReadPaths(limits) ? normalForm : {}),
      ...(edge === undefined ? {} : { useRemoteAddress: true, xffNumTrustedHops: edge.trustedProxies }),
      upgradeConfigs: upgradeTypes.map((upgradeType) => ({ upgradeType })),
      accessLog: httpAccessLogs(logToStdout),
    }),
  );
}

type HttpFilterInit = { name: string; configType: { case: "typedConfig"; value: Any } };

function inboundManager(name: string, plan: InboundPlan, rbac: readonly HttpFilterInit[], logToStdout: boolean): FilterInit {
  return typed(
    "envoy.filters.network.http_connection_manager",
    any(HttpConnectionManagerSchema, {
      statPrefix: name,
      routeSpecifier: {
        case: "routeConfig",
        value: {
          name,
          virtualHosts: [
            {
              name,
              domains: ["*"],
              routes: [
                {
                  name: "default",
                  match: { pathSpecifier: { case: "prefix", value: "/" } },
                  // The caller's sidecar knows the route's deadline; here the application may take its time.
                  action: {
                    case: "route",
                    value: { clusterSpecifier: { case: "cluster", value: inboundCluster(plan.appPort) }, timeout: duration(0) },
                  },
                },
              ],
            },
          ],
        },
      },
      httpFilters: [...rbac, ...limitFilters(plan.limits), router],
      ...(rbac.length === 0 && !limitsReadPaths(plan.limits) ? {} : normalForm),
      upgradeConfigs: upgrades.map((upgradeType) => ({ upgradeType })),
      accessLog: httpAccessLogs(logToStdout),
    }),
  );
}

/** Connections shared out by weight. A cluster that is not there closes those that fall to it. */
export function tcpProxyTo(name: string, backends: readonly BackendPlan[], logToStdout: boolean): FilterInit {
  const [only] = backends;
  const own = opaqueOptions(backends);
  if (backends.length === 1 && only !== undefined) return tcpProxy(name, only.cluster, logToStdout, own);
  const clusters = backends.map(({ cluster, weight }) => ({ name: cluster, weight }));
  return typed(
    "envoy.filters.network.tcp_proxy",
    any(TcpProxySchema, {
      statPrefix: name,
      clusterSpecifier: { case: "weightedClusters", value: { clusters } },
      ...own,
      accessLog: tcpAccessLogs(logToStdout),
    }),
  );
}

/** A listener has one word for all that it leads to: any key that one of them asks for, and the shortest of the times. */
function opaqueOptions(backends: readonly BackendPlan[]) {
  const times = backends.flatMap(({ connectionMs }) => connectionMs ?? []);
  return {
    ...(backends.some(({ hashesSource }) => hashesSource === true) ? hashedBySource : {}),
    ...(times.length === 0 ? {} : { maxDownstreamConnectionDuration: duration(Math.min(...times)) }),
  };
}

const hashedBySource = { hashPolicy: [{ policySpecifier: { case: "sourceIp" as const, value: {} } }] };

function tcpProxy(name: string, cluster: string, logToStdout: boolean, own: ReturnType<typeof opaqueOptions> = {}): FilterInit {
  return typed(
    "envoy.filters.network.tcp_proxy",
    any(TcpProxySchema, {
      statPrefix: name,
      clusterSpecifier: { case: "cluster", value: cluster },
      ...own,
      accessLog: tcpAccessLogs(logToStdout),
    }),
  );
}

export function udpProxy(name: string, cluster: string, logToStdout: boolean) {
  const value = any(UdpProxyConfigSchema, {
    statPrefix: name,
    routeSpecifier: { case: "cluster", value: cluster },
    accessLog: tcpAccessLogs(logToStdout),
  });
  return { case: "typedConfig" as const, value };
}

function typed(name: string, value: Any): FilterInit {
  return { name, configType: { case: "typedConfig", value } };
}
