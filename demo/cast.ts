// Owns: who plays in the demo's shop: each instance with its port, its command and what it needs to know.

import { createServer } from "node:net";
import { join } from "node:path";
import { bunCommand, type Instance } from "./processes.ts";

const here = import.meta.dir;

/** What the operator applies. */
export const manifest = join(here, "mesh.yaml");

/** The command of one of the shop's own programs. */
export const shop = (file: string): readonly string[] => [bunCommand, join(here, "shop", file)];

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => (typeof address === "object" && address !== null ? resolve(address.port) : reject(new Error("no free port"))));
    });
  });
}

/** The shop, without its shoppers. `dataDir` is where cart keeps its state. */
export async function cast(dataDir: string): Promise<readonly Instance[]> {
  const stockPort = await freePort();
  const catalogPort = await freePort();
  const sirv = join(here, "..", "node_modules", ".bin", "sirv");
  const one = async (service: string, name: string, more: Partial<Instance> = {}): Promise<Instance> => ({
    service,
    name,
    port: await freePort(),
    command: shop(`${service}.ts`),
    ...more,
  });
  return [
    await one("ratings", "ratings-a"),
    await one("ratings", "ratings-b"),
    await one("reviews", "reviews-v1", { version: "v1", env: { VERSION: "v1" } }),
    await one("reviews", "reviews-v2", { version: "v2", env: { VERSION: "v2" } }),
    // An unmodified program from the npm registry serves the catalog.
    await one("catalog", "catalog", {
      port: catalogPort,
      command: [sirv, join(here, "shop", "catalog"), "--host", "127.0.0.1", "--port", String(catalogPort), "--quiet"],
    }),
    await one("stock", "stock", { protocol: "tcp" }),
    await one("cart", "cart", {
      upstreams: [`stock=${stockPort}`],
      env: { STOCK_PORT: String(stockPort), CART_DB: join(dataDir, "cart.db") },
    }),
    await one("web", "web"),
  ];
}
