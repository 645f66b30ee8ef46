import { afterEach, expect, test } from "bun:test";
import { PausedClock } from "../base/clock.ts";
import { defaultLimits } from "./http1/limits.ts";
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

const get = (path = "/", extra = "", host = "x") => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${extra}\r\n`;
const one = (port: number, manager: Parameters<typeof hop>[2] = {}, more: Parameters<typeof cluster>[2] = {}) =>
  hop([cluster("c", [endpoint(port)], more)], undefined, manager);

test("pipelined requests are answered in order", async () => {
  const app = origin((text, write) => {
    for (const path of text.matchAll(/GET (\S+)/g)) {
      const answer = `HTTP/1.1 200 OK\r\nContent-Length: ${path[1]?.length}\r\n\r\n${path[1]}`;
      if (path[1] === "/slow") setTimeout(() => write(answer), 30);
      else write(answer);
    }
  });
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  const answers = await peer.ask(get("/slow") + get("/b") + get("/c"), 3);
  expect(answers.replaceAll(/HTTP\/1\.1 200 OK\r\nContent-Length: \d+\r\n\r\n/g, "|")).toBe("|/slow|/b|/c");
  // Reading goes on afterwards, also when the pipeline ended within a head.
  peer.send(`${get("/slow")}${get("/d")}GET /e HT`);
  await until(() => peer.text.endsWith("/d"), "the second pipeline");
  peer.send("TP/1.1\r\nHost: x\r\n\r\n");
  await until(() => peer.text.endsWith("/e"), "the split request");
  await peer.ask(get("/f"), 7);
});

test("a head that drips in byte by byte", async () => {
  const app = origin((_text, write) => write(hello()));
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  for (const byte of get("/drip")) {
    peer.send(byte);
    await Bun.sleep(0);
  }
  await until(() => peer.text.endsWith("hello"), "the answer");
});

test("bodies by length and in chunks, both ways", async () => {
  let seen = "";
  const app = origin((text, write) => {
    seen += text;
    if (seen.endsWith("world") || seen.endsWith("A: b\r\n\r\n"))
      write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nSum: t\r\n\r\n");
  });
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  peer.send("POST / HTTP/1.1\r\nHost: x\r\nx-request-id: 1\r\nContent-Length: 10\r\n\r\nhello");
  await until(() => seen.endsWith("hello"), "the first half");
  expect(await peer.ask("world")).toBe("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
  seen = "";
  peer.text = "";
  await peer.ask("POST / HTTP/1.1\r\nHost: x\r\nx-request-id: 1\r\nTransfer-Encoding: chunked\r\n\r\n5;ext\r\nhello\r\n0\r\nA: b\r\n\r\n");
  expect(seen).toBe("POST / HTTP/1.1\r\nHost: x\r\nx-request-id: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n");
  expect(app.connections()).toBe(1);
});

test("trailers reach a client that says TE: trailers, but those that would act on the message do not", async () => {
  const app = origin((_text, write) =>
    write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nSum: 1\r\nContent-Length: 9\r\n\r\n"),
  );
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
  expect(await peer.ask("GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE\r\n\r\n")).toBe(`${head}Sum: 1\r\n\r\n`);
  peer.text = "";
  expect(await peer.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n")).toBe(`${head}\r\n`);
});

test("limits of a connection: requests, age, a body that drips, a request that goes in a circle", async () => {
  const app = origin((_text, write) => write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  const counted = await RawPeer.connect(running(one(app.port, { limits: { ...defaultLimits, requestsPerConnection: 2 } })).port());
  expect(await counted.ask(get)).not.toContain("close");
  counted.text = "";
  expect(await counted.ask(get)).toContain("Connection: close");
  await until(() => counted.ended, "the end");
  const old = await RawPeer.connect(running(one(app.port, { limits: { ...defaultLimits, connectionDurationMs: 60 } })).port());
  expect(await old.ask(get)).toContain("200 OK");
  await until(() => old.ended, "the end");
  const slow = await RawPeer.connect(running(one(app.port, { limits: { ...defaultLimits, requestTimeoutMs: 60 } })).port());
  expect(await slow.ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nabc")).toStartWith("HTTP/1.1");
  const circle = running(one(app.port, { via: "here" }));
  const looping = await RawPeer.connect(circle.port());
  expect(await looping.ask("GET / HTTP/1.1\r\nHost: x\r\nVia: 1.0 other, 1.1 here (Weft)\r\n\r\n")).toStartWith("HTTP/1.1 508 ");
  looping.text = "";
  expect(await looping.ask(get)).toContain("via: 1.1 here\r\n");
});

test("HTTP/1.0 clients get no chunks, and keep-alive only when they ask", async () => {
  const app = origin((_text, write) => write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  peer.send("GET / HTTP/1.0\r\nHost: x\r\n\r\n");
  await until(() => peer.ended, "the end");
  expect(peer.text).toBe("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
  const fixed = origin((_text, write) => write(hello()));
  const keeps = running(one(fixed.port));
  const second = await RawPeer.connect(keeps.port());
  expect(await second.ask("GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")).toContain("Connection: keep-alive\r\n");
  await second.ask("GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", 2);
});

test("HEAD, 204 and 304 have no body whatever their headers say", async () => {
  const app = origin((text, write) => {
    if (text.startsWith("HEAD")) write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    else if (text.includes("/204")) write("HTTP/1.1 204 No Content\r\n\r\n");
    else write("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n");
  });
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  await peer.ask("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
  await peer.ask(get("/204"), 2);
  await peer.ask(get("/304"), 3);
  await peer.ask("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", 4);
  expect(app.connections()).toBe(1);
});

test("an answer that ends with its connection", async () => {
  const app = origin((_text, write, socket) => {
    write("HTTP/1.1 200 OK\r\n\r\nall of it");
    socket.end();
  });
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  peer.send(get());
  await until(() => peer.ended, "the end");
  expect(peer.text).toBe("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it");
  expect(proxy.count("istio_requests_total", "200", "-")).toBe(1);
});

test("an answer that is cut short is cut short for the client too", async () => {
  const app = origin((_text, write, socket) => {
    write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
    setTimeout(() => socket.end(), 5);
  });
  const proxy = running(
    one(app.port, { accessLogs: [{ sink: { kind: "als", logName: "l", cluster: "x" }, filter: { kind: "flags", flags: [] } }] }),
  );
  const peer = await RawPeer.connect(proxy.port());
  peer.send(get("/cut"));
  await until(() => peer.closed, "the connection to break");
  expect(proxy.records).toMatchObject([
    { path: "/cut", flags: ["UC"], status: 200, method: "GET", authority: "x", reporter: "source", upstreamCluster: "c" },
  ]);
});

test("interim answers pass, and 100-continue works end to end", async () => {
  const app = origin((text, write) => {
    if (text.includes("Expect")) write("HTTP/1.1 100 Continue\r\n\r\n");
    if (text.endsWith("hi")) write(`HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${hello()}`);
  });
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  peer.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  await until(() => peer.text.includes("100 Continue"), "100");
  peer.send("hi");
  await until(() => peer.text.endsWith("hello"), "the answer");
  expect(peer.text).toBe(`HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${hello()}`);
});

test("an early answer ends the connection once it is sent", async () => {
  const app = origin((_text, write) => write("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"));
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  peer.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc");
  await until(() => peer.ended, "the end");
  expect(peer.text).toStartWith("HTTP/1.1 413 ");
});

test.each([
  ["GET /\r\n\r\n", 400],
  ["GET / HTTP/1.1\r\n\r\n", 400],
  ["GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400],
  ["GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505],
  [`GET /${"a".repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 414],
  [`GET / HTTP/1.1\r\nHost: x\r\nA: ${"a".repeat(70_000)}\r\n\r\n`, 431],
  [`GET / HTTP/1.1\r\nHost: x\r\n${"A: b\r\n".repeat(200)}\r\n`, 431],
  ["POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501],
  ["POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400],
])("malformed: %p", async (request, status) => {
  const app = origin(() => {});
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  peer.send(request);
  await until(() => peer.ended, "the end");
  expect(peer.text).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  expect(peer.text).toContain("connection: close\r\n");
  expect(proxy.count("weft_downstream_malformed_total")).toBe(1);
  expect(proxy.count("istio_requests_total", String(status), "DPE")).toBe(1);
  // In pieces too.
  const again = await RawPeer.connect(proxy.port());
  for (let at = 0; at < request.length && !again.ended; at += 1_000) {
    again.send(request.slice(at, at + 1_000));
    await Bun.sleep(0);
  }
  await until(() => again.ended, "the end");
  expect(again.text).toStartWith(`HTTP/1.1 ${status} `);
});

