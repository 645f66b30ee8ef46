// Owns: the gRPC services as grpc-js wants them described, and reading requests of both xDS variants into one shape. Pure: bytes in, records out.

import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import type { ServiceDefinition } from "@grpc/grpc-js";
import type { Node } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import { StreamAccessLogsMessageSchema } from "../../wire/gen/envoy/service/accesslog/v3/als_pb.ts";
import { DeltaDiscoveryRequestSchema, DiscoveryRequestSchema } from "../../wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { LoadStatsRequestSchema } from "../../wire/gen/envoy/service/load_stats/v3/lrs_pb.ts";
import { StreamMetricsMessageSchema } from "../../wire/gen/envoy/service/metrics/v3/metrics_service_pb.ts";
import {
  RateLimitRequestSchema,
  type RateLimitResponse,
  RateLimitResponseSchema,
} from "../../wire/gen/envoy/service/ratelimit/v3/rls_pb.ts";
import { ClientStatusRequestSchema } from "../../wire/gen/envoy/service/status/v3/csds_pb.ts";
import {
  IstioCertificateRequestSchema,
  type IstioCertificateResponse,
  IstioCertificateResponseSchema,
} from "../../wire/gen/security/v1/istioca_pb.ts";
import type { StreamRequest } from "./session.ts";

const asIs = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const unused = (): never => {
  throw new Error("a server neither writes requests nor reads responses");
};

/** Of what a client calls itself. */
const mostAgent = 200;
/** Of the reason of a rejection: names are looked for in it, one by one, and it is kept. */
export const mostReason = 16_384;

function reasonOf(detail: { readonly message: string; readonly code: number } | undefined): string | undefined {
  return detail === undefined ? undefined : (detail.message || `code ${detail.code}`).slice(0, mostReason);
}

function agentOf(node: Node | undefined): string {
  const said = node?.userAgentVersionType.case === "userAgentVersion" ? node.userAgentVersionType.value : buildVersion(node);
  const version = said === "" ? "" : `/${said}`;
  return `${node?.userAgentName === undefined || node.userAgentName === "" ? "unknown" : node.userAgentName}${version}`.slice(0, mostAgent);
}

/** Envoy says its version as Node.user_agent_build_version (8), whose field 1 is a SemanticVersion; our subset does not declare it. */
function buildVersion(node: Node | undefined): string {
  const field = node?.$unknown?.find((f) => f.no === 8 && f.wireType === WireType.LengthDelimited);
  if (field === undefined) return "";
  try {
    const outer = new BinaryReader(field.data);
    const build = new BinaryReader(outer.bytes());
    const [number] = build.tag();
    if (number !== 1) return "";
    const numbers = [0, 0, 0];
    const version = new BinaryReader(build.bytes());
    while (version.pos < version.len) {
      const [at, wireType] = version.tag();
      if (at >= 1 && at <= 3 && wireType === WireType.Varint) numbers[at - 1] = version.uint32();
      else version.skip(wireType, at);
    }
    return numbers.join(".");
  } catch {
    return "";
  }
}

function readState(bytes: Buffer): StreamRequest {
  const m = fromBinary(DiscoveryRequestSchema, bytes);
  return {
    nodeId: m.node?.id ?? "",
    agent: agentOf(m.node),
    typeUrl: m.typeUrl,
    nonce: m.responseNonce,
    error: reasonOf(m.errorDetail),
    names: m.resourceNames,
    versionInfo: m.versionInfo,
    subscribe: [],
    unsubscribe: [],
    initialVersions: {},
  };
}

function readDelta(bytes: Buffer): StreamRequest {
  const m = fromBinary(DeltaDiscoveryRequestSchema, bytes);
  return {
    nodeId: m.node?.id ?? "",
    agent: agentOf(m.node),
    typeUrl: m.typeUrl,
    nonce: m.responseNonce,
    error: reasonOf(m.errorDetail),
    names: [],
    versionInfo: "",
    subscribe: m.resourceNamesSubscribe,
    unsubscribe: m.resourceNamesUnsubscribe,
    initialVersions: m.initialResourceVersions,
  };
}

const stream = (path: string, read: (bytes: Buffer) => StreamRequest) => ({
  path,
  requestStream: true,
  responseStream: true,
  requestSerialize: unused,
  requestDeserialize: read,
  responseSerialize: asIs,
  responseDeserialize: unused,
});

const upload = <M>(path: string, read: (bytes: Buffer) => M) => ({
  path,
  requestStream: true,
  responseStream: false,
  requestSerialize: unused,
  requestDeserialize: read,
  // Both answers are empty messages.
  responseSerialize: () => Buffer.alloc(0),
  responseDeserialize: unused,
});

export const discoveryService: ServiceDefinition = {
  streamAggregatedResources: stream("/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources", readState),
  deltaAggregatedResources: stream("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", readDelta),
};

export const certificateService: ServiceDefinition = {
  createCertificate: {
    path: "/istio.v1.auth.IstioCertificateService/CreateCertificate",
    requestStream: false,
    responseStream: false,
    requestSerialize: unused,
    requestDeserialize: (bytes: Buffer) => fromBinary(IstioCertificateRequestSchema, bytes),
    responseSerialize: (m: IstioCertificateResponse) => asIs(toBinary(IstioCertificateResponseSchema, m)),
    responseDeserialize: unused,
  },
};

export const metricsService: ServiceDefinition = {
  streamMetrics: upload("/envoy.service.metrics.v3.MetricsService/StreamMetrics", (bytes) => fromBinary(StreamMetricsMessageSchema, bytes)),
};

export const accessLogService: ServiceDefinition = {
  streamAccessLogs: upload("/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs", (bytes) =>
    fromBinary(StreamAccessLogsMessageSchema, bytes),
  ),
};

export const loadService: ServiceDefinition = {
  streamLoadStats: {
    ...upload("/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats", (bytes) => fromBinary(LoadStatsRequestSchema, bytes)),
    responseStream: true,
    responseSerialize: asIs,
  },
};

export const rateLimitService: ServiceDefinition = {
  shouldRateLimit: {
    path: "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
    requestStream: false,
    responseStream: false,
    requestSerialize: unused,
    requestDeserialize: (bytes: Buffer) => fromBinary(RateLimitRequestSchema, bytes),
    responseSerialize: (m: RateLimitResponse) => asIs(toBinary(RateLimitResponseSchema, m)),
    responseDeserialize: unused,
  },
};

const statusCall = (name: string, streams: boolean) => ({
  path: `/envoy.service.status.v3.ClientStatusDiscoveryService/${name}`,
  requestStream: streams,
  responseStream: streams,
  requestSerialize: unused,
  requestDeserialize: (bytes: Buffer) => fromBinary(ClientStatusRequestSchema, bytes),
  responseSerialize: asIs,
  responseDeserialize: unused,
});

export const clientStatusService: ServiceDefinition = {
  streamClientStatus: statusCall("StreamClientStatus", true),
  fetchClientStatus: statusCall("FetchClientStatus", false),
};
