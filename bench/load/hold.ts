// Owns: a client that opens many connections, asks once on each, and keeps them idle until it is told to end (SIGTERM). Says `HELD {...}` when all
// have been answered. Run: bun bench/load/hold.ts PORT HOST PATH COUNT [CERT KEY]   (TLS with CERT; "-" as CERT: TLS without one)
import { readFileSync } from "node:fs";
import type { Socket } from "bun";

export interface Held {
  readonly held: number;
  readonly failed: number;
  readonly why: string | null;
}

interface Lane {
  text: string;
  done: (problem: string | null) => void;
}

const AT_ONCE = 64; // connections being opened; more would overflow a listener's queue

async function main(
  port: number,
  host: string,
  path: string,
  count: number,
  cert: string | undefined,
  key: string | undefined,
): Promise<void> {
  const request = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
  const tls =
    cert === undefined
      ? undefined
      : {
          rejectUnauthorized: false,
          serverName: "server",
          ...(cert === "-" ? {} : { cert: readFileSync(cert, "utf8"), key: readFileSync(key!, "utf8") }),
        };
  const sockets: Socket<Lane>[] = [];
  let failed = 0;
  let lost = 0;
  let why: string | null = null;
  const one = (): Promise<void> =>
    new Promise((resolve) => {
      const settle = (problem: string | null): void => {
        if (problem !== null) {
          failed++;
          why ??= problem;
        }
        resolve();
      };
      Bun.connect<Lane>({
        hostname: "127.0.0.1",
        port,
        data: { text: "", done: settle },
        ...(tls === undefined ? {} : { tls }),
        socket: {
          open(socket: Socket<Lane>) {
            sockets.push(socket);
            if (tls === undefined) socket.write(request);
          },
          handshake(socket: Socket<Lane>) {
            socket.write(request);
          },
          data(socket: Socket<Lane>, bytes: Buffer) {
            const lane = socket.data;
            lane.text += bytes.toString("latin1");
            const end = lane.text.indexOf("\r\n\r\n");
            if (end === -1) return;
            const length = Number(/\r\ncontent-length: *(\d+)/i.exec(lane.text)?.[1] ?? 0);
            if (lane.text.length < end + 4 + length) return;
            lane.done(lane.text.startsWith("HTTP/1.1 200") ? null : lane.text.slice(0, 60));
            lane.text = "";
          },
          close(socket: Socket<Lane>) {
            lost++;
            socket.data.done("closed by the subject");
          },
          connectError(socket: Socket<Lane>, error: Error) {
            socket.data.done(error.message);
          },
        },
      }).catch((error: unknown) => settle(String(error)));
    });
  let opened = 0;
  const lane = async (): Promise<void> => {
    while (opened < count && failed < 100) {
      opened++;
      await one();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  const held: Held = { held: sockets.length - lost, failed, why };
  process.stdout.write(`HELD ${JSON.stringify(held)}\n`);
}

if (import.meta.main) {
  const [port, host, path, count, cert, key] = process.argv.slice(2);
  if (count === undefined) throw new Error("usage: bun bench/load/hold.ts PORT HOST PATH COUNT [CERT KEY]");
  await main(Number(port), host!, path!, Number(count), cert, key);
  setInterval(() => {}, 60_000); // holds until it is ended
}
