// Owns: handles of the messages that the proxy decodes or encodes, each with its generated type. No behaviour.

import type * as als from "../../../wire/gen/envoy/config/accesslog/v3/accesslog_pb.ts";
import type * as bootstrap from "../../../wire/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts";
import type * as cluster from "../../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import type * as endpointParts from "../../../wire/gen/envoy/config/endpoint/v3/endpoint_components_pb.ts";
import type * as endpoint from "../../../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import type * as listener from "../../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import type * as metricsConfig from "../../../wire/gen/envoy/config/metrics/v3/metrics_service_pb.ts";
import type * as routeParts from "../../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import type * as route from "../../../wire/gen/envoy/config/route/v3/route_pb.ts";
import type * as fileLog from "../../../wire/gen/envoy/extensions/access_loggers/file/v3/file_pb.ts";
import type * as grpcLog from "../../../wire/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts";
import type * as dynamicCluster from "../../../wire/gen/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.ts";
import type * as adaptive from "../../../wire/gen/envoy/extensions/filters/http/adaptive_concurrency/v3/adaptive_concurrency_pb.ts";
import type * as cors from "../../../wire/gen/envoy/extensions/filters/http/cors/v3/cors_pb.ts";
import type * as dynamicProxy from "../../../wire/gen/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.ts";
import type * as extAuthz from "../../../wire/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.ts";
import type * as fault from "../../../wire/gen/envoy/extensions/filters/http/fault/v3/fault_pb.ts";
import type * as grpcWeb from "../../../wire/gen/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.ts";
import type * as jwtAuthn from "../../../wire/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.ts";
import type * as localLimit from "../../../wire/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts";
import type * as onDemand from "../../../wire/gen/envoy/extensions/filters/http/on_demand/v3/on_demand_pb.ts";
import type * as globalLimit from "../../../wire/gen/envoy/extensions/filters/http/ratelimit/v3/rate_limit_pb.ts";
import type * as httpRbac from "../../../wire/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts";
import type * as router from "../../../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import type * as session from "../../../wire/gen/envoy/extensions/filters/http/stateful_session/v3/stateful_session_pb.ts";
import type * as httpInspector from "../../../wire/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.ts";
import type * as originalDst from "../../../wire/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.ts";
import type * as proxyHeader from "../../../wire/gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.ts";
import type * as inspector from "../../../wire/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.ts";
import type * as hcm from "../../../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import type * as networkRbac from "../../../wire/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.ts";
import type * as tcpProxy from "../../../wire/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts";
import type * as udpRoute from "../../../wire/gen/envoy/extensions/filters/udp/udp_proxy/v3/route_pb.ts";
import type * as udpProxy from "../../../wire/gen/envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy_pb.ts";
import type * as sessionCookie from "../../../wire/gen/envoy/extensions/http/stateful_session/cookie/v3/cookie_pb.ts";
import type * as sessionHeader from "../../../wire/gen/envoy/extensions/http/stateful_session/header/v3/header_pb.ts";
import type * as weighted from "../../../wire/gen/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/client_side_weighted_round_robin_pb.ts";
import type * as expression from "../../../wire/gen/envoy/extensions/rate_limit_descriptors/expr/v3/expr_pb.ts";
import type * as previousHosts from "../../../wire/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.ts";
import type * as proxyProtocol from "../../../wire/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.ts";
import type * as raw from "../../../wire/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.ts";
import type * as secret from "../../../wire/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts";
import type * as tls from "../../../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import type * as http from "../../../wire/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts";
import type * as alsService from "../../../wire/gen/envoy/service/accesslog/v3/als_pb.ts";
import type * as authService from "../../../wire/gen/envoy/service/auth/v3/external_auth_pb.ts";
import type * as discovery from "../../../wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import type * as metricsService from "../../../wire/gen/envoy/service/metrics/v3/metrics_service_pb.ts";
import type * as limitService from "../../../wire/gen/envoy/service/ratelimit/v3/rls_pb.ts";
import type * as ca from "../../../wire/gen/security/v1/istioca_pb.ts";
import type * as workload from "../../../wire/gen/spiffe/workload/workload_pb.ts";
import type * as overload from "../../../wire/gen/weft/extensions/v1/overload_pb.ts";
import type * as ownFault from "../../../wire/gen/weft/fault/v1/fault_pb.ts";
import { messageType } from "./message.ts";

