// What goes over the wire on both sides of an HTTP/1 hop, byte for byte: what an origin gets of a request, and a client of an answer.
// The parser's own verdicts stand in test/fuzz; here is what connections and exchange make of them.

import { afterEach, describe, expect, test } from "bun:test";
import { defaultLimits } from "../../src/proxy/http1/limits.ts";
import { cluster, endpoint, hop, RawPeer, type Running, rawOrigin, start, until } from "../../src/proxy/testing/fixture.ts";

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

interface Hop {
  readonly proxy: Running;
  readonly client: RawPeer;
  /** All that the origin has got. */
  got(): string;
  readonly origin: { connections(): number };
}

/** A hop whose origin answers with `answers`, one after another, as soon as `ready` says that a request is there. */
async function open(
  answers: readonly string[],
  more: Parameters<typeof hop>[2] = {},
  ready: (got: string) => boolean = (got) => got.includes("\r\n\r\n"),
): Promise<Hop> {
  let got = "";
  let unanswered = "";
  let next = 0;
  const origin = rawOrigin((text, write) => {
    got += text;
    unanswered += text;
    if (!ready(unanswered)) return;
    unanswered = "";
    const answer = answers[next++];
    if (answer !== undefined) write(answer);
  });
  stops.push(() => origin.stop());
  const proxy = start(hop([cluster("c", [endpoint(origin.port)])], undefined, { generateRequestId: false, ...more }));
  stops.push(() => proxy.engine.close());
  const client = await RawPeer.connect(proxy.port());
  stops.push(() => client.close());
  return { proxy, client, got: () => got, origin };
}

const h = "Host: x\r\n";
const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

