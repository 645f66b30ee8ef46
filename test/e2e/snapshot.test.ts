// Life without the control plane, with real processes: sidecars that are killed come back from their snapshots while it is gone, an instance is started
// anew without it, and everything is known to it again when it is back.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { killTree } from "../../demo/processes.ts";
import { app, eventually, metricSum, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let client: Running;
let echo: Running;

beforeAll(async () => {
  mesh = await TestMesh.start();
  echo = await mesh.run({ service: "echo", name: "echo-a", command: app("echo.ts") });
  client = await mesh.run({ service: "client", name: "client", command: app("echo.ts") });
}, 60_000);

afterAll(async () => {
  await mesh?.stop();
}, 30_000);

const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
const argsOf = (pid: number): string[] => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    return [];
  }
};
const sidecarOf = (of: Running): number | undefined => childrenOf(of.workload.child.pid).find((pid) => argsOf(pid).includes("--bootstrap"));
const readiness = async (of: Running): Promise<string> =>
  ((await (await fetch(`http://127.0.0.1:${of.adminPort}/ready`).catch(() => undefined))?.text()) ?? "nobody answers").trim();
const ask = async (): Promise<string> => {
  try {
    const answer = await fetch("http://echo/x", { proxy: client.httpProxy });
    return answer.ok ? ((await answer.json()) as { instance: string }).instance : `${answer.status}`;
  } catch (error) {
    return String(error);
  }
};
const snapshotOf = (service: string): string | undefined => {
  const root = join(mesh.dataDir, "state", "weft", "run");
  const folder = readdirSync(root).find((name) => name.startsWith(`${service}.shop-`));
  return folder === undefined ? undefined : join(root, folder, "snapshot", "snapshot");
};

const written = (service: string): Promise<string> =>
  eventually(
    5_000,
    async () => snapshotOf(service) ?? "",
    (path) => path !== "" && existsSync(path),
  );

async function killControlPlane(): Promise<void> {
  const control = mesh.processes.controlPlane as Bun.Subprocess;
  control.kill("SIGKILL");
  await control.exited;
}

async function killSidecar(of: Running): Promise<void> {
  const pid = sidecarOf(of) as number;
  process.kill(pid, "SIGKILL");
  const next = await eventually(
    5_000,
    async () => sidecarOf(of),
    (found) => found !== undefined && found !== pid,
  );
  expect(next).not.toBe(pid);
}

describe("with the control plane gone", () => {
  test("killed sidecars come back from what they have kept, and mutual TLS flows between them", async () => {
    expect(await eventually(5_000, ask, (said) => said === "echo-a")).toBe("echo-a");
    const files = [await written("echo"), await written("client")];
    for (const file of files) {
      expect(statSync(file).mode & 0o777).toBe(0o600);
      expect(statSync(join(file, "..")).mode & 0o777).toBe(0o700);
    }
    // The caller's snapshot must hold what it has learnt of its callee.
    await Bun.sleep(1_200);
    await killControlPlane();
    await killSidecar(echo);
    await killSidecar(client);
    expect(
      await eventually(
        8_000,
        () => readiness(client),
        (text) => text.startsWith("LIVE"),
      ),
    ).toMatch(/^LIVE: from a snapshot \d+ s old; the control plane has not answered yet$/);
    expect(
      await eventually(
        8_000,
        () => readiness(echo),
        (text) => text.startsWith("LIVE"),
      ),
    ).toStartWith("LIVE: from a snapshot");
    expect(await eventually(5_000, ask, (said) => said === "echo-a")).toBe("echo-a");
    expect(await metricSum(echo, "istio_requests_total", { connection_security_policy: "mutual_tls" })).toBeGreaterThan(0);
    const dump = (await (await fetch(`http://127.0.0.1:${client.adminPort}/config_dump`)).json()) as { snapshot: object };
    expect(dump.snapshot).toMatchObject({ serving: true, writtenAt: expect.any(String) });
  }, 40_000);

  test("a new control plane is found, takes over, and is told nothing that it did not know", async () => {
    await mesh.processes.startControlPlane([]);
    expect(
      await eventually(
        20_000,
        () => readiness(client),
        (text) => text === "LIVE",
      ),
    ).toBe("LIVE");
    expect(
      await eventually(
        20_000,
        () => readiness(echo),
        (text) => text === "LIVE",
      ),
    ).toBe("LIVE");
    expect(await ask()).toBe("echo-a");
  }, 60_000);

  test("an instance that is started anew has its name and ports again, serves, and is registered when the control plane is back", async () => {
    await Bun.sleep(1_200);
    await killControlPlane();
    // As a machine that loses power: nobody is left to unregister or to clean up.
    killTree(echo.workload.child.pid);
    await echo.workload.child.exited;
    expect(await ask()).not.toBe("echo-a");
    const again = mesh.processes.startInstance({ service: "echo", name: "echo-b", port: echo.appPort, command: app("echo.ts") });
    expect(await eventually(10_000, ask, (said) => said === "echo-b")).toBe("echo-b");
    const words = again.words.join("\n");
    expect(words).toContain("starting from what the last run of this instance has kept");
    expect(words).toContain(`${echo.entry.metadata.name} in shop has a sidecar`);
    await mesh.processes.startControlPlane([]);
    const healthy = async (): Promise<string> => {
      const found = (await mesh.entries()).find((entry) => entry.metadata.name === echo.entry.metadata.name);
      const conditions = (found?.status as { conditions?: { type: string; status: string }[] } | undefined)?.conditions ?? [];
      return conditions
        .map(({ type, status }) => `${type}=${status}`)
        .sort()
        .join(" ");
    };
    expect(await eventually(20_000, healthy, (said) => said === "Healthy=True ProxyConnected=True")).toBe(
      "Healthy=True ProxyConnected=True",
    );
    expect(await ask()).toBe("echo-b");
    again.child.kill("SIGTERM");
    await again.child.exited;
    expect((await mesh.entries()).map((entry) => entry.metadata.name)).not.toContain(echo.entry.metadata.name);
  }, 60_000);

  test("weft run alone is killed: its guard ends the rest, and does not unregister the run after it", async () => {
    await killControlPlane();
    client.workload.child.kill("SIGKILL");
    await client.workload.child.exited;
    const again = mesh.processes.startInstance({ service: "client", name: "client-b", port: client.appPort, command: app("echo.ts") });
    const name = client.entry.metadata.name;
    const up = async (): Promise<boolean> => again.words.join("").includes(`${name} in shop has a sidecar`);
    expect(await eventually(15_000, up, (yes) => yes)).toBe(true);
    await mesh.processes.startControlPlane([]);
    const listed = async (): Promise<boolean> => (await mesh.entries()).some((entry) => entry.metadata.name === name);
    expect(await eventually(15_000, listed, (yes) => yes)).toBe(true);
    // The guard of the killed run has tried for the last time by now.
    await Bun.sleep(3_000);
    expect(await listed()).toBe(true);
  }, 60_000);

  test("an instance that never ran here waits for it, as before", async () => {
    await killControlPlane();
    const first = mesh.processes.startInstance({
      service: "fresh",
      name: "fresh",
      port: 1,
      flags: ["--wait", "1"],
      command: app("echo.ts"),
    });
    expect(await first.child.exited).toBe(1);
    expect(first.words.join("\n")).toContain("gave up after 1 s (--wait); COMMAND was not started");
  }, 20_000);
});
