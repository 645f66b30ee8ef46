// Owns: an origin of known capacity: so many requests at once, each for MEAN_MS (a quarter more or less), the others wait in a line without end. Prints READY.
// Run: bun bench/load/hands-origin.ts PORT HANDS MEAN_MS
const [port, hands, mean] = process.argv.slice(2).map(Number) as [number, number, number];
const line: (() => void)[] = [];
let busy = 0;
// A timer of the runtime may be a millisecond late: what one was late by, the next one is early.
let owedMs = 0;

function serve(): void {
  while (busy < hands && line.length > 0) {
    const done = line.shift() as () => void;
    busy++;
    const wantedMs = mean * (0.75 + Math.random() / 2) - owedMs / hands;
    const began = performance.now();
    setTimeout(() => {
      owedMs = Math.max(0, Math.min(mean, performance.now() - began - wantedMs));
      busy--;
      done();
      serve();
    }, wantedMs);
  }
}

const body = "x".repeat(100);
Bun.serve({
  hostname: "127.0.0.1",
  port,
  idleTimeout: 60,
  fetch: () =>
    new Promise((resolve) => {
      line.push(() => resolve(new Response(body)));
      serve();
    }),
});
console.log("READY");