describe("what an origin gets", () => {
  const cases: readonly (readonly [rule: string, name: string, sent: string, gets: string])[] = [
    ["9112 2.2", "no empty line before the request", `\r\nGET / HTTP/1.1\r\n${h}\r\n`, `GET / HTTP/1.1\r\n${h}\r\n`],
    [
      "9110 5.1",
      "names in their spelling, in their order",
      `GET / HTTP/1.1\r\nhOsT: x\r\nX-b: 1\r\nx-B: 2\r\nA:3\r\n\r\n`,
      `GET / HTTP/1.1\r\nhOsT: x\r\nX-b: 1\r\nx-B: 2\r\nA:3\r\n\r\n`,
    ],
    [
      "9112 3.2.2",
      "origin-form and the target's Host",
      `GET http://y:81/p?q HTTP/1.1\r\n${h}A: 1\r\n\r\n`,
      "GET /p?q HTTP/1.1\r\nHost: y:81\r\nA: 1\r\n\r\n",
    ],
    [
      "9110 7.1",
      "a path for an absolute target that has none",
      `GET http://y?q HTTP/1.1\r\n${h}\r\n`,
      "GET /?q HTTP/1.1\r\nHost: y\r\n\r\n",
    ],
    ["9112 3.2.4", "OPTIONS *", `OPTIONS * HTTP/1.1\r\n${h}\r\n`, `OPTIONS * HTTP/1.1\r\n${h}\r\n`],
    ["9112 2.3", "our version for HTTP/1.0", `GET / HTTP/1.0\r\n${h}\r\n`, `GET / HTTP/1.1\r\n${h}\r\n`],
    [
      "9110 7.6.1",
      "nothing that is for one hop",
      `GET / HTTP/1.1\r\n${h}Connection: close, x-a\r\nKeep-Alive: 1\r\nProxy-Connection: b\r\nX-A: c\r\nTE: gzip\r\nUpgrade: d\r\nZ: e\r\n\r\n`,
      `GET / HTTP/1.1\r\n${h}Z: e\r\n\r\n`,
    ],
    [
      "9110 7.6.1",
      "Host and framing, whatever Connection names",
      `POST / HTTP/1.1\r\n${h}Connection: host, content-length\r\nContent-Length: 2\r\n\r\nhi`,
      `POST / HTTP/1.1\r\n${h}Content-Length: 2\r\n\r\nhi`,
    ],
    [
      "9112 7.1.1",
      "chunks without extensions",
      `POST / HTTP/1.1\r\n${h}Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0;c\r\n\r\n`,
      `POST / HTTP/1.1\r\n${h}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n`,
    ],
    [
      "9110 6.5.1",
      "trailers that change nothing about the message",
      `POST / HTTP/1.1\r\n${h}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nAuthorization: a\r\n\r\n`,
      `POST / HTTP/1.1\r\n${h}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n`,
    ],
    [
      "9110 5.6.3",
      "no tab around a length",
      `POST / HTTP/1.1\r\n${h}Content-Length:\t2\t\r\n\r\nhi`,
      `POST / HTTP/1.1\r\n${h}Content-Length: 2 \r\n\r\nhi`,
    ],
    [
      "9110 10.1.1",
      "an expectation of a request with a body",
      `POST / HTTP/1.1\r\n${h}Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi`,
      `POST / HTTP/1.1\r\n${h}Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi`,
    ],
    [
      "9110 10.1.1",
      "none of a request without",
      `GET / HTTP/1.1\r\n${h}Expect: 100-continue\r\nA: b\r\n\r\n`,
      `GET / HTTP/1.1\r\n${h}A: b\r\n\r\n`,
    ],
    [
      "9110 7.8",
      "no h2c",
      `GET / HTTP/1.1\r\n${h}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n`,
      `GET / HTTP/1.1\r\n${h}\r\n`,
    ],
    [
      "9112 3.2.4",
      "an asterisk for OPTIONS of a whole server through a proxy",
      `OPTIONS http://y HTTP/1.1\r\n${h}\r\n`,
      "OPTIONS * HTTP/1.1\r\nHost: y\r\n\r\n",
    ],
    ["9112 2.3", "our version for a higher one", `GET / HTTP/1.9\r\n${h}\r\n`, `GET / HTTP/1.1\r\n${h}\r\n`],
  ];
  for (const [rule, name, sent, gets] of cases) {
    test(`${rule}: ${name}`, async () => {
      const { client, got } = await open([ok], {}, (text) => text.length >= gets.length);
      client.send(sent);
      await until(() => client.text.includes("\r\n\r\n"), `the answer; the origin has ${JSON.stringify(got())}`);
      expect(got()).toBe(gets);
    });
  }

  test("9110 10.1.4: word that trailers are taken, and only that, of TE", async () => {
    for (const te of ["trailers", "gzip;q=0.5, trailers"]) {
      const { client, got } = await open([ok]);
      client.send(`GET / HTTP/1.1\r\n${h}TE: ${te}\r\nConnection: TE\r\nA: b\r\n\r\n`);
      await until(() => client.text === ok, "the answer");
      expect(got()).toBe(`GET / HTTP/1.1\r\n${h}A: b\r\nTE: trailers\r\nConnection: TE\r\n\r\n`);
    }
  });

  test("9112 3.3: a Host for HTTP/1.0 without one", async () => {
    const { client, got, proxy } = await open([ok]);
    client.send("GET / HTTP/1.0\r\n\r\n");
    await until(() => client.ended, "the end");
    expect(got()).toBe(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${proxy.port()}\r\n\r\n`);
  });
});

describe("what a client gets", () => {
  const get = `GET / HTTP/1.1\r\n${h}\r\n`;
  const takes = `GET / HTTP/1.1\r\n${h}TE: trailers\r\n\r\n`;
  const cases: readonly (readonly [rule: string, name: string, sent: string, said: string, gets: string])[] = [
    [
      "9110 7.6.1",
      "nothing that is for one hop",
      get,
      "HTTP/1.1 200 OK\r\nConnection: x-a\r\nX-A: 1\r\nKeep-Alive: 2\r\nProxy-Authenticate: a\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    ["9112 2.3", "our version", get, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
    [
      "9110 15.2",
      "interim answers",
      get,
      `HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n${ok}`,
      `HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n${ok}`,
    ],
    [
      "9110 9.3.2",
      "no body after HEAD",
      `HEAD / HTTP/1.1\r\n${h}\r\n`,
      "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n",
    ],
    [
      "9112 6.3 (1)",
      "no body after 304",
      get,
      "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n",
      "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n",
    ],
    [
      "9110 6.5.1",
      "trailers, when it takes them",
      takes,
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a\r\n\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
    ],
    [
      "9110 6.5.1",
      "none when it does not",
      get,
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    ],
    [
      "9112 2.3",
      "our version for a higher one",
      get,
      "HTTP/1.9 200 OK\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    [
      "9112 4",
      "a reason where there is none, and the space before it",
      get,
      "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    [
      "9110 8.6",
      "no length in 204",
      get,
      "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nA: b\r\n\r\n",
      "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n",
    ],
    [
      "9112 6.1",
      "no coding in 204",
      get,
      "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n",
      "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n",
    ],
    [
      "9110 8.6",
      "no length in an interim answer",
      get,
      `HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nA: b\r\n\r\n${ok}`,
      `HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n${ok}`,
    ],
  ];
  for (const [rule, name, sent, said, gets] of cases) {
    test(`${rule}: ${name}`, async () => {
      const { client } = await open([said]);
      client.send(sent);
      await until(() => client.text.length >= gets.length, `the answer, got ${JSON.stringify(client.text)}`);
      expect(client.text).toBe(gets);
    });
  }

  test("9112 7.1.2: a HTTP/1.0 client gets no chunks and no word of trailers", async () => {
    const { client } = await open([
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\nB: c\r\n\r\n1\r\na\r\n0\r\nA: b\r\n\r\n",
    ]);
    client.send(`GET / HTTP/1.0\r\n${h}\r\n`);
    await until(() => client.ended, "the end");
    expect(client.text).toBe("HTTP/1.1 200 OK\r\nB: c\r\nConnection: close\r\n\r\na");
  });

  test("9112 2.2: an answer's head may come in any two pieces", async () => {
    const answer = `HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n${ok}`;
    let split = 0;
    const origin = rawOrigin((_text, write) => {
      const at = split;
      write(answer.slice(0, at));
      setTimeout(() => write(answer.slice(at)), 2);
    });
    stops.push(() => origin.stop());
    const proxy = start(hop([cluster("c", [endpoint(origin.port)])]));
    stops.push(() => proxy.engine.close());
    const client = await RawPeer.connect(proxy.port());
    stops.push(() => client.close());
    let expected = "";
    for (split = 1; split < answer.length - 2; split++) {
      client.send(get);
      expected += answer;
      await until(() => client.text.length >= expected.length, `the answer, split at ${split}`);
      expect(client.text).toBe(expected);
    }
  });

  test("9110 15.2: a HTTP/1.0 client gets no interim answer", async () => {
    const { client } = await open([`HTTP/1.1 100 Continue\r\n\r\n${ok}`]);
    client.send(`POST / HTTP/1.0\r\n${h}Content-Length: 2\r\n\r\nhi`);
    await until(() => client.ended, "the end");
    expect(client.text).toBe("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
  });

  test("9112 6.3 (8): a body until close is a body until close", async () => {
    let hang: (() => void) | undefined;
    const origin = rawOrigin((_text, write, socket) => {
      write("HTTP/1.1 200 OK\r\n\r\nall");
      hang = () => socket.end();
    });
    stops.push(() => origin.stop());
    const proxy = start(hop([cluster("c", [endpoint(origin.port)])]));
    stops.push(() => proxy.engine.close());
    const client = await RawPeer.connect(proxy.port());
    client.send(get);
    await until(() => client.text.endsWith("all"), "the body");
    expect(client.ended).toBe(false);
    hang?.();
    await until(() => client.ended, "the end");
    expect(client.text).toBe("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall");
  });
});

describe("connections", () => {
  const get = (path: string, fields = ""): string => `GET ${path} HTTP/1.1\r\n${h}${fields}\r\n`;

  test("9110 10.1.1: 100-continue comes from the origin, and the body after it", async () => {
    const { client, got } = await open(["HTTP/1.1 100 Continue\r\n\r\n", ok]);
    client.send(`POST / HTTP/1.1\r\n${h}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n`);
    await until(() => client.text === "HTTP/1.1 100 Continue\r\n\r\n", "the interim answer");
    client.send("\r\n\r\n");
    await until(() => client.text.endsWith(ok), "the answer");
    expect(got().endsWith("\r\n\r\n\r\n\r\n")).toBe(true);
  });

  test("9110 10.1.1: an answer instead of 100 ends the connection, as the body may come or not", async () => {
    const { client } = await open(["HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"]);
    client.send(`POST / HTTP/1.1\r\n${h}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n`);
    await until(() => client.ended, "the end");
    expect(client.text).toBe("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  });

  const refusals: readonly (readonly [rule: string, name: string, sent: string, status: number])[] = [
    ["9110 10.1.1", "another expectation", `POST / HTTP/1.1\r\n${h}Expect: 200-ok\r\nContent-Length: 2\r\n\r\nhi`, 417],
    ["9112 6.1", "another coding", `POST / HTTP/1.1\r\n${h}Transfer-Encoding: gzip, chunked\r\n\r\n`, 501],
    ["9112 6.3", "chunked that is not last", `POST / HTTP/1.1\r\n${h}Transfer-Encoding: chunked, gzip\r\n\r\n`, 400],
    ["9112 6.1", "both framings", `POST / HTTP/1.1\r\n${h}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ["9112 3", "a target too long", `GET /${"a".repeat(17_000)} HTTP/1.1\r\n${h}\r\n`, 414],
    ["9110 5.4", "too many fields", `GET / HTTP/1.1\r\n${h}${"A: b\r\n".repeat(100)}\r\n`, 431],
    ["9110 5.4", "a head too large", `GET / HTTP/1.1\r\n${h}A: ${"b".repeat(62_000)}\r\n\r\n`, 431],
    ["9110 5.4", "a head too large without its end", `GET / HTTP/1.1\r\n${h}A: ${"b".repeat(62_000)}`, 431],
    ["9110 2.5", "HTTP/2 without TLS or knowledge", "PRI * HTTP/2.1\r\n\r\n", 505],
    ["9112 3.2", "no Host", "GET / HTTP/1.1\r\n\r\n", 400],
    ["9110 9.1", "a method that only looks like HEAD", `head / HTTP/1.1\r\n${h}\r\n`, 501],
    ["hop-by-hop abuse", "X-Forwarded-For for one hop", get("/", "Connection: x-forwarded-for\r\n"), 400],
  ];
  for (const [rule, name, sent, status] of refusals) {
    test(`${rule}: ${name} is answered with ${status}, and the origin hears nothing`, async () => {
      const { client, origin } = await open([ok]);
      client.send(sent);
      await until(() => client.ended, "the end");
      expect(client.text).toStartWith(`HTTP/1.1 ${status} `);
      expect(client.text.slice(0, client.text.indexOf("\r\n\r\n")).toLowerCase()).toContain("connection: close");
      expect(client.text.split("HTTP/1.1 ").length).toBe(2);
      expect(origin.connections()).toBe(0);
    });
  }

  test("9110 15.5.14: a body over the listener's limit, by its length and by its chunks", async () => {
    const limits = { ...defaultLimits, bodyBytes: 4 };
    for (const sent of [
      `POST / HTTP/1.1\r\n${h}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n`,
      `POST / HTTP/1.1\r\n${h}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\n`,
    ]) {
      const { client } = await open([ok], { limits }, () => false);
      client.send(sent);
      await until(() => client.ended, "the end");
      expect(client.text).toStartWith("HTTP/1.1 413 Content Too Large\r\n");
    }
  });

  test("the listener's number of requests, and then no more", async () => {
    const { client } = await open([ok, ok], { limits: { ...defaultLimits, requestsPerConnection: 2 } });
    client.send(get("/1"));
    await until(() => client.text === ok, "the first answer");
    client.send(get("/2"));
    await until(() => client.ended, "the end");
    expect(client.text).toBe(`${ok}HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok`);
  });

  test("a request that is not whole in time, and a head that is not", async () => {
    const slow = await open([ok], { limits: { ...defaultLimits, requestTimeoutMs: 60 } }, () => false);
    slow.client.send(`POST / HTTP/1.1\r\n${h}Content-Length: 5\r\n\r\nhi`);
    const head = await open([ok], { limits: { ...defaultLimits, headTimeoutMs: 60 } });
    head.client.send("GET / HT");
    await until(() => slow.client.ended && head.client.ended, "both ends");
    expect(slow.client.text).toStartWith("HTTP/1.1 408 ");
    expect(head.client.text).toStartWith("HTTP/1.1 408 ");
  });

  test("9112 2.2: an empty line alone begins no request, so that nobody is told 408", async () => {
    const { client } = await open([ok], { limits: { ...defaultLimits, headTimeoutMs: 60, idleTimeoutMs: 150 } });
    client.send(get("/"));
    await until(() => client.text === ok, "the answer");
    client.send("\r\n");
    await until(() => client.ended, "the end");
    expect(client.text).toBe(ok);
  });

  test("a client that does not take the rest of its answer, after the time that a stream may be idle", async () => {
    const size = 24 * 1024 * 1024;
    const { proxy } = await open([`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n${"a".repeat(size)}`], {
      limits: { ...defaultLimits, streamIdleTimeoutMs: 150 },
    });
    const client = await Bun.connect({
      hostname: "127.0.0.1",
      port: proxy.port(),
      socket: { data: (socket) => void socket.pause(), error: () => {} },
    });
    stops.push(() => client.terminate());
    client.write(get("/"));
    await until(() => proxy.engine.stats().connections === 1, "the connection to be given up");
  });

  test("requests of many connections at once are each answered with their own", async () => {
    const origin = rawOrigin((text, write) => {
      const body = /GET (\S+)/.exec(text)?.[1] ?? "";
      setTimeout(() => write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`), body.length % 3);
    });
    stops.push(() => origin.stop());
    const proxy = start(hop([cluster("c", [endpoint(origin.port)])]));
    stops.push(() => proxy.engine.close());
    const clients = await Promise.all(Array.from({ length: 20 }, () => RawPeer.connect(proxy.port())));
    stops.push(() => {
      for (const client of clients) client.close();
    });
    for (let round = 0; round < 10; round++) {
      for (const [i, client] of clients.entries()) client.send(get(`/${"a".repeat(i)}/${round}`));
      await until(() => clients.every((client) => client.text.split("HTTP/1.1 200").length === round + 2), "the answers");
    }
    for (const [i, client] of clients.entries()) {
      const bodies = [...client.text.matchAll(/\/a*\/\d/g)].map((found) => found[0]);
      expect(bodies).toEqual(Array.from({ length: 10 }, (_, round) => `/${"a".repeat(i)}/${round}`));
    }
  });

  test("9112 9.3.2: a pipeline is answered in order, and ends with the first that is refused", async () => {
    const { client, got } = await open([ok, ok]);
    client.send(`${get("/1")}${get("/2")}GET /3 HTTP/1.1\r\nBad Name: x\r\n\r\n${get("/4")}`);
    await until(() => client.ended, "the end");
    expect(client.text.split("HTTP/1.1 ").map((part) => part.slice(0, 3))).toEqual(["", "200", "200", "400"]);
    expect(got()).toBe(get("/1") + get("/2"));
  });

  test("bytes after an answer are not the next answer", async () => {
    const { client, origin } = await open([`${ok}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`, ok]);
    client.send(get("/1"));
    await until(() => client.text === ok, "the first answer");
    client.send(get("/2"));
    await until(() => client.text === ok + ok, "the second answer");
    expect(origin.connections()).toBe(2);
  });

  test("a malformed chunk is refused, and what was sent of the request is broken off", async () => {
    const { client, got } = await open([ok], {}, () => false);
    client.send(`POST / HTTP/1.1\r\n${h}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n`);
    await until(() => got().endsWith("hi\r\n"), "the first chunk");
    client.send("5;\nGET / HTTP/1.1\r\n\r\n");
    await until(() => client.ended, "the end");
    expect(client.text).toStartWith("HTTP/1.1 400 ");
    expect(got().endsWith("2\r\nhi\r\n")).toBe(true);
  });
});
