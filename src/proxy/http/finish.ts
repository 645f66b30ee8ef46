// Owns: how a request ends: answered, answered by ourselves, or broken off; and the one place where it is counted and logged. Every path ends in `end`, once.

import type { HttpChain } from "../chain/chain.ts";
import { scratch } from "../net/outbox.ts";
import { anyWants, logTo } from "../telemetry/access.ts";
import { requestCountersFor } from "./counters.ts";
import type { Exchange } from "./exchange.ts";
import { type Failure, failures } from "./failure.ts";
import { dropAttempt, leaveEndpoint, resumeDown } from "./flow.ts";
import { grpcTrailers, writeGrpcReply } from "./grpc.ts";
import { dropParked } from "./hedge.ts";
import { phase } from "./phase.ts";
import { httpRecord } from "./record.ts";
import { writeReply } from "./reply.ts";
import { answerStages, endStages } from "./staged.ts";

/** Must the downstream connection be closed after this answer? */
export function closesAfter(x: Exchange, untilClose: boolean): boolean {
  return untilClose || x.downClose || x.half.closing;
}

/** Says it ourselves. */
export function reply(x: Exchange, failure: Failure, why: string): void {
  dropAttempt(x);
  x.status = failure.status;
  x.flag = failure.flag;
  if (failure !== failures.denied) x.details = failure.details;
  const exhausted = x.attempts > 1 && x.retriesLeft === 0 && failure.side === "upstream";
  if (exhausted) x.flag = "URX";
  x.reason = why === "" ? failure.sentence : failure === failures.denied ? why : `${failure.sentence}: ${why}`;
  if (failure.close) x.downClose = true;
  const undelivered = x.chain.inbound && (failure.retry === "safe" || failure.kind === failures.noEndpoint.kind);
  let size: number;
  if (x.grpc !== null) {
    x.status = 200;
    x.grpc.status = failure.grpc;
    if (x.stages !== null) answerStages(x, null, null);
    size = writeGrpcReply(failure.grpc, x.flag ?? "-", x.reason, undelivered, linesOf(x, failure));
  } else {
    const close = closesAfter(x, false) || (!x.requestDone && x.half.version === 1);
    if (x.stages !== null) answerStages(x, null, null);
    size = writeReply(failure.status, x.flag ?? "-", x.reason, undelivered, x.isHead, close, linesOf(x, failure));
  }
  x.half.sendReply(size);
  answered(x);
}

function linesOf(x: Exchange, { lines }: Failure): Uint8Array | null {
  if (lines === undefined) return x.answerLines;
  return x.answerLines === null ? lines : Buffer.concat([x.answerLines, lines]);
}

/** A failure after the answer began: nothing can be said any more but by breaking off. */
export function cut(x: Exchange, failure: Failure): void {
  x.flag = failure.flag;
  x.details = failure.details;
  const half = x.half;
  if (x.grpc !== null && x.state === phase.answering) {
    // A gRPC answer has its end still to say: the client hears why instead of a reset, which it could only guess about.
    x.grpc.status = failure.grpc;
    const lines = grpcTrailers(failure.grpc, failure.sentence);
    half.sendTrailers(lines, 0, lines.length);
    answered(x);
    return;
  }
  end(x);
  half.cut(failure);
}

/** Everything of the answer is written (or waits to be). */
export function answered(x: Exchange): void {
  x.answerDone = true;
  // RFC 9112 9.3: after an answer before the end of its request the connection is read on for a while, but not used again.
  if (!x.requestDone) x.downClose = true;
  const close = closesAfter(x, false);
  const complete = x.requestDone;
  const half = x.half;
  end(x);
  half.exchangeDone(close, complete);
}

/** What only several attempts leave behind. */
function forgetAttempts(x: Exchange): void {
  x.tried = null;
  x.backOff?.cancel();
  x.backOff = null;
  if (x.parked !== null) dropParked(x);
}

/** Counts and forgets. */
export function end(x: Exchange): void {
  const core = x.down.core;
  x.state = phase.idle;
  core.activeRequests--;
  if (x.up !== null) leaveEndpoint(x);
  if (x.tried !== null) forgetAttempts(x);
  if (x.markedId !== null) {
    core.retried.remove(x.markedId);
    x.markedId = null;
  }
  const cluster = x.cluster;
  if (cluster !== null) {
    cluster.activeRequests--;
    if (x.retrying) {
      x.retrying = false;
      cluster.activeRetries--;
    }
    const at = cluster.waiting.length === 0 ? -1 : cluster.waiting.indexOf(x);
    if (at >= 0) cluster.waiting.splice(at, 1);
  }
  if (x.stages !== null) endStages(x);
  // Also one that waited for its host, and has no stages yet.
  else x.held = false;
  x.requestLines = null;
  x.tap = null;
  resumeDown(x);
  if (!x.opaque) x.requestBytes = x.half.requestBytes;
  const durationMs = core.ticker.now() - x.startMs;
  const flag = x.flag;
  requestCountersFor(x).count(x.status, flag ?? "-", durationMs, x.requestBytes, x.responseBytes, x.grpc);
  const logs = (x.chain.terminal as HttpChain).logs;
  if (logs.length > 0 && anyWants(logs, x.status, flag ?? "")) logTo(logs, x.status, flag ?? "", httpRecord(x, durationMs));
  x.bytes = scratch;
  if (x.body.length > 0) x.body.length = 0;
  x.timeoutAtMs = Number.POSITIVE_INFINITY;
  x.tryAtMs = Number.POSITIVE_INFINITY;
  x.idleAtMs = Number.POSITIVE_INFINITY;
  x.reason = "";
  x.requestTrailerLines = null;
  x.half = x.ownHalf;
  if (core.draining) core.onQuiet?.();
}
