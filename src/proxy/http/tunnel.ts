// Owns: a request that has become two opaque byte streams: CONNECT terminated here, and what an Upgrade (or RFC 8441's extended CONNECT) switched to.
// Half close in both directions; the stream idle time-out guards it.

import type { HttpChain } from "../chain/chain.ts";
import { field, Head, parseAnswer, parseRequest } from "../http1/head.ts";
import { applyEdits } from "../route/edit.ts";
import type { CompiledTarget } from "../route/table.ts";
import { latin1, text } from "./bytes.ts";
import type { Exchange } from "./exchange.ts";
import { end } from "./finish.ts";
import { leaveEndpoint, pauseDown, pauseUp, touch } from "./flow.ts";
import { fieldNamed } from "./grpc.ts";
import type { UpstreamHalf } from "./halves.ts";
import { phase } from "./phase.ts";

export function openTunnel(x: Exchange, half: UpstreamHalf): void {
  x.sent = true;
  half.becomeRaw();
  x.status = 200;
  x.details = "via_upstream";
  x.half.sendSwitch(null, null, null);
  enterTunnel(x);
  const mostMs = x.endpoint?.cluster.config.connections?.opaqueMs;
  if (mostMs !== undefined && x.startMs + mostMs < x.timeoutAtMs) {
    x.timeoutAtMs = x.startMs + mostMs;
    touch(x);
  }
}

export function switched(x: Exchange, half: UpstreamHalf, bytes: Uint8Array, head: Head, from: number, to: number): void {
  x.status = x.half.version === 2 ? 200 : 101;
  x.details = "via_upstream";
  const responseEdits = (x.target as CompiledTarget).responseEdits;
  const edits = responseEdits === null ? null : applyEdits(x, responseEdits, bytes, head, true);
  const own = half.version === 2 && x.half.version === 1 ? switchingAnswer(x, bytes, head) : null;
  if (own === null) x.half.sendSwitch(bytes, head, edits);
  else {
    parseAnswer(own, 0, own.length, switchHead);
    x.half.sendSwitch(own, switchHead, edits);
  }
  enterTunnel(x);
  if (to > from) rawBytes(x, half, bytes.subarray(from, to));
}

function enterTunnel(x: Exchange): void {
  x.state = phase.tunnel;
  // A route's time-out is for an answer; a tunnel has the stream's limits, idle and whole.
  const most = (x.chain.terminal as HttpChain).limits.streamDurationMs;
  x.timeoutAtMs = most > 0 ? x.startMs + most : Number.POSITIVE_INFINITY;
  x.tryAtMs = Number.POSITIVE_INFINITY;
  x.opaque = true;
  touch(x);
  x.half.becomeTunnel();
}

/** Opaque bytes from the client. */
export function tunnelFromClient(x: Exchange, bytes: Uint8Array): void {
  const half = x.up;
  if (half === null) return;
  x.requestBytes += bytes.length;
  touch(x);
  if (!half.sendRaw(bytes, 0, bytes.length)) pauseDown(x);
}

/** The client sends no more. */
export function tunnelInputEnded(x: Exchange): void {
  x.up?.finishRaw();
  x.requestDone = true;
  if (x.answerDone) closeTunnel(x);
}

export function rawBytes(x: Exchange, half: UpstreamHalf, bytes: Uint8Array): void {
  x.responseBytes += bytes.length;
  touch(x);
  if (!x.half.sendRaw(bytes, 0, bytes.length)) pauseUp(x, half);
}

export function rawEnd(x: Exchange): void {
  x.half.finishRaw();
  x.answerDone = true;
  // A client that has sent its FIN too is done; one that has not may go on sending (half close).
  if (x.half.inputEnded) closeTunnel(x);
}

function closeTunnel(x: Exchange): void {
  const half = x.up;
  leaveEndpoint(x);
  if (half !== null) {
    half.owner = null;
    // What waits for the upstream peer is still delivered: it goes when its FIN is out.
    if (half.waiting === 0) half.dispose();
  }
  const down = x.half;
  end(x);
  down.tunnelDone();
}

const keyName = latin1("sec-websocket-key");
const askHead = new Head();
const switchHead = new Head();

/** RFC 8441's 2xx as RFC 6455 4.2.2 has it for an HTTP/1 client: its key, hashed with the protocol's own constant. Null: the client sent no key. */
function switchingAnswer(x: Exchange, bytes: Uint8Array, head: Head): Uint8Array | null {
  askHead.limits = (x.chain.terminal as HttpChain).limits;
  if (parseRequest(x.bytes, x.headFrom, x.headTo, askHead) <= 0) return null;
  const i = fieldNamed(x.bytes, askHead, keyName);
  if (i < 0) return null;
  const key = text(x.bytes, askHead.valueFrom[i] as number, askHead.valueTo[i] as number);
  const accept = new Bun.CryptoHasher("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  let fields = "";
  for (let n = 0; n < head.count; n++) {
    const kind = head.kind[n] as number;
    if (kind >= field.dropFrom || kind === field.contentLength || kind === field.transferEncoding) continue;
    fields += `${text(bytes, head.nameFrom[n] as number, head.valueTo[n] as number)}\r\n`;
  }
  return Buffer.from(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n${fields}\r\n`,
    "latin1",
  );
}
