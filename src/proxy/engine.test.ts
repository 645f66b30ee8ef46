import { afterEach, expect, test } from "bun:test";
import {
  catchAll,
  chain,
  cluster,
  config,
  endpoint,
  forward,
  hop,
  http,
  listener,
  RawPeer,
  type Running,
  rawOrigin,
  route,
  start,
  table,
  tcpProxy,
  until,
} from "./testing/fixture.ts";

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});
function running(...args: Parameters<typeof start>): Running {
  const made = start(...args);
  stops.push(() => made.engine.close());
  return made;
}
function origin(...args: Parameters<typeof rawOrigin>) {
  const made = rawOrigin(...args);
  stops.push(() => made.stop());
  return made;
}
const hello = (extra = "") => `HTTP/1.1 200 OK\r\nContent-Length: 5\r\n${extra}\r\nhello`;

test("a request goes through and its connection is kept on both sides", async () => {
  const seen: string[] = [];
  const app = origin((text, write) => {
    seen.push(text);
    write(hello("Connection: keep-alive\r\nX-A: b\r\n"));
  });
  const proxy = running(hop([cluster("c", [endpoint(app.port)])]));
  const peer = await RawPeer.connect(proxy.port());
  expect(await peer.ask("GET /a?b=c HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Keep: 2\r\n\r\n")).toBe(
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
  );
  expect(seen[0]).toMatch(
    /^GET \/a\?b=c HTTP\/1\.1\r\nHost: x\r\nX-Keep: 2\r\nx-request-id: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\r\n\r\n$/,
  );
  peer.text = "";
  await peer.ask("GET /2 HTTP/1.1\r\nHost: x\r\nx-request-id: mine\r\n\r\n");
  expect(seen[1]).toBe("GET /2 HTTP/1.1\r\nHost: x\r\nx-request-id: mine\r\n\r\n");
  expect(app.connections()).toBe(1);
  expect(proxy.count("istio_requests_total", "200")).toBe(2);
  expect(proxy.engine.stats()).toMatchObject({ connections: 1, activeRequests: 0 });
});
