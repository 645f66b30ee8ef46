import { afterEach, describe, expect, test } from "bun:test";
import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import { Cluster } from "../balance/cluster.ts";
import { Endpoint, type Transport } from "../balance/endpoint.ts";
import type { Http2Config, UpstreamProtocol } from "../config.ts";
import type { Failure } from "../http/failure.ts";
import type { RequestNeeds, UpstreamHalf, UpstreamOwner } from "../http/halves.ts";
import { Head, parseRequest } from "../http1/head.ts";
import { RequestPlan } from "../http1/write.ts";
import { Core } from "../runtime/core.ts";
import { cluster, endpoint, localWorkload, noSecrets, until } from "../testing/fixture.ts";
import { authority, leaf } from "../testing/pki.ts";
import { type TlsMaterial, upstreamMaterial } from "../tls/material.ts";
import { cancel, noError, refusedStream } from "./errors.ts";
import {
  flagEndStream,
  frame,
  frameData,
  frameGoaway,
  frameHeaders,
  framePing,
  frameRstStream,
  frameSettings,
  frameWindowUpdate,
  numberFrame,
  readUint32,
} from "./frame.ts";
import { fault, headFrom, headTo, readSection, section, takeRequest } from "./head-reader.ts";
import { HpackDecoder } from "./hpack-decoder.ts";
import { limits } from "./limits.ts";
import { acquireStream, offersHttp2 } from "./pool.ts";
import { clientPreface } from "./session-words.ts";
import { data, framesOf, headers, type Sent, settings } from "./testing.ts";

interface Peer {
  readonly sent: Sent[];
  /** Requests as text, by stream. */
  readonly asked: Map<number, string>;
  socket: Bun.Socket<Peer> | null;
  rest: Buffer;
  readonly decoder: HpackDecoder;
  ended: boolean;
  write(...frames: readonly Uint8Array[]): void;
}

interface Origin {
  readonly port: number;
  readonly peers: Peer[];
  stop(): void;
}

const origins: Origin[] = [];
const cores: Core[] = [];
afterEach(() => {
  for (const origin of origins.splice(0)) origin.stop();
  for (const core of cores.splice(0)) for (const open of [...core.open]) open.destroy();
});

/** A raw server: says `hello` when a connection is made, and `answer` gets each request's stream. */
function serve(hello: readonly Uint8Array[], answer: (peer: Peer, stream: number, ended: boolean) => void = () => {}): Origin {
  const peers: Peer[] = [];
  const server = Bun.listen<Peer>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        const peer: Peer = {
          sent: [],
          asked: new Map(),
          socket,
          rest: Buffer.alloc(0),
          decoder: new HpackDecoder(4_096),
          ended: false,
          write: (...frames) => void socket.write(Buffer.concat(frames.map((bytes) => Buffer.from(bytes)))),
        };
        socket.data = peer;
        peers.push(peer);
        peer.write(...hello);
      },
      data(socket, bytes) {
        const peer = socket.data;
        peer.rest = Buffer.concat([peer.rest, bytes]);
        if (peer.rest.subarray(0, 3).toString() === "PRI" && peer.rest.length >= clientPreface.length)
          peer.rest = peer.rest.subarray(clientPreface.length);
        let whole = 0;
        while (peer.rest.length - whole >= 9 && peer.rest.length - whole >= 9 + peer.rest.readUIntBE(whole, 3))
          whole += 9 + peer.rest.readUIntBE(whole, 3);
        const frames = framesOf(peer.rest.subarray(0, whole));
        peer.rest = peer.rest.subarray(whole);
        for (const sent of frames) {
          peer.sent.push(sent);
          if (hello.length > 0 && sent.type === frameSettings && sent.flags === 0)
            peer.write(frame(frameSettings, 1, 0, new Uint8Array(0)));
          if (sent.type === frameHeaders && !peer.asked.has(sent.stream)) {
            expect(readSection(peer.decoder, sent.payload, 0, sent.payload.length, section.request, 60_000, 100)).toBe(fault.none);
            peer.asked.set(sent.stream, takeRequest(0, () => 0).toString("latin1", headFrom, headTo));
            answer(peer, sent.stream, (sent.flags & flagEndStream) !== 0);
          }
        }
      },
      close(socket) {
        socket.data.ended = true;
      },
      error() {},
      drain() {},
    },
  });
  const origin = { port: server.port, peers, stop: () => server.stop(true) };
  origins.push(origin);
  return origin;
}

