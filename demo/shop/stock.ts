// A service of the demo shop that speaks a line protocol over plain TCP, not HTTP: `RESERVE SKU COUNT\n` answers `OK REMAINING\n`.

const port = Number(process.env.PORT);
const remaining = new Map<string, number>();

function answer(line: string): string {
  const [verb, sku, count] = line.trim().split(" ");
  if (verb === "PING") return "PONG\n";
  if (verb !== "RESERVE" || sku === undefined || !Number.isInteger(Number(count))) return "ERR expected: RESERVE SKU COUNT\n";
  const left = (remaining.get(sku) ?? 1_000_000) - Number(count);
  remaining.set(sku, left);
  return `OK ${left}\n`;
}

Bun.listen<{ pending: string }>({
  hostname: "127.0.0.1",
  port,
  socket: {
    open(socket) {
      socket.data = { pending: "" };
    },
    data(socket, bytes) {
      const lines = (socket.data.pending + bytes.toString("utf8")).split("\n");
      socket.data.pending = (lines.pop() ?? "").slice(0, 1024);
      for (const line of lines) socket.write(answer(line));
    },
  },
});
