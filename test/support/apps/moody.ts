// An application whose mood a test sets over its own port: `/mood?errors=50` makes half of its answers 500, `/mood?health=503` its health page 503, `/mood?slow=300` lets each take 300 ms.

let errors = 0;
let health = 200;
let slow = 0;
const name = process.env.INSTANCE ?? "moody";

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  async fetch(request) {
    const url = new URL(request.url);
    if (url.pathname === "/healthz") return new Response("", { status: health });
    if (url.pathname === "/mood") {
      errors = Number(url.searchParams.get("errors") ?? errors);
      health = Number(url.searchParams.get("health") ?? health);
      slow = Number(url.searchParams.get("slow") ?? slow);
      return new Response("so be it");
    }
    if (slow > 0) await Bun.sleep(slow);
    return Math.random() * 100 < errors ? new Response("no", { status: 500 }) : new Response(name);
  },
});
