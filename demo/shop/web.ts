// The storefront of the demo shop: puts a product page together from catalog and reviews, and passes orders on to cart.

const port = Number(process.env.PORT);

async function get(url: string): Promise<Record<string, unknown>> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(5000) });
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${(await answer.text()).slice(0, 300)}`);
  return (await answer.json()) as Record<string, unknown>;
}

Bun.serve({
  hostname: "127.0.0.1",
  port,
  routes: {
    "/product/:sku": async (request) => {
      const sku = request.params.sku;
      const [product, reviews] = await Promise.all([get(`http://catalog/products/${sku}.json`), get(`http://reviews.shop/reviews/${sku}`)]);
      return Response.json({ ...product, reviewsVersion: reviews.version, ratedBy: reviews.ratedBy, reviews: reviews.reviews });
    },
    "/cart/:user": {
      GET: async (request) => Response.json(await get(`http://cart.shop.svc.cluster.local/carts/${request.params.user}`)),
      POST: async (request) => {
        const body = await request.text();
        const answer = await fetch(`http://cart/carts/${request.params.user}`, { method: "POST", body, signal: AbortSignal.timeout(5000) });
        return new Response(await answer.text(), { status: answer.status });
      },
    },
    "/healthz": new Response("ok"),
  },
  fetch: () => Response.json({ error: "no such path" }, { status: 404 }),
  error: (failure) => Response.json({ error: failure.message }, { status: 502 }),
});
