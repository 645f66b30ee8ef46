// Owns: one origin that can fall ill: answers of 100 bytes at once; after SIGUSR2 half of them are 500. Prints READY. Run: bun bench/load/moody-origin.ts PORT
let ill = false;
process.on("SIGUSR2", () => {
  ill = true;
});
const body = "x".repeat(100);

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  fetch: () => new Response(body, { status: ill && Math.random() < 0.5 ? 500 : 200 }),
});
console.log("READY");
