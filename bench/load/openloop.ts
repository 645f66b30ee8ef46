// Owns: load at a fixed rate. Requests fall due on a clock whatever the answers do, in batches of one per millisecond (the finest timer of
// the runtime); latency counts from the due batch, so a slow answer cannot hold back the next requests and hide the wait.
// The generator's own lateness is not counted as the subject's. Run: bun bench/load/openloop.ts PORT HOST PATH RATE SECONDS CONNECTIONS
import type { Socket } from "bun";
import { percentile } from "../stats.ts";

export interface OpenLoopResult {
  readonly sent: number;
  readonly answered: number;
  readonly errors: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** Requests that found no idle connection when due. */
  readonly queued: number;
}

interface Lane {
  dueAt: number;
  /** Bytes of the current answer still to come; -1 while its head is incomplete. */
  left: number;
  head: Buffer | null;
}

async function main(port: number, host: string, path: string, rate: number, seconds: number, connections: number): Promise<OpenLoopResult> {
  const request = Buffer.from(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: openloop\r\nAccept: */*\r\n\r\n`);
  const idle: Socket<Lane>[] = [];
  const waiting: number[] = [];
  const latenciesUs: number[] = [];
  let sent = 0;
  let queued = 0;
  let errors = 0;
  const phase: { running: boolean } = { running: true }; // connections may end once it is over

  const launch = (socket: Socket<Lane>, dueAt: number): void => {
    const lane = socket.data;
    lane.dueAt = dueAt;
    lane.left = -1;
    lane.head = null;
    sent++;
    socket.write(request);
  };
  const finished = (socket: Socket<Lane>): void => {
    latenciesUs.push((performance.now() - socket.data.dueAt) * 1000);
    const next = waiting.shift();
    if (next === undefined) idle.push(socket);
    else launch(socket, next);
  };
  const data = (socket: Socket<Lane>, bytes: Buffer): void => {
    const lane = socket.data;
    if (lane.left >= 0) {
      lane.left -= bytes.length;
    } else {
      const all = lane.head === null ? bytes : Buffer.concat([lane.head, bytes]);
      const end = all.indexOf("\r\n\r\n");
      if (end === -1) {
        lane.head = Buffer.from(all);
        return;
      }
      const text = all.toString("latin1", 0, end + 4);
      const length = /\r\ncontent-length: *(\d+)\r\n/i.exec(text);
      if (!text.startsWith("HTTP/1.1 200") || length === null) errors++;
      lane.left = Number(length?.[1] ?? 0) - (all.length - end - 4);
    }
    if (lane.left <= 0) finished(socket);
  };
  const lost = (): void => {
    if (phase.running) errors++;
  };
  const sockets = await Promise.all(
    Array.from({ length: connections }, () =>
      Bun.connect<Lane>({
        hostname: "127.0.0.1",
        port,
        data: { dueAt: 0, left: 0, head: null },
        socket: { data, close: lost, error: lost },
      }),
    ),
  );
  for (const socket of sockets) socket.setNoDelay(true);
  idle.push(...sockets);

  const startedAt = performance.now();
  let due = 0;
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const now = performance.now();
      const elapsed = now - startedAt;
      const target = Math.min(Math.floor((elapsed * rate) / 1000), Math.floor(seconds * rate));
      for (; due < target; due++) {
        const socket = idle.pop();
        if (socket !== undefined) launch(socket, now);
        else {
          queued++;
          waiting.push(now);
        }
      }
      if (elapsed >= seconds * 1000) {
        clearInterval(timer);
        resolve();
      }
    }, 1);
  });
  const giveUpAt = performance.now() + 1000;
  while (latenciesUs.length < due && performance.now() < giveUpAt) await Bun.sleep(2);
  phase.running = false;
  for (const socket of sockets) socket.end();
  const sorted = Float64Array.from(latenciesUs).sort();
  return {
    sent,
    answered: sorted.length,
    errors: errors + (due - sorted.length),
    p50Us: percentile(sorted, 0.5),
    p99Us: percentile(sorted, 0.99),
    queued,
  };
}

if (import.meta.main) {
  const [port, host, path, rate, seconds, connections] = process.argv.slice(2);
  if (connections === undefined) throw new Error("usage: bun bench/load/openloop.ts PORT HOST PATH RATE SECONDS CONNECTIONS");
  const result = await main(Number(port), host!, path!, Number(rate), Number(seconds), Number(connections));
  process.stdout.write(`${JSON.stringify(result)}\n`);
  process.exit(0);
}
