// The certificate authority with real processes: its root replaced under load while the control plane is killed at each step, and revocations that peers and
// the control plane enforce. Judge of the certificates that sidecars show: openssl.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { app, eventually, metricSum, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let echo: Running;
let client: Running;

beforeAll(async () => {
  mesh = await TestMesh.start();
  echo = await mesh.run({ service: "echo", name: "echo-a", command: app("echo.ts"), flags: ["--service-account", "echo"] });
  client = await mesh.run({ service: "client", name: "client", command: app("echo.ts"), flags: ["--service-account", "client"] });
}, 60_000);

afterAll(async () => {
  await mesh?.stop();
}, 30_000);

interface Status {
  readonly roots: readonly { readonly fingerprint: string }[];
  readonly issuer: { readonly fingerprint: string };
  readonly holders: number;
  readonly holdersOfIssuer: number;
  readonly behind: readonly string[];
  readonly rotation: null | { readonly phase: string; readonly waitingFor: readonly string[] };
}

const status = (): Promise<Status> => mesh.processes.weftJson<Status>(["ca", "status"]);
const caRoot = (): X509Certificate => new X509Certificate(readFileSync(join(mesh.dataDir, "ca.crt")));
const inboundPort = ({ entry }: Running): number => Object.values(entry.spec.ports)[0] as number;
const ask = (): Promise<number> =>
  fetch("http://echo/x", { proxy: client.httpProxy }).then(
    async (answer) => {
      await answer.text();
      return answer.status;
    },
    () => 0,
  );

/** What the sidecar shows who connects to its own port, judged by openssl against the mesh's root as it stands in the data folder. */
function shown(of: Running): string {
  const run = Bun.spawnSync(
    ["openssl", "s_client", "-connect", `127.0.0.1:${inboundPort(of)}`, "-CAfile", join(mesh.dataDir, "ca.crt"), "-alpn", "http/1.1"],
    { stdin: Buffer.from(""), timeout: 10_000 },
  );
  return run.stdout.toString() + run.stderr.toString();
}

async function killControlPlane(): Promise<void> {
  const control = mesh.processes.controlPlane as Bun.Subprocess;
  control.kill("SIGKILL");
  await control.exited;
  await mesh.processes.startControlPlane(["--api-port", "0", "--xds-port", "0", "--dashboard-port", "0"]);
}

/** Asks all the time until it is told to end. */
function load() {
  const wrong: string[] = [];
  let asked = 0;
  let on = true;
  const caller = async (): Promise<void> => {
    while (on) {
      const code = await ask();
      asked++;
      if (code !== 200) wrong.push(`request ${asked}: ${code}`);
      await Bun.sleep(5);
    }
  };
  const callers = [caller(), caller(), caller()];
  return {
    end: async () => {
      on = false;
      await Promise.all(callers);
      return { asked, wrong };
    },
  };
}