test.each([
  "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
  "SSH-2.0-x\r\n",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
  "HTTP/1.1 101 Switch\r\n\r\n",
])("a malformed answer is 502: %p", async (bad) => {
  const app = origin((_text, write) => write(bad));
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  expect(await peer.ask(get())).toMatch(/^HTTP\/1\.1 502 Bad Gateway\r\nx-weft-reason: UPE /);
  expect(proxy.count("istio_requests_total", "502", "UPE")).toBe(1);
});

test("nobody listens: 503 UF, counted, and the reason says so", async () => {
  const dead = origin(() => {});
  dead.stop();
  const proxy = running(one(dead.port));
  const peer = await RawPeer.connect(proxy.port());
  expect(await peer.ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")).toContain("connection refused; is it running?");
  expect(peer.text).toStartWith("HTTP/1.1 503 Service Unavailable\r\nx-weft-reason: U");
  expect(proxy.count("weft_upstream_retries_total")).toBe(2);
});

test("a request of any method goes to another endpoint when the first refuses the connection", async () => {
  const dead = origin(() => {});
  dead.stop();
  const bodies: string[] = [];
  const app = origin((text, write) => {
    bodies.push(text.slice(text.indexOf("\r\n\r\n") + 4));
    write(hello());
  });
  const proxy = running(hop([cluster("c", [endpoint(dead.port), endpoint(app.port)])]));
  const peer = await RawPeer.connect(proxy.port());
  for (let i = 1; i <= 20; i++) await peer.ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", i);
  expect(peer.text.match(/200 OK/g)?.length).toBe(20);
  expect(bodies).toEqual(new Array(20).fill("hi"));
  // The one that refused is avoided afterwards: one or no attempt within the second.
  expect(proxy.count("weft_upstream_connect_failures_total")).toBeLessThanOrEqual(1);
});

test("a connection that ends before the answer: GET again elsewhere, POST not", async () => {
  let asked = 0;
  const app = origin((text, write, socket) => {
    asked++;
    if (asked === 1 || text.startsWith("POST")) socket.end();
    else write(hello());
  });
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  expect(await peer.ask(get())).toContain("200 OK");
  peer.text = "";
  expect(await peer.ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")).toStartWith(
    "HTTP/1.1 503 Service Unavailable\r\nx-weft-reason: UC ",
  );
});

test("timeouts: request, per try, connect", async () => {
  const app = origin(() => {});
  const routes = table([
    {
      name: "all",
      domains: ["*"],
      routes: [
        route(forward("c", { timeoutMs: 80 }), { match: { path: { kind: "prefix", value: "/t" }, headers: [], query: [] } }),
        route(forward("c", { retry: { attempts: 1, on: ["reset"], statusCodes: [], perTryTimeoutMs: 60 } }), {
          match: { path: { kind: "prefix", value: "/p" }, headers: [], query: [] },
        }),
        route(forward("far", { retry: null })),
      ],
    },
  ]);
  // It accepts and never shakes hands: the connect timeout covers that too.
  const mute = { certificate: null, roots: null, peerNames: [], alpn: [], sni: "", minVersion: "TLSv1.3" as const };
  const proxy = running(
    hop([cluster("c", [endpoint(app.port)]), cluster("far", [endpoint(app.port)], { connectTimeoutMs: 60, tls: mute })], routes),
  );
  const peer = await RawPeer.connect(proxy.port());
  expect(await peer.ask(get("/t"))).toStartWith("HTTP/1.1 504 Gateway Timeout\r\nx-weft-reason: UT ");
  peer.text = "";
  expect(await peer.ask(get("/p"))).toStartWith("HTTP/1.1 504 Gateway Timeout\r\n");
  expect(proxy.count("weft_upstream_retries_total")).toBe(1);
  peer.text = "";
  expect(await peer.ask(get("/c"))).toStartWith("HTTP/1.1 503 Service Unavailable\r\nx-weft-reason: UF ");
});

test("a slow head is told 408, an idle connection just ends", async () => {
  const app = origin(() => {});
  const proxy = running(one(app.port, { limits: { ...defaultLimits, headTimeoutMs: 60, idleTimeoutMs: 60 } }));
  const peer = await RawPeer.connect(proxy.port());
  peer.send("GET / HT");
  await until(() => peer.ended, "the end");
  expect(peer.text).toStartWith("HTTP/1.1 408 ");
  const idle = await RawPeer.connect(proxy.port());
  await until(() => idle.ended, "the end");
  expect(idle.text).toBe("");
});

test("a stream on which nothing happens is ended", async () => {
  const app = origin((_text, write) => write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"));
  const proxy = running(one(app.port, { limits: { ...defaultLimits, streamIdleTimeoutMs: 60 } }));
  const peer = await RawPeer.connect(proxy.port());
  peer.send(get());
  await until(() => peer.closed, "the break");
  expect(proxy.count("istio_requests_total", "SI")).toBe(1);
});

test("routes: hosts, paths, headers, query, weights, edits, rewrites", async () => {
  const seen: string[] = [];
  const app = origin((text, write) => {
    seen.push(text);
    write(hello("X-App: 1\r\nX-Gone: 1\r\n"));
  });
  const other = origin((_text, write) => write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"));
  const at = (value: string, kind: "prefix" | "exact" | "separated-prefix" | "regex" = "prefix") => ({
    path: { kind, value },
    headers: [],
    query: [],
  });
  const routes = table([
    {
      name: "cart",
      domains: ["cart", "cart:8080", "*.cart.shop"],
      routes: [
        route(forward("b"), {
          match: {
            path: { kind: "prefix", value: "/" },
            headers: [{ name: "x-version", match: { kind: "exact", value: "v2", ignoreCase: false }, invert: false }],
            query: [],
          },
        }),
        route(forward("b"), {
          match: {
            path: { kind: "prefix", value: "/" },
            headers: [],
            query: [{ name: "v", match: { kind: "exact", value: "2", ignoreCase: false } }],
          },
        }),
        route(forward("b"), { match: at("/exact", "exact") }),
        route(forward("b"), { match: at("/re/[0-9]+", "regex") }),
        route(forward("a", { prefixRewrite: "/", hostRewrite: "inner" }), { match: at("/strip", "separated-prefix") }),
        route(
          { kind: "redirect", status: 302, scheme: "https", host: null, port: null, path: { kind: "prefix", value: "/new" } },
          { match: at("/old") },
        ),
        route({ kind: "direct", status: 418, body: "no %REQ(:AUTHORITY)%" }, { match: at("/tea") }),
        route(forward("a"), {
          requestHeaders: { remove: ["x-secret"], set: [{ name: "x-set", value: "new" }], add: [{ name: "x-add", value: "1" }] },
          responseHeaders: { remove: ["x-gone"], set: [], add: [{ name: "x-more", value: "2" }] },
        }),
      ],
    },
  ]);
  const proxy = running(hop([cluster("a", [endpoint(app.port)]), cluster("b", [endpoint(other.port)])], routes));
  const peer = await RawPeer.connect(proxy.port());
  let n = 0;
  const ask = async (text: string) => {
    peer.text = "";
    n++;
    return await peer.ask(text);
  };
  expect(await ask(get("/", "X-Version: v2\r\n", "cart"))).toEndWith("other");
  expect(await ask(get("/?a=1&v=2", "", "CART"))).toEndWith("other");
  expect(await ask(get("/exact", "", "cart"))).toEndWith("other");
  expect(await ask(get("/exact/x", "", "cart"))).toEndWith("hello");
  expect(await ask(get("/re/12", "", "a.cart.shop"))).toEndWith("other");
  expect(await ask(get("/re/12x", "", "cart:8080"))).toEndWith("hello");
  expect(await ask(get("/strip/a?b", "", "cart"))).toEndWith("hello");
  expect(seen.at(-1)).toStartWith("GET /a?b HTTP/1.1\r\nHost: inner\r\nx-request-id:");
  await ask(get("/strip", "", "cart"));
  expect(seen.at(-1)).toStartWith("GET / HTTP/1.1\r\n");
  await ask(get("/stripper", "", "cart"));
  expect(seen.at(-1)).toStartWith("GET /stripper HTTP/1.1\r\n");
  expect(await ask(get("/old/x?y", "", "cart"))).toContain("location: https://cart/new/x?y\r\n");
  expect(await ask(get("/tea", "", "cart"))).toEndWith("no cart");
  const edited = await ask(get("/e", "X-Secret: 1\r\nX-Set: old\r\n", "cart"));
  expect(edited).toBe(hello("X-App: 1\r\nx-more: 2\r\n"));
  expect(seen.at(-1)?.replace(/x-request-id: \S+/, "ID")).toBe("GET /e HTTP/1.1\r\nHost: cart\r\nID\r\nx-set: new\r\nx-add: 1\r\n\r\n");
  expect(await ask(get("/", "", "nobody"))).toStartWith(
    "HTTP/1.1 404 Not Found\r\nx-weft-reason: NR no route matches this host and path: no route for the host nobody\r\n",
  );
  expect(await ask("GET http://cart/abs HTTP/1.1\r\nHost: ignored\r\n\r\n")).toEndWith("hello");
  expect(seen.at(-1)).toStartWith("GET /abs HTTP/1.1\r\nHost: cart\r\n");
  expect(n).toBeGreaterThan(10);
});

test("weights and load: the split is kept, and a busy endpoint gets less", async () => {
  const names = ["a", "b"].map((name) => origin((_text, write) => write(`HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${name}`)));
  const routes = table([
    {
      name: "all",
      domains: ["*"],
      routes: [
        route(
          forward("a", {
            clusters: [
              { cluster: "a", weight: 9 },
              { cluster: "b", weight: 1 },
            ],
          }),
        ),
      ],
    },
  ]);
  const proxy = running(hop([cluster("a", [endpoint(names[0]?.port ?? 0)]), cluster("b", [endpoint(names[1]?.port ?? 0)])], routes));
  const peer = await RawPeer.connect(proxy.port());
  await peer.ask(get().repeat(400), 400);
  const toB = peer.text.match(/\r\n\r\nb/g)?.length ?? 0;
  expect(toB).toBeGreaterThan(10);
  expect(toB).toBeLessThan(90);
});

test("an upgrade becomes an opaque pipe where allowed, and is left out elsewhere", async () => {
  const seen: string[] = [];
  const app = origin((text, write) => {
    seen.push(text);
    if (text.includes("Upgrade: websocket"))
      write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst");
    else if (text.startsWith("GET")) write(hello());
    else write(text.toUpperCase());
  });
  const ask = get("/ws", "Connection: Upgrade\r\nUpgrade: websocket\r\n");
  const allowed = running(one(app.port, { upgrades: ["websocket"] }));
  const peer = await RawPeer.connect(allowed.port());
  peer.send(ask);
  await until(() => peer.text.endsWith("first"), "the switch");
  expect(peer.text).toBe("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst");
  peer.send("frame");
  await until(() => peer.text.endsWith("FRAME"), "the echo");
  peer.close();
  const plain = await RawPeer.connect(running(one(app.port)).port());
  expect(await plain.ask(ask)).toContain("200 OK");
  expect(seen.at(-1)).not.toContain("pgrade");
});

test("large bodies pass whole under back pressure, either way, and reading is paused", async () => {
  const size = 6_000_000;
  let received = 0;
  const app = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      if (request.method === "GET") return new Response(new Uint8Array(size).fill(7));
      // Slowly, so that the proxy has to wait.
      for await (const part of request.body ?? []) {
        received += part.length;
        await Bun.sleep(1);
      }
      return new Response(String(received));
    },
  });
  stops.push(() => void app.stop(true));
  const proxy = running(one(app.port ?? 0));
  const base = `http://127.0.0.1:${proxy.port()}/`;
  const posted = await fetch(base, { method: "POST", body: new Uint8Array(size).fill(3) });
  expect(await posted.text()).toBe(String(size));
  // A reader that starts late.
  const peer = await RawPeer.connect(proxy.port());
  peer.socket?.pause();
  peer.send(get());
  await until(() => proxy.count("weft_read_pauses_total") > 0, "a pause");
  await Bun.sleep(20);
  peer.socket?.resume();
  await until(() => peer.text.length > size, "all of it", 10_000);
  expect(peer.text.length - peer.text.indexOf("\r\n\r\n") - 4).toBe(size);
});