const ok = (stream: number): Uint8Array =>
  Buffer.concat([headers(stream, false, [":status", "200"], ["a", "b"]), data(stream, true, "hi")]);

/** Somebody who asks once and notes what becomes of it. */
class Asker implements UpstreamOwner {
  half: UpstreamHalf | null = null;
  readonly heard: string[] = [];
  failure: Failure | null = null;
  readonly request: Buffer;
  readonly body: readonly Uint8Array[];
  readonly needs: RequestNeeds;
  readonly plan = new RequestPlan();

  constructor(
    request = "GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nX-A: b\r\n\r\n",
    more: Partial<RequestNeeds> = {},
    body: readonly Uint8Array[] = [],
  ) {
    this.request = Buffer.from(request, "latin1");
    this.body = body;
    this.needs = { isHead: false, allowSwitch: false, unchunk: true, addChunks: false, end: true, endsWithData: false, ...more };
  }
  send(half: UpstreamHalf): void {
    const head = new Head();
    parseRequest(this.request, 0, this.request.length, head);
    half.sendRequest(this.request, head, this.plan, this.needs, this.body);
  }
  onUpstreamReady(half: UpstreamHalf): void {
    this.heard.push("ready");
    this.send(half);
  }
  onUpstreamFailed(_half: UpstreamHalf, failure: Failure, why: string): void {
    this.failure = failure;
    this.heard.push(`failed ${failure.kind} ${why}`);
  }
  onInterim(_half: UpstreamHalf, _bytes: Uint8Array, head: Head): void {
    this.heard.push(`interim ${head.status}`);
  }
  onAnswer(half: UpstreamHalf, bytes: Uint8Array, head: Head, from: number, to: number, done: boolean): void {
    this.heard.push(`answer ${head.status} ${Buffer.from(bytes).toString("latin1", from, to)}${done ? " done" : ""}`);
    if (done) half.release(true, 0);
  }
  onAnswerBody(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number, done: boolean): void {
    this.heard.push(`body ${Buffer.from(bytes).toString("latin1", from, to)}${done ? " done" : ""}`);
    if (done) half.release(true, 0);
  }
  onAnswerTrailers(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number): void {
    this.heard.push(`trailers ${Buffer.from(bytes).toString("latin1", from, to).trim()}`);
    half.release(true, 0);
  }
  onSwitch(_half: UpstreamHalf, _bytes: Uint8Array, head: Head): void {
    this.heard.push(`switch ${head.status}`);
  }
  onUpstreamLost(_half: UpstreamHalf, failure: Failure, why: string): void {
    this.failure = failure;
    this.heard.push(`lost ${failure.kind} ${why}`);
  }
  onUpstreamDrained(): void {
    this.heard.push("drained");
  }
  onRawBytes(_half: UpstreamHalf, bytes: Uint8Array): void {
    this.heard.push(`raw ${Buffer.from(bytes).toString("latin1")}`);
  }
  onRawEnd(): void {
    this.heard.push("raw end");
  }
}

function pool(
  port: number,
  maxConnections = 1_024,
  connectTimeoutMs = 1_000,
  tls: TlsMaterial | null = null,
  protocol: UpstreamProtocol = "http2",
  http2: Http2Config = {},
) {
  const core = new Core({
    clock: systemClock,
    log: silentLogger,
    metrics: new MetricRegistry(),
    random: Math.random,
    secrets: noSecrets,
    local: localWorkload,
    accessLog: () => ({ write: () => {} }),
  });
  cores.push(core);
  const config = endpoint(port);
  const owner = new Cluster(
    cluster("c", [config], { connectTimeoutMs, http2, limits: { maxConnections, maxPending: 10, maxRequests: 100, maxRetries: 3 } }),
  );
  const transport: Transport = { key: "one", tls, tlsHttp1: tls, protocol };
  const target = new Endpoint(owner, transport, config);
  return {
    core,
    target,
    ask(asker: Asker): Asker {
      asker.half = acquireStream(core, target, asker, core.ticker.now());
      if (asker.half?.open) asker.send(asker.half);
      return asker;
    },
  };
}

