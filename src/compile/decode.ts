// Owns: reading our own resources back, as JSON. For tests, goldens and whoever wants to show a snapshot; the compiler itself never decodes.

import { createRegistry, type DescMessage, fromBinary, type JsonObject, toJson } from "@bufbuild/protobuf";
import { ClusterSchema } from "../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClusterLoadAssignmentSchema } from "../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { ListenerSchema } from "../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { VirtualHostSchema } from "../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import { RouteConfigurationSchema } from "../wire/gen/envoy/config/route/v3/route_pb.ts";
import { FileAccessLogSchema } from "../wire/gen/envoy/extensions/access_loggers/file/v3/file_pb.ts";
import { HttpGrpcAccessLogConfigSchema, TcpGrpcAccessLogConfigSchema } from "../wire/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts";
import { ClusterConfigSchema as DynamicClusterSchema } from "../wire/gen/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.ts";
import { AdaptiveConcurrencySchema } from "../wire/gen/envoy/extensions/filters/http/adaptive_concurrency/v3/adaptive_concurrency_pb.ts";
import { CorsPolicySchema, CorsSchema } from "../wire/gen/envoy/extensions/filters/http/cors/v3/cors_pb.ts";
import { FilterConfigSchema as DynamicForwardProxySchema } from "../wire/gen/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.ts";
import { ExtAuthzPerRouteSchema, ExtAuthzSchema } from "../wire/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.ts";
import { HTTPFaultSchema } from "../wire/gen/envoy/extensions/filters/http/fault/v3/fault_pb.ts";
import { GrpcWebSchema } from "../wire/gen/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.ts";
import { JwtAuthenticationSchema } from "../wire/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.ts";
import { LocalRateLimitSchema } from "../wire/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts";
import { OnDemandSchema } from "../wire/gen/envoy/extensions/filters/http/on_demand/v3/on_demand_pb.ts";
import { RateLimitSchema } from "../wire/gen/envoy/extensions/filters/http/ratelimit/v3/rate_limit_pb.ts";
import { RBACSchema as HttpRbacSchema } from "../wire/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts";
import { RouterSchema } from "../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import {
  StatefulSessionPerRouteSchema,
  StatefulSessionSchema,
} from "../wire/gen/envoy/extensions/filters/http/stateful_session/v3/stateful_session_pb.ts";
import { TlsInspectorSchema } from "../wire/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.ts";
import { HttpConnectionManagerSchema } from "../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { RBACSchema as NetworkRbacSchema } from "../wire/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.ts";
import { TcpProxySchema } from "../wire/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts";
import { UdpProxyConfigSchema } from "../wire/gen/envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy_pb.ts";
import { CookieBasedSessionStateSchema } from "../wire/gen/envoy/extensions/http/stateful_session/cookie/v3/cookie_pb.ts";
import { HeaderBasedSessionStateSchema } from "../wire/gen/envoy/extensions/http/stateful_session/header/v3/header_pb.ts";
import { ClientSideWeightedRoundRobinSchema } from "../wire/gen/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/client_side_weighted_round_robin_pb.ts";
import { DescriptorSchema } from "../wire/gen/envoy/extensions/rate_limit_descriptors/expr/v3/expr_pb.ts";
import { RawBufferSchema } from "../wire/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.ts";
import { DownstreamTlsContextSchema, UpstreamTlsContextSchema } from "../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { HttpProtocolOptionsSchema } from "../wire/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts";
import { AdmissionSchema } from "../wire/gen/weft/extensions/v1/overload_pb.ts";
import { FaultSchema } from "../wire/gen/weft/fault/v1/fault_pb.ts";
import type { StreamType, XdsResource, XdsSnapshot, XdsType } from "../wire/xds-types.ts";

const schemas: Readonly<Record<StreamType, DescMessage>> = {
  cluster: ClusterSchema,
  endpoint: ClusterLoadAssignmentSchema,
  listener: ListenerSchema,
  route: RouteConfigurationSchema,
  host: VirtualHostSchema,
};

/** Everything the compiler ever puts into a google.protobuf.Any. */
const registry = createRegistry(
  AdaptiveConcurrencySchema,
  AdmissionSchema,
  DescriptorSchema,
  DynamicClusterSchema,
  DynamicForwardProxySchema,
  LocalRateLimitSchema,
  RateLimitSchema,
  ClientSideWeightedRoundRobinSchema,
  FileAccessLogSchema,
  HttpGrpcAccessLogConfigSchema,
  HttpProtocolOptionsSchema,
  TlsInspectorSchema,
  TcpGrpcAccessLogConfigSchema,
  CookieBasedSessionStateSchema,
  CorsPolicySchema,
  CorsSchema,
  ExtAuthzPerRouteSchema,
  ExtAuthzSchema,
  HTTPFaultSchema,
  FaultSchema,
  GrpcWebSchema,
  HeaderBasedSessionStateSchema,
  HttpRbacSchema,
  JwtAuthenticationSchema,
  OnDemandSchema,
  StatefulSessionPerRouteSchema,
  StatefulSessionSchema,
  RouterSchema,
  HttpConnectionManagerSchema,
  NetworkRbacSchema,
  TcpProxySchema,
  UdpProxyConfigSchema,
  RawBufferSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
);

/** The resource in protobuf's JSON form, with the field names of the .proto files (the form Envoy's own files have). */
export function resourceToJson(resource: XdsResource): JsonObject {
  return toJson(schemas[resource.type], fromBinary(schemas[resource.type], resource.value), {
    registry,
    useProtoFieldName: true,
  }) as JsonObject;
}

/** All resources of a snapshot by type and name. */
export function snapshotToJson(snapshot: XdsSnapshot): Record<XdsType, Record<string, JsonObject>> {
  const of = (type: XdsType) =>
    Object.fromEntries([...snapshot.resources[type].values()].map((resource) => [resource.name, resourceToJson(resource)]));
  return { listener: of("listener"), route: of("route"), cluster: of("cluster"), endpoint: of("endpoint") };
}
