// Owns: a client that counts what it gets, whatever becomes of it: requests fall due at a fixed rate, an answer that is not 200, a connection that ends and a
// request without an answer are failures, and nothing is tried again. `fromMs`: what fell due later is counted apart. Prints START when it begins, then JSON.
// Run: bun bench/load/witness.ts PORT HOST PATH RATE SECONDS CONNECTIONS FROM_MS
import type { Socket } from "bun";
import { percentile } from "../stats.ts";

export interface Witnessed {
  readonly asked: number;
  readonly failed: number;
  /** Of what fell due from `fromMs` on. */
  readonly lateAsked: number;
  readonly lateFailed: number;
  /** Of late answers with 200, in ms from when they fell due. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Answers with 200 that came from `fromMs` on and before the end, a second. */
  readonly perSecond: number;
  /** By status; `lost` = none came. */
  readonly seen: Readonly<Record<string, number>>;
}

interface Lane {
  dueMs: number;
  text: string;
}

/** An answer that takes longer is lost. */
const patienceMs = 5_000;

async function main(port: number, request: Buffer, rate: number, seconds: number, most: number, fromMs: number): Promise<Witnessed> {
  const idle: Socket<Lane>[] = [];
  const waiting: number[] = [];
  const took: number[] = [];
  const seen: Record<string, number> = {};
  let [open, done, failed, lateAsked, lateFailed, inTime] = [0, 0, 0, 0, 0, 0];
  const startedAt = performance.now();
  const over = (dueMs: number, status: string): void => {
    const nowMs = performance.now() - startedAt;
    done++;
    seen[status] = (seen[status] ?? 0) + 1;
    const late = dueMs >= fromMs;
    if (late) lateAsked++;
    if (status !== "200") {
      failed++;
      if (late) lateFailed++;
      return;
    }
    if (late) took.push(nowMs - dueMs);
    if (nowMs >= fromMs && nowMs <= seconds * 1_000) inTime++;
  };
  const launch = (socket: Socket<Lane>, dueMs: number): void => {
    socket.data.dueMs = dueMs;
    socket.data.text = "";
    socket.write(request);
  };
  const rest = (socket: Socket<Lane>): void => {
    const next = waiting.shift();
    socket.data.dueMs = -1;
    if (next === undefined) idle.push(socket);
    else launch(socket, next);
  };
  const ended = (socket: Socket<Lane>): void => {
    if (socket.data.dueMs === Number.NEGATIVE_INFINITY) return;
    open--;
    if (socket.data.dueMs >= 0) over(socket.data.dueMs, "lost");
    else {
      const at = idle.indexOf(socket);
      if (at >= 0) idle.splice(at, 1);
    }
    socket.data.dueMs = Number.NEGATIVE_INFINITY;
  };
  const connect = (dueMs: number): void => {
    open++;
    Bun.connect<Lane>({
      hostname: "127.0.0.1",
      port,
      data: { dueMs, text: "" },
      socket: {
        open(socket) {
          socket.setNoDelay(true);
          launch(socket, socket.data.dueMs);
        },
        data(socket, bytes) {
          const lane = socket.data;
          lane.text += bytes.toString("latin1");
          const end = lane.text.indexOf("\r\n\r\n");
          if (end < 0 || lane.dueMs < 0) return;
          const length = Number(/\r\ncontent-length: *(\d+)\r\n/i.exec(lane.text.slice(0, end + 2))?.[1] ?? 0);
          if (lane.text.length - end - 4 < length) return;
          over(lane.dueMs, lane.text.slice(9, 12));
          if (/\r\nconnection: *close/i.test(lane.text.slice(0, end))) {
            lane.dueMs = Number.NEGATIVE_INFINITY;
            open--;
            socket.end();
          } else rest(socket);
        },
        close: ended,
        error: ended,
      },
    }).catch(() => {
      open--;
      over(dueMs, "lost");
    });
  };
  let due = 0;
  process.stdout.write("START\n");
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const elapsed = performance.now() - startedAt;
      for (const target = Math.min(Math.floor((elapsed * rate) / 1000), seconds * rate); due < target; due++) {
        const socket = idle.pop();
        if (socket !== undefined) launch(socket, elapsed);
        else if (open < most) connect(elapsed);
        else waiting.push(elapsed);
      }
      if (elapsed < seconds * 1000) return;
      clearInterval(timer);
      resolve();
    }, 1);
  });
  for (const giveUpAt = performance.now() + patienceMs; done < due && performance.now() < giveUpAt; ) await Bun.sleep(2);
  const lost = due - done;
  took.sort((a, b) => a - b);
  return {
    asked: due,
    failed: failed + lost,
    lateAsked: lateAsked + lost,
    lateFailed: lateFailed + lost,
    p50Ms: percentile(took, 0.5),
    p99Ms: percentile(took, 0.99),
    perSecond: inTime / (seconds - fromMs / 1_000),
    seen: lost === 0 ? seen : { ...seen, lost: (seen.lost ?? 0) + lost },
  };
}

if (import.meta.main) {
  const [port, host, path, rate, seconds, connections, fromMs] = process.argv.slice(2);
  if (fromMs === undefined) throw new Error("usage: bun bench/load/witness.ts PORT HOST PATH RATE SECONDS CONNECTIONS FROM_MS");
  const request = Buffer.from(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: witness\r\nAccept: */*\r\n\r\n`);
  const result = await main(Number(port), request, Number(rate), Number(seconds), Number(connections), Number(fromMs));
  process.stdout.write(`${JSON.stringify(result)}\n`);
  process.exit(0);
}