describe("a new root", () => {
  test("takes the old one's place under load, over deaths of the control plane, and no request fails", async () => {
    const before = caRoot();
    const running = load();
    expect((await mesh.processes.weft(["ca", "finish"])).err).toContain("no root is being replaced");
    expect((await mesh.processes.weft(["ca", "rotate"])).out).toContain("distributing");
    await killControlPlane();
    // Both are trusted before the new one issues anything.
    const issuing = await eventually(20_000, status, ({ rotation }) => rotation?.phase === "issuing");
    expect(issuing).toMatchObject({ rotation: { phase: "issuing" } });
    expect(issuing.roots.length).toBe(2);
    expect(caRoot().fingerprint256).toBe(before.fingerprint256);
    await killControlPlane();
    const renewed = await eventually(25_000, status, ({ holders, holdersOfIssuer }) => holders === 2 && holdersOfIssuer === 2);
    expect(renewed).toMatchObject({ holders: 2, holdersOfIssuer: 2, behind: [], rotation: { phase: "issuing" } });
    const finished = await eventually(
      20_000,
      () => mesh.processes.weft(["ca", "finish", "-o", "json"]),
      ({ code }) => code === 0,
    );
    expect(finished).toMatchObject({ code: 0, err: "" });
    await killControlPlane();
    const after = await eventually(10_000, status, ({ holders }) => holders === 2);
    expect(after.rotation).toBeNull();
    expect(after.roots.length).toBe(1);
    expect(caRoot().fingerprint256).not.toBe(before.fingerprint256);
    expect(shown(echo)).toMatch(/Verify return code: 0|verify return:1[\s\S]*URI|Verification: OK/);
    // Who comes now knows the new root alone, and both sides believe each other.
    const late = await mesh.run({ service: "late", name: "late", command: app("echo.ts") });
    const answer = await fetch("http://echo/late", { proxy: late.httpProxy });
    expect(answer.status).toBe(200);
    const { asked, wrong } = await running.end();
    expect(wrong).toEqual([]);
    expect(asked).toBeGreaterThan(50);
  }, 120_000);

  test("is given up before and after it has issued", async () => {
    const before = caRoot();
    const running = load();
    await mesh.processes.weft(["ca", "rotate"]);
    expect((await mesh.processes.weft(["ca", "rotate"])).err).toContain("a root is being replaced already");
    await eventually(20_000, status, ({ rotation }) => rotation?.phase === "issuing");
    const { out } = await mesh.processes.weft(["ca", "abandon"]);
    expect(out).toContain("returning");
    await eventually(
      20_000,
      () => mesh.processes.weft(["ca", "finish"]),
      ({ code }) => code === 0,
    );
    const after = await status();
    expect(after).toMatchObject({ rotation: null, behind: [] });
    expect(after.roots.length).toBe(1);
    expect(caRoot().fingerprint256).toBe(before.fingerprint256);
    expect((await running.end()).wrong).toEqual([]);
  }, 60_000);
});

describe("who is revoked", () => {
  const revoke = async (...flags: string[]): Promise<string> =>
    (await mesh.processes.weftJson<{ name: string }>(["ca", "revoke", ...flags])).name;

  test("a service account: its open connection ends, no handshake succeeds, nothing is issued; and lifted it is back", async () => {
    expect(await ask()).toBe(200);
    const before = (await status()).holders;
    const name = await revoke("--service-account", "client", "-n", "shop", "--reason", "host lost");
    expect(await eventually(5_000, ask, (code) => code !== 200)).toBe(503);
    expect(await metricSum(echo, "weft_downstream_tls_refused_total", { reason: "revoked" })).toBeGreaterThan(0);
    const gone = await eventually(5_000, status, ({ holders }) => holders === before - 1);
    expect(gone.holders).toBe(before - 1);
    const late = await mesh.processes.weft(["token", "create", "--service-account", "client", "-n", "shop", "-o", "token"]);
    const joined = await fetch(`${apiServer()}/apis/weft.dev/v1alpha1/meshes`, {
      headers: { authorization: `Bearer ${late.out.trim()}` },
      tls: { ca: readFileSync(join(mesh.dataDir, "ca.crt"), "utf8") },
    });
    expect(joined.status).toBe(401);
    expect(await joined.text()).toContain("host lost");
    expect((await mesh.processes.weft(["ca", "revocations"])).out).toContain("shop/client");
    expect((await mesh.processes.weft(["ca", "lift", name])).out).toContain("lifted");
    expect(await eventually(20_000, ask, (code) => code === 200)).toBe(200);
  }, 60_000);

  test("one certificate: its holder, whose join token is good, comes back with another", async () => {
    const serial = await serialOf(echo);
    await revoke("--serial", serial);
    const other = await eventually(
      30_000,
      () => serialOf(echo),
      (now) => now !== serial,
    );
    expect(other).not.toBe(serial);
    expect(await eventually(10_000, ask, (code) => code === 200)).toBe(200);
    expect((await mesh.processes.weft(["ca", "revocations"])).out).toContain(serial);
  }, 60_000);
});

const apiServer = (): string => /server: "?([^"\s]+)/.exec(readFileSync(join(mesh.dataDir, "admin.kubeconfig"), "utf8"))?.[1] as string;

async function serialOf(of: Running): Promise<string> {
  const page = (await (await fetch(`http://127.0.0.1:${of.adminPort}/certs`)).json()) as { certificates: { serial: string }[] };
  return page.certificates[0]?.serial ?? "";
}
