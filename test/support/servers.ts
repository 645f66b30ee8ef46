// Owns: real servers for tests (databases, caches, mail), each on its own port in its own folder, ended by pid. Whoever starts one stops it.

import { chownSync, mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { execute } from "./execute.ts";
import { findPeer } from "./peers.ts";

export interface RealServer {
  readonly port: number;
  /** Its folder; gone after `stop`. */
  readonly dir: string;
  stop(): Promise<void>;
}

/** A port nobody had a moment ago; servers that cannot say which port they took must be told one. */
export function freePort(): number {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = server;
  server.stop(true);
  return port;
}

interface Launch {
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Is it up? Called until it says so. */
  readonly ready: () => Promise<boolean>;
  readonly stopSignal?: NodeJS.Signals;
}

async function launch(dir: string, port: number, what: Launch): Promise<RealServer> {
  const child = Bun.spawn([...what.argv], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    cwd: dir,
    env: { ...process.env, ...what.env },
  });
  const words = new Response(child.stderr).text();
  const said = new Response(child.stdout).text();
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(what.stopSignal ?? "SIGTERM");
    const ended = await Promise.race([child.exited, Bun.sleep(10_000).then(() => null)]);
    if (ended === null) child.kill("SIGKILL");
    await child.exited;
    rmSync(dir, { recursive: true, force: true });
  };
  const end = Date.now() + 20_000;
  while (!(await what.ready())) {
    if (child.exitCode !== null || Date.now() > end) {
      await stop();
      throw new Error(`${what.argv[0]} did not start:\n${await words}${await said}`);
    }
    await Bun.sleep(30);
  }
  return { port, dir, stop };
}

/** Does anybody accept connections there? */
async function accepts(port: number): Promise<boolean> {
  const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {}, error() {} } }).catch(() => null);
  socket?.end();
  return socket !== null;
}

function folder(name: string): string {
  return mkdtempSync(join(tmpdir(), `weft-${name}-`));
}

const isRoot = process.getuid?.() === 0;

/** PostgreSQL, trusting everybody on loopback; user and database `postgres`. */
export async function startPostgres(): Promise<RealServer> {
  const program = findPeer("postgres") as string;
  const dir = folder("postgres");
  const data = join(dir, "data");
  mkdirSync(data, { mode: 0o700 });
  // It refuses to run as root.
  let as: readonly string[] = [];
  if (isRoot) {
    const { out } = await execute(["id", "-u", "postgres"]);
    const uid = Number(out);
    for (const path of [dir, data]) chownSync(path, uid, -1);
    as = ["setpriv", `--reuid=${uid}`, "--clear-groups"];
  }
  const init = [
    join(dirname(realpathSync(program)), "initdb"),
    "-D",
    data,
    "-A",
    "trust",
    "-U",
    "postgres",
    "--no-sync",
    "-E",
    "UTF8",
    "--locale=C",
  ];
  const made = await execute([...as, ...init], { cwd: dir, limitMs: 60_000 });
  if (made.code !== 0) {
    rmSync(dir, { recursive: true, force: true });
    throw new Error(`initdb: ${made.err}`);
  }
  const port = freePort();
  const argv = [...as, program, "-D", data, "-p", String(port), "-h", "127.0.0.1", "-k", dir, "-c", "fsync=off"];
  const ready = async () => (await execute(["pg_isready", "-q", "-h", "127.0.0.1", "-p", String(port)])).code === 0;
  // Fast shutdown: its SIGTERM waits for every client.
  return await launch(dir, port, { argv, ready, stopSignal: "SIGINT" });
}

export async function startRedis(): Promise<RealServer> {
  const dir = folder("redis");
  const port = freePort();
  const argv = [findPeer("redis") as string, "--port", String(port), "--bind", "127.0.0.1", "--save", "", "--dir", dir];
  return await launch(dir, port, { argv, ready: () => accepts(port), stopSignal: "SIGINT" });
}

/** MariaDB; user `weft`, password `secret`, database `test`. */
export async function startMariadb(): Promise<RealServer> {
  const program = findPeer("mariadb") as string;
  const dir = folder("mariadb");
  const data = join(dir, "data");
  const as = isRoot ? ["--user=root"] : [];
  const install = [
    "mariadb-install-db",
    "--no-defaults",
    ...as,
    `--datadir=${data}`,
    "--skip-test-db",
    "--auth-root-authentication-method=normal",
  ];
  const made = await execute(install, { cwd: dir, limitMs: 60_000 });
  if (made.code !== 0) {
    rmSync(dir, { recursive: true, force: true });
    throw new Error(`mariadb-install-db: ${made.out}${made.err}`);
  }
  const port = freePort();
  const socket = join(dir, "socket");
  const argv = [program, "--no-defaults", ...as, `--datadir=${data}`, `--socket=${socket}`, `--port=${port}`, "--bind-address=127.0.0.1"];
  const client = ["mariadb", "--no-defaults", `--socket=${socket}`, "-u", "root"];
  const ready = async () => (await execute([...client, "-e", "select 1"])).code === 0;
  const server = await launch(dir, port, { argv: [...argv, "--innodb-flush-log-at-trx-commit=0"], ready });
  const sql = "create database test; create user weft@'127.0.0.1' identified by 'secret'; grant all on test.* to weft@'127.0.0.1';";
  const granted = await execute([...client, "-e", sql]);
  if (granted.code === 0) return server;
  await server.stop();
  throw new Error(granted.err);
}

/** A mail server that prints what it gets to the file `mail` in its folder. */
export async function startSmtp(): Promise<RealServer> {
  const dir = folder("smtp");
  const port = freePort();
  const serve = ["-n", "-l", `127.0.0.1:${port}`, "-c", "aiosmtpd.handlers.Mailbox", join(dir, "mail")];
  return await launch(dir, port, { argv: [findPeer("smtp") as string, ...serve], ready: () => accepts(port) });
}
