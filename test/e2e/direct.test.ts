// A sidecar that keeps being killed does not take its application along: where policy allows plain text `weft run` leads the explicit upstreams past it,
// a client counts what it notices, and where mutual TLS is demanded the port stays closed. With real processes.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { freePort } from "../../demo/cast.ts";
import { app, eventually, metricSum, type Running, TestMesh } from "../support/mesh.ts";
import { argumentsOf, sidecarsOf } from "../support/sidecars.ts";

let mesh: TestMesh;
let client: Running;
let cautious: Running;
const ports = { echo: 0, lines: 0, vault: 0, cautious: 0 };

const permissive = (name: string) => `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: ${name}, namespace: shop}
spec: {selector: {matchLabels: {app: ${name}}}, mtls: {mode: PERMISSIVE}}
---
`;

beforeAll(async () => {
  for (const name of Object.keys(ports) as (keyof typeof ports)[]) ports[name] = await freePort();
  mesh = await TestMesh.start();
  await mesh.apply(permissive("echo") + permissive("lines"));
  await mesh.run({ service: "echo", name: "echo-a", command: app("echo.ts") });
  await mesh.run({ service: "lines", name: "lines", protocol: "tcp", command: app("tcp-echo.ts") });
  await mesh.run({ service: "vault", name: "vault", command: app("echo.ts") });
  const upstreams = [`echo=${ports.echo}`, `lines=${ports.lines}`, `vault=${ports.vault}`];
  client = await mesh.run({ service: "client", name: "client", upstreams, command: app("echo.ts") });
  const guarded = { upstreams: [`echo=${ports.cautious}`], flags: ["--no-direct"] };
  cautious = await mesh.run({ service: "cautious", name: "cautious", ...guarded, command: app("echo.ts") });
}, 90_000);

afterAll(async () => {
  await mesh?.stop();
}, 30_000);