test("limits of a cluster: requests and connections", async () => {
  const waiting: (() => void)[] = [];
  const app = origin((_text, write) => void waiting.push(() => write(hello())));
  const limits = { maxConnections: 1, maxPending: 1, maxRequests: 1024, maxRetries: 3 };
  const proxy = running(one(app.port, {}, { limits }));
  const peers = await Promise.all([1, 2, 3].map(() => RawPeer.connect(proxy.port())));
  const [a, b, c] = peers as [RawPeer, RawPeer, RawPeer];
  a.send(get());
  await until(() => waiting.length === 1, "the first");
  b.send(get());
  await until(() => proxy.engine.stats().activeRequests === 2, "the second to wait");
  expect(await c.ask(get())).toStartWith("HTTP/1.1 503 Service Unavailable\r\nx-weft-reason: UO ");
  waiting.shift()?.();
  await until(() => waiting.length === 1, "the second's turn");
  waiting.shift()?.();
  await until(() => a.text.endsWith("hello") && b.text.endsWith("hello"), "both answers");
  expect(app.connections()).toBe(1);
});

test("bytes on an idle pooled connection end it", async () => {
  let keep: Bun.Socket<unknown> | null = null;
  const app = origin((_text, write, socket) => {
    keep = socket;
    write(hello());
  });
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  await peer.ask(get());
  (keep as Bun.Socket<unknown> | null)?.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
  await until(() => proxy.count("weft_upstream_idle_bytes_total") === 1, "the count");
  expect(await peer.ask(get(), 2)).not.toContain("evil");
  expect(app.connections()).toBe(2);
});

