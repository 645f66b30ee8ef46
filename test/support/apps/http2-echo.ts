// A service for tests that speaks HTTP/2 without TLS and nothing else: says its name, and over which version and path it was asked.

import { createServer } from "node:http2";

createServer((request, response) => {
  request.resume();
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ instance: process.env.INSTANCE, version: request.httpVersion, path: request.url }));
}).listen(Number(process.env.PORT), "127.0.0.1");
