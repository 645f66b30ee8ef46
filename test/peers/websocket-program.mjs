// WebSocket peers on Node. `server`: the ws library, prints {"port":N}, ends with its standard input. `client PORT`: ws over HTTP/1.1, then the same by
// hand over one HTTP/2 stream (RFC 8441); prints a line of JSON for each thing tried: [what, outcome].

import { randomBytes } from "node:crypto";
import http2 from "node:http2";
import { createRequire } from "node:module";

const WebSocket = createRequire(import.meta.url)("ws");
const mebibyte = 1024 * 1024;

function serve() {
  const server = new WebSocket.WebSocketServer({
    host: "127.0.0.1",
    port: 0,
    maxPayload: 16 * mebibyte,
    handleProtocols: (set) => [...set][0],
  });
  server.on("listening", () => console.log(JSON.stringify({ port: server.address().port })));
  server.on("connection", (socket, request) => {
    socket.on("error", () => {});
    socket.on("message", (data, isBinary) => {
      const text = isBinary ? "" : data.toString();
      if (text === "close me") socket.close(4321, "as asked");
      else if (text === "drop me") socket.terminate();
      else if (text === "path") socket.send(request.url);
      else if (text === "ping me") {
        socket.once("pong", (back) => socket.send(`ponged ${back}`));
        socket.ping("p");
      } else if (text.startsWith("pour ")) for (let n = Number(text.slice(5)); n > 0; n--) socket.send(Buffer.alloc(1000, n & 0xff));
      else socket.send(data, { binary: isBinary });
    });
  });
  process.stdin.resume().on("end", () => process.exit(0));
}

const say = (what, outcome) => console.log(JSON.stringify([what, outcome]));
const limit = (promise, ms = 5_000) =>
  Promise.race([promise, new Promise((resolve) => setTimeout(() => resolve(`nothing in ${ms} ms`), ms).unref())]);

async function overHttp1(port) {
  const open = (path = "/chat?room=1", protocols = []) =>
    limit(
      new Promise((resolve) => {
        const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, protocols, { maxPayload: 16 * mebibyte });
        socket.on("open", () => resolve(socket));
        socket.on("unexpected-response", (_request, response) => resolve(response.statusCode));
        socket.on("error", (error) => resolve(String(error)));
      }),
    );
  const next = (socket) =>
    limit(new Promise((resolve) => socket.once("message", (data, isBinary) => resolve(isBinary ? data : data.toString()))));
  const closed = (socket) => limit(new Promise((resolve) => socket.once("close", (code, reason) => resolve([code, reason.toString()]))));
  const ask = (socket, message) => {
    const answer = next(socket);
    socket.send(message);
    return answer;
  };

  const socket = await open("/chat?room=1", ["v2.chat"]);
  if (!(socket instanceof WebSocket)) {
    say("http1 opens", socket);
    return;
  }
  say("http1 opens", socket.protocol);
  say("http1 keeps the path", await ask(socket, "path"));
  say("http1 echoes", await ask(socket, "hé"));
  const large = randomBytes(8 * mebibyte);
  const back = await ask(socket, large);
  say("http1 echoes 8 MiB", Buffer.isBuffer(back) && back.equals(large));
  say("http1 server pings", await ask(socket, "ping me"));
  const pong = limit(new Promise((resolve) => socket.once("pong", (data) => resolve(data.toString()))));
  socket.ping("hello");
  say("http1 client pings", await pong);
  const count = 2_000;
  const all = limit(
    new Promise((resolve) => {
      let got = 0;
      socket.on("message", () => ++got === count && resolve(got));
    }),
  );
  socket.send(`pour ${count}`);
  say("http1 many messages", await all);
  const end = closed(socket);
  socket.send("close me");
  say("http1 server closes", await end);
  const mine = await open();
  const echoOfClose = closed(mine);
  mine.close(3456, "mine");
  say("http1 client closes", await echoOfClose);
  const dropped = await open();
  const cut = closed(dropped);
  dropped.send("drop me");
  say("http1 server is gone", (await cut)[0]);
  const denied = await open("/denied");
  say("http1 denied", denied);
}

/** A client frame: masked, as RFC 6455 asks of clients over either version. */
function frame(opcode, payload) {
  const size = payload.length;
  const head = size < 126 ? Buffer.from([0x80 | opcode, 0x80 | size]) : Buffer.alloc(size < 65_536 ? 4 : 10);
  if (size >= 126) {
    head[0] = 0x80 | opcode;
    head[1] = 0x80 | (size < 65_536 ? 126 : 127);
    if (size < 65_536) head.writeUInt16BE(size, 2);
    else head.writeBigUInt64BE(BigInt(size), 2);
  }
  const mask = randomBytes(4);
  const masked = Buffer.from(payload);
  for (let at = 0; at < masked.length; at++) masked[at] ^= mask[at & 3];
  return Buffer.concat([head, mask, masked]);
}

