// Owns: what can go wrong with a request that only HTTP/2 knows. The rows have the shape of `http/failure.ts`, which turns them into statuses and flags.

import type { Failure } from "../http/failure.ts";

/** gRPC's UNAVAILABLE. */
const unavailable = 14;

export const http2Failures = {
  /** The peer says that it never looked at the request (RFC 9113 8.7): any method may be repeated. */
  refusedStream: {
    kind: "refused-stream",
    side: "upstream",
    retry: "safe",
    flag: "UR",
    status: 503,
    details: "upstream_reset_before_response_started{remote_refused_stream_reset}",
    sentence: "the instance refused the request before it looked at it",
    close: false,
    grpc: unavailable,
  },
  remoteReset: {
    kind: "remote-reset",
    side: "upstream",
    retry: "idempotent",
    flag: "UR",
    status: 503,
    details: "upstream_reset_before_response_started{remote_reset}",
    sentence: "the instance reset the request before it answered",
    close: false,
    grpc: unavailable,
  },
  /**
   * RST_STREAM with NO_ERROR after an answer whose length nobody has told (RFC 9113 8.1: it is complete with END_STREAM only). Node's server says so in place
   * of its last, empty DATA frame when a window is used up at that moment. Whether all of it is there only the client can judge, so an HTTP/2 client gets
   * every byte and the same reset.
   */
  unmarkedEnd: {
    kind: "unmarked-end",
    side: "upstream",
    retry: "never",
    flag: "UR",
    status: 502,
    details: "upstream_reset_after_response_started{remote_reset}",
    sentence: "the instance ended its answer by a reset, without saying that it is whole",
    close: false,
    grpc: unavailable,
  },
  /** Nothing was sent. The pool remembers it: the next attempt takes HTTP/1.1. */
  http1Only: {
    kind: "http1-only",
    side: "upstream",
    retry: "safe",
    flag: "UF",
    status: 503,
    details: "upstream_reset_before_response_started{connection_failure}",
    sentence: "the instance agreed on HTTP/1.1 and not HTTP/2",
    close: false,
    grpc: unavailable,
  },
  /** RFC 8441: it has to say that it understands extended CONNECT; RFC 9113 8.6: there is no other upgrade. */
  upgrade: {
    kind: "http2-upgrade",
    side: "upstream",
    retry: "never",
    flag: "UPE",
    status: 502,
    details: "http2.upgrade_not_supported",
    sentence: "the instance speaks HTTP/2 and takes no such upgrade; only websocket, where it offers extended CONNECT",
    close: false,
    grpc: unavailable,
  },
  /** A request of a peer that breaks RFC 9113 section 8. */
  malformed: {
    kind: "http2-malformed",
    side: "downstream",
    retry: "never",
    flag: "DPE",
    status: 400,
    details: "http2.violation.of.messaging.rule",
    sentence: "the request is malformed",
    close: false,
    grpc: 13,
  },
  /** The client reset the stream. */
  clientReset: {
    kind: "client-reset",
    side: "downstream",
    retry: "never",
    flag: "DC",
    status: 0,
    details: "http2.remote_reset",
    sentence: "the client gave the request up",
    close: false,
    grpc: 1,
  },
  /** The client took nothing of the answer for too long. */
  stalled: {
    kind: "stalled",
    side: "downstream",
    retry: "never",
    flag: "DT",
    status: 0,
    details: "http2.window_stall",
    sentence: "the client took nothing of the answer for too long",
    close: false,
    grpc: 1,
  },
} as const satisfies Readonly<Record<string, Failure>>;
