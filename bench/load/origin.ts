// Owns: the server behind every subject: raw sockets, one canned answer of 100 bytes, so that it costs less than what is measured.
// `/api/echo` answers with the head it was sent, for the checks before the measuring. Not an HTTP server for any other use.
// Run: bun bench/load/origin.ts PORT
import type { Socket } from "bun";

const BODY = "weft-bench ".repeat(10).slice(0, 100);
const ANSWER = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${BODY.length}\r\nserver: origin\r\n\r\n${BODY}`,
);
const END = 0x0d0a_0d0a; // "\r\n\r\n", big endian

interface Peer {
  /** Bytes of an unfinished head. */
  rest: Buffer | null;
}

function answerTo(head: Buffer): Buffer {
  if (head[9] === 0x65 && head.toString("latin1", 0, 13) === "GET /api/echo") {
    const text = head.toString("latin1", 0, head.length);
    return Buffer.from(`HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${text.length}\r\n\r\n${text}`, "latin1");
  }
  return ANSWER;
}

function take(socket: Socket<Peer>, data: Buffer): void {
  const peer = socket.data;
  // Nearly always one whole head in one read.
  if (
    peer.rest === null &&
    data.length >= 4 &&
    data.readUInt32BE(data.length - 4) === END &&
    data.indexOf("\r\n\r\n") === data.length - 4
  ) {
    socket.write(answerTo(data));
    return;
  }
  let bytes = peer.rest === null ? data : Buffer.concat([peer.rest, data]);
  for (let at = bytes.indexOf("\r\n\r\n"); at !== -1; at = bytes.indexOf("\r\n\r\n")) {
    socket.write(answerTo(bytes.subarray(0, at + 4)));
    bytes = bytes.subarray(at + 4);
  }
  peer.rest = bytes.length === 0 ? null : Buffer.from(bytes);
}

if (import.meta.main) {
  const port = Number(process.argv[2]);
  if (!Number.isInteger(port)) throw new Error("usage: bun bench/load/origin.ts PORT");
  Bun.listen<Peer>({
    hostname: "127.0.0.1",
    port,
    socket: {
      open(socket) {
        socket.data = { rest: null };
        socket.setNoDelay(true);
      },
      data: take,
      error() {},
    },
  });
}