/** A new connection each time: `200`, another status, or what went wrong. */
async function get(port: number): Promise<string> {
  try {
    const answer = await fetch(`http://127.0.0.1:${port}/x`, { proxy: "", keepalive: false, headers: { connection: "close" } });
    await answer.arrayBuffer();
    return String(answer.status);
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/** Kills every sidecar that appears until `stop` fires; answers how many. */
async function keepKilling(of: Running, stop: AbortSignal): Promise<number> {
  const killed = new Set<number>();
  while (!stop.aborted) {
    for (const pid of sidecarsOf(of)) {
      if (killed.has(pid)) continue;
      killed.add(pid);
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It was faster.
      }
    }
    await Bun.sleep(2);
  }
  return killed.size;
}

const words = (of: Running): string => of.workload.words.join("\n");
const status = async (): Promise<string> => (await mesh.processes.weft(["status"])).out;
const served = (port: number) =>
  eventually(
    20_000,
    () => get(port),
    (answer) => answer === "200",
  );

describe("while the sidecar keeps being killed", () => {
  test("calls go on where plain text is allowed, stay refused where it is not, and all of it is told", async () => {
    for (const port of [ports.echo, ports.vault]) expect(await served(port)).toBe("200");
    // The table follows a change by a tenth of a second; a sidecar that was never told leaves none.
    await eventually(
      10_000,
      async () =>
        (
          await Bun.file(`${directoryOf(client)}/direct.json`)
            .text()
            .catch(() => "")
        ).includes('"kind":"plain"'),
      (there) => there,
    );
    const stop = new AbortController();
    const killing = keepKilling(client, stop.signal);
    const noted = eventually(30_000, status, (text) => text.includes("has no sidecar since"));
    const counts = new Map<string, number>();
    const vault = new Map<string, number>();
    const add = (to: Map<string, number>, answer: string) => to.set(answer, (to.get(answer) ?? 0) + 1);
    let asked = 0;
    // Until the control plane has been told, which is after two seconds of it.
    let told = "";
    void noted.then((text) => {
      told = text;
    });
    const end = performance.now() + 45_000;
    const answered = (): number => counts.get("200") ?? 0;
    while ((told === "" || answered() < 150) && performance.now() < end) {
      add(counts, await get(ports.echo));
      asked++;
      if (asked % 10 === 0) add(vault, await get(ports.vault));
      await Bun.sleep(5);
    }
    stop.abort();
    const kills = await killing;

    expect(kills).toBeGreaterThan(3);
    expect(answered()).toBeGreaterThanOrEqual(150);
    // A few are refused between each end and the next bind, and a sidecar that is killed takes what it had along: on an idle machine 2 of 200, on a busy one
    // more. Without a way past it hardly any would be answered.
    expect({ asked, most: answered() > asked / 2, counts: Object.fromEntries(counts) }).toMatchObject({ most: true });
    // Strict: nothing of it went out in plain text; the odd answer is a sidecar's own in the moment before it was killed.
    expect(vault.get("ECONNREFUSED") ?? 0).toBeGreaterThan(5);

    expect(told).toContain(`127.0.0.1:${ports.echo} leads straight to the instance of echo.shop in plain text`);
    expect(told).toContain(`127.0.0.1:${ports.vault} (vault.shop) is closed: mutual TLS is demanded`);
    expect(words(client)).toContain(`127.0.0.1:${ports.lines} leads straight to the instance of lines.shop in plain text`);
    expect(words(client)).toContain("--no-direct turns this off");
  }, 120_000);

  test("the next sidecar has the ports again, and what was led past it stands among its metrics", async () => {
    // It was being killed until now: `weft run` takes up to five seconds between its tries.
    const led = await eventually(
      20_000,
      () => metricSum(client, "weft_direct_connections_total", { destination_service: "echo.shop" }).catch(() => 0),
      (sum) => sum > 0,
    );
    expect(led).toBeGreaterThan(100);
    expect(await served(ports.vault)).toBe("200");
    expect(await served(ports.echo)).toBe("200");
    const through = () => metricSum(client, "istio_requests_total", { destination_service_name: "echo" });
    const before = await through();
    expect(await get(ports.echo)).toBe("200");
    expect(await eventually(5_000, through, (sum) => sum > before)).toBeGreaterThan(before);
    const text = await eventually(10_000, status, (each) => !each.includes("has no sidecar since"));
    expect(text).not.toContain("has no sidecar since");
    expect(words(client)).toMatch(/the sidecar has the upstreams again; \d+ connections went past it/);
  }, 60_000);

  test("opaque TCP goes both ways past it, with half close, and ends soon after the sidecar is back", async () => {
    const stop = new AbortController();
    const killing = keepKilling(client, stop.signal);
    const line = await eventually(
      20_000,
      () => ask(ports.lines, "one\n"),
      (answer) => answer !== "",
    );
    expect(line.endsWith("one\n")).toBe(true);
    // A connection that stands past the sidecar and is silent is closed when one serves again.
    const quiet = connect({ host: "127.0.0.1", port: ports.lines });
    quiet.on("error", () => {});
    const closed = Promise.withResolvers<void>();
    quiet.once("close", () => closed.resolve());
    quiet.resume();
    await new Promise((done) => quiet.once("connect", done));
    stop.abort();
    await killing;
    expect(await served(ports.echo)).toBe("200");
    const ended = await Promise.race([closed.promise.then(() => "closed"), Bun.sleep(20_000).then(() => "open")]);
    expect(ended).toBe("closed");
  }, 90_000);
});

test("with --no-direct the ports stay closed", async () => {
  expect(await served(ports.cautious)).toBe("200");
  const stop = new AbortController();
  const killing = keepKilling(cautious, stop.signal);
  await eventually(
    10_000,
    () => get(ports.cautious),
    (answer) => answer === "ECONNREFUSED",
  );
  const answers = new Set<string>();
  for (let n = 0; n < 30; n++) {
    answers.add(await get(ports.cautious));
    await Bun.sleep(10);
  }
  stop.abort();
  await killing;
  expect([...answers]).toContain("ECONNREFUSED");
  expect(words(cautious)).not.toContain("leads straight");
  expect(await served(ports.cautious)).toBe("200");
}, 60_000);

/** One line there and back by a connection that is half closed after it; empty when it failed. */
function ask(port: number, line: string): Promise<string> {
  const done = Promise.withResolvers<string>();
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  let answer = "";
  socket.on("data", (bytes) => {
    answer += bytes.toString();
  });
  socket.on("connect", () => socket.end(line));
  socket.on("error", () => done.resolve(""));
  socket.on("close", () => done.resolve(answer));
  return done.promise;
}

/** The private folder of a run, by its sidecar's bootstrap. */
function directoryOf(of: Running): string {
  const args = argumentsOf(sidecarsOf(of)[0] as number);
  return (args[args.indexOf("--bootstrap") + 1] as string).replace(/\/[^/]*$/, "");
}