describe("an upstream connection", () => {
  test("waits for the peer's SETTINGS, then carries many requests at once", async () => {
    const origin = serve([settings([3, 100])], (peer, stream) => peer.write(ok(stream)));
    const one = pool(origin.port);
    const first = [1, 2, 3].map(() => one.ask(new Asker()));
    expect(first.map((asker) => asker.half?.open)).toEqual([false, false, false]);
    await until(() => first.every((asker) => asker.heard.length === 2), "three answers");
    expect(first[0]?.heard).toEqual(["ready", "answer 200 hi done"]);
    const again = one.ask(new Asker());
    expect(again.half?.open).toBe(true);
    await until(() => again.heard.length === 1, "the fourth answer");
    expect(origin.peers.length).toBe(1);
    expect(origin.peers[0]?.asked.get(1)).toBe("GET /x HTTP/1.1\r\nHost: a.example\r\nx-a: b\r\n\r\n");
    expect([one.target.connections, one.target.shared.length, one.core.http2.upstreamConnections.value]).toEqual([1, 1, 1]);
    one.target.retire();
    await until(() => origin.peers[0]?.ended === true, "the end of an idle connection");
    expect([one.target.connections, one.target.shared.length]).toEqual([0, 0]);
  });

  test("RFC 9113 5.1.2: those for whom there is no room get other connections, within the cluster's limit", async () => {
    const held: (() => void)[] = [];
    const origin = serve([settings([3, 2])], (peer, stream) => void held.push(() => peer.write(ok(stream))));
    const one = pool(origin.port, 2);
    const askers = [1, 2, 3, 4, 5].map(() => one.ask(new Asker()));
    await until(() => held.length === 4 && askers[4]?.failure !== null, "four requests on two connections");
    expect(origin.peers.length).toBe(2);
    expect(askers[4]?.failure?.kind).toBe("overflow");
    expect(acquireStream(one.core, one.target, new Asker(), 0)).toBeNull();
    let woken = 0;
    one.target.cluster.waiting.push({ retryPick: () => void woken++ });
    for (const answer of held) answer();
    await until(() => woken === 1, "the one that waits to be woken");
  });

  test("RFC 9113 8.7 and 6.8: what the peer never looked at is safe to repeat", async () => {
    const origin = serve([settings()], (peer, stream) => {
      if (stream === 1) peer.write(numberFrame(frameRstStream, 1, refusedStream));
      else if (stream === 3) peer.write(numberFrame(frameRstStream, 3, cancel));
      else if (stream === 7) {
        const payload = Buffer.alloc(8);
        payload.writeUInt32BE(5, 0);
        payload.writeUInt32BE(noError, 4);
        peer.write(frame(frameGoaway, 0, 0, payload), ok(5));
      }
    });
    const one = pool(origin.port);
    const askers = [1, 3, 5, 7].map(() => one.ask(new Asker()));
    await until(() => askers[2]?.heard.length === 2 && askers[3]?.failure !== null, "the answer to the third");
    expect(askers.map((asker) => [asker.failure?.kind, asker.failure?.retry, asker.failure?.flag])).toEqual([
      ["refused-stream", "safe", "UR"],
      ["remote-reset", "idempotent", "UR"],
      [undefined, undefined, undefined],
      ["refused-stream", "safe", "UR"],
    ]);
    await until(() => one.target.connections === 0, "the connection to end with its last stream");
  });

  test("incident: a reset without error in place of the last, empty DATA frame ends an answer that is whole, and no other", async () => {
    const origin = serve([settings()], (peer, stream) => {
      const length = stream === 3 ? "3" : "2";
      const fields: [string, string][] = stream === 5 ? [] : [["content-length", length]];
      peer.write(headers(stream, false, [":status", "200"], ...fields), data(stream, false, "hi"));
      peer.write(numberFrame(frameRstStream, stream, stream === 7 ? cancel : noError));
    });
    const one = pool(origin.port);
    const askers = [1, 3, 5, 7].map(() => one.ask(new Asker()));
    await until(() => askers.every((asker) => asker.failure !== null || asker.heard.at(-1)?.endsWith("done") === true), "four ends");
    expect(askers.map((asker) => asker.failure?.kind)).toEqual([undefined, "remote-reset", "unmarked-end", "remote-reset"]);
    expect(askers[0]?.heard.join("|")).toContain("hi|body  done");
  });

  test("incident: a gRPC call without a message ends with an empty DATA frame, without which grpc-go waits for ever", async () => {
    const origin = serve([settings()], (peer, stream) => peer.write(ok(stream)));
    const one = pool(origin.port);
    const plain = one.ask(new Asker());
    const call = one.ask(new Asker("POST /s/M HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n\r\n", { endsWithData: true }));
    await until(() => plain.heard.length === 2 && call.heard.length === 2, "the answers");
    await until(() => origin.peers[0]?.sent.some((frame) => frame.type === frameData) === true, "the end");
    const sent = origin.peers[0]?.sent.filter((frame) => frame.stream > 0);
    expect(sent?.map((frame) => [frame.type, frame.stream, frame.length, frame.flags & flagEndStream])).toEqual([
      [frameHeaders, 1, sent?.[0]?.length ?? 0, flagEndStream],
      [frameHeaders, 3, sent?.[1]?.length ?? 0, 0],
      [frameData, 3, 0, flagEndStream],
    ]);
  });

  test("nobody there, a peer that is silent, and one that speaks HTTP/1", async () => {
    const gone = serve([]);
    gone.stop();
    const refused = pool(gone.port).ask(new Asker());
    await until(() => refused.failure !== null, "the refusal");
    expect(refused.heard[0]).toContain("failed connect connection refused");
    const silent = pool(serve([]).port, 10, 100).ask(new Asker());
    const old = pool(serve([Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n")]).port).ask(new Asker());
    await until(() => silent.failure !== null && old.failure !== null, "two failures");
    expect(silent.heard[0]).toContain("failed connect-timeout no SETTINGS within the connect timeout");
    expect(old.heard[0]).toStartWith("failed connect ");
    expect([silent.failure?.retry, old.failure?.retry]).toEqual(["safe", "safe"]);
  });

  test("windows and keepalive as the cluster's HTTP/2 options say: a peer that does not answer PINGs loses its requests", async () => {
    const origin = serve([settings()]);
    const keepalive = { intervalMs: 50, timeoutMs: 50, jitter: 0, idleMs: 0 };
    const http2 = { initialStreamWindow: 1_000_000, initialConnectionWindow: 2_000_000, keepalive };
    const one = pool(origin.port, 10, 1_000, null, "http2", http2);
    const asker = one.ask(new Asker());
    await until(() => asker.failure !== null, "the loss");
    const [first, second] = origin.peers[0]?.sent ?? [];
    expect(first?.payload.toString("hex")).toContain("0004000f4240");
    expect([second?.type, readUint32(second?.payload as Buffer, 0)]).toEqual([frameWindowUpdate, 2_000_000 - 65_535]);
    expect([asker.failure?.kind, asker.heard.at(-1)]).toEqual(["reset", "lost reset the peer did not answer a PING"]);
    expect(origin.peers[0]?.sent.filter((sent) => sent.type === framePing).length).toBe(1);
  });

  test("a connection that breaks loses its requests; one given up is reset", async () => {
    const origin = serve([settings()], (peer, stream) => {
      if (stream === 3) peer.write(headers(3, false, [":status", "200"]));
    });
    const one = pool(origin.port);
    const [first, second] = [one.ask(new Asker()), one.ask(new Asker())];
    await until(() => second?.heard.length === 2, "a head");
    first?.half?.dispose();
    await until(() => origin.peers[0]?.sent.some((sent) => sent.type === frameRstStream) === true, "the reset");
    const reset = origin.peers[0]?.sent.find((sent) => sent.type === frameRstStream) as Sent;
    expect([reset.stream, readUint32(reset.payload, 0)]).toEqual([1, cancel]);
    origin.peers[0]?.socket?.terminate();
    await until(() => second?.failure !== null, "the loss");
    expect([first?.heard, second?.failure?.kind]).toEqual([["ready"], "reset"]);
    expect([one.target.connections, one.target.cluster.connections]).toEqual([0, 0]);
  });

  test("a request body with trailers, an interim answer, and trailers back", async () => {
    const origin = serve([settings()], (peer, stream) =>
      peer.write(
        headers(stream, false, [":status", "100"]),
        headers(stream, false, [":status", "200"]),
        headers(stream, true, ["grpc-status", "0"]),
      ),
    );
    const one = pool(origin.port);
    const asker = one.ask(
      new Asker("POST /p HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n", { end: false }, [Buffer.from("abc")]),
    );
    await until(() => asker.heard.length === 4, "the trailers");
    expect(asker.heard).toEqual(["ready", "interim 100", "answer 200 ", "trailers grpc-status: 0"]);
    expect(origin.peers[0]?.asked.get(1)).toBe("POST /p HTTP/1.1\r\nHost: a\r\nte: trailers\r\n\r\n");
    await until(() => origin.peers[0]?.sent.some((sent) => sent.type === frameRstStream) === true, "the reset of what never ended");
    expect(origin.peers[0]?.sent.find((sent) => sent.type === frameData)?.payload.toString()).toBe("abc");
  });

  test("RFC 8441: a WebSocket where the peer offers it, a clear failure where it does not, and no other upgrade", async () => {
    const websocket =
      "GET /c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";
    const ask = (port: number, text: string): Asker => {
      const asker = new Asker(text, { allowSwitch: true });
      asker.plan.keepUpgrade = true;
      return pool(port).ask(asker);
    };
    const able = serve([settings([8, 1])], (peer, stream) =>
      peer.write(headers(stream, false, [":status", "200"]), data(stream, false, "x"), data(stream, true, "")),
    );
    const good = ask(able.port, websocket);
    const other = ask(able.port, websocket.replace("websocket", "h2c"));
    const unable = ask(serve([settings()]).port, websocket);
    await until(() => good.heard.length === 4 && other.failure !== null && unable.failure !== null, "three outcomes");
    expect(good.heard).toEqual(["ready", "switch 200", "raw x", "raw end"]);
    // Read as a server of ours would: an HTTP/1.1 upgrade, whose key is its own.
    expect(able.peers[0]?.asked.get(1)).toContain(
      "GET /c HTTP/1.1\r\nHost: a\r\nsec-websocket-version: 13\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    );
    expect([other.failure?.kind, unable.failure?.kind]).toEqual(["http2-upgrade", "http2-upgrade"]);
  });

  test("ALPN: h2 is spoken, http/1.1 is told where either will do and refused where it will not, and silence is prior knowledge", async () => {
    const issuer = await authority("weft");
    const own = await leaf(issuer, ["spiffe://cluster.local/ns/a/sa/b"]);
    const peer = (alpn: string | null): number => {
      const server = Bun.listen({
        hostname: "127.0.0.1",
        port: 0,
        tls: {
          cert: own.certificatePem,
          key: own.privateKeyPem,
          ...(alpn === null ? {} : { ALPNProtocols: Buffer.concat([Buffer.from([alpn.length]), Buffer.from(alpn)]) }),
        } as Bun.TLSOptions,
        socket: {
          handshake(socket) {
            if (alpn !== "http/1.1")
              socket.write(Buffer.concat([Buffer.from(settings()), Buffer.from(frame(frameSettings, 1, 0, new Uint8Array(0)))]));
          },
          data(socket, bytes) {
            if (bytes.includes("a.example")) socket.write(ok(1));
          },
          error() {},
        },
      });
      origins.push({ port: server.port, peers: [], stop: () => server.stop(true) });
      return server.port;
    };
    const material = (): TlsMaterial =>
      upstreamMaterial(
        {
          certificate: null,
          roots: { kind: "pem", pem: issuer.pem },
          peerNames: [],
          alpn: ["h2", "http/1.1"],
          sni: "",
          minVersion: "TLSv1.3",
        } as unknown as Parameters<typeof upstreamMaterial>[0],
        noSecrets,
      );
    const made = (["h2", "http/1.1", "http/1.1", null] as const).map((alpn, i) =>
      pool(peer(alpn), 10, 2_000, material(), i === 0 || i === 1 ? "auto" : "http2"),
    );
    const askers = made.map((one) => one.ask(new Asker()));
    await until(
      () => askers.every((asker) => (asker.heard.length > 0 && asker.heard[0] !== "ready") || asker.heard.length > 1),
      "four outcomes",
    );
    expect(askers.map((asker) => asker.failure?.kind ?? asker.heard.at(-1))).toEqual([
      "answer 200 hi done",
      "http1-only",
      "tls",
      "answer 200 hi done",
    ]);
    expect(askers[2]?.heard[0]).toContain("agreed on http/1.1");
    expect(made.map((one) => one.target.agreed)).toEqual(["h2", "http/1.1", null, "h2"]);
    // HTTP/1.1 is not for ever: after a minute a new connection, where none is idle, offers HTTP/2 again.
    const [, old] = made.map((one) => one.target);
    const asksAt = (old?.agreedAtMs ?? 0) + limits.askAgainMs;
    expect([asksAt - 1, asksAt].map((nowMs) => offersHttp2(old as Endpoint, nowMs))).toEqual([false, true]);
    old?.idle.push({ generation: 0, dispose() {} });
    expect(offersHttp2(old as Endpoint, asksAt)).toBe(false);
    expect(askers[0]?.half?.peer?.principal).toBe("spiffe://cluster.local/ns/a/sa/b");
  });
});
