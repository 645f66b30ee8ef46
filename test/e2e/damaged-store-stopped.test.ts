// A row of the store's file is changed while the control plane is stopped: it does not start, names the row and its object, and a restored backup brings everything back.

import { Database } from "bun:sqlite";
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Processes } from "../../demo/processes.ts";

const root = mkdtempSync(join(tmpdir(), "weft-damaged-stopped-"));
const dir = join(root, "mesh");
const processes = new Processes(dir);
afterAll(async () => {
  await processes.stopAll();
  rmSync(root, { recursive: true, force: true });
});

const ports = ["--api-port", "0", "--xds-port", "0", "--dashboard-port", "0"];
const stop = async () => {
  processes.controlPlane?.kill("SIGTERM");
  await processes.controlPlane?.exited;
};

test("a row that was changed while the control plane was stopped", async () => {
  await processes.startControlPlane(ports);
  const manifest = join(root, "cart.yaml");
  await Bun.write(
    manifest,
    "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {selector: {app: cart}, ports: [{port: 8080, name: http}]}\n",
  );
  expect((await processes.weft(["apply", "-f", manifest])).code).toBe(0);
  const backup = join(root, "weft.backup");
  expect((await processes.weft(["backup", backup])).code).toBe(0);
  await stop();

  const damage = (path: string) => {
    const db = new Database(path);
    expect(db.run(`UPDATE history SET body = replace(body, '"port":8080', '"port":8081') WHERE name = 'cart'`).changes).toBe(1);
    db.close();
  };
  damage(join(dir, "weft.db"));
  const started = processes.startControlPlane(ports).then(
    () => "started",
    (error: Error) => error.message,
  );
  const words = await started;
  expect(words).toContain("weft up ended with status 1");
  expect(words).toMatch(/weft\.db is damaged and was left as it is\..*weft restore FILE --data FOLDER/);
  expect(words).toMatch(/the row of revision \d+ is not the one that was written \(it is now of services shop\/cart\)/);

  const copied = await processes.weft(["store", "copy", "--from", `sqlite:${dir}`, "--to", `sqlite:${join(root, "copy")}`]);
  expect(copied.code).toBe(1);
  expect(copied.err).toContain("services shop/cart");

  renameSync(dir, join(root, "damaged"));
  const bad = join(root, "bad.backup");
  await Bun.write(bad, Bun.file(backup));
  damage(bad);
  const refused = await processes.weft(["restore", bad, "--data", join(root, "elsewhere")]);
  expect(refused.code).not.toBe(0);
  expect(refused.err).toMatch(/bad\.backup is damaged \(the row of revision \d+ is not the one that was written/);
  expect((await processes.weft(["restore", backup, "--data", dir])).code).toBe(0);
  await processes.startControlPlane(ports);
  const { spec } = await processes.weftJson<{ spec: { ports: { port: number }[] } }>(["get", "services", "cart", "-n", "shop"]);
  expect(spec.ports[0]?.port).toBe(8080);
}, 120_000);