test("a client that goes away mid-request cancels it", async () => {
  let closed = false;
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data() {},
      close: () => {
        closed = true;
      },
      error() {},
    },
  });
  stops.push(() => server.stop(true));
  const proxy = running(one(server.port));
  const peer = await RawPeer.connect(proxy.port());
  peer.send(get());
  await until(() => proxy.engine.stats().clusters[0]?.endpoints[0]?.active === 1, "the request to be under way");
  peer.close();
  await until(() => closed, "the upstream connection to close");
  expect(proxy.count("istio_requests_total", "DC")).toBe(1);
  expect(proxy.engine.stats()).toMatchObject({ connections: 0, activeRequests: 0, clusters: [{ endpoints: [{ active: 0 }] }] });
});

test("drain: the answer under way arrives with Connection: close, then nothing is accepted", async () => {
  const waiting: (() => void)[] = [];
  const app = origin((_text, write) => void waiting.push(() => write(hello())));
  const proxy = running(one(app.port));
  const port = proxy.port();
  const busy = await RawPeer.connect(port);
  const idle = await RawPeer.connect(port);
  busy.send(get());
  await until(() => waiting.length === 1, "the request");
  const drained = proxy.engine.drain(5_000);
  await until(() => idle.ended, "the idle one to end");
  waiting.shift()?.();
  await until(() => busy.ended, "the busy one to end");
  expect(busy.text).toBe(hello("Connection: close\r\n"));
  busy.socket?.end();
  idle.socket?.end();
  await drained;
  expect(await RawPeer.connect(port).catch(() => "refused")).toBe("refused");
});

