// An edge tells where a request comes from (`use_remote_address`): over HTTP/1.1, with bodies, in pipelines, over HTTP/2, and at the limits of a head.
import { expect, test } from "bun:test";
import { connect } from "node:http2";
import { Head, parseRequest } from "../http1/head.ts";
import { defaultLimits } from "../http1/limits.ts";
import { cluster, endpoint, hop, RawPeer, rawOrigin, start, until } from "../testing/fixture.ts";
import { latin1, text } from "./bytes.ts";
import { tellForwarded, toldHead } from "./forwarded.ts";

function told(fields: string, address = "192.0.2.7", secure = false, trustedHops = 0, appends = true): string | null {
  const bytes = latin1(`GET /a?b HTTP/1.1\r\nHost: shop\r\n${fields}\r\n`);
  const head = new Head();
  expect(parseRequest(bytes, 0, bytes.length, head)).toBe(bytes.length);
  const made = tellForwarded(bytes, head, { limits: defaultLimits, trustedHops, appends }, address, secure);
  if (made === null) return null;
  expect([toldHead.from, toldHead.to]).toEqual([0, made.length]);
  return text(made, 0, made.length);
}

test.each([
  ["", "x-forwarded-for: 192.0.2.7"],
  ["X-Forwarded-For: 10.0.0.1\r\n", "x-forwarded-for: 10.0.0.1, 192.0.2.7"],
  ["X-Forwarded-For:10.0.0.1\r\nx-forwarded-for: \r\nx-forwarded-FOR: a, b\r\n", "x-forwarded-for: 10.0.0.1, a, b, 192.0.2.7"],
])("%j ends with the client's own address", (fields, wanted) => {
  expect(told(fields)).toBe(`GET /a?b HTTP/1.1\r\nHost: shop\r\n${wanted}\r\nx-forwarded-proto: http\r\n\r\n`);
});

test("the scheme is what it is, not what the client says", () => {
  expect(told("X-Forwarded-Proto: https\r\nA: b\r\nx-forwarded-proto: http\r\n")).toContain(
    "\r\nA: b\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\n\r\n",
  );
  expect(told("x-forwarded-proto: http\r\n", "192.0.2.7", true)).toMatch(
    /shop\r\nx-forwarded-for: 192\.0\.2\.7\r\nx-forwarded-proto: https\r\n\r\n$/,
  );
});

test("a proxy that is believed keeps its word on the scheme, and an edge may keep its own address to itself", () => {
  const proto = "X-Forwarded-Proto: https\r\n";
  const of = (fields: string, hops: number, appends: boolean) => told(fields, "192.0.2.7", false, hops, appends)?.slice(31);
  expect(of(proto, 1, true)).toBe("X-Forwarded-Proto: https\r\nx-forwarded-for: 192.0.2.7\r\n\r\n");
  expect(of("", 1, true)).toBe("x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\n\r\n");
  expect(of(`${proto}X-Forwarded-For: a\r\nX-Forwarded-For: b\r\n`, 2, false)).toBe(
    "X-Forwarded-Proto: https\r\nX-Forwarded-For: a\r\nX-Forwarded-For: b\r\n\r\n",
  );
  expect(of(proto, 0, false)).toBe("x-forwarded-proto: http\r\n\r\n");
});

test("addresses of IPv6, and of IPv4 at a socket for both", () => {
  expect(told("", "2001:db8::1")).toContain("x-forwarded-for: 2001:db8::1\r\n");
  expect(told("", "::ffff:192.0.2.7")).toContain("x-forwarded-for: 192.0.2.7\r\n");
});

test("a head that has no room for it is not told", () => {
  expect(told(`a: ${"x".repeat(defaultLimits.headBytes - 60)}\r\n`)).toBeNull();
  expect(told(Array.from({ length: defaultLimits.fields - 2 }, (_each, n) => `a${n}: b\r\n`).join(""))).toBeNull();
  expect(told(Array.from({ length: defaultLimits.fields - 3 }, (_each, n) => `a${n}: b\r\n`).join(""))).not.toBeNull();
});

test("through the proxy: keep-alive, bodies with and after their head, pipelines, HTTP/2, and 431", async () => {
  let seen = "";
  let done = 0;
  const app = rawOrigin((words, write) => {
    seen += words;
    const whole = seen.match(/GET [\s\S]*?\r\n\r\n|POST [\s\S]*?\r\n\r\nbody/g)?.length ?? 0;
    for (; done < whole; done++) write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  });
  const proxy = start(hop([cluster("c", [endpoint(app.port)])], undefined, { generateRequestId: false, forwards: true }));
  try {
    const peer = await RawPeer.connect(proxy.port());
    const answers = (count: number) => until(() => peer.text.split("HTTP/1.1 200").length === count + 1, `answer ${count}`);
    peer.send("GET /1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\r\n");
    await answers(1);
    expect(seen).toBe("GET /1 HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 1.2.3.4, 127.0.0.1\r\nx-forwarded-proto: http\r\n\r\n");
    peer.send("POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    await answers(2);
    peer.send("POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo");
    await until(() => seen.includes("/3") && seen.endsWith("bo"), "half of the body");
    peer.send("dy");
    await until(() => seen.endsWith("\r\n\r\nbody"), "the rest");
    peer.send("GET /4 HTTP/1.1\r\nHost: a\r\n\r\nGET /5 HTTP/1.1\r\nHost: a\r\n\r\n");
    await until(() => seen.includes("GET /5"), "the pipelined request");
    expect(seen.match(/x-forwarded-for: (1\.2\.3\.4, )?127\.0\.0\.1\r\nx-forwarded-proto: http\r\n/g)).toHaveLength(5);
    peer.close();
    const tooMuch = await RawPeer.connect(proxy.port());
    tooMuch.send(`GET /6 HTTP/1.1\r\nHost: a\r\nb: ${"x".repeat(defaultLimits.headBytes - 60)}\r\n\r\n`);
    await until(() => tooMuch.text.includes("\r\n\r\n"), "the refusal");
    expect(tooMuch.text).toStartWith("HTTP/1.1 431 ");
    tooMuch.close();
    const session = connect(`http://127.0.0.1:${proxy.port()}`);
    const stream = session.request({ ":path": "/7", "x-forwarded-for": "9.9.9.9" });
    await new Promise<void>((resolve, reject) => stream.on("response", () => resolve()).on("error", reject));
    session.destroy();
    expect(seen).toContain("x-forwarded-for: 9.9.9.9, 127.0.0.1\r\nx-forwarded-proto: http\r\n");
    expect(seen).not.toContain("GET /6");
  } finally {
    proxy.engine.close();
    app.stop();
  }
}, 30_000);