export const Bootstrap = messageType<bootstrap.Bootstrap>("envoy.config.bootstrap.v3.Bootstrap");
export const Listener = messageType<listener.Listener>("envoy.config.listener.v3.Listener");
export const RouteConfiguration = messageType<route.RouteConfiguration>("envoy.config.route.v3.RouteConfiguration");
export const VirtualHost = messageType<routeParts.VirtualHost>("envoy.config.route.v3.VirtualHost");
export const Cluster = messageType<cluster.Cluster>("envoy.config.cluster.v3.Cluster");
export const ClusterLoadAssignment = messageType<endpoint.ClusterLoadAssignment>("envoy.config.endpoint.v3.ClusterLoadAssignment");
export const LbEndpoint = messageType<endpointParts.LbEndpoint>("envoy.config.endpoint.v3.LbEndpoint");
export const AccessLog = messageType<als.AccessLog>("envoy.config.accesslog.v3.AccessLog");

export const HttpConnectionManager = messageType<hcm.HttpConnectionManager>(
  "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
);
export const TcpProxy = messageType<tcpProxy.TcpProxy>("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy");
export const UdpProxy = messageType<udpProxy.UdpProxyConfig>("envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig");
export const UdpRoute = messageType<udpRoute.Route>("envoy.extensions.filters.udp.udp_proxy.v3.Route");
export const UpstreamProxyProtocol = messageType<proxyProtocol.ProxyProtocolUpstreamTransport>(
  "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
);
export const NetworkRbac = messageType<networkRbac.RBAC>("envoy.extensions.filters.network.rbac.v3.RBAC");
export const JwtAuthn = messageType<jwtAuthn.JwtAuthentication>("envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication");
export const HttpRbac = messageType<httpRbac.RBAC>("envoy.extensions.filters.http.rbac.v3.RBAC");
export const GrpcWeb = messageType<grpcWeb.GrpcWeb>("envoy.extensions.filters.http.grpc_web.v3.GrpcWeb");
export const OnDemand = messageType<onDemand.OnDemand>("envoy.extensions.filters.http.on_demand.v3.OnDemand");
export const Cors = messageType<cors.Cors>("envoy.extensions.filters.http.cors.v3.Cors");
export const CorsPolicy = messageType<cors.CorsPolicy>("envoy.extensions.filters.http.cors.v3.CorsPolicy");
export const DynamicCluster = messageType<dynamicCluster.ClusterConfig>("envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig");
export const DynamicForwardProxy = messageType<dynamicProxy.FilterConfig>(
  "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
);
export const HttpFault = messageType<fault.HTTPFault>("envoy.extensions.filters.http.fault.v3.HTTPFault");
export const OwnFault = messageType<ownFault.Fault>("weft.fault.v1.Fault");
export const FilterConfig = messageType<routeParts.FilterConfig>("envoy.config.route.v3.FilterConfig");
export const Router = messageType<router.Router>("envoy.extensions.filters.http.router.v3.Router");
export const TlsInspector = messageType<inspector.TlsInspector>("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector");
export const HttpInspector = messageType<httpInspector.HttpInspector>("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector");
export const OriginalDst = messageType<originalDst.OriginalDst>("envoy.extensions.filters.listener.original_dst.v3.OriginalDst");
export const ProxyProtocol = messageType<proxyHeader.ProxyProtocol>("envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol");
export const RawBuffer = messageType<raw.RawBuffer>("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer");
export const UpstreamTlsContext = messageType<tls.UpstreamTlsContext>("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext");
export const DownstreamTlsContext = messageType<tls.DownstreamTlsContext>("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext");
export const HttpProtocolOptions = messageType<http.HttpProtocolOptions>("envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
export const ClientSideWeightedRoundRobin = messageType<weighted.ClientSideWeightedRoundRobin>(
  "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
);
export const StatefulSession = messageType<session.StatefulSession>("envoy.extensions.filters.http.stateful_session.v3.StatefulSession");
export const StatefulSessionPerRoute = messageType<session.StatefulSessionPerRoute>(
  "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
);
export const CookieBasedSessionState = messageType<sessionCookie.CookieBasedSessionState>(
  "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
);
export const HeaderBasedSessionState = messageType<sessionHeader.HeaderBasedSessionState>(
  "envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState",
);
export const FileAccessLog = messageType<fileLog.FileAccessLog>("envoy.extensions.access_loggers.file.v3.FileAccessLog");
export const HttpGrpcAccessLogConfig = messageType<grpcLog.HttpGrpcAccessLogConfig>(
  "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
);
export const TcpGrpcAccessLogConfig = messageType<grpcLog.TcpGrpcAccessLogConfig>(
  "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
);
export const MetricsServiceConfig = messageType<metricsConfig.MetricsServiceConfig>("envoy.config.metrics.v3.MetricsServiceConfig");

export const DiscoveryRequest = messageType<discovery.DiscoveryRequest>("envoy.service.discovery.v3.DiscoveryRequest");
export const DiscoveryResponse = messageType<discovery.DiscoveryResponse>("envoy.service.discovery.v3.DiscoveryResponse");
export const DeltaDiscoveryRequest = messageType<discovery.DeltaDiscoveryRequest>("envoy.service.discovery.v3.DeltaDiscoveryRequest");
export const DeltaDiscoveryResponse = messageType<discovery.DeltaDiscoveryResponse>("envoy.service.discovery.v3.DeltaDiscoveryResponse");
export const StreamAccessLogsMessage = messageType<alsService.StreamAccessLogsMessage>(
  "envoy.service.accesslog.v3.StreamAccessLogsMessage",
);
export const StreamMetricsMessage = messageType<metricsService.StreamMetricsMessage>("envoy.service.metrics.v3.StreamMetricsMessage");
export const IstioCertificateRequest = messageType<ca.IstioCertificateRequest>("istio.v1.auth.IstioCertificateRequest");
export const Secret = messageType<secret.Secret>("envoy.extensions.transport_sockets.tls.v3.Secret");
export const X509SvidResponse = messageType<workload.X509SVIDResponse>("X509SVIDResponse");
export const X509BundlesResponse = messageType<workload.X509BundlesResponse>("X509BundlesResponse");
export const IstioCertificateResponse = messageType<ca.IstioCertificateResponse>("istio.v1.auth.IstioCertificateResponse");

export const PreviousHostsPredicate = messageType<previousHosts.PreviousHostsPredicate>(
  "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
);
export const LocalRateLimit = messageType<localLimit.LocalRateLimit>("envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit");
export const AdaptiveConcurrency = messageType<adaptive.AdaptiveConcurrency>(
  "envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency",
);
export const Admission = messageType<overload.Admission>("weft.extensions.v1.Admission");
export const PeerIdentity = messageType<overload.PeerIdentity>("weft.extensions.v1.PeerIdentity");
export const ExtAuthz = messageType<extAuthz.ExtAuthz>("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz");
export const ExtAuthzPerRoute = messageType<extAuthz.ExtAuthzPerRoute>("envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute");
export const CheckRequest = messageType<authService.CheckRequest>("envoy.service.auth.v3.CheckRequest");
export const CheckResponse = messageType<authService.CheckResponse>("envoy.service.auth.v3.CheckResponse");
export const GlobalRateLimit = messageType<globalLimit.RateLimit>("envoy.extensions.filters.http.ratelimit.v3.RateLimit");
export const RateLimitPerRoute = messageType<globalLimit.RateLimitPerRoute>("envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute");
export const ExpressionDescriptor = messageType<expression.Descriptor>("envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor");
export const RateLimitRequest = messageType<limitService.RateLimitRequest>("envoy.service.ratelimit.v3.RateLimitRequest");
export const RateLimitResponse = messageType<limitService.RateLimitResponse>("envoy.service.ratelimit.v3.RateLimitResponse");
