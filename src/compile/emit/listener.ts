// Owns: Listener resources: the forward proxy, the fixed local ports, and the ports that peers dial.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { speaksHttp } from "../../api/kinds/service.ts";
import { TrafficDirection } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import type { FilterSchema } from "../../wire/gen/envoy/config/listener/v3/listener_components_pb.ts";
import { type Listener, ListenerSchema } from "../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { RBACSchema as HttpRbacSchema } from "../../wire/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts";
import { RouterSchema } from "../../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
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
import type { InboundPlan, UpstreamPlan } from "../plan/plan.ts";
import { httpAccessLogs, tcpAccessLogs } from "./accesslog.ts";
import { http2Alpn, httpAlpn } from "./cluster.ts";
import { address, any, duration, overAds, secret, stringMatcher } from "./common.ts";
import { rbacRules } from "./rbac.ts";
import { upgrades } from "./route.ts";

type FilterInit = MessageInitShape<typeof FilterSchema>;

/** How long a PERMISSIVE port waits for a client's first byte. */
const detectionMs = 3_000;

/** Applications reach these on their own host only. */
const loopback = "127.0.0.1";

const router = { name: "envoy.filters.http.router", configType: { case: "typedConfig" as const, value: any(RouterSchema, {}) } };

/** What HTTP_PROXY points to: absolute-form requests and CONNECT. */
export function httpProxy(port: number, logToStdout: boolean): Listener {
  return create(ListenerSchema, {
    name: httpProxyListener,
    address: address(loopback, port),
    trafficDirection: TrafficDirection.OUTBOUND,
    filterChains: [{ filters: [managerOver(httpProxyListener, httpProxyRoutes, ["CONNECT", ...upgrades], logToStdout)] }],
  });
}

/** One local port that leads to one service. */
export function upstream(plan: UpstreamPlan, logToStdout: boolean): Listener {
  const { service, port, cluster } = plan.target;
  if (port.protocol === "udp")
    return create(ListenerSchema, {
      name: plan.name,
      address: address(loopback, plan.localPort, "udp"),
      trafficDirection: TrafficDirection.OUTBOUND,
      listenerFilters: [{ name: "envoy.filters.udp_listener.udp_proxy", configType: udpProxy(plan.name, cluster, logToStdout) }],
    });
  const filter = speaksHttp(port.protocol)
    ? managerOver(plan.name, upstreamListener(service.host, port.port), upgrades, logToStdout)
    : tcpProxy(plan.name, cluster, logToStdout);
  return create(ListenerSchema, {
    name: plan.name,
    address: address(loopback, plan.localPort),
    trafficDirection: TrafficDirection.OUTBOUND,
    filterChains: [{ filters: [filter] }],
  });
}

/** What peers dial: mutual TLS, authorization, then the application. */
export function inbound(plan: InboundPlan, trustDomain: string, logToStdout: boolean): Listener {
  const name = inboundListener(plan.name);
  const rules = rbacRules(plan.authz);
  const filters = speaksHttp(plan.protocol)
    ? [
        inboundManager(
          name,
          plan,
          rules.map((each) => ({
            name: "envoy.filters.http.rbac",
            configType: { case: "typedConfig" as const, value: any(HttpRbacSchema, { rules: each }) },
          })),
          logToStdout,
        ),
      ]
    : [
        ...rules.map((each) => typed("envoy.filters.network.rbac", any(NetworkRbacSchema, { statPrefix: "tcp.", rules: each }))),
        tcpProxy(name, inboundCluster(plan.appPort), logToStdout),
      ];
  return create(ListenerSchema, {
    name,
    address: address(plan.address, plan.port),
    trafficDirection: TrafficDirection.INBOUND,
    ...inboundChains(name, plan, filters, trustDomain),
  });
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

function managerOver(name: string, routeConfigName: string, upgradeTypes: readonly string[], logToStdout: boolean): FilterInit {
  return typed(
    "envoy.filters.network.http_connection_manager",
    any(HttpConnectionManagerSchema, {
      statPrefix: name,
      routeSpecifier: { case: "rds", value: { configSource: overAds, routeConfigName } },
      httpFilters: [router],
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
      httpFilters: [...rbac, router],
      upgradeConfigs: upgrades.map((upgradeType) => ({ upgradeType })),
      accessLog: httpAccessLogs(logToStdout),
    }),
  );
}

function tcpProxy(name: string, cluster: string, logToStdout: boolean): FilterInit {
  return typed(
    "envoy.filters.network.tcp_proxy",
    any(TcpProxySchema, { statPrefix: name, clusterSpecifier: { case: "cluster", value: cluster }, accessLog: tcpAccessLogs(logToStdout) }),
  );
}

function udpProxy(name: string, cluster: string, logToStdout: boolean) {
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
