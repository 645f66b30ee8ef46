// A service for tests: answers with what it was asked, as JSON. `?status=503` and `?delay=50` (ms) shape the answer.

const instance = process.env.INSTANCE ?? "echo";

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  async fetch(request) {
    const url = new URL(request.url);
    const body = await request.text();
    const delay = Number(url.searchParams.get("delay") ?? "0");
    if (delay > 0) await Bun.sleep(delay);
    return Response.json(
      {
        instance,
        method: request.method,
        path: url.pathname,
        host: request.headers.get("host"),
        headers: Object.fromEntries(request.headers),
        bodyBytes: body.length,
      },
      { status: Number(url.searchParams.get("status") ?? "200") },
    );
  },
});
