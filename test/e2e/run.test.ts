// `weft run` as users meet it: real control plane, real sidecars, and an application that says what happens to it.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../demo/cast.ts";
import { bunCommand, weftBin } from "../../demo/processes.ts";
import type { Condition, KubeObject } from "../../src/api/meta.ts";
import { eventually } from "../support/mesh.ts";

const probe = join(import.meta.dir, "..", "support", "apps", "run-probe.ts");

type Child = Bun.Subprocess<"ignore", "pipe", "pipe">;
interface Started {
  readonly child: Child;
  readonly out: string[];
  readonly err: string[];
  readonly port: number;
}

let dir = "";
let up: Child | undefined;
const children: Child[] = [];

const envFor = (more: Record<string, string> = {}): Record<string, string> => ({
  PATH: process.env.PATH ?? "",
  HOME: dir,
  WEFT_DATA: join(dir, "data"),
  XDG_RUNTIME_DIR: dir,
  NO_COLOR: "1",
  ...more,
});

async function collect(stream: ReadableStream<Uint8Array>, into: string[]): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    into.push(...parts);
  }
  if (rest !== "") into.push(rest);
}

function spawn(
  args: readonly string[],
  env: Record<string, string> = {},
  cwd = dir,
): { child: Child; out: string[]; err: string[]; closed: Promise<unknown> } {
  const child = Bun.spawn([weftBin, ...args], { stdin: "ignore", stdout: "pipe", stderr: "pipe", env: envFor(env), cwd });
  children.push(child);
  const out: string[] = [];
  const err: string[] = [];
  const closed = Promise.all([collect(child.stdout, out), collect(child.stderr, err)]);
  return { child, out, err, closed };
}

async function weft(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const { child, out, err, closed } = spawn(args);
  const code = await child.exited;
  await closed;
  return { code, out: out.join("\n"), err: err.join("\n") };
}

async function startUp(): Promise<void> {
  const started = spawn(["up", "--api-port", "0", "--xds-port", "0", "--dashboard-port", "0"]);
  up = started.child;
  await until(async () => (await weft("get", "namespaces", "-o", "name")).code === 0, "the control plane answers", started);
}

async function until(test: () => Promise<boolean> | boolean, what: string, started?: { err: string[]; out: string[] }): Promise<void> {
  const ok = await eventually(
    10_000,
    async () => await test(),
    (value) => value,
  );
  if (!ok) throw new Error(`waited 10 s in vain: ${what}\n${started?.err.join("\n") ?? ""}\n${started?.out.join("\n") ?? ""}`);
}

/** `weft run` around the probe. */
async function run(
  service: string,
  flags: readonly string[] = [],
  env: Record<string, string> = {},
  command?: readonly string[],
): Promise<Started> {
  const port = await freePort();
  const words = command ?? [bunCommand, probe, String(port)];
  const started = spawn(["run", "--service", service, "-n", "run", "--port", String(port), ...flags, "--", ...words], env);
  return { ...started, port };
}

async function entriesOf(service: string): Promise<(KubeObject & { health: Condition | undefined })[]> {
  const { out, code, err } = await weft("get", "workloadentries", "-n", "run", "-l", `app=${service}`, "-o", "json");
  if (code !== 0) throw new Error(err);
  const { items } = JSON.parse(out) as { items: KubeObject[] };
  return items.map((item) => ({
    ...item,
    health: (item.status as { conditions?: Condition[] } | undefined)?.conditions?.find((c) => c.type === "Healthy"),
  }));
}

async function registered(service: string, started: Started): Promise<void> {
  await until(() => started.err.some((line) => line.includes("registered ")), `${service} is registered`, started);
}

