// Owns: origins that are not alike: as many servers as ports are given, each with one hand, whose service times are exponential; the first is ten times
// slower. Prints READY. Run: bun bench/load/skewed-origin.ts MEAN_MS PORT...
const [mean = "10", ...ports] = process.argv.slice(2);

for (const [n, port] of ports.entries()) {
  const meanMs = Number(mean) * (n === 0 ? 10 : 1);
  /** When the one hand is free again. */
  let freeAtMs = 0;
  Bun.serve({
    hostname: "127.0.0.1",
    port: Number(port),
    async fetch() {
      const now = performance.now();
      freeAtMs = Math.max(now, freeAtMs) - Math.log(1 - Math.random()) * meanMs;
      const wait = freeAtMs - now;
      await Bun.sleep(wait);
      return new Response("x".repeat(100));
    },
  });
}
console.log("READY");
