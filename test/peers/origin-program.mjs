// The application behind the proxies in the judges' tests: Node's own HTTP/1.1 and HTTP/2 (prior knowledge) servers, the same answers from both.
// Prints one line of JSON, {"http1":PORT,"http2":PORT}, and ends when its standard input does.

import { createHash } from "node:crypto";
import http from "node:http";
import http2 from "node:http2";

const block = Buffer.alloc(65_536, "weft ");

/** Writes `size` bytes under back pressure. */
function pour(response, size) {
  let left = size;
  const more = () => {
    while (left > 0) {
      const part = left >= block.length ? block : block.subarray(0, left);
      left -= part.length;
      if (!response.write(part)) {
        response.once("drain", more);
        return;
      }
    }
    response.end();
  };
  more();
}

function answer(request, response) {
  const url = new URL(request.url, "http://origin");
  const size = Number(url.searchParams.get("size") ?? 0);
  const isHttp2 = request.httpVersionMajor === 2;
  switch (url.pathname) {
    case "/hello":
      response.setHeader("content-type", "text/plain");
      response.end(`hello over HTTP/${request.httpVersion}\n`);
      break;
    case "/chat":
      response.end("an ordinary answer, not a tunnel");
      break;
    case "/length":
      response.setHeader("content-length", size);
      if (request.method === "HEAD") response.end();
      else pour(response, size);
      break;
    case "/stream":
      pour(response, size);
      break;
    case "/hash": {
      const hash = createHash("sha256");
      request.on("data", (bytes) => hash.update(bytes));
      request.on("end", () => response.end(hash.digest("hex")));
      break;
    }
    case "/echo":
      request.pipe(response);
      break;
    case "/heads":
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ version: request.httpVersion, method: request.method, url: request.url, headers: request.headers }));
      break;
    case "/trailers":
      response.writeHead(200, isHttp2 ? { "x-head": "first" } : { "x-head": "first", trailer: "x-checksum, x-last" });
      response.write("body\r\n");
      response.addTrailers({ "x-checksum": "abc", "x-last": "yes" });
      response.end();
      break;
    case "/hints":
      response.writeEarlyHints({ link: "</style.css>; rel=preload; as=style" });
      response.end("after the hints");
      break;
    case "/status":
      response.statusCode = size;
      response.end();
      break;
    case "/early":
      // Says no at the first byte, and goes on reading.
      request.resume();
      response.statusCode = 413;
      response.end("too much");
      break;
    case "/slow":
      setTimeout(() => response.end("at last"), size);
      break;
    case "/broken":
      response.setHeader("content-length", 100);
      response.write("only this");
      setTimeout(() => (isHttp2 ? response.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR) : response.socket.destroy()), 20);
      break;
    default:
      response.statusCode = 404;
      response.end();
  }
  request.on("error", () => {});
  response.on("error", () => {});
}

const listen = (server) =>
  new Promise((resolve) => {
    server.on("clientError", (_error, socket) => socket.destroy());
    // Room for a test's thousand connections at once: one that finds no room tries again after 1, 3 and 7 seconds.
    server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => resolve(server.address().port));
  });
const plain = await listen(http.createServer(answer));
const two = http2.createServer(answer);
two.on("sessionError", () => {});
two.on("session", (session) => session.on("error", () => {}));
console.log(JSON.stringify({ http1: plain, http2: await listen(two) }));
process.stdin.resume().on("end", () => process.exit(0));
