// Owns: access log configuration of listeners: what always goes to the control plane, and what Telemetry asks for on standard output.

import { create } from "@bufbuild/protobuf";
import { type AccessLog, AccessLogSchema, ComparisonFilter_Op } from "../../wire/gen/envoy/config/accesslog/v3/accesslog_pb.ts";
import { ApiVersion } from "../../wire/gen/envoy/config/core/v3/config_source_pb.ts";
import { FileAccessLogSchema } from "../../wire/gen/envoy/extensions/access_loggers/file/v3/file_pb.ts";
import {
  HttpGrpcAccessLogConfigSchema,
  TcpGrpcAccessLogConfigSchema,
} from "../../wire/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts";
import { controlPlaneCluster } from "../../wire/names.ts";
import { any } from "./common.ts";

/** Istio's default JSON fields as far as our proxy knows them, so that existing log pipelines read ours; then who called and how often it was tried. */
export const jsonFormat = {
  authority: "%REQ(:AUTHORITY)%",
  bytes_received: "%BYTES_RECEIVED%",
  bytes_sent: "%BYTES_SENT%",
  downstream_local_address: "%DOWNSTREAM_LOCAL_ADDRESS%",
  downstream_peer: "%DOWNSTREAM_PEER_URI_SAN%",
  downstream_remote_address: "%DOWNSTREAM_REMOTE_ADDRESS%",
  duration: "%DURATION%",
  method: "%REQ(:METHOD)%",
  path: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
  protocol: "%PROTOCOL%",
  request_id: "%REQ(X-REQUEST-ID)%",
  response_code: "%RESPONSE_CODE%",
  response_code_details: "%RESPONSE_CODE_DETAILS%",
  response_flags: "%RESPONSE_FLAGS%",
  route_name: "%ROUTE_NAME%",
  start_time: "%START_TIME%",
  upstream_attempts: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
  upstream_cluster: "%UPSTREAM_CLUSTER%",
  upstream_host: "%UPSTREAM_HOST%",
  user_agent: "%REQ(USER-AGENT)%",
} as const;

const common = {
  logName: "weft",
  grpcService: { targetSpecifier: { case: "envoyGrpc" as const, value: { clusterName: controlPlaneCluster } } },
  transportApiVersion: ApiVersion.V3,
};

/** What failed, for the analysis: server errors and everything with a response flag. */
const httpFailures = create(AccessLogSchema, {
  name: "envoy.access_loggers.http_grpc",
  filter: {
    filterSpecifier: {
      case: "orFilter",
      value: {
        filters: [
          {
            filterSpecifier: {
              case: "statusCodeFilter",
              value: { comparison: { op: ComparisonFilter_Op.GE, value: { defaultValue: 500, runtimeKey: "weft.access_log.min_status" } } },
            },
          },
          { filterSpecifier: { case: "responseFlagFilter", value: {} } },
        ],
      },
    },
  },
  configType: { case: "typedConfig", value: any(HttpGrpcAccessLogConfigSchema, { commonConfig: common }) },
});

const tcpFailures = create(AccessLogSchema, {
  name: "envoy.access_loggers.tcp_grpc",
  filter: { filterSpecifier: { case: "responseFlagFilter", value: {} } },
  configType: { case: "typedConfig", value: any(TcpGrpcAccessLogConfigSchema, { commonConfig: common }) },
});

const toStdout = create(AccessLogSchema, {
  name: "envoy.access_loggers.file",
  configType: {
    case: "typedConfig",
    value: any(FileAccessLogSchema, {
      path: "/dev/stdout",
      accessLogFormat: { case: "logFormat", value: { format: { case: "jsonFormat", value: { ...jsonFormat } } } },
    }),
  },
});

export function httpAccessLogs(stdout: boolean): AccessLog[] {
  return stdout ? [httpFailures, toStdout] : [httpFailures];
}

export function tcpAccessLogs(stdout: boolean): AccessLog[] {
  return stdout ? [tcpFailures, toStdout] : [tcpFailures];
}
