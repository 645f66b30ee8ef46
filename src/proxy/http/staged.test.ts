// The order of events for a request with stages, and a request that is held: what comes meanwhile is kept, what ends meanwhile is let go.

import { expect, test } from "bun:test";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type Stage, type Verdict, verdict } from "../chain/stage.ts";
import { stageFamilies, stageOrder } from "../chain/stages.ts";
import { catchAll, cluster, endpoint, hop, RawPeer, start } from "../testing/fixture.ts";
import type { Exchange } from "./exchange.ts";
import { failures } from "./failure.ts";
import { reply } from "./finish.ts";
import { addAnswerLines, addRequestLines, answerStages, endStages, runStages } from "./staged.ts";

const none: Stage = { early: null, request: null, answer: null, end: null };

function exchangeWith(stages: readonly Stage[]): Exchange {
  return { stages, stageAt: 0, held: false, answerLines: null, requestLines: null, ownHalf: { arm() {} } } as unknown as Exchange;
}

test("stages run in order, from where the request stands, and end as often as they were asked", () => {
  const log: string[] = [];
  let holds = true;
  const say = (word: string, said: Verdict): Verdict => {
    log.push(word);
    return said;
  };
  const x = exchangeWith([
    { ...none, request: () => say("a", verdict.go), end: () => log.push("end a") },
    { ...none, answer: (each) => addAnswerLines(each, Buffer.from("b: 1\r\n")) },
    { ...none, request: () => say("c", holds ? verdict.held : verdict.go), end: () => log.push("end c") },
    {
      ...none,
      request(each) {
        addRequestLines(each, Buffer.from("d: 1\r\n"));
        return verdict.go;
      },
      end: () => log.push("end d"),
    },
  ]);
  const nothing = new Uint8Array(0);
  expect(runStages(x, nothing, {} as never, 0)).toBe(false);
  expect(x.held).toBe(true);
  holds = false;
  expect(runStages(x, nothing, {} as never, 0)).toBe(true);
  expect(log).toEqual(["a", "c"]);
  expect(String(x.requestLines)).toBe("d: 1\r\n");
  answerStages(x, null, null);
  expect(String(x.answerLines)).toBe("b: 1\r\n");
  endStages(x);
  expect(log).toEqual(["a", "c", "end a", "end c", "end d"]);
  expect(x.stages).toBeNull();
});

async function origin(): Promise<{ server: Server; port: number; seen: string[] }> {
  const seen: string[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (piece) => {
      body += piece;
    });
    request.on("end", () => {
      seen.push(`${request.method} ${request.url} ${request.headers["x-stage"] ?? "-"} ${body}`);
      response.end("ok");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, port: (server.address() as AddressInfo).port, seen };
}

/** An engine whose chain has these stages, as if they were families of their own. */
function startWith(port: number, stages: readonly Stage[]): ReturnType<typeof start> {
  const names = stages.map((_, n) => `test-${n}`);
  const order = stageOrder as unknown as string[];
  stages.forEach((stage, n) => {
    Object.assign(stageFamilies, { [names[n] as string]: () => ({ build: () => stage }) });
    order.push(names[n] as string);
  });
  try {
    return start(hop([cluster("app", [endpoint(port)])], catchAll("app"), { stages: Object.fromEntries(names.map((name) => [name, {}])) }));
  } finally {
    order.splice(order.length - names.length);
    for (const name of names) Reflect.deleteProperty(stageFamilies, name);
  }
}

test("a held request keeps its body and goes on with it", async () => {
  const up = await origin();
  let waiting: (() => void) | null = null;
  const running = startWith(up.port, [
    {
      ...none,
      request(x) {
        const serial = x.serial;
        addRequestLines(x, Buffer.from("x-stage: yes\r\n"));
        waiting = () => x.resume(serial);
        return verdict.held;
      },
      answer: (x) => addAnswerLines(x, Buffer.from("x-answered: 1\r\n")),
    },
    {
      ...none,
      request(x, bytes, head) {
        if (bytes[head.pathFrom + 1] !== 110) return verdict.go;
        reply(x, failures.denied, "no");
        return verdict.replied;
      },
    },
  ]);
  try {
    const peer = await RawPeer.connect(running.port());
    peer.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc");
    await Bun.sleep(20);
    expect(up.seen).toEqual([]);
    const answering = peer.ask("def");
    await Bun.sleep(20);
    (waiting as unknown as () => void)();
    expect(await answering).toContain("x-answered: 1");
    expect(up.seen).toEqual(["POST /a yes abcdef"]);
    const refused = peer.ask("GET /no HTTP/1.1\r\nHost: x\r\n\r\n", 2);
    await Bun.sleep(20);
    (waiting as unknown as () => void)();
    expect(await refused).toMatch(/HTTP\/1.1 403 [\s\S]*x-answered: 1/);
    // One that is gone by then.
    peer.send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
    await Bun.sleep(20);
    peer.close();
    await Bun.sleep(20);
    (waiting as unknown as () => void)();
    await Bun.sleep(20);
    expect(up.seen).toEqual(["POST /a yes abcdef"]);
  } finally {
    running.engine.close();
    up.server.close();
  }
});
