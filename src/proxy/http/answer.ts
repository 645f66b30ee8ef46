// Owns: an answer on its way back: retry it or pass it on, head, body, trailers, in the framing that the client's protocol needs.

import type { Endpoint } from "../balance/endpoint.ts";
import type { HttpChain } from "../chain/chain.ts";
import type { Head } from "../http1/head.ts";
import { filterTrailers } from "../http1/trailers.ts";
import { persistence } from "../http1/write.ts";
import { discard } from "../net/outbox.ts";
import { applyEdits } from "../route/edit.ts";
import type { CompiledForward, CompiledTarget } from "../route/table.ts";
import { retryAnswer } from "./again.ts";
import { mayTakeTrailers } from "./attempt.ts";
import type { Exchange } from "./exchange.ts";
import { answered, closesAfter } from "./finish.ts";
import { leaveEndpoint, pauseUp, touch } from "./flow.ts";
import { sawAnswerBytes, sawAnswerHead, sawTrailers } from "./grpc-call.ts";
import type { AnswerPlan, UpstreamHalf } from "./halves.ts";
import { sawAnswer, sawGrpcEnd, sawReportTrailers } from "./observe.ts";
import { phase } from "./phase.ts";
import { answerStages } from "./staged.ts";

/** One, reused: halves read it within the call. */
const how: AnswerPlan = {
  edits: null,
  viaLine: null,
  lines: null,
  persistence: persistence.silent,
  keepReason: false,
  dropFraming: false,
  bodyless: false,
  addChunks: false,
  needsLength: false,
};

/** RFC 9110 15.2: interim answers are forwarded, but not to an HTTP/1.0 client. */
export function interim(x: Exchange, bytes: Uint8Array, head: Head): void {
  if (x.minor === 1) x.half.sendInterim(bytes, head);
}

export function answer(x: Exchange, half: UpstreamHalf, bytes: Uint8Array, head: Head, from: number, to: number, done: boolean): void {
  const status = head.status;
  const fromPeer = half.peer !== null;
  const observer = (x.endpoint as Endpoint).observer;
  if (observer !== null) sawAnswer(x, observer, bytes, head);
  const retry = (x.forward as CompiledForward).retry;
  if (retry !== null && retryAnswer(x, retry, half, bytes, head, done)) return;
  x.state = phase.answering;
  x.bodyKept = false;
  if (x.bodySize > 0) {
    x.body.length = 0;
    x.bodySize = 0;
  }
  x.status = status;
  x.details = "via_upstream";
  x.tryAtMs = Number.POSITIVE_INFINITY;
  const responseEdits = (x.target as CompiledTarget).responseEdits;
  const bodyless = x.isHead || status === 204 || status === 304;
  const unframed = half.version === 2 ? !bodyless && head.contentLength < 0 && !(done && to === from) : x.minor === 0 && head.chunked;
  const toOldClient = x.half.version === 1 && x.minor === 0;
  const untilClose = x.half.version === 1 && (half.endsWithConnection || (unframed && toOldClient));
  if (untilClose) x.downClose = true;
  // RFC 9112 9.6: an answer that is over before its request ends the connection, as the client cannot know what is read of the rest.
  const close = closesAfter(x, false) || (done && !x.requestDone && x.half.version === 1);
  how.edits = responseEdits === null ? null : applyEdits(x, responseEdits, bytes, head, true);
  how.viaLine = (x.chain.terminal as HttpChain).viaLine;
  if (x.stages !== null) answerStages(x, bytes, head);
  how.lines = x.keyCookie === null ? x.answerLines : joinLines(x.answerLines, x.keyCookie);
  how.persistence = close ? persistence.close : x.minor === 0 ? persistence.keepAlive : persistence.silent;
  // A reason from a peer's sidecar is for the application to see; one from an application is not a sidecar's word.
  how.keepReason = fromPeer && !x.chain.inbound;
  how.dropFraming = toOldClient || x.half.version === 2;
  how.bodyless = bodyless;
  how.addChunks = half.version === 2 && unframed && !toOldClient;
  how.needsLength = half.version === 2 && !bodyless && !unframed && head.contentLength < 0;
  if (x.grpc !== null) sawAnswerHead(x.grpc, bytes, head, from, to);
  const all = x.half.sendAnswer(bytes, head, how, from, to, done);
  if (done) complete(x, half);
  else {
    touch(x);
    if (!all) pauseUp(x, half);
  }
}

export function answerBody(x: Exchange, half: UpstreamHalf, bytes: Uint8Array, from: number, to: number, done: boolean): void {
  if (x.grpc !== null) sawAnswerBytes(x.grpc, bytes, from, to);
  const all = x.half.sendBody(bytes, from, to, done);
  // Between HTTP/1 connections the bytes are one read of this body, which is written or copied by now.
  if (half.version === 1 && x.ownHalf.version === 1 && x.half === x.ownHalf) discard(bytes);
  if (done) complete(x, half);
  else {
    touch(x);
    if (!all) pauseUp(x, half);
  }
}

export function answerTrailers(x: Exchange, half: UpstreamHalf, bytes: Uint8Array, from: number, to: number): void {
  if (x.grpc !== null) sawTrailers(x.grpc, bytes, from, to);
  const observer = (x.endpoint as Endpoint).observer;
  if (observer?.wantsReports === true) sawReportTrailers(x, observer, bytes, from, to);
  const lines = mayTakeTrailers(x) ? filterTrailers(bytes.subarray(from, to) as Buffer) : noLines;
  // HTTP/1 with the chunk framing kept: its reader has left the end to us.
  if (lines.length > 0 || x.half.version === 1) x.half.sendTrailers(lines, 0, lines.length);
  else x.half.sendBody(bytes, from, from, true);
  complete(x, half);
}

const noLines = Buffer.alloc(0);

function joinLines(lines: Uint8Array | null, more: Uint8Array): Uint8Array {
  return lines === null ? more : Buffer.concat([lines, more]);
}

function complete(x: Exchange, half: UpstreamHalf): void {
  x.responseBytes = half.answerBytes;
  x.upstreamPeer = half.peer === null ? null : half.peer.principal;
  const paused = x.upPaused;
  if (x.grpc !== null && x.status === 200) {
    const observer = (x.endpoint as Endpoint).observer;
    if (observer !== null) sawGrpcEnd(x, observer);
  }
  leaveEndpoint(x);
  if (paused) half.resumeReading();
  half.release(x.requestDone, x.down.core.ticker.nowMs);
  answered(x);
}
