// Owns: full TLS handshakes, one after the other on a few lanes: each connection makes a new TLS context, so that there is no session to
// resume, shakes hands, asks once with `Connection: close`, and counts when the answer's first line says 200. A resumed session is an error.
// Run: bun bench/load/handshakes.ts PORT HOST PATH LANES SECONDS CERT KEY
import { readFileSync } from "node:fs";
import type { Socket } from "bun";

export interface HandshakeResult {
  readonly handshakes: number;
  readonly errors: number;
  readonly resumed: number;
  /** What the first error said. */
  readonly why: string | null;
}

interface Lane {
  answered: boolean;
}

async function main(
  port: number,
  host: string,
  path: string,
  lanes: number,
  seconds: number,
  cert: string,
  key: string,
): Promise<HandshakeResult> {
  const request = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
  const counts: { handshakes: number; errors: number; resumed: number; why: string | null } = {
    handshakes: 0,
    errors: 0,
    resumed: 0,
    why: null,
  };
  const failed = (why: string): void => {
    counts.errors++;
    counts.why ??= why;
  };
  const until = performance.now() + seconds * 1000;
  const once = (): Promise<void> =>
    new Promise((resolve) => {
      Bun.connect<Lane>({
        hostname: "127.0.0.1",
        port,
        data: { answered: false },
        tls: { cert, key, rejectUnauthorized: false, serverName: "server" },
        socket: {
          handshake(socket: Socket<Lane>) {
            if (socket.isSessionReused()) counts.resumed++;
            socket.write(request);
          },
          data(socket: Socket<Lane>, bytes: Buffer) {
            if (socket.data.answered) return;
            socket.data.answered = true;
            if (bytes.toString("latin1", 0, 12) === "HTTP/1.1 200") counts.handshakes++;
            else failed(bytes.toString("latin1", 0, 40));
            socket.end();
          },
          close(socket: Socket<Lane>) {
            if (!socket.data.answered) failed("closed without an answer");
            resolve();
          },
          connectError(_: Socket<Lane>, error: Error) {
            failed(error.message);
            resolve();
          },
        },
      }).catch(() => {});
    });
  const lane = async (): Promise<void> => {
    while (performance.now() < until && counts.errors < 100) await once();
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return counts;
}

if (import.meta.main) {
  const [port, host, path, lanes, seconds, cert, key] = process.argv.slice(2);
  if (key === undefined) throw new Error("usage: bun bench/load/handshakes.ts PORT HOST PATH LANES SECONDS CERT KEY");
  const result = await main(
    Number(port),
    host!,
    path!,
    Number(lanes),
    Number(seconds),
    readFileSync(cert!, "utf8"),
    readFileSync(key, "utf8"),
  );
  process.stdout.write(`${JSON.stringify(result)}\n`);
  process.exit(0);
}
