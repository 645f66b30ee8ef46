// Owns: the way from local programs with an xDS of their own (proxyless gRPC, Envoy) to the control plane: their discovery, load report and status
// streams go on over this proxy's connection, under its identity. gRPC for Node knows no TLS to its control plane, and none of them can renew a
// credential for it. Messages pass as bytes, unread: the control plane judges them. Whoever may open the socket may have the identity itself.

import type { ServerDuplexStream } from "@grpc/grpc-js";
import { status } from "@grpc/grpc-js";
import type { GrpcCall, GrpcEvents } from "../xds/grpc.ts";

/** Opens a call to the control plane; undefined: there is no connection just now. */
export type OpenCall = (path: string, events: GrpcEvents) => GrpcCall | undefined;

/** Streams relayed at once, of all programs at the socket. */
export const mostRelayed = 200;
/** Questions about rate limits under way at once: each is over in milliseconds. Apart, so that a flood of requests takes no stream of configuration away. */
export const mostLimitQuestions = 1_024;
/** Bytes of answers that a program has not taken: beyond that it does not read, and its stream ends. */
export const mostUnread = 64 * 1024 * 1024;
/** One request of a program; the control plane takes no larger one. */
export const mostRequestBytes = 8 * 1024 * 1024;

type Stream = ServerDuplexStream<Uint8Array, Uint8Array>;

const asIs = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const stream = (path: string) => ({
  path,
  requestStream: true,
  responseStream: true,
  requestSerialize: asIs,
  requestDeserialize: (bytes: Buffer): Uint8Array => bytes,
  responseSerialize: asIs,
  responseDeserialize: (bytes: Buffer): Uint8Array => bytes,
});

/** One question and one answer, which is a stream too. */
const limitPath = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

const methods = {
  StreamAggregatedResources: stream("/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"),
  DeltaAggregatedResources: stream("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"),
  StreamLoadStats: stream("/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"),
  StreamClientStatus: stream("/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus"),
  ShouldRateLimit: stream(limitPath),
} as const;

/** What to add to a server. */
export function relayService(open: OpenCall) {
  const streams = { under: 0, most: mostRelayed };
  const questions = { under: 0, most: mostLimitQuestions };
  const handler = (path: string) => (call: Stream) => {
    const relayed = path === limitPath ? questions : streams;
    if (relayed.under >= relayed.most) {
      call.emit("error", { code: status.RESOURCE_EXHAUSTED, details: `${relayed.most} streams go over this socket already` });
      return;
    }
    relayed.under++;
    relay(call, path, open, () => {
      relayed.under--;
    });
  };
  const handlers = Object.fromEntries(Object.entries(methods).map(([name, { path }]) => [name, handler(path)]));
  return { methods, handlers };
}

function relay(call: Stream, path: string, open: OpenCall, done: () => void): void {
  let over = false;
  let unread = 0;
  const end = (code: number, details: string): void => {
    if (over) return;
    over = true;
    done();
    if (code === status.OK) call.end();
    else call.emit("error", { code, details });
  };
  const upstream = open(path, {
    message(bytes) {
      if (over) return;
      if (unread > mostUnread) {
        upstream?.cancel();
        end(status.RESOURCE_EXHAUSTED, `${unread} bytes of answers wait to be read by this program`);
        return;
      }
      unread += bytes.length;
      call.write(bytes, () => {
        unread -= bytes.length;
      });
    },
    ended: ({ code, message }) => end(code, message),
    writable: () => call.resume(),
  });
  if (upstream === undefined) {
    end(status.UNAVAILABLE, "this agent has no connection to the control plane just now; what is configured serves on");
    return;
  }
  call.on("data", (bytes: Uint8Array) => {
    if (!over && !upstream.send(bytes)) call.pause();
  });
  call.on("end", () => {
    if (!over) upstream.finish();
  });
  for (const event of ["cancelled", "close", "error"])
    call.on(event, () => {
      if (over) return;
      over = true;
      done();
      upstream.cancel();
    });
}
