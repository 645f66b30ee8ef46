// An application for the tests of `weft run`: says on stdout, one JSON line each, how it was started and which signals came.
// PROBE_HOST: where it listens (default 127.0.0.1; empty: nowhere). PROBE_DELAY: ms before it does. PROBE_EXIT: its status at SIGTERM (default 0).

const { env } = process;
const say = (line: Record<string, unknown>) => process.stdout.write(`${JSON.stringify(line)}\n`);
const port = Number(process.argv[2]);
const hostname = env.PROBE_HOST ?? "127.0.0.1";

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const) {
  process.on(signal, () => {
    say({ signal, at: Date.now() });
    if (signal === "SIGTERM" || signal === "SIGINT") process.exit(Number(env.PROBE_EXIT ?? "0"));
  });
}
const alive = setInterval(() => {}, 60_000);
alive.ref();

setTimeout(
  () => {
    if (hostname !== "") Bun.serve({ hostname, port, fetch: () => new Response("probe") });
    say({ listening: true });
  },
  Number(env.PROBE_DELAY ?? "0"),
);
say({
  started: true,
  pid: process.pid,
  argv: process.argv.slice(3),
  env: Object.fromEntries(Object.entries(env).filter(([name]) => /proxy|PORT|JAVA|DOTENV/i.test(name))),
});
