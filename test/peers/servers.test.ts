// Databases, a cache and a mail server as opaque TCP, through one sidecar and through a pair with mutual TLS. MySQL and SMTP speak first.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { execute } from "../support/execute.ts";
import { type OpaqueWay, openOpaque } from "../support/opaque.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { type RealServer, startMariadb, startPostgres, startRedis, startSmtp } from "../support/servers.ts";
import { type Shape, shapes } from "../support/way.ts";

/** A server and the ways to it, for a describe block. */
function stage(start: () => Promise<RealServer>): { server(): RealServer; way(shape: Shape): OpaqueWay } {
  let server: RealServer | undefined;
  const ways = new Map<Shape, OpaqueWay>();
  beforeAll(async () => {
    server = await start();
    for (const shape of shapes) ways.set(shape, await openOpaque({ shape, origin: server.port }));
  }, 90_000);
  afterAll(async () => {
    for (const way of ways.values()) await way.stop();
    await server?.stop();
  }, 30_000);
  return { server: () => server as RealServer, way: (shape) => ways.get(shape) as OpaqueWay };
}

describe.skipIf(!needsPeers("servers.test.ts: PostgreSQL", "postgres"))("PostgreSQL", () => {
  const { way } = stage(startPostgres);
  for (const shape of shapes) {
    const psql = (...more: string[]) => [
      "psql",
      "-X",
      "-A",
      "-t",
      "-q",
      "-h",
      "127.0.0.1",
      "-p",
      String(way(shape).port),
      "-U",
      "postgres",
      ...more,
    ];

    /** Waits until the server has been given such a query. */
    const seen = async (like: string): Promise<void> => {
      const count = psql("-c", `select count(*) from pg_stat_activity where query ilike '${like}' and pid <> pg_backend_pid()`);
      for (let n = 0; n < 200; n++) {
        if ((await execute(count)).out.trim() !== "0") return;
        await Bun.sleep(20);
      }
      throw new Error(`no query ${like}`);
    };

    test(`${shape}: queries, a large result, a copy in and out`, async () => {
      const { out, code } = await execute(psql("-c", "select 6 * 7"));
      expect([code, out.trim()]).toEqual([0, "42"]);
      // 24 MB out.
      const big = await execute(psql("-c", "select md5(n::text) from generate_series(1, 750000) n"));
      expect(big.bytes.length).toBe(750_000 * 33);
      expect(big.out.slice(0, 33)).toBe(`${createHash("md5").update("1").digest("hex")}\n`);
      // 8 MB in, and back.
      const rows = Array.from({ length: 200_000 }, (_none, n) => `${n}\tthe quick brown fox jumps ${n}`).join("\n");
      const script = `create temp table t (n int, line text);\n\\copy t from pstdin\n${rows}\n\\.\nselect count(*), sum(n), max(length(line)) from t;\n`;
      const copied = await execute(psql("-f", "-"), { stdin: script.replace("from pstdin", "from stdin") });
      expect(copied.out.trim()).toBe(`200000|${(200_000 * 199_999) / 2}|32`);
      expect(copied.err).toBe("");
    }, 60_000);

    test(`${shape}: cancelling a query opens a second connection and works`, async () => {
      const sleeper = Bun.spawn(psql("-c", "select pg_sleep(30)"), { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
      await seen("select pg_sleep%");
      // psql then asks the server to cancel, by a connection of its own.
      sleeper.kill("SIGINT");
      expect(await new Response(sleeper.stderr).text()).toContain("canceling statement due to user request");
    });

    test(`${shape}: notifications arrive while nothing is asked`, async () => {
      const listener = Bun.spawn(psql("-c", "listen news", "-f", "-"), { stdin: "pipe", stdout: "pipe", stderr: "ignore" });
      await seen("listen%");
      await execute(psql("-c", "notify news, 'hello'"));
      listener.stdin.write("select 1;\n");
      await listener.stdin.end();
      const said = await new Response(listener.stdout).text();
      expect(said).toContain('Asynchronous notification "news" with payload "hello"');
    });
  }

  test("a whole run of pgbench with ten clients", async () => {
    const port = String(way("pair").port);
    const to = ["-h", "127.0.0.1", "-p", port, "-U", "postgres", "postgres"];
    const bench = join(dirname(realpathSync(findPeer("postgres") as string)), "pgbench");
    const made = await execute([bench, "-i", "-q", "-s", "1", ...to], { limitMs: 60_000 });
    expect(made.code).toBe(0);
    const ran = await execute([bench, "-c", "10", "-t", "40", "-C", ...to], { limitMs: 60_000 });
    expect(ran.out).toContain("number of transactions actually processed: 400/400");
    expect(ran.out).toContain("number of failed transactions: 0");
  }, 120_000);
});

describe.skipIf(!needsPeers("servers.test.ts: Redis", "redis"))("Redis", () => {
  const { way } = stage(startRedis);
  for (const shape of shapes)
    test(`${shape}: values, a pipeline, a large value`, async () => {
      const redis = (...more: string[]) => ["redis-cli", "-h", "127.0.0.1", "-p", String(way(shape).port), ...more];
      expect((await execute(redis("set", "k", "v"))).out.trim()).toBe("OK");
      expect((await execute(redis("get", "k"))).out.trim()).toBe("v");
      const commands = Array.from({ length: 20_000 }, (_none, n) => `SET key:${n} ${n}`).join("\n");
      const piped = await execute(redis("--pipe"), { stdin: `${commands}\n` });
      expect(piped.out).toContain("errors: 0, replies: 20000");
      const large = Buffer.alloc(8 << 20, "weft");
      await execute(redis("-x", "set", "large"), { stdin: large });
      const back = await execute(redis("get", "large"));
      expect(back.bytes.length).toBe(large.length + 1);
      expect(large.equals(Buffer.from(back.bytes.subarray(0, large.length)))).toBe(true);
      const late = execute(redis("blpop", "queue", "5"));
      for (let n = 0; n < 200 && !(await execute(redis("info", "clients"))).out.includes("blocked_clients:1"); n++) await Bun.sleep(10);
      await execute(redis("rpush", "queue", "item"));
      expect((await late).out).toContain("item");
    }, 30_000);
});

describe.skipIf(!needsPeers("servers.test.ts: MariaDB", "mariadb"))("MariaDB, which speaks first", () => {
  const { way } = stage(startMariadb);
  for (const shape of shapes)
    test(`${shape}: sign in, write, read`, async () => {
      const to = [
        "--no-defaults",
        "--protocol=tcp",
        "-h",
        "127.0.0.1",
        "-P",
        String(way(shape).port),
        "-u",
        "weft",
        "-psecret",
        "-N",
        "-B",
      ];
      const rows = Array.from({ length: 5_000 }, (_none, n) => `(${n}, repeat('x', 200))`).join(",");
      const sql = `create table if not exists t_${shape} (n int primary key, line text); insert into t_${shape} values ${rows}; select count(*), sum(n), sum(length(line)) from t_${shape};`;
      const { out, err, code } = await execute(["mariadb", ...to, "test"], { stdin: sql });
      expect([code, err]).toEqual([0, ""]);
      expect(out.trim().split(/\s+/)).toEqual(["5000", String((5_000 * 4_999) / 2), "1000000"]);
      const wrong = await execute(["mariadb", ...to.map((word) => (word === "-psecret" ? "-pwrong" : word)), "test", "-e", "select 1"]);
      expect(wrong.err).toContain("Access denied");
    }, 30_000);
});

describe.skipIf(!needsPeers("servers.test.ts: SMTP", "smtp"))("SMTP, which speaks first", () => {
  const { server, way } = stage(startSmtp);
  for (const shape of shapes)
    test(`${shape}: a letter with an attachment of 2 MB`, async () => {
      const program = [
        "import smtplib, sys",
        "from email.message import EmailMessage",
        "letter = EmailMessage()",
        `letter["Subject"], letter["From"], letter["To"] = "through ${shape}", "a@example.com", "b@example.com"`,
        'letter.set_content("hello")',
        'letter.add_attachment(bytes(2000000), maintype="application", subtype="octet-stream", filename="zeros")',
        'with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=10) as server:',
        "    server.send_message(letter)",
      ].join("\n");
      const { code, err } = await execute(["/usr/bin/python3", "-c", program, String(way(shape).port)]);
      expect([code, err]).toEqual([0, ""]);
      const folder = join(server().dir, "mail", "new");
      const letters = readdirSync(folder).map((name) => readFileSync(join(folder, name), "latin1"));
      const mine = letters.filter((letter) => letter.includes(`Subject: through ${shape}`));
      expect(mine).toHaveLength(1);
      expect(mine[0]?.length).toBeGreaterThan(2_600_000);
    }, 30_000);
});