test("a new configuration: routes at the next request, endpoints keep connections, a bad one changes nothing", async () => {
  const a = origin((_text, write) => write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"));
  const b = origin((_text, write) => write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb"));
  const first = hop([cluster("a", [endpoint(a.port)]), cluster("b", [endpoint(b.port)])], catchAll("a"));
  const proxy = running(first);
  const port = proxy.port();
  const peer = await RawPeer.connect(port);
  expect(await peer.ask(get())).toEndWith("a");
  expect(proxy.engine.apply({ ...first, routes: new Map([["routes", catchAll("b")]]) })).toEqual([]);
  expect(await peer.ask(get(), 2)).toEndWith("b");
  const bad = table([
    {
      name: "x",
      domains: ["*"],
      routes: [route(forward("a"), { match: { path: { kind: "regex", value: "(" }, headers: [], query: [] } })],
    },
  ]);
  expect(proxy.engine.apply({ ...first, routes: new Map([["routes", bad]]) })).toMatchObject([
    { resource: { type: "route", name: "routes" } },
  ]);
  expect(await peer.ask(get(), 3)).toEndWith("b");
  // The same endpoint in a new list keeps its pooled connection.
  expect(
    proxy.engine.apply({
      ...first,
      clusters: new Map([
        ["a", cluster("a", [endpoint(a.port)])],
        ["b", cluster("b", [endpoint(b.port), endpoint(a.port)])],
      ]),
      routes: new Map([["routes", catchAll("a")]]),
    }),
  ).toEqual([]);
  expect(await peer.ask(get(), 4)).toEndWith("a");
  expect(a.connections()).toBe(1);
  // A listener that cannot be bound is reported; the rest is in force.
  const taken = listener("other", [chain(http({ rds: "routes" }))], { address: { host: "127.0.0.1", port: a.port } });
  const failures = proxy.engine.apply({ ...first, listeners: new Map([...first.listeners, ["other", taken]]) });
  expect(failures).toEqual([{ resource: { type: "listener", name: "other" }, reason: `127.0.0.1:${a.port} is in use by another process` }]);
  // An unsupported match is refused with its words.
  const sni = listener("sni", [chain(http({ rds: "routes" }), { match: { transport: "tls", alpn: [], serverNames: ["*x"] } })], {
    inspectTls: true,
  });
  expect(proxy.engine.apply({ ...first, listeners: new Map([...first.listeners, ["sni", sni]]) })[0]?.reason).toContain(
    'server name "*x" is not supported',
  );
  // A cluster that goes: 503 NC.
  proxy.engine.apply({ ...first, clusters: new Map(), routes: new Map([["routes", catchAll("a")]]) });
  expect(await peer.ask(get(), 5)).toContain("503 Service Unavailable\r\nx-weft-reason: NC ");
  // The listener goes: its idle connections end.
  proxy.engine.apply({ ...first, listeners: new Map() });
  await until(() => peer.ended, "the end");
});

test("no healthy endpoint: 503 UH; an inbound sidecar says that nothing was delivered, and the caller tries another", async () => {
  const dead = origin(() => {});
  dead.stop();
  const inbound = running(
    hop([cluster("inbound|1||", [endpoint(dead.port)])], catchAll("inbound|1||", { retry: null }), {}, { direction: "inbound" }),
  );
  const peer = await RawPeer.connect(inbound.port());
  expect(await peer.ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")).toContain("\r\nx-weft-not-delivered: 1\r\n");
  const empty = running(hop([cluster("c", [])]));
  const other = await RawPeer.connect(empty.port());
  expect(await other.ask(get())).toStartWith("HTTP/1.1 503 Service Unavailable\r\nx-weft-reason: UH ");
});

test("our headers from an application are not believed", async () => {
  const seen: string[] = [];
  const app = origin((text, write) => {
    seen.push(text);
    write(hello("x-weft-reason: RBAC lie\r\nx-weft-not-delivered: 1\r\n"));
  });
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  expect(await peer.ask(get("/", "x-weft-reason: a\r\nX-Forwarded-Client-Cert: b\r\nProxy-Authorization: c\r\n"))).toBe(hello());
  expect(seen[0]?.replace(/x-request-id: \S+/, "ID")).toBe("GET / HTTP/1.1\r\nHost: x\r\nID\r\n\r\n");
});

test("plain and TLS on one listener by the first byte; plain TCP through a tcp listener", async () => {
  const echo = origin((text, write) => write(text));
  const both = running(
    config(
      [
        listener("in", [chain(tcpProxy("c"), { match: { transport: "raw_buffer", alpn: [], serverNames: [] } })], { inspectTls: true }),
        listener("plain", [chain(tcpProxy("c"))]),
      ],
      [cluster("c", [endpoint(echo.port)])],
    ),
  );
  for (const name of ["in", "plain"]) {
    const peer = await RawPeer.connect(both.port(name));
    peer.send("hello");
    await until(() => peer.text === "hello", "the echo");
    peer.socket?.shutdown();
    await until(() => peer.closed, "the end");
  }
  const hopeless = await RawPeer.connect(both.port("in"));
  hopeless.send("\u0016\u0003\u0001\u0000\u0040\u0001");
  await until(() => hopeless.closed, "the refusal");
  expect(both.engine.stats()).toMatchObject({ connections: 0, activeRequests: 0 });
});

test("a policy on paths cannot be walked around, and the application gets the path that was judged", async () => {
  const seen: string[] = [];
  const app = origin((text, write) => {
    seen.push(text.split(" ")[1] ?? "");
    write(hello());
  });
  const deny = {
    action: "deny" as const,
    policies: [
      {
        name: "no-admin",
        permissions: [{ kind: "path" as const, match: { kind: "prefix" as const, value: "/admin", ignoreCase: false } }],
        principals: [{ kind: "any" as const }],
      },
    ],
  };
  const routes = table([
    {
      name: "all",
      domains: ["*"],
      routes: [
        route(forward("c", { prefixRewrite: "/" }), {
          match: { path: { kind: "separated-prefix", value: "/strip" }, headers: [], query: [] },
        }),
        route(forward("c")),
      ],
    },
  ]);
  const proxy = running(hop([cluster("c", [endpoint(app.port)])], routes, { rbac: [deny] }, { direction: "inbound" }));
  const peer = await RawPeer.connect(proxy.port());
  let answers = 0;
  for (const path of [
    "/admin/x",
    "/a/../admin",
    "//admin",
    "/%61dmin",
    "/a/%2e%2e/admin?x=1",
    "/.%2f../admin/../admin",
    "/x%2f..%2fadmin",
    "/x%5C../admin",
  ]) {
    peer.text = "";
    answers++;
    expect([path, (await peer.ask(get(path))).slice(9, 12)]).toEqual([path, "403"]);
  }
  expect(answers).toBe(8);
  expect(await peer.ask(get("/projects/a%2Fb"), 2)).toContain("200 OK");
  expect(seen.at(-1)).toBe("/projects/a%2Fb");
  peer.text = "";
  expect(await peer.ask(get("/admin/../ok?q=//x"))).toContain("200 OK");
  expect(seen.at(-1)).toBe("/ok?q=//x");
  await peer.ask(get("/strip/./b//c?d"), 2);
  expect(seen.at(-1)).toBe("/b/c?d");
  expect(await peer.ask(get("/../x"), 3)).toContain("400 Bad Request");
});

test("early bytes of a CONNECT client are not lost", async () => {
  const echo = origin((text, write) => write(text));
  const routes = table([
    {
      name: "all",
      domains: ["*"],
      routes: [route(forward("c", { terminateConnect: true }), { match: { path: { kind: "connect" }, headers: [], query: [] } })],
    },
  ]);
  const proxy = running(hop([cluster("c", [endpoint(echo.port)])], routes, { upgrades: ["CONNECT"] }));
  const peer = await RawPeer.connect(proxy.port());
  peer.send("CONNECT c:80 HTTP/1.1\r\nHost: c:80\r\n\r\nearly");
  await until(() => peer.text.endsWith("early"), "the echo");
  peer.send("later");
  await until(() => peer.text.endsWith("later"), "the echo");
  peer.socket?.shutdown();
  await until(() => peer.closed, "both halves to close");
  expect(proxy.engine.stats()).toMatchObject({ connections: 0, activeRequests: 0 });
  const closed = running(hop([cluster("c", [endpoint(echo.port)])], routes));
  const other = await RawPeer.connect(closed.port());
  expect(await other.ask("CONNECT c:80 HTTP/1.1\r\nHost: c:80\r\n\r\n")).toStartWith("HTTP/1.1 405 ");
});

test("a tunnel lasts as long as a connection to its cluster may", async () => {
  const clock = new PausedClock();
  const echo = origin((text, write) => write(text));
  const routes = table([
    {
      name: "all",
      domains: ["*"],
      routes: [route(forward("c", { terminateConnect: true }), { match: { path: { kind: "connect" }, headers: [], query: [] } })],
    },
  ]);
  const of = cluster("c", [endpoint(echo.port)], { connections: { opaqueMs: 5_000 } });
  const proxy = running(hop([of], routes, { upgrades: ["CONNECT"] }), { clock });
  const peer = await RawPeer.connect(proxy.port());
  peer.send("CONNECT c:80 HTTP/1.1\r\nHost: c:80\r\n\r\nearly");
  await until(() => peer.text.endsWith("early"), "the echo");
  clock.advance(4_500);
  peer.send("later");
  await until(() => peer.text.endsWith("later"), "the echo");
  expect(peer.closed).toBe(false);
  clock.advance(700);
  await until(() => peer.closed, "the end");
});

test("a body that goes wrong after the answer began breaks the connection, and never adds a second answer", async () => {
  const app = origin((_text, write) => write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"));
  const proxy = running(one(app.port));
  const peer = await RawPeer.connect(proxy.port());
  peer.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
  await until(() => peer.text.endsWith("part"), "the first part");
  peer.send("zz\r\n");
  await until(() => peer.closed, "the break");
  expect(peer.text.match(/HTTP\/1\.1/g)?.length).toBe(1);
});

test("a tunnel whose upstream side breaks or idles is broken, and counted once", async () => {
  let keep: { terminate(): void } | null = null;
  const app = origin((_text, write, socket) => {
    keep = socket;
    write("x");
  });
  const routes = table([
    {
      name: "all",
      domains: ["*"],
      routes: [route(forward("c", { terminateConnect: true }), { match: { path: { kind: "connect" }, headers: [], query: [] } })],
    },
  ]);
  const proxy = running(
    hop([cluster("c", [endpoint(app.port)])], routes, { upgrades: ["CONNECT"], limits: { ...defaultLimits, streamIdleTimeoutMs: 150 } }),
  );
  const connect = async () => {
    const peer = await RawPeer.connect(proxy.port());
    peer.send("CONNECT c:80 HTTP/1.1\r\nHost: c:80\r\n\r\nhello");
    await until(() => peer.text.endsWith("\r\n\r\nx"), "the tunnel");
    return peer;
  };
  const broken = await connect();
  (keep as { terminate(): void } | null)?.terminate();
  await until(() => broken.closed, "the break");
  expect(proxy.engine.stats()).toMatchObject({ connections: 0, activeRequests: 0, clusters: [{ endpoints: [{ active: 0 }] }] });
  const idle = await connect();
  await until(() => idle.closed, "the idle one to be broken");
  expect(idle.text.match(/HTTP/g)?.length).toBe(1);
  expect(proxy.engine.stats()).toMatchObject({ connections: 0, activeRequests: 0, clusters: [{ endpoints: [{ active: 0 }] }] });
  expect(proxy.count("istio_requests_total")).toBe(2);
});
