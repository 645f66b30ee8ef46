// Owns: one HTTP/2 client connection (RFC 9113): frames in, frames out, streams and both flow-control windows. Knows no sockets: bytes come by
// `receive` and leave through a Transport, so that tests can split them anywhere. Never retries and never reconnects.
// Longer than most files: the frame handlers share one state (windows, streams, the header block in hand), and RFC 9113 reads as one list too.

import type { Clock, Timer } from "../../base/clock.ts";
import {
  cancel,
  enhanceYourCalm,
  errorName,
  flowControlError,
  internalError,
  noError,
  protocolError,
  refusal,
  refusedStream,
  streamClosed,
} from "./errors.ts";
import { malformed } from "./fields.ts";
import {
  defaultMaxFrameSize,
  defaultWindow,
  type FrameHead,
  flagAck,
  flagEndHeaders,
  flagEndStream,
  frame,
  frameContinuation,
  frameData,
  frameGoaway,
  frameHeadBytes,
  frameHeaders,
  framePing,
  framePushPromise,
  frameRstStream,
  frameSettings,
  frameWindowUpdate,
  largestWindow,
  numberFrame,
  parseFrameHead,
  readUint32,
  settingEnablePush,
  settingInitialWindowSize,
  settingMaxConcurrentStreams,
  settingMaxFrameSize,
  settingMaxHeaderListSize,
  stripPadding,
  writeFrameHead,
  writeUint32,
} from "./frame.ts";
import { type HeaderField, HpackDecoder, hpackEncode, maxHeaderListBytes } from "./hpack.ts";
import { ClientStream, highWaterBytes, maxQueuedBytes, type StreamEvents } from "./stream.ts";

/** Where bytes go. Takes everything it is given and keeps what the socket does not accept at once. */
export interface Transport {
  write(bytes: Uint8Array): void;
  /** Bytes kept back. */
  readonly backlog: number;
  /** Flushes and closes. */
  end(): void;
}

export interface ConnectionOptions {
  readonly clock: Clock;
  readonly transport: Transport;
  /** Called once. `code` is an HTTP/2 error code; `reason` is for people. */
  readonly closed: (code: number, reason: string) => void;
  /** A PING goes out after this long without a byte from the peer; default 20 000. */
  readonly keepaliveMs?: number;
  /** The connection is given up this long after an unanswered PING; default 10 000. */
  readonly keepaliveTimeoutMs?: number;
}

const preface = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
/** A message of ours is up to megabytes and read at once: windows that hold the usual one. */
const streamWindow = 512 * 1024;
const connectionWindow = 1024 * 1024;
/** CONTINUATION frames of one header block; more is a flood (CVE-2024-27316 and its kin). */
const maxContinuations = 16;
/** While the transport keeps back more than this, DATA waits in the streams. */
const backlogMark = 256 * 1024;
/** Control frames that a peer provokes and does not read end here. */
const maxBacklog = 4 * 1024 * 1024;
/** From a graceful GOAWAY to our own close: long enough for calls in flight, short enough that a discovery stream moves to the next server soon. */
const drainMs = 5_000;
/** RFC 9113 section 5.1.1: client streams are odd and below 2^31. */
const lastStreamId = 0x7fff_fffd;

type ConnectionState = "waiting for settings" | "open" | "draining" | "closed";

