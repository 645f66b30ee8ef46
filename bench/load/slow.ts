// Owns: clients that ask for a large answer and hardly read it: each takes one piece now and then and leaves the rest in the subject's hands.
// Says `READING n` when every one of them has got a first piece. Run: bun bench/load/slow.ts PORT HOST PATH COUNT
import type { Socket } from "bun";

const EVERY_MS = 500; // one piece a connection

function main(port: number, host: string, path: string, count: number): void {
  const request = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
  const sockets = new Set<Socket<{ began: boolean }>>();
  let began = 0;
  let next = 0;
  const open = (): void => {
    if (next++ >= count) return;
    void Bun.connect<{ began: boolean }>({
      hostname: "127.0.0.1",
      port,
      data: { began: false },
      socket: {
        open(socket) {
          sockets.add(socket);
          socket.write(request);
        },
        data(socket, bytes) {
          socket.pause();
          if (socket.data.began) return;
          socket.data.began = true;
          if (bytes.toString("latin1", 0, 12) !== "HTTP/1.1 200") {
            process.stdout.write(`REFUSED ${bytes.toString("latin1", 0, 60)}\n`);
            process.exit(1);
          }
          if (++began === count) process.stdout.write(`READING ${count}\n`);
          open();
        },
        close() {
          process.stdout.write("REFUSED a connection was closed by the subject\n");
          process.exit(1);
        },
      },
    });
  };
  for (let i = 0; i < 32; i++) open();
  setInterval(() => {
    for (const socket of sockets) socket.resume();
  }, EVERY_MS);
}

if (import.meta.main) {
  const [port, host, path, count] = process.argv.slice(2);
  if (count === undefined) throw new Error("usage: bun bench/load/slow.ts PORT HOST PATH COUNT");
  main(Number(port), host!, path!, Number(count));
}
