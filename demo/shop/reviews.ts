// A service of the demo shop, in two versions: v2 adds stars, which it asks of `ratings`. Knows nothing of any mesh:
// it calls http://ratings/ by name, and the runtime's HTTP_PROXY does the rest.

const port = Number(process.env.PORT);
const version = process.env.VERSION ?? "v1";

const texts = ["Does what it says.", "Bought a second one.", "Fine, a bit heavy."];

Bun.serve({
  hostname: "127.0.0.1",
  port,
  routes: {
    "/reviews/:sku": async (request) => {
      const sku = request.params.sku;
      // Both versions ask ratings, so that losing an instance of it would show whatever the split.
      const answer = await fetch(`http://ratings/ratings/${sku}`, { signal: AbortSignal.timeout(5000) });
      if (!answer.ok) return Response.json({ error: `ratings answered ${answer.status}: ${await answer.text()}` }, { status: 502 });
      const { stars, instance } = (await answer.json()) as { stars: number; instance: string };
      const reviews = texts.map((text) => (version === "v1" ? { text } : { text, stars }));
      return Response.json({ version, sku, reviews, ratedBy: instance });
    },
    "/healthz": new Response("ok"),
  },
  fetch: () => Response.json({ error: "no such path" }, { status: 404 }),
  error: (failure) => Response.json({ error: failure.message }, { status: 502 }),
});