const lines = (started: Started) => started.out.filter((l) => l.startsWith("{")).map((l) => JSON.parse(l) as Record<string, unknown>);
const signalsOf = (started: Started) => lines(started).flatMap((l) => (typeof l.signal === "string" ? [l.signal] : []));
const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
const argsOf = (pid: number) => readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
const sidecarOf = (pid: number) => childrenOf(pid).find((child) => argsOf(child).includes("--bootstrap"));
const alive = (pid: number): boolean => {
  try {
    // A process that nobody has waited for yet is gone all the same.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
};
const leftBehind = () => [
  ...readdirSync(join(dir, "weft", "ports")),
  ...readdirSync(join(dir, "weft")).filter((name) => name.startsWith("run-")),
];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "weft-run-e2e-"));
  await startUp();
}, 20_000);

afterAll(async () => {
  for (const child of children) if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM");
  await Promise.race([Promise.all(children.map((child) => child.exited)), Bun.sleep(4000)]);
  for (const child of children) if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
  rmSync(dir, { recursive: true, force: true });
}, 10_000);

describe("a whole life", () => {
  test("registers when the port answers, not before; passes signals; unregisters before COMMAND ends; leaves nothing", async () => {
    const started = await run("life", ["--version", "v2", "--port-variable", "PORT"], { PROBE_DELAY: "400", PROBE_EXIT: "7" });
    await until(async () => (await entriesOf("life")).length === 1, "the entry is there", started);
    const [starting] = await entriesOf("life");
    expect(starting?.health).toMatchObject({ status: "False", reason: "Starting" });
    await registered("life", started);
    const [entry] = await entriesOf("life");
    expect(entry?.health).toMatchObject({ status: "True" });
    expect(entry?.metadata.labels).toMatchObject({ app: "life", version: "v2" });
    expect(entry?.metadata.name).toMatch(/^life-v2-[0-9a-f]{6}$/);
    expect(JSON.parse((await weft("get", "service", "life", "-n", "run", "-o", "json")).out).spec).toMatchObject({
      selector: { app: "life" },
    });

    const [first] = lines(started);
    expect(first?.env).toMatchObject({
      PORT: String(started.port),
      HTTP_PROXY: `http://127.0.0.1:${entry?.metadata.annotations?.["weft.dev/http-proxy-port"]}`,
      NO_PROXY: "localhost,127.0.0.1,::1",
      NODE_USE_ENV_PROXY: "1",
    });

    for (const [count, signal] of (["SIGHUP", "SIGUSR1", "SIGUSR2"] as const).entries()) {
      started.child.kill(signal);
      await until(() => signalsOf(started).length === count + 1, `${signal} arrives`, started);
    }
    expect(signalsOf(started)).toEqual(["SIGHUP", "SIGUSR1", "SIGUSR2"]);

    started.child.kill("SIGTERM");
    await until(async () => (await entriesOf("life")).every((e) => e.health?.reason === "Draining"), "peers are told first", started);
    expect(await started.child.exited).toBe(7);
    expect(signalsOf(started).at(-1)).toBe("SIGTERM");
    expect(await entriesOf("life")).toEqual([]);
    expect(leftBehind()).toEqual([]);
  });

  test.each([
    ["exit 0", 0],
    ["exit 42", 42],
    ["kill -9 $$", 137],
    ["kill -TERM $$", 143],
  ])("`%s` gives status %d and unregisters", async (script, status) => {
    const started = await run("status", [], {}, ["sh", "-c", script]);
    expect(await started.child.exited).toBe(status);
    expect(await entriesOf("status")).toEqual([]);
    expect(leftBehind()).toEqual([]);
  });

  test("an application killed with SIGKILL is unregistered at once", async () => {
    const started = await run("killed");
    await registered("killed", started);
    process.kill(Number(lines(started)[0]?.pid), "SIGKILL");
    expect(await started.child.exited).toBe(137);
    expect(await entriesOf("killed")).toEqual([]);
  });

  test("--workers gives the sidecar processes that share its ports, and none of them stays behind", async () => {
    const started = await run("many", ["--workers", "2"]);
    await registered("many", started);
    const sidecar = sidecarOf(started.child.pid) ?? 0;
    const workers = childrenOf(sidecar);
    expect(workers).toHaveLength(2);
    const { child, out, err, closed } = spawn(["run", "--service", "asks", "-n", "run", "--", "curl", "-sf", "http://many/"]);
    expect([await child.exited, await closed.then(() => err.filter((line) => line.includes("curl")))]).toEqual([0, []]);
    expect(out.length).toBeGreaterThan(0);
    started.child.kill("SIGTERM");
    await started.child.exited;
    await until(() => ![sidecar, ...workers].some(alive), "sidecar and workers are gone");
    const refused = await weft("run", "--service", "many", "-n", "run", "--workers", "none", "--", "true");
    expect([refused.code, refused.err]).toEqual([
      2,
      expect.stringContaining('--workers "none": a number of processes from 1 to 128, or auto'),
    ]);
  });

  test("a program without a port calls others, with its own identity, and is nobody's endpoint", async () => {
    const callee = await run("called", [], {}, undefined);
    await registered("called", callee);
    const call = `const answer = await fetch("http://called/"); console.log(answer.status); await Bun.sleep(700);`;
    const { child, out, err, closed } = spawn(["run", "--service", "job", "-n", "run", "--", bunCommand, "-e", call]);
    await until(() => out.includes("200"), "the job's call is answered", { out, err });
    const [entry] = await entriesOf("job");
    expect(entry?.health).toMatchObject({ status: "True", reason: "Running" });
    expect(entry).toMatchObject({ spec: { address: "127.0.0.1" } });
    expect(JSON.stringify(entry?.spec)).not.toContain("ports");
    expect((await weft("get", "service", "job", "-n", "run")).code).toBe(1);
    expect(await child.exited).toBe(0);
    await closed;
    expect(err.join("\n")).toContain("it only calls others");
    expect(await entriesOf("job")).toEqual([]);
    callee.child.kill("SIGTERM");
    await callee.child.exited;
  });

  test("a launcher that ends at a signal does not leave its program behind", async () => {
    const launcher = ["sh", "-c", `${bunCommand} ${probe} "$PORT" & echo "{\\"program\\":$!}"; wait`];
    const started = await run("launched", ["--port-variable", "PORT"], {}, launcher);
    await registered("launched", started);
    const program = lines(started).find((line) => typeof line.program === "number")?.program as number;
    expect(alive(program)).toBe(true);
    started.child.kill("SIGTERM");
    await started.child.exited;
    expect(alive(program)).toBe(false);
    expect(started.err.join("\n")).toContain("left 1 of its own processes behind");
  });

  test("standard input and output are the application's", async () => {
    const port = await freePort();
    const child = Bun.spawn([weftBin, "run", "--service", "pipe", "-n", "run", "--port", String(port), "-q", "--", "cat"], {
      stdin: new TextEncoder().encode("through\n"),
      stdout: "pipe",
      stderr: "pipe",
      env: envFor(),
    });
    const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    expect([await child.exited, out, err]).toEqual([0, "through\n", ""]);
  });

  test("the folder's .env and bunfig.toml are none of ours", async () => {
    const cwd = join(dir, "project");
    await Bun.write(join(cwd, ".env"), "DOTENV=leaked\n");
    await Bun.write(join(cwd, "bunfig.toml"), 'preload = ["./evil.ts"]\n');
    await Bun.write(join(cwd, "evil.ts"), 'console.log("preloaded");\n');
    const port = await freePort();
    const { child, out, closed } = spawn(
      ["run", "--service", "folder", "-n", "run", "--port", String(port), "--", "sh", "-c", 'echo "DOTENV=$DOTENV"'],
      {},
      cwd,
    );
    expect(await child.exited).toBe(0);
    await closed;
    expect(out).toEqual(["DOTENV="]);
  });
});

