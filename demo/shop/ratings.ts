// A service of the demo shop: stars for a product. Runs as two instances. Knows nothing of any mesh.

const port = Number(process.env.PORT);
const instance = process.env.INSTANCE ?? "ratings";

Bun.serve({
  hostname: "127.0.0.1",
  port,
  routes: {
    "/ratings/:sku": (request) => Response.json({ sku: request.params.sku, stars: 3 + (Number(request.params.sku) % 3), instance }),
    "/healthz": new Response("ok"),
  },
  fetch: () => Response.json({ error: "no such path" }, { status: 404 }),
});
