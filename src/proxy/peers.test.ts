// Foreign peers: curl, node:http and Bun's own client and server, and bytes at random.
import { afterEach, expect, test } from "bun:test";
import { Agent, createServer, request as nodeRequest } from "node:http";
import type { AddressInfo } from "node:net";
import fc from "fast-check";
import { catchAll, cluster, endpoint, hop, RawPeer, type Running, rawOrigin, start, until } from "./testing/fixture.ts";

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

function behind(port: number, manager: Parameters<typeof hop>[2] = {}): Running {
  const made = start(hop([cluster("c", [endpoint(port)])], catchAll("c"), manager));
  stops.push(() => made.engine.close());
  return made;
}

async function curl(...args: readonly string[]): Promise<string> {
  const running = Bun.spawn(["curl", "-sS", "-m", "10", ...args], { stdout: "pipe", stderr: "pipe" });
  return `${await new Response(running.stdout).text()}${await new Response(running.stderr).text()}`;
}

async function nodeOrigin(): Promise<number> {
  const server = createServer((request, response) => {
    let size = 0;
    request.on("data", (part: Buffer) => {
      size += part.length;
    });
    request.on("end", () => {
      if (request.url === "/chunked") {
        response.write("one,");
        setTimeout(() => response.end("two"), 5);
      } else if (request.url === "/204") response.writeHead(204).end();
      else response.end(`${request.method} ${request.url} ${size} ${request.headers["transfer-encoding"] ?? "-"}`);
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  stops.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

test("curl: methods, bodies, HTTP/1.0, Expect, forward proxy, upload in chunks", async () => {
  const proxy = behind(await nodeOrigin());
  const base = `http://127.0.0.1:${proxy.port()}`;
  expect(await curl(`${base}/a?b=c`)).toBe("GET /a?b=c 0 -");
  expect(await curl("-0", `${base}/a`)).toBe("GET /a 0 -");
  expect(await curl("-0", `${base}/chunked`)).toBe("one,two");
  expect(await curl(`${base}/chunked`, `${base}/chunked`)).toBe("one,twoone,two");
  expect(await curl("-I", `${base}/x`)).toStartWith("HTTP/1.1 200 OK");
  expect(await curl("-d", "hello", `${base}/x`)).toBe("POST /x 5 -");
  expect(await curl("-H", "Transfer-Encoding: chunked", "-d", "hello", `${base}/x`)).toBe("POST /x 5 chunked");
  expect(await curl("-H", "Expect: 100-continue", "--data-binary", "x".repeat(200_000).slice(0, 100_000), `${base}/x`)).toBe(
    "POST /x 100000 -",
  );
  expect(await curl("-X", "DELETE", `${base}/x`)).toBe("DELETE /x 0 -");
  expect(await curl("-o", "/dev/null", "-w", "%{http_code}", `${base}/204`)).toBe("204");
  expect(await curl("-x", base, "http://anything.local/p")).toBe("GET /p 0 -");
});

test("node:http keeps one connection for many requests", async () => {
  const proxy = behind(await nodeOrigin());
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  stops.push(() => agent.destroy());
  for (let i = 0; i < 50; i++) {
    const body = "x".repeat(i * 100);
    const answer = await new Promise<string>((done, fail) => {
      const sent = nodeRequest({ port: proxy.port(), host: "127.0.0.1", path: `/${i}`, method: "PUT", agent }, (response) => {
        let said = "";
        response.on("data", (part: Buffer) => {
          said += part.toString();
        });
        response.on("end", () => done(said));
      });
      sent.on("error", fail);
      for (const part of body.match(/.{1,700}/g) ?? []) sent.write(part);
      sent.end();
    });
    expect(answer).toStartWith(`PUT /${i} ${body.length} `);
  }
  expect(proxy.engine.stats().connections).toBe(1);
});

test("many requests at once leave nothing behind", async () => {
  const proxy = behind(await nodeOrigin());
  const answers = await Promise.all(
    Array.from({ length: 300 }, async (_, i) =>
      (await fetch(`http://127.0.0.1:${proxy.port()}/n${i}`, { method: "POST", body: "y".repeat(i) })).text(),
    ),
  );
  answers.forEach((answer, i) => {
    expect(answer).toStartWith(`POST /n${i} ${i} `);
  });
  expect(proxy.engine.stats().activeRequests).toBe(0);
  expect(proxy.engine.stats().clusters[0]?.endpoints[0]?.active).toBe(0);
  expect(proxy.count("weft_bugs_total")).toBe(0);
});

test("bounded fuzz: whatever a client sends in whatever pieces, the proxy lives and forgets it", async () => {
  const app = rawOrigin((_text, write) => write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
  stops.push(() => app.stop());
  const proxy = behind(app.port, { upgrades: ["websocket", "connect"] });
  const piece = fc.oneof(
    fc.constantFrom(
      "GET / HTTP/1.1\r\n",
      "POST /x HTTP/1.1\r\n",
      "Host: x\r\n",
      "\r\n",
      "Content-Length: 5\r\n",
      "Transfer-Encoding: chunked\r\n",
      "5\r\nhello\r\n",
      "0\r\n\r\n",
      "hello",
      "Connection: close\r\n",
      "Upgrade: websocket\r\n",
      "Connection: upgrade\r\n",
    ),
    fc.constantFrom(
      "GET http://x/ HTTP/1.0\r\n",
      "CONNECT x:1 HTTP/1.1\r\n",
      "\n",
      "\r",
      ":",
      " ",
      "\u0000",
      "Expect: 100-continue\r\n",
      "Content-Length: 99999\r\n",
    ),
    fc.string({ maxLength: 8 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 12 }), fc.boolean(), async (pieces, atOnce) => {
      const peer = await RawPeer.connect(proxy.port());
      if (atOnce) peer.send(pieces.join(""));
      else
        for (const part of pieces) {
          peer.send(part);
          await Bun.sleep(0);
        }
      peer.socket?.end();
      await until(() => peer.closed || peer.ended, "an end");
      peer.close();
    }),
    { numRuns: 300, interruptAfterTimeLimit: 2_500 },
  );
  await until(() => proxy.engine.stats().connections === 0, "every connection to be forgotten");
  expect(proxy.engine.stats().activeRequests).toBe(0);
  expect(proxy.count("weft_bugs_total")).toBe(0);
});

test("bounded fuzz: whatever an origin answers, the client gets an end and the proxy lives", async () => {
  let answer = "";
  const app = rawOrigin((_text, write, socket) => {
    write(answer);
    setTimeout(() => socket.end(), 1);
  });
  stops.push(() => app.stop());
  const proxy = behind(app.port);
  const piece = fc.oneof(
    fc.constantFrom(
      "HTTP/1.1 200 OK\r\n",
      "HTTP/1.0 200 OK\r\n",
      "HTTP/1.1 100 Continue\r\n\r\n",
      "HTTP/1.1 204 x\r\n",
      "\r\n",
      "Content-Length: 5\r\n",
      "Transfer-Encoding: chunked\r\n",
      "5\r\nhello\r\n",
      "0\r\n\r\n",
      "hello",
      "Connection: close\r\n",
    ),
    fc.string({ maxLength: 8 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 8 }), async (pieces) => {
      answer = pieces.join("") || "x";
      const peer = await RawPeer.connect(proxy.port());
      peer.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
      await until(() => peer.closed || peer.ended, `an end for ${JSON.stringify(answer)}`);
      peer.close();
    }),
    { numRuns: 150, interruptAfterTimeLimit: 2_500 },
  );
  await until(() => proxy.engine.stats().connections === 0, "every connection to be forgotten");
  expect(proxy.count("weft_bugs_total")).toBe(0);
});