export class Http2Connection {
  readonly #options: ConnectionOptions;
  readonly #transport: Transport;
  readonly #decoder = new HpackDecoder();
  readonly #streams = new Map<number, ClientStream>();
  readonly #head: FrameHead = { length: 0, type: 0, flags: 0, stream: 0 };
  #state: ConnectionState = "waiting for settings";
  #rest: Uint8Array = new Uint8Array(0);
  #nextId = 1;
  #sendWindow = defaultWindow;
  #receiveWindow = connectionWindow;
  #unacknowledged = 0;
  #peerInitialWindow = defaultWindow;
  #peerMaxFrame = defaultMaxFrameSize;
  #peerMaxStreams = Number.POSITIVE_INFINITY;
  /** The header block being collected (section 4.3): nothing else may come in between. */
  #block: { stream: number; endStream: boolean; parts: Uint8Array[]; bytes: number; frames: number } | undefined;
  #lastByteAt: number;
  #pingSentAt = -1;
  readonly #keepalive: Timer;
  #pumping = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#transport = options.transport;
    this.#lastByteAt = options.clock.mono();
    const settings = new Uint8Array(18);
    writeSetting(settings, 0, settingEnablePush, 0);
    writeSetting(settings, 6, settingInitialWindowSize, streamWindow);
    writeSetting(settings, 12, settingMaxHeaderListSize, maxHeaderListBytes);
    const grow = numberFrame(frameWindowUpdate, 0, connectionWindow - defaultWindow);
    // Section 3.4: the preface and our SETTINGS go out without waiting; one write for all of it.
    this.#transport.write(Buffer.concat([preface, frame(frameSettings, 0, 0, settings), grow]));
    const period = Math.max(50, Math.min(options.keepaliveMs ?? 20_000, options.keepaliveTimeoutMs ?? 10_000) / 2);
    this.#keepalive = options.clock.every(period, () => this.#checkKeepalive());
  }

  get closed(): boolean {
    return this.#state === "closed";
  }

  /** Whether openStream can answer with a stream now. */
  get usable(): boolean {
    return (
      (this.#state === "waiting for settings" || this.#state === "open") &&
      this.#streams.size < this.#peerMaxStreams &&
      this.#nextId <= lastStreamId
    );
  }

  /** Sends a request's headers. undefined: the connection takes no more streams. */
  openStream(fields: readonly HeaderField[], events: StreamEvents): ClientStream | undefined {
    if (!this.usable) return undefined;
    const id = this.#nextId;
    this.#nextId += 2;
    const stream = new ClientStream(id, events, this.#peerInitialWindow, streamWindow);
    this.#streams.set(id, stream);
    const block = hpackEncode(fields);
    let at = Math.min(block.length, this.#peerMaxFrame);
    this.#write(frame(frameHeaders, at === block.length ? flagEndHeaders : 0, id, block.subarray(0, at)));
    while (at < block.length) {
      const next = Math.min(block.length, at + this.#peerMaxFrame);
      this.#write(frame(frameContinuation, next === block.length ? flagEndHeaders : 0, id, block.subarray(at, next)));
      at = next;
    }
    return stream;
  }

  /** Queues body bytes (kept, not copied). false: wait for `writable` before more. */
  send(stream: ClientStream, bytes: Uint8Array): boolean {
    if (!stream.canSend || stream.endQueued) return false;
    if (bytes.length > 0) {
      stream.queue.push(bytes);
      stream.queuedBytes += bytes.length;
    }
    if (stream.queuedBytes > maxQueuedBytes) {
      this.#failStream(stream, internalError, "more was queued than a stream may hold", true);
      return false;
    }
    this.#pump(stream);
    if (stream.queuedBytes <= highWaterBytes) return true;
    stream.blocked = true;
    return false;
  }

  /** END_STREAM after what is queued. */
  finish(stream: ClientStream): void {
    if (!stream.canSend || stream.endQueued) return;
    stream.endQueued = true;
    this.#pump(stream);
  }

  /** Resets a stream; its owner hears nothing more. */
  reset(stream: ClientStream, code: number = cancel): void {
    if (stream.state === "closed") return;
    this.#forget(stream);
    this.#write(numberFrame(frameRstStream, stream.id, code));
  }

  /** The transport's backlog has shrunk. */
  drained(): void {
    this.#pumpAll();
  }

  /** The socket is gone. */
  transportClosed(reason: string): void {
    this.#die(noError, reason);
  }

  /** Says GOAWAY and closes. Streams that are open fail with `reason`. */
  close(reason: string, code: number = noError): void {
    if (this.#state === "closed") return;
    const payload = new Uint8Array(8);
    writeUint32(payload, 4, code);
    this.#transport.write(frame(frameGoaway, 0, 0, payload));
    this.#die(code, reason);
  }

  // ---- receiving -----------------------------------------------------------------------------------------------------------------------

  /** Bytes from the peer, split anywhere. */
  receive(bytes: Uint8Array): void {
    if (this.#state === "closed") return;
    this.#lastByteAt = this.#options.clock.mono();
    const buf = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    let at = 0;
    while (at < buf.length) {
      const used = parseFrameHead(buf, at, buf.length, defaultMaxFrameSize, this.#head);
      if (used < 0) return this.close(`the peer sent a bad frame (${errorName(refusal(used))})`, refusal(used));
      if (used === 0 || buf.length - at - used < this.#head.length) break;
      const length = this.#head.length;
      this.#frame(buf, at + used);
      // A callback or a bad frame may have closed the connection.
      if (this.closed) return;
      at += used + length;
    }
    // A whole frame is at most 16 KiB, so what is left is bounded. Copied: the caller's buffer is its own.
    this.#rest = at === buf.length ? new Uint8Array(0) : buf.slice(at);
  }

  #frame(buf: Uint8Array, at: number): void {
    const head = this.#head;
    if (this.#state === "waiting for settings") {
      // Section 3.4: the server's preface is a SETTINGS frame.
      if (head.type !== frameSettings || (head.flags & flagAck) !== 0) return this.close("the peer does not speak HTTP/2", protocolError);
      this.#state = "open";
    }
    if (this.#block !== undefined && (head.type !== frameContinuation || head.stream !== this.#block.stream)) {
      return this.close("a header block was interrupted", protocolError);
    }
    switch (head.type) {
      case frameData:
        return this.#data(buf, at);
      case frameHeaders:
        return this.#headers(buf, at);
      case frameContinuation:
        return this.#continuation(buf, at);
      case frameRstStream:
        return this.#rstStream(buf, at);
      case frameSettings:
        return this.#settings(buf, at);
      case framePing:
        return this.#ping(buf, at);
      case frameGoaway:
        return this.#goaway(buf, at);
      case frameWindowUpdate:
        return this.#windowUpdate(buf, at);
      case framePushPromise:
        // Section 6.6: we said SETTINGS_ENABLE_PUSH 0.
        return this.close("the peer pushed a stream", protocolError);
      default:
        // PRIORITY and unknown types (sections 5.3.2, 5.5).
        return;
    }
  }

  #data(buf: Uint8Array, at: number): void {
    const head = this.#head;
    const whole = head.length;
    // Section 6.9: padding counts; the connection's window counts even for streams that are gone.
    this.#receiveWindow -= whole;
    if (this.#receiveWindow < 0) return this.close("the peer sent beyond the connection's window", flowControlError);
    const skip = stripPadding(buf, at, head);
    if (skip < 0) return this.close("bad padding", refusal(skip));
    this.#acknowledge(whole);
    const stream = this.#streams.get(head.stream);
    if (stream === undefined) return this.#checkIdle(head.stream);
    stream.receiveWindow -= whole;
    if (stream.receiveWindow < 0) return this.#failStream(stream, flowControlError, "the peer sent beyond the stream's window", true);
    if (!stream.canReceive) return this.#failStream(stream, streamClosed, "data after the end of the stream", true);
    if (!stream.gotHeaders) return this.#failStream(stream, protocolError, "data before headers", true);
    const end = (head.flags & flagEndStream) !== 0;
    stream.receivedBytes += head.length;
    if (
      stream.contentLength >= 0 &&
      (stream.receivedBytes > stream.contentLength || (end && stream.receivedBytes < stream.contentLength))
    ) {
      return this.#failStream(stream, protocolError, "the body is not as long as content-length says", true);
    }
    if (head.length > 0) stream.events.data(buf.subarray(at + skip, at + skip + head.length));
    if (stream.state === "closed" || this.closed) return;
    if (end) return this.#remoteEnd(stream);
    stream.unacknowledged += whole;
    if (stream.unacknowledged >= streamWindow / 2) {
      this.#write(numberFrame(frameWindowUpdate, stream.id, stream.unacknowledged));
      stream.receiveWindow += stream.unacknowledged;
      stream.unacknowledged = 0;
    }
  }

  #acknowledge(bytes: number): void {
    this.#unacknowledged += bytes;
    if (this.#unacknowledged < connectionWindow / 2) return;
    this.#write(numberFrame(frameWindowUpdate, 0, this.#unacknowledged));
    this.#receiveWindow += this.#unacknowledged;
    this.#unacknowledged = 0;
  }

  #headers(buf: Uint8Array, at: number): void {
    const head = this.#head;
    const skip = stripPadding(buf, at, head);
    if (skip < 0) return this.close("bad padding", refusal(skip));
    const part = buf.subarray(at + skip, at + skip + head.length);
    const endStream = (head.flags & flagEndStream) !== 0;
    if ((head.flags & flagEndHeaders) !== 0) return this.#headerBlock(head.stream, endStream, part);
    this.#block = { stream: head.stream, endStream, parts: [part.slice()], bytes: part.length, frames: 0 };
  }

  #continuation(buf: Uint8Array, at: number): void {
    const head = this.#head;
    const block = this.#block;
    // Section 6.10
    if (block === undefined) return this.close("CONTINUATION without HEADERS", protocolError);
    block.parts.push(buf.slice(at, at + head.length));
    block.bytes += head.length;
    if (block.bytes > maxHeaderListBytes || ++block.frames > maxContinuations)
      return this.close("a header block without end", enhanceYourCalm);
    if ((head.flags & flagEndHeaders) === 0) return;
    this.#block = undefined;
    this.#headerBlock(block.stream, block.endStream, Buffer.concat(block.parts));
  }

  #headerBlock(id: number, endStream: boolean, block: Uint8Array): void {
    const fields: HeaderField[] = [];
    // Decoded even for streams that are gone: the table belongs to the connection (section 4.3).
    const used = this.#decoder.decode(block, 0, block.length, (name, value) => fields.push({ name, value }));
    if (used < 0) return this.close("a header block cannot be decoded", refusal(used));
    const stream = this.#streams.get(id);
    if (stream === undefined) return this.#checkIdle(id);
    if (!stream.canReceive) return this.#failStream(stream, streamClosed, "headers after the end of the stream", true);
    const wrong = malformed(fields, stream.gotHeaders ? "trailers" : "response");
    if (wrong !== "") return this.#failStream(stream, protocolError, `a malformed response: ${wrong}`, true);
    if (stream.gotHeaders) {
      // Section 8.1: trailers end the stream.
      if (!endStream) return this.#failStream(stream, protocolError, "trailers that do not end the stream", true);
      stream.events.trailers(fields);
      if (stream.state !== "closed" && !this.closed) this.#remoteEnd(stream);
      return;
    }
    const status = fields[0]?.value ?? "";
    if (status.startsWith("1")) {
      // Section 8.1: interim; must not end the stream. 101 does not exist here (8.6).
      if (endStream || status === "101") this.#failStream(stream, protocolError, "a bad interim response", true);
      return;
    }
    stream.gotHeaders = true;
    const announced = fields.find((f) => f.name === "content-length")?.value;
    if (announced !== undefined) {
      stream.contentLength = /^\d{1,15}$/.test(announced) ? Number(announced) : -2;
      if (stream.contentLength === -2 || (endStream && stream.contentLength !== 0)) {
        return this.#failStream(stream, protocolError, "a bad content-length", true);
      }
    }
    stream.events.headers(fields);
    if (endStream && stream.state !== "closed" && !this.closed) this.#remoteEnd(stream);
  }

  #remoteEnd(stream: ClientStream): void {
    const ended = stream.canSend;
    stream.remoteEnd();
    // The answer is whole; what we still wanted to send interests nobody (section 8.1 allows this reset).
    if (ended) this.#write(numberFrame(frameRstStream, stream.id, noError));
    this.#forget(stream);
    stream.events.end();
  }

  #rstStream(buf: Uint8Array, at: number): void {
    const id = this.#head.stream;
    const stream = this.#streams.get(id);
    if (stream === undefined) return this.#checkIdle(id);
    const code = readUint32(buf, at);
    this.#failStream(stream, code, `the peer reset the stream (${errorName(code)})`, false);
  }

  #settings(buf: Uint8Array, at: number): void {
    const head = this.#head;
    if ((head.flags & flagAck) !== 0) return;
    for (let n = at; n < at + head.length; n += 6) {
      const id = ((buf[n] as number) << 8) | (buf[n + 1] as number);
      const value = readUint32(buf, n + 2);
      switch (id) {
        case settingEnablePush:
          // Section 6.5.2: a server must not send 1.
          if (value !== 0) return this.close("a bad SETTINGS_ENABLE_PUSH", protocolError);
          break;
        case settingMaxConcurrentStreams:
          this.#peerMaxStreams = value;
          break;
        case settingInitialWindowSize: {
          if (value > largestWindow) return this.close("a bad SETTINGS_INITIAL_WINDOW_SIZE", flowControlError);
          const change = value - this.#peerInitialWindow;
          this.#peerInitialWindow = value;
          // Section 6.9.2: open streams move by the difference, below zero if need be.
          for (const stream of this.#streams.values()) {
            stream.sendWindow += change;
            if (stream.sendWindow > largestWindow) return this.close("a stream's window overflows", flowControlError);
          }
          break;
        }
        case settingMaxFrameSize:
          if (value < defaultMaxFrameSize || value > 0xff_ffff) return this.close("a bad SETTINGS_MAX_FRAME_SIZE", protocolError);
          this.#peerMaxFrame = value;
          break;
        default:
          // Header table size: our encoder keeps no table. Header list size: advisory. Others: unknown (section 6.5.2).
          break;
      }
    }
    this.#write(frame(frameSettings, flagAck, 0, new Uint8Array(0)));
    this.#pumpAll();
  }

  #ping(buf: Uint8Array, at: number): void {
    if ((this.#head.flags & flagAck) !== 0) {
      this.#pingSentAt = -1;
      return;
    }
    this.#write(frame(framePing, flagAck, 0, buf.slice(at, at + 8)));
  }

  #goaway(buf: Uint8Array, at: number): void {
    const last = readUint32(buf, at) & largestWindow;
    const code = readUint32(buf, at + 4);
    const text = Buffer.from(buf.subarray(at + 8, at + Math.min(this.#head.length, 8 + 256))).toString("latin1");
    const reason = `the peer is going away (${errorName(code)}${text === "" ? "" : `, ${JSON.stringify(text)}`})`;
    this.#state = "draining";
    for (const stream of [...this.#streams.values()]) {
      if (stream.id > last) this.#failStream(stream, refusedStream, reason, false);
    }
    // Anything but a graceful end leaves streams that would never finish.
    if (code !== noError) {
      this.#die(code, reason);
      return;
    }
    // Streams that last for ever get this long to be told something else by their server.
    this.#options.clock.after(drainMs, () => this.close(reason));
    this.#endIfIdle(reason);
  }

  #windowUpdate(buf: Uint8Array, at: number): void {
    const id = this.#head.stream;
    const grow = readUint32(buf, at) & largestWindow;
    if (id === 0) {
      // Section 6.9
      if (grow === 0) return this.close("a WINDOW_UPDATE of zero", protocolError);
      this.#sendWindow += grow;
      if (this.#sendWindow > largestWindow) return this.close("the connection's window overflows", flowControlError);
      return this.#pumpAll();
    }
    const stream = this.#streams.get(id);
    if (stream === undefined) return this.#checkIdle(id);
    if (grow === 0) return this.#failStream(stream, protocolError, "a WINDOW_UPDATE of zero", true);
    stream.sendWindow += grow;
    if (stream.sendWindow > largestWindow) return this.#failStream(stream, flowControlError, "the stream's window overflows", true);
    this.#pump(stream);
  }

  /** Section 5.1: frames on a stream that was never opened are a connection error; on one that is over they are late, and ignored. */
  #checkIdle(id: number): void {
    if (id % 2 === 0 || id >= this.#nextId) this.close(`a frame on stream ${id}, which is not open`, protocolError);
  }

  // ---- sending -------------------------------------------------------------------------------------------------------------------------

  #pumpAll(): void {
    for (const stream of [...this.#streams.values()]) this.#pump(stream);
  }

  #pump(stream: ClientStream): void {
    if (this.#pumping || this.closed || !stream.canSend) return;
    this.#pumping = true;
    while (stream.queue.length > 0 && this.#transport.backlog < backlogMark) {
      const room = Math.min(stream.sendWindow, this.#sendWindow, this.#peerMaxFrame);
      if (room <= 0) break;
      const first = stream.queue[0] as Uint8Array;
      const size = Math.min(room, first.length);
      if (size === first.length) stream.queue.shift();
      else stream.queue[0] = first.subarray(size);
      stream.queuedBytes -= size;
      stream.sendWindow -= size;
      this.#sendWindow -= size;
      const last = stream.endQueued && stream.queue.length === 0;
      const made = new Uint8Array(frameHeadBytes + size);
      writeFrameHead(made, 0, size, frameData, last ? flagEndStream : 0, stream.id);
      made.set(first.subarray(0, size), frameHeadBytes);
      this.#write(made);
      if (this.closed) break;
      if (last) stream.localEnd();
    }
    if (stream.endQueued && stream.queue.length === 0 && stream.canSend && !this.closed) {
      this.#write(frame(frameData, flagEndStream, stream.id, new Uint8Array(0)));
      stream.localEnd();
    }
    this.#pumping = false;
    if (stream.blocked && stream.queuedBytes <= highWaterBytes / 2 && stream.canSend) {
      stream.blocked = false;
      stream.events.writable();
    }
  }

  #write(bytes: Uint8Array): void {
    if (this.closed) return;
    this.#transport.write(bytes);
    if (this.#transport.backlog > maxBacklog) this.#die(enhanceYourCalm, "the peer does not read what it makes us send");
  }

  // ---- ends ----------------------------------------------------------------------------------------------------------------------------

  #failStream(stream: ClientStream, code: number, reason: string, tell: boolean): void {
    if (stream.state === "closed") return;
    this.#forget(stream);
    if (tell) this.#write(numberFrame(frameRstStream, stream.id, code));
    stream.events.failed({ code, reason, unprocessed: code === refusedStream });
  }

  #forget(stream: ClientStream): void {
    stream.state = "closed";
    stream.queue.length = 0;
    stream.queuedBytes = 0;
    this.#streams.delete(stream.id);
    if (this.#state === "draining") this.#endIfIdle("the peer is going away");
  }

  #endIfIdle(reason: string): void {
    if (this.#streams.size === 0) this.#die(noError, reason);
  }

  #die(code: number, reason: string): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#keepalive.cancel();
    this.#transport.end();
    const open = [...this.#streams.values()];
    this.#streams.clear();
    for (const stream of open) {
      stream.state = "closed";
      stream.queue.length = 0;
      stream.events.failed({ code, reason, unprocessed: false });
    }
    this.#options.closed(code, reason);
  }

  #checkKeepalive(): void {
    const now = this.#options.clock.mono();
    if (this.#pingSentAt >= 0) {
      if (now - this.#pingSentAt >= (this.#options.keepaliveTimeoutMs ?? 10_000))
        this.close("the peer does not answer pings", internalError);
      return;
    }
    if (now - this.#lastByteAt < (this.#options.keepaliveMs ?? 20_000)) return;
    this.#pingSentAt = now;
    this.#write(frame(framePing, 0, 0, new Uint8Array(8)));
  }
}

function writeSetting(buf: Uint8Array, at: number, id: number, value: number): void {
  buf[at] = id >>> 8;
  buf[at + 1] = id;
  writeUint32(buf, at + 2, value);
}
