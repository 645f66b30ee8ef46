// Owns: access logs over gRPC (envoy.service.accesslog.v3): entries wait in a bounded queue, go out in batches, and are dropped and counted when the log
// service is slow or away. Never holds up traffic.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Series } from "../../base/metric.ts";
import type { Node } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import type { HostPort } from "../config.ts";
import type { ControlChannel } from "../xds/channel.ts";
import { LastingStream } from "../xds/lasting-stream.ts";
import { encodeBinary } from "../xds/proto/encode.ts";
import { enumDesc } from "../xds/proto/message.ts";
import { StreamAccessLogsMessage } from "../xds/proto/types.ts";
import type { AccessRecord, AccessSink, ResponseFlag } from "./record.ts";

export interface AlsOptions {
  readonly clock: Clock;
  readonly random: () => number;
  readonly channel: ControlChannel;
  readonly node: Node | undefined;
  readonly logName: string;
  readonly dropped: Series;
}

const path = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const flushAfterMs = 250;
const batchEntries = 100;
/** Some 2 MB of records at worst; what is older tells more of how trouble began than what is newer, so new ones are dropped. */
const maxQueued = 2_000;

/** A sink and its stream; the stream opens with the channel. */
export class AlsSink implements AccessSink {
  readonly #options: AlsOptions;
  readonly #stream: LastingStream;
  readonly #queue: AccessRecord[] = [];
  #timer: Timer | undefined;
  #room = true;

  constructor(options: AlsOptions) {
    this.#options = options;
    this.#stream = new LastingStream({
      clock: options.clock,
      random: options.random,
      channel: options.channel,
      path,
      opened: (call) => {
        call.send(encodeBinary(StreamAccessLogsMessage, { identifier: { node: options.node, logName: options.logName } }));
        this.#room = true;
        // With a channel that is open already this runs within the constructor, before `#stream` is there; nothing waits then.
        if (this.#queue.length > 0) this.flush();
      },
      message() {},
      ended() {},
      writable: () => {
        this.#room = true;
        this.flush();
      },
    });
  }

  write(record: AccessRecord): void {
    if (this.#queue.length >= maxQueued) {
      this.#options.dropped.value++;
      return;
    }
    this.#queue.push(record);
    if (this.#queue.length >= batchEntries) this.flush();
    else this.#timer ??= this.#options.clock.after(flushAfterMs, () => this.flush());
  }

  /** Sends what the stream takes now; the rest waits for it. */
  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const call = this.#stream.call;
    while (call !== undefined && this.#room && this.#queue.length > 0) {
      const batch = this.#queue.splice(0, batchEntries);
      // One message carries one kind of entry; a UDP session goes as a TCP connection, as Envoy's do.
      for (const kind of ["http", "tcp"] as const) {
        const entries = batch.filter((one) => (one.kind === "http") === (kind === "http")).map(kind === "http" ? httpEntry : tcpEntry);
        if (entries.length === 0) continue;
        const logEntries = { case: kind === "http" ? "httpLogs" : "tcpLogs", value: { logEntry: entries } };
        this.#room = call.send(encodeBinary(StreamAccessLogsMessage, { logEntries })) && this.#room;
      }
    }
  }

  stop(): void {
    this.flush();
    this.#stream.stop();
  }
}

const methods = enumDesc("envoy.config.core.v3.RequestMethod").byName;
const versions: Readonly<Record<AccessRecord["protocol"], number>> = { "HTTP/1.0": 1, "HTTP/1.1": 2, "HTTP/2": 3, TCP: 0, UDP: 0 };
const tlsVersions: Readonly<Record<string, number>> = { TLSv1: 1, "TLSv1.1": 2, "TLSv1.2": 3, "TLSv1.3": 4 };

function httpEntry(record: AccessRecord): object {
  return {
    commonProperties: common(record),
    protocolVersion: versions[record.protocol],
    request: {
      requestMethod: methods.get(record.method) ?? 0,
      scheme: record.scheme,
      authority: record.authority,
      path: record.path,
      userAgent: record.userAgent,
      requestId: record.requestId,
      requestBodyBytes: BigInt(record.requestBytes),
    },
    response: {
      ...(record.status === 0 ? {} : { responseCode: record.status }),
      responseBodyBytes: BigInt(record.responseBytes),
      responseCodeDetails: record.details,
    },
  };
}

function tcpEntry(record: AccessRecord): object {
  return {
    commonProperties: common(record),
    connectionProperties: { receivedBytes: BigInt(record.requestBytes), sentBytes: BigInt(record.responseBytes) },
  };
}

function common(record: AccessRecord): object {
  const peer = record.downstreamPeer;
  return {
    downstreamRemoteAddress: address(record.downstreamRemote),
    downstreamLocalAddress: address(record.downstreamLocal),
    ...(record.tlsVersion === null
      ? {}
      : {
          tlsProperties: {
            tlsVersion: tlsVersions[record.tlsVersion] ?? 0,
            ...(peer === null ? {} : { peerCertificateProperties: { subjectAltName: [{ san: { case: "uri", value: peer } }] } }),
          },
        }),
    startTime: { seconds: BigInt(Math.floor(record.startTimeMs / 1000)), nanos: Math.floor(record.startTimeMs % 1000) * 1_000_000 },
    duration: { seconds: BigInt(Math.floor(record.durationMs / 1000)), nanos: Math.floor((record.durationMs % 1000) * 1e6) },
    ...(record.upstreamAddress === null ? {} : { upstreamRemoteAddress: address(record.upstreamAddress) }),
    upstreamCluster: record.upstreamCluster,
    routeName: record.routeName,
    upstreamRequestAttemptCount: record.attempts,
    responseFlags: responseFlags(record.flags),
    ...(record.kind !== "http" ? { connectionTerminationDetails: record.details } : {}),
    customTags: {
      reporter: record.reporter,
      source: record.source,
      destination: record.destination,
      ...(record.reason === "" ? {} : { reason: record.reason }),
    },
  };
}

function address(one: HostPort): object {
  return { address: { case: "socketAddress", value: { address: one.host, portSpecifier: { case: "portValue", value: one.port } } } };
}

const flagFields: Readonly<Record<ResponseFlag, string | null>> = {
  UF: "upstreamConnectionFailure",
  UC: "upstreamConnectionTermination",
  UH: "noHealthyUpstream",
  UO: "upstreamOverflow",
  UT: "upstreamRequestTimeout",
  UR: "upstreamRemoteReset",
  UPE: "upstreamProtocolError",
  URX: "upstreamRetryLimitExceeded",
  NR: "noRouteFound",
  NC: "noClusterFound",
  DC: "downstreamConnectionTermination",
  DPE: "downstreamProtocolError",
  DT: "durationTimeout",
  SI: "streamIdleTimeout",
  LR: "localReset",
  RL: "rateLimited",
  DI: "delayInjected",
  FI: "faultInjected",
  // Envoy's ALS has no field for a denial by RBAC either; the details say it.
  RBAC: null,
  // In Envoy's, not in our subset; the details say it.
  UAEX: null,
  RLSE: null,
};

function responseFlags(flags: readonly ResponseFlag[]): object | undefined {
  if (flags.length === 0) return undefined;
  const made: Record<string, boolean> = {};
  for (const flag of flags) {
    const field = flagFields[flag];
    if (field !== null) made[field] = true;
  }
  return made;
}