describe("when something dies", () => {
  test("a sidecar that is killed is started again on its ports, the application goes on", async () => {
    const started = await run("sidecar");
    await registered("sidecar", started);
    const before = sidecarOf(started.child.pid);
    const ports = (await entriesOf("sidecar"))[0]?.metadata.annotations;
    process.kill(Number(before), "SIGKILL");
    await until(() => started.err.some((line) => line.includes("serves again after")), "the sidecar is back", started);
    const after = sidecarOf(started.child.pid);
    expect(after).not.toBe(before);
    expect((await entriesOf("sidecar"))[0]?.metadata.annotations).toEqual(ports as never);
    expect((await fetch(`http://127.0.0.1:${started.port}/`)).status).toBe(200);
    expect(signalsOf(started)).toEqual([]);
    started.child.kill("SIGTERM");
    await started.child.exited;
  });

  test("SIGURG replaces the sidecar: the application goes on, and the new one is looked after like the first", async () => {
    const started = await run("replaced");
    await registered("replaced", started);
    const before = Number(sidecarOf(started.child.pid));
    started.child.kill("SIGURG");
    await until(() => started.err.some((line) => line.includes("the sidecar was replaced")), "the sidecar is replaced", started);
    const said = started.err.find((line) => line.includes("the sidecar was replaced")) as string;
    const after = Number(/by (\d+)\)/.exec(said)?.[1]);
    expect(said).toContain(`process ${before} by ${after}`);
    await until(() => !existsSync(`/proc/${before}`), "the old one is gone", started);
    expect(started.err.filter((line) => line.includes("starting it again"))).toEqual([]);
    expect((await fetch(`http://127.0.0.1:${started.port}/`)).status).toBe(200);
    process.kill(after, "SIGKILL");
    await until(() => started.err.some((line) => line.includes("serves again after")), "the sidecar is back", started);
    expect(signalsOf(started)).toEqual([]);
    started.child.kill("SIGTERM");
    await started.child.exited;
  });

  test("weft run killed with SIGKILL: the guard unregisters and ends application and sidecar", async () => {
    const started = await run("orphan");
    await registered("orphan", started);
    const family = childrenOf(started.child.pid);
    expect(family).toHaveLength(3);
    started.child.kill("SIGKILL");
    await until(() => family.every((pid) => !alive(pid)), "guard, sidecar and application end", started);
    expect(signalsOf(started)).toEqual(["SIGTERM"]);
    expect(await entriesOf("orphan")).toEqual([]);
    expect(leftBehind()).toEqual([]);
  });

  test("the control plane away at the end holds nothing up, away at the start is waited for", async () => {
    const started = await run("away");
    await registered("away", started);
    up?.kill("SIGKILL");
    await up?.exited;
    const began = performance.now();
    started.child.kill("SIGTERM");
    expect(await started.child.exited).toBe(0);
    expect(performance.now() - began).toBeLessThan(4000);
    expect(started.err.join("\n")).toContain("stays registered there");

    const late = await run("late", ["--wait", "300ms"]);
    expect(await late.child.exited).toBe(1);
    expect(late.err.join("\n")).toMatch(/no control plane answers at https.*\n.*gave up after/s);
    expect(late.out).toEqual([]);

    const patient = await run("patient");
    await until(() => patient.err.some((line) => line.includes("waiting for it")), "it says that it waits", patient);
    await startUp();
    await registered("patient", patient);
    patient.child.kill("SIGTERM");
    expect(await patient.child.exited).toBe(0);
    await weft("delete", "workloadentries", "-l", "app=away", "-n", "run");
  }, 20_000);
});

