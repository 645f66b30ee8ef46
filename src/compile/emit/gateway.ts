// Owns: Listener resources of a gateway's process: its ports, and chains told apart by the name in the TLS handshake; and the virtual hosts of its tables.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { Subnet } from "../../api/kinds/subnet.ts";
import { TrafficDirection } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import { type Listener, ListenerSchema } from "../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { GrpcWebSchema } from "../../wire/gen/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.ts";
import { TlsInspectorSchema } from "../../wire/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.ts";
import { TlsParameters_TlsProtocol } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts";
import { DownstreamTlsContextSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { gatewayListener } from "../../wire/names.ts";
import type { CertificatePlan, GatewayChainPlan, GatewayPortPlan } from "../plan/gateways.ts";
import type { LimitsPlan } from "../plan/limits.ts";
import type { AuthzPlan } from "../plan/plan.ts";
import { http2Alpn, httpAlpn } from "./cluster.ts";
import { address, any } from "./common.ts";
import { connectionRules, type FilterInit, managerOver, requestRules, tcpProxyTo, udpProxy } from "./listener.ts";
import { upgrades } from "./route.ts";

/** What one port needs to be emitted. */
export interface GatewayPortInput {
  readonly plan: GatewayPortPlan;
  readonly address: string;
  readonly authz: AuthzPlan;
  readonly limits?: LimitsPlan;
  /** Some route of the mesh asks an authorization service. */
  readonly auth?: true;
  /** So many proxies before it are believed; absent = none. */
  readonly trustedProxies?: number;
  readonly logToStdout: boolean;
}

export function gatewayPort({ plan, address: host, authz, limits, auth, trustedProxies, logToStdout }: GatewayPortInput): Listener {
  const name = gatewayListener(plan.port, plan.kind === "udp" ? "udp" : "tcp");
  const base = { name, trafficDirection: TrafficDirection.INBOUND };
  switch (plan.kind) {
    case "udp":
      return create(ListenerSchema, {
        ...base,
        address: address(host, plan.port, "udp"),
        listenerFilters: [{ name: "envoy.filters.udp_listener.udp_proxy", configType: udpProxy(name, plan.cluster, logToStdout) }],
      });
    case "tcp":
      return create(ListenerSchema, {
        ...base,
        address: address(host, plan.port),
        filterChains: [
          ...(plan.subnets ?? []).map(({ name: route, source, destination, backends }) => ({
            name: route,
            filterChainMatch: {
              ...(destination === undefined ? {} : { prefixRanges: [range(destination)] }),
              ...(source === undefined ? {} : { sourcePrefixRanges: [range(source)] }),
            },
            filters: [...connectionRules(authz), tcpProxyTo(`${name}|${route}`, backends, logToStdout)],
          })),
          ...(plan.backends.length === 0
            ? []
            : [{ name, filters: [...connectionRules(authz), tcpProxyTo(name, plan.backends, logToStdout)] }]),
        ],
      });
    case "http":
      return create(ListenerSchema, {
        ...base,
        address: address(host, plan.port),
        filterChains: [{ name, filters: [manager(name, plan)] }],
      });
    case "tls":
      return create(ListenerSchema, {
        ...base,
        address: address(host, plan.port),
        listenerFilters: [
          { name: "envoy.filters.listener.tls_inspector", configType: { case: "typedConfig", value: any(TlsInspectorSchema, {}) } },
        ],
        filterChains: plan.chains.map((chain) => chainInit(chain, filtersOf(chain))),
      });
  }

  function manager(id: string, { table, grpcWeb }: { readonly table: string; readonly grpcWeb?: true }): FilterInit {
    const rules = requestRules(authz);
    const filters = grpcWeb === true ? [grpcWebFilter, ...rules] : rules;
    return managerOver(id, table, upgrades, logToStdout, filters, limits, auth, rules.length > 0, { trustedProxies: trustedProxies ?? 0 });
  }

  function filtersOf({ name: chain, to }: GatewayChainPlan): FilterInit[] {
    if (to.kind === "http") return [manager(`${name}|${chain}`, to)];
    return [...connectionRules(authz), tcpProxyTo(`${name}|${chain}`, to.backends, logToStdout)];
  }
}

function range({ prefix, length }: Subnet) {
  return { addressPrefix: prefix, prefixLen: length };
}

/** First, so that whatever refuses a call refuses it in the browser's form. */
const grpcWebFilter = {
  name: "envoy.filters.http.grpc_web",
  configType: { case: "typedConfig" as const, value: any(GrpcWebSchema, {}) },
};

function chainInit(
  { name, serverNames, certificate, to }: GatewayChainPlan,
  filters: FilterInit[],
): NonNullable<MessageInitShape<typeof ListenerSchema>["filterChains"]>[number] {
  return {
    name,
    filters,
    filterChainMatch: { transportProtocol: "tls", serverNames: [...serverNames] },
    ...(certificate === undefined
      ? {}
      : {
          transportSocket: {
            name: "envoy.transport_sockets.tls",
            configType: { case: "typedConfig" as const, value: serverTls(certificate, to.kind === "http") },
          },
        }),
  };
}

/** For the world outside: TLS 1.2 too, and no client certificate. */
function serverTls(certificate: CertificatePlan, http: boolean): Any {
  const source = (text: string) =>
    certificate.kind === "files"
      ? { specifier: { case: "filename" as const, value: text } }
      : { specifier: { case: "inlineString" as const, value: text } };
  return any(DownstreamTlsContextSchema, {
    commonTlsContext: {
      tlsParams: { tlsMinimumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_2 },
      tlsCertificates: [{ certificateChain: source(certificate.chain), privateKey: source(certificate.privateKey) }],
      alpnProtocols: http ? [http2Alpn, httpAlpn] : [],
    },
  });
}
