// An application whose mood a test sets over its own port: `/mood?errors=50` makes half of its answers 500, `/mood?health=503` its health page 503.

let errors = 0;
let health = 200;
const name = process.env.INSTANCE ?? "moody";

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  fetch(request) {
    const url = new URL(request.url);
    if (url.pathname === "/healthz") return new Response("", { status: health });
    if (url.pathname === "/mood") {
      errors = Number(url.searchParams.get("errors") ?? errors);
      health = Number(url.searchParams.get("health") ?? health);
      return new Response("so be it");
    }
    return Math.random() * 100 < errors ? new Response("no", { status: 500 }) : new Response(name);
  },
});