/** Reads server frames (whole messages, as ws sends them). */
function reader(stream, take) {
  let parts = [];
  let held = 0;
  let wanted = 2;
  stream.on("data", (part) => {
    parts.push(part);
    held += part.length;
    while (held >= wanted) {
      const all = Buffer.concat(parts);
      const short = all[1] & 0x7f;
      const head = short < 126 ? 2 : short === 126 ? 4 : 10;
      const size =
        all.length < head ? Number.NaN : short < 126 ? short : short === 126 ? all.readUInt16BE(2) : Number(all.readBigUInt64BE(2));
      wanted = Number.isNaN(size) ? head : head + size;
      parts = [all];
      if (held < wanted) return;
      take(all[0] & 15, all.subarray(head, head + size));
      parts = [all.subarray(head + size)];
      held -= head + size;
      wanted = 2;
    }
  });
}

async function overHttp2(port) {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  await limit(new Promise((resolve) => session.once("remoteSettings", resolve)));
  say("http2 offers extended CONNECT", session.remoteSettings.enableConnectProtocol === true);
  const open = (path = "/chat?room=2") =>
    limit(
      new Promise((resolve) => {
        const stream = session.request({
          ":method": "CONNECT",
          ":protocol": "websocket",
          ":scheme": "http",
          ":path": path,
          ":authority": `127.0.0.1:${port}`,
          "sec-websocket-version": "13",
          "sec-websocket-protocol": "v2.chat",
          origin: "http://127.0.0.1",
          // RFC 8441 5.1: not used over HTTP/2; who translates makes one. Envoy makes none, so that it can only be a yardstick with one from here.
          ...(process.env.WEFT_JUDGE === "envoy" ? { "sec-websocket-key": randomBytes(16).toString("base64") } : {}),
        });
        stream.on("error", (error) => resolve(String(error)));
        stream.on("response", (headers) => resolve({ stream, headers }));
      }),
    );
  const opened = await open();
  if (opened.stream === undefined || opened.headers[":status"] !== 200) {
    say("http2 opens", opened.headers ?? opened);
    session.destroy();
    return;
  }
  const { stream, headers } = opened;
  say("http2 opens", [
    headers["sec-websocket-protocol"],
    headers["sec-websocket-accept"] ?? null,
    headers.upgrade ?? null,
    headers.connection ?? null,
  ]);
  const waiting = [];
  reader(stream, (opcode, payload) => waiting.shift()?.([opcode, payload]));
  const next = () => limit(new Promise((resolve) => waiting.push(resolve)));
  const ask = (opcode, payload) => {
    const answer = next();
    stream.write(frame(opcode, Buffer.from(payload)));
    return answer;
  };
  const text = (answer) => (Array.isArray(answer) ? [answer[0], answer[1].toString()] : answer);
  say("http2 keeps the path", text(await ask(1, "path")));
  say("http2 echoes", text(await ask(1, "hé")));
  const large = randomBytes(4 * mebibyte);
  const back = await ask(2, large);
  say("http2 echoes 4 MiB", Array.isArray(back) && back[1].equals(large));
  say("http2 client pings", text(await ask(9, "hello")));
  const end = limit(new Promise((resolve) => stream.once("close", () => resolve(stream.rstCode))));
  const closing = await ask(1, "close me");
  say("http2 server closes", [closing[0], closing[1].readUInt16BE(0), closing[1].subarray(2).toString()]);
  stream.write(frame(8, closing[1]));
  stream.end();
  say("http2 stream ends", await end);
  // Ordinary requests go on beside tunnels.
  const tunnel = await open();
  const beside = await limit(
    new Promise((resolve) => {
      const request = session.request({ ":path": "/denied" });
      request.on("response", (answer) => resolve(answer[":status"]));
      request.on("error", (error) => resolve(String(error)));
      request.resume();
    }),
  );
  say("http2 a request beside a tunnel", beside);
  const cut = limit(new Promise((resolve) => tunnel.stream.once("end", () => resolve("over")).once("close", () => resolve("over"))));
  tunnel.stream.resume();
  tunnel.stream.write(frame(1, Buffer.from("drop me")));
  say("http2 server is gone", await cut);
  const denied = await open("/denied");
  say("http2 denied", denied.headers?.[":status"] ?? denied);
  session.destroy();
}

if (process.argv[2] === "server") serve();
else {
  await overHttp1(process.argv[3]);
  await overHttp2(process.argv[3]);
  process.exit(0);
}
