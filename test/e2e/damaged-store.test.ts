// The store's file is overwritten under a running control plane: proxies serve on, every answer of the API is right or says what has happened, readiness ends,
// and a restored backup brings everything back.

import { afterAll, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../demo/cast.ts";
import { Processes } from "../../demo/processes.ts";
import { annotations } from "../../src/wire/names.ts";
import { app } from "../support/mesh.ts";

const root = mkdtempSync(join(tmpdir(), "weft-damaged-"));
const dir = join(root, "mesh");
const processes = new Processes(dir);
afterAll(async () => {
  await processes.stopAll();
  rmSync(root, { recursive: true, force: true });
});

const until = async (what: string, holds: () => boolean | Promise<boolean>, limitMs = 30_000) => {
  const end = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`);
    await Bun.sleep(50);
  }
};

test("a damaged store stops the control plane's word, not the mesh", async () => {
  const ports = ["--api-port", "0", "--xds-port", "0", "--dashboard-port", "0", "--api-rate", "0"];
  await processes.startControlPlane(ports);
  for (const service of ["a", "b"])
    processes.startInstance({
      service,
      name: service,
      port: await freePort(),
      command: app("echo.ts"),
      flags: ["--service-account", service],
    });
  type Entries = { items: { metadata: { annotations?: Record<string, string> } }[] };
  let proxies: string[] = [];
  await until("both instances are there", async () => {
    const { items } = await processes.weftJson<Entries>(["get", "workloadentries", "-n", "shop"]);
    proxies = items.flatMap(({ metadata }) => metadata.annotations?.[annotations.httpProxyPort] ?? []);
    return proxies.length === 2;
  });
  const call = () =>
    fetch("http://b/x", { proxy: `http://127.0.0.1:${proxies[0]}` }).then(
      async (answer) => {
        await answer.text();
        return answer.status;
      },
      (cause: unknown) => String(cause),
    );
  await until("a reaches b", async () => (await call()) === 200);

  const config = Bun.YAML.parse(readFileSync(join(dir, "admin.kubeconfig"), "utf8")) as {
    clusters: [{ cluster: { server: string; "certificate-authority-data": string } }];
    users: [{ user: { token: string } }];
  };
  const { cluster } = config.clusters[0];
  const ask = (method: string, path: string, body?: unknown) =>
    fetch(cluster.server + path, {
      method,
      tls: { ca: Buffer.from(cluster["certificate-authority-data"], "base64").toString() },
      headers: { authorization: `Bearer ${config.users[0].user.token}`, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      proxy: "",
    });
  // More than SQLite keeps in memory.
  const names = Array.from({ length: 60 }, (_, at) => `n${at}`);
  for (const name of names) {
    const metadata = { name, annotations: { text: `${name} `.repeat(25_000) } };
    expect((await ask("POST", "/api/v1/namespaces", { apiVersion: "v1", kind: "Namespace", metadata })).status).toBe(201);
  }
  expect((await processes.weft(["backup", join(root, "weft.backup")])).code).toBe(0);

  for (const file of ["weft.db", "weft.db-wal"]) {
    const path = join(dir, file);
    const { size } = statSync(path);
    const fd = openSync(path, "r+");
    writeSync(fd, Buffer.alloc(Math.floor(size / 2), 0x5a), 0, Math.floor(size / 2), Math.floor(size / 4));
    closeSync(fd);
  }
  const wrong: unknown[] = [];
  let refused = 0;
  for (const name of names) {
    const answer = await ask("GET", `/api/v1/namespaces/${name}`);
    const body = (await answer.json()) as { message?: string; metadata: { annotations: { text: string } } };
    if (answer.status === 200) expect(body.metadata.annotations.text).toBe(`${name} `.repeat(25_000));
    else {
      refused++;
      expect(answer.status).toBe(503);
      expect(body.message).toMatch(/weft\.db is damaged and was left as it is.*weft restore FILE/);
    }
    const code = await call();
    if (code !== 200) wrong.push(code);
  }
  expect(refused).toBeGreaterThan(0);
  const ready = await ask("GET", "/readyz");
  expect(ready.status).toBe(503);
  expect(await ready.text()).toMatch(/^not ready: .*weft\.db is damaged/);
  const write = await processes.weft(["token", "create", "--service-account", "a", "-n", "shop", "--reusable"]);
  expect(write.code).not.toBe(0);
  expect(write.err + write.out).toContain("Nothing more is written");
  for (let n = 0; n < 20; n++) {
    const code = await call();
    if (code !== 200) wrong.push(code);
  }
  expect(wrong).toEqual([]);
  expect(processes.controlPlane?.exitCode).toBeNull();

  // The way out, as the message says it.
  processes.controlPlane?.kill("SIGTERM");
  await processes.controlPlane?.exited;
  renameSync(dir, join(root, "damaged"));
  const restored = await processes.weft(["restore", join(root, "weft.backup"), "--data", dir]);
  expect(restored.err + restored.out).toContain("restored the mesh");
  await processes.startControlPlane(ports);
  const after = await ask("GET", "/api/v1/namespaces/n31");
  expect(after.status).toBe(200);
  expect(((await after.json()) as { metadata: { annotations: { text: string } } }).metadata.annotations.text).toBe("n31 ".repeat(25_000));
  expect((await ask("GET", "/readyz")).status).toBe(200);
  expect(await call()).toBe(200);
}, 120_000);
