// Owns: access loggers and their filters. Formats are checked by the sink that compiles them (telemetry/access-log.ts).

import type { AccessLog, AccessLogFilter as PbFilter } from "../../../wire/gen/envoy/config/accesslog/v3/accesslog_pb.ts";
import type { CommonGrpcAccessLogConfig } from "../../../wire/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts";
import type { AccessLogConfig, AccessLogFilter } from "../../config.ts";
import { checkFormat } from "../../telemetry/access-log-format.ts";
import { FileAccessLog, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig } from "../proto/types.ts";
import { at, choose, decodeExtension, type Extension, extension, type Gate, present } from "./gate.ts";
import { apiVersion, envoyGrpc } from "./sources.ts";

type Sink = AccessLogConfig["sink"];

const accessLoggers: readonly Extension<Sink>[] = [
  extension(FileAccessLog, (gate, log, path): Sink => {
    present(gate, at(path, "path"), log.path);
    const json = log.accessLogFormat.case === undefined ? undefined : log.accessLogFormat.value.format;
    const format: Record<string, string> = {};
    if (json?.case !== "jsonFormat") {
      gate.add(at(path, "log_format.json_format"), "is missing; access logs are JSON here");
      return { kind: "file", path: log.path, format };
    }
    for (const [key, value] of Object.entries(json.value)) {
      const where = at(path, `log_format.json_format["${key}"]`);
      if (typeof value !== "string") {
        gate.add(where, "must be a string; nested values are not supported");
        continue;
      }
      for (const problem of checkFormat(value)) gate.add(where, problem);
      format[key] = value;
    }
    return { kind: "file", path: log.path, format };
  }),
  extension(HttpGrpcAccessLogConfig, (gate, log, path) => grpcSink(gate, log.commonConfig, at(path, "common_config"))),
  extension(TcpGrpcAccessLogConfig, (gate, log, path) => grpcSink(gate, log.commonConfig, at(path, "common_config"))),
];

function grpcSink(gate: Gate, common: CommonGrpcAccessLogConfig | undefined, path: string): Sink {
  if (common === undefined) {
    gate.add(path, "is missing");
    return { kind: "als", logName: "", cluster: "" };
  }
  apiVersion(gate, at(path, "transport_api_version"), common.transportApiVersion);
  const grpc = envoyGrpc(gate, common.grpcService, at(path, "grpc_service"));
  // buffer_flush_interval: entries go out within a second in any case (telemetry/als.ts).
  return { kind: "als", logName: present(gate, at(path, "log_name"), common.logName), cluster: grpc.cluster };
}

export function decodeAccessLog(gate: Gate, log: AccessLog, path: string): AccessLogConfig {
  const sink = decodeExtension(gate, accessLoggers, "access logger", log.name, log.configType, path);
  const filter = log.filter === undefined ? null : logFilter(gate, log.filter, at(path, "filter"));
  return { sink: sink ?? { kind: "file", path: "", format: {} }, filter };
}

/** Envoy's long list, as far as the proxy sets them (telemetry/record.ts). */
const knownFlags = ["UF", "UC", "UH", "UO", "UT", "UR", "UPE", "URX", "NR", "NC", "DC", "DPE", "DT", "SI", "LR", "RL"];

function logFilter(gate: Gate, filter: PbFilter, path: string): AccessLogFilter {
  const one = filter.filterSpecifier;
  switch (one.case) {
    case "statusCodeFilter": {
      const where = at(path, "status_code_filter.comparison");
      const comparison = one.value.comparison;
      const op = choose<"eq" | "ge" | "le">(
        gate,
        at(where, "op"),
        "envoy.config.accesslog.v3.ComparisonFilter.Op",
        comparison?.op ?? 0,
        { EQ: "eq", GE: "ge", LE: "le" },
        "eq",
      );
      if (comparison?.value === undefined) gate.add(at(where, "value"), "is missing");
      // runtime_key: there is no runtime here, so the default value is the value, as in Envoy without an override.
      return { kind: "status", op, value: comparison?.value?.defaultValue ?? 0 };
    }
    case "responseFlagFilter":
      one.value.flags.forEach((flag, n) => {
        if (!knownFlags.includes(flag))
          gate.add(`${path}.response_flag_filter.flags[${n}]`, `${flag} is not a flag this proxy sets; known: ${knownFlags.join(", ")}`);
      });
      return { kind: "flags", flags: one.value.flags };
    case "orFilter":
      if (one.value.filters.length < 2) gate.add(at(path, "or_filter.filters"), "needs at least two");
      return { kind: "or", filters: one.value.filters.map((inner, n) => logFilter(gate, inner, `${path}.or_filter.filters[${n}]`)) };
    case undefined:
      gate.add(path, "needs one of status_code_filter, response_flag_filter, or_filter");
      return { kind: "or", filters: [] };
  }
}
