// A service of the demo shop that keeps its state in a SQLite file, and reserves stock over plain TCP through a fixed local port.

import { Database } from "bun:sqlite";
import { connect } from "node:net";

const port = Number(process.env.PORT);
const stockPort = Number(process.env.STOCK_PORT);
const db = new Database(process.env.CART_DB ?? "cart.db", { create: true });
db.run("PRAGMA journal_mode = WAL");
db.run("CREATE TABLE IF NOT EXISTS items (user TEXT NOT NULL, sku TEXT NOT NULL, at INTEGER NOT NULL)");
const insert = db.prepare("INSERT INTO items (user, sku, at) VALUES (?, ?, ?)");
const count = db.prepare<{ n: number }, [string]>("SELECT count(*) AS n FROM items WHERE user = ?");

/** One connection a call, as old programs do it. */
function reserve(sku: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(stockPort, "127.0.0.1", () => socket.write(`RESERVE ${sku} 1\n`));
    let text = "";
    socket.setTimeout(5000, () => socket.destroy(new Error("stock did not answer within 5 s")));
    socket.on("data", (bytes) => {
      text += bytes.toString("utf8");
      if (text.endsWith("\n")) socket.end();
    });
    socket.on("error", reject);
    socket.on("close", () =>
      text.startsWith("OK ") ? resolve(text.slice(3).trim()) : reject(new Error(`stock answered ${JSON.stringify(text)}`)),
    );
  });
}

Bun.serve({
  hostname: "127.0.0.1",
  port,
  routes: {
    "/carts/:user": {
      GET: (request) => Response.json({ user: request.params.user, items: count.get(request.params.user)?.n ?? 0 }),
      POST: async (request) => {
        const { sku } = (await request.json()) as { sku: string };
        const left = await reserve(sku);
        insert.run(request.params.user, sku, Date.now());
        return Response.json({ user: request.params.user, items: count.get(request.params.user)?.n ?? 0, left }, { status: 201 });
      },
    },
    "/healthz": new Response("ok"),
  },
  fetch: () => Response.json({ error: "no such path" }, { status: 404 }),
  error: (failure) => Response.json({ error: failure.message }, { status: 502 }),
});