describe("bad input", () => {
  test("COMMAND that does not exist: 127, nothing registered", async () => {
    const started = await run("nothing", [], {}, ["no-such-program-here"]);
    expect(await started.child.exited).toBe(127);
    expect(started.err.join("\n")).toContain('there is no program "no-such-program-here" on the PATH; nothing was started or registered');
    expect(await entriesOf("nothing")).toEqual([]);
    expect((await weft("get", "service", "nothing", "-n", "run")).code).toBe(1);
  });

  test("a port that something else answers on", async () => {
    const squatter = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { code, err } = await weft("run", "--service", "taken", "-n", "run", "--port", String(squatter.port), "--", "sleep", "5");
    squatter.stop(true);
    expect(code).toBe(1);
    expect(err).toContain(`port ${squatter.port} is taken: `);
    expect(await entriesOf("taken")).toEqual([]);
  });

  test("a service that never becomes ready: port and time are named, with a hint when it listens on ::1 only", async () => {
    const silent = await run("silent", ["--ready-timeout", "300ms"], { PROBE_HOST: "" });
    expect(await silent.child.exited).toBe(1);
    expect(silent.err.join("\n")).toContain(`127.0.0.1:${silent.port} did not answer within 0.3 s (--ready-timeout)`);
    expect(signalsOf(silent)).toEqual(["SIGTERM"]);
    expect(await entriesOf("silent")).toEqual([]);
    if (!existsSync("/proc/net/if_inet6") || readFileSync("/proc/net/if_inet6", "utf8") === "") return;
    const elsewhere = await run("elsewhere", ["--ready-timeout", "300ms"], { PROBE_HOST: "::1" });
    expect(await elsewhere.child.exited).toBe(1);
    expect(elsewhere.err.join("\n")).toContain(`It does answer on [::1]:${elsewhere.port}: make COMMAND listen on 127.0.0.1`);
  });

  test("a wrong token gets the server's words, at once", async () => {
    const file = join(dir, "wrong.kubeconfig");
    const text = readFileSync(join(dir, "data", "admin.kubeconfig"), "utf8");
    writeFileSync(file, text.replace(/weft-admin-[A-Za-z0-9_-]+/, "weft-admin-wrong"));
    const started = await run("wrong", ["--kubeconfig", file]);
    expect(await started.child.exited).toBe(1);
    expect(started.err.join("\n")).toContain(`the credential in ${file} is not, or no longer, good for`);
    expect(started.out).toEqual([]);
  });

  test("a Service that contradicts the flags", async () => {
    const manifest = join(dir, "service.yaml");
    writeFileSync(
      manifest,
      "apiVersion: v1\nkind: Service\nmetadata: {name: fixed, namespace: run}\nspec:\n  selector: {app: fixed}\n  ports: [{name: http, port: 80}]\n",
    );
    expect((await weft("apply", "-f", manifest)).code).toBe(0);
    const started = await run("fixed", ["--protocol", "tcp"]);
    expect(await started.child.exited).toBe(1);
    expect(started.err.join("\n")).toContain("Service run/fixed has no port for --protocol tcp; it has http:80/http");
    expect(await entriesOf("fixed")).toEqual([]);
  });

  test("usage: status 2 and a pointer to help", async () => {
    const { code, err } = await weft("run", "--servce", "a", "--", "true");
    expect(code).toBe(2);
    expect(err).toContain("weft run has no flag --servce; did you mean --service?");
    expect(err).toContain("weft run --help");
  });
});

test("a join credential is enough to run as its service account, and for nothing else", async () => {
  const file = join(dir, "join.kubeconfig");
  const made = await weft("kubeconfig", "--service-account", "joiner", "-n", "run", "--ttl", "10m");
  expect(made.code).toBe(0);
  writeFileSync(file, made.out);
  const started = await run("joined", ["--kubeconfig", file]);
  await registered("joined", started);
  expect((await entriesOf("joined"))[0]?.spec).toMatchObject({ serviceAccount: "joiner" });
  started.child.kill("SIGTERM");
  expect(await started.child.exited).toBe(0);
  expect(await entriesOf("joined")).toEqual([]);

  const refused = await weft("apply", "--kubeconfig", file, "-f", join(dir, "service.yaml"));
  expect(refused.code).toBe(1);
  expect(refused.err).toContain("forbidden");
  const contradiction = await weft(
    "run",
    "--kubeconfig",
    file,
    "-n",
    "other",
    "--service",
    "x",
    "--port",
    String(await freePort()),
    "--",
    "true",
  );
  expect(contradiction.code).toBe(1);
  expect(contradiction.err).toContain('--namespace says "other", but the join credential');
});
