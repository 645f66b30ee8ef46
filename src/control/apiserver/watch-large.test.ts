// A watch that begins with more than a client may leave untaken of events: it arrives whole, is made as the client takes it, and is let go of when nobody does.

import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { connect, type Socket } from "node:net";
import type { KubeObject } from "../../api/meta.ts";
import { gadget, makeTestServer } from "./testing.ts";
import { maxUnsentBytes, WatchStream } from "./watch-stream.ts";

setDefaultTimeout(60_000);

const shop = "/apis/test.weft.dev/v1/namespaces/shop/gadgets";
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const run of cleanups.splice(0).reverse()) await run();
});

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 20_000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not within 20 s: ${what}`);
    await Bun.sleep(5);
  }
}

const mebibyte = 1024 * 1024;

/** Lines of a mebibyte each; how many were asked for. */
function mebibytes(count: number) {
  const made = { lines: 0, ended: false };
  function* lines(): Generator<string> {
    try {
      for (let at = 0; at < count; at++) {
        made.lines++;
        yield `${String(at).padEnd(mebibyte - 1, "x")}\n`;
      }
    } finally {
      made.ended = true;
    }
  }
  return { made, lines: lines() };
}

/** Serves one stream over a socket of which nothing is read until `resume`. */
async function served(stream: WatchStream): Promise<Socket> {
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, idleTimeout: 0, fetch: () => new Response(stream.body) });
  cleanups.push(() => server.stop(true));
  const socket = connect(server.port as number, "127.0.0.1");
  cleanups.push(() => socket.destroy());
  socket.on("error", () => undefined);
  socket.pause();
  await new Promise<void>((resolve) => socket.once("connect", () => resolve()));
  socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  return socket;
}

describe("the beginning of a watch", () => {
  test("of 25 MB arrives whole, over a socket that is read slowly, and what is written meanwhile comes behind it", async () => {
    const server = makeTestServer();
    const count = 40;
    for (let at = 0; at < count; at++) {
      const made = await server.ask("POST", shop, gadget(`g${String(at).padStart(2, "0")}`, { note: `${at}`.padEnd(640_000, "n") }));
      expect(made.status).toBe(201);
    }
    const http = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: (request, bun) => server.api.handle(request, bun) });
    cleanups.push(() => http.stop(true));
    const query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    const response = await fetch(`http://127.0.0.1:${http.port}${shop}?${query}`, {
      headers: { authorization: "Bearer admin" },
      proxy: "",
    });
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    cleanups.push(() => reader.cancel());
    const decoder = new TextDecoder();
    const words: string[] = [];
    let rest = "";
    let bytes = 0;
    let wrote = false;
    while (!words.includes("ADDED later-2")) {
      const { done, value } = await reader.read();
      if (done) throw new Error(`the watch ended after ${bytes} bytes: ${words.at(-1)}`);
      bytes += value.length;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const { type, object } = JSON.parse(line) as { type: string; object: KubeObject & { spec?: { note?: string } } };
        if (object.spec?.note !== undefined && object.metadata.name.startsWith("g")) expect(object.spec.note.length).toBe(640_000);
        words.push(`${type} ${object.metadata.name ?? ""}`.trim());
      }
      if (words.length < 3) await Bun.sleep(2);
      if (words.length >= 2 && !wrote) {
        wrote = true;
        for (const name of ["later-1", "later-2"]) expect((await server.ask("POST", shop, gadget(name))).status).toBe(201);
      }
    }
    const beginning = Array.from({ length: count }, (_, at) => `ADDED g${String(at).padStart(2, "0")}`);
    expect(words).toEqual([...beginning, "BOOKMARK", "ADDED later-1", "ADDED later-2"]);
    expect(bytes).toBeGreaterThan(maxUnsentBytes);
  });

  test("is made as the client takes it: 400 MB for a client that takes nothing are some buffers full", async () => {
    const { made, lines } = mebibytes(400);
    const stream = new WatchStream();
    stream.send(" ");
    stream.begin(lines);
    const socket = await served(stream);
    let before = -1;
    // Until nothing more is taken: the kernel's buffers are full.
    await until("the buffers are full", async () => {
      const same = made.lines === before;
      before = made.lines;
      await Bun.sleep(100);
      return same && made.lines > 0;
    });
    expect(made.lines).toBeLessThan(100);
    // Once it reads, it gets the rest, whole.
    let got = 0;
    socket.on("data", (chunk: Buffer) => {
      got += chunk.length;
    });
    socket.resume();
    await until("all of it", () => got > 400 * mebibyte);
    expect(made).toEqual({ lines: 400, ended: true });
  });

  test("is let go of when the client takes nothing between two beats, and not while it takes some", () => {
    const { made, lines } = mebibytes(100);
    const stream = new WatchStream();
    let ended = false;
    stream.onEnd(() => {
      ended = true;
    });
    stream.begin(lines);
    expect(made.lines).toBe(1);
    stream.beat(" ");
    expect(ended).toBe(false);
    stream.beat(" ");
    expect(ended).toBe(true);
  });

  test("beats go on while the client reads, however slowly", async () => {
    const { lines } = mebibytes(20);
    const stream = new WatchStream();
    let ended = false;
    stream.onEnd(() => {
      ended = true;
    });
    stream.begin(lines);
    const reader = stream.body.getReader();
    let got = 0;
    while (got < 20 * mebibyte) {
      stream.beat(" ");
      const { value } = await reader.read();
      got += value?.length ?? 0;
    }
    expect(ended).toBe(false);
    stream.end();
    expect((await reader.read()).done).toBe(true);
  });

  test("with more events behind it than a client may leave untaken ends", () => {
    const { lines } = mebibytes(100);
    const stream = new WatchStream();
    stream.begin(lines);
    let ended = false;
    stream.onEnd(() => {
      ended = true;
    });
    const event = "e".repeat(mebibyte);
    for (let n = 0; n < 16; n++) stream.send(event);
    expect(ended).toBe(false);
    stream.send(event);
    expect(ended).toBe(true);
  });
});
