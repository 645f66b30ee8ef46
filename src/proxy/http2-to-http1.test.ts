// Requests that come in by HTTP/2 and go on by HTTP/1.1: what the origin reads must be one message, framed.
import { expect, test } from "bun:test";
import { cluster, endpoint, hop, RawPeer, rawOrigin, start, until } from "./testing/fixture.ts";

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** `POST / http a`, by the static table (RFC 7541 appendix A). */
const post = Uint8Array.of(0x83, 0x86, 0x84, 0x01, 0x01, 0x61);
const preface = Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, new Uint8Array(0))]);

test("a body without a length that comes in one piece with its head is framed for HTTP/1.1", async () => {
  let seen = "";
  const app = rawOrigin((text, write) => {
    seen += text;
    write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  });
  const proxy = start(hop([cluster("c", [endpoint(app.port)])], undefined, { generateRequestId: false }));
  try {
    const peer = await RawPeer.connect(proxy.port());
    peer.send(Buffer.concat([preface, frame(1, 4, 1, post), frame(0, 1, 1, Buffer.from("abc"))]).toString("latin1"));
    await until(() => seen.includes("abc"), "the request");
    expect(seen).toBe("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    peer.close();
  } finally {
    proxy.engine.close();
    app.stop();
  }
});
