// Instances by a WorkloadGroup and a ProxyConfig, with real processes: the entry that is made from them, by a join credential; the group's probe; a start
// while the control plane is away; and what becomes of an instance when its group is deleted.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../../demo/cast.ts";
import { killTree } from "../../demo/processes.ts";
import type { Condition, KubeObject } from "../../src/api/meta.ts";
import { app, eventually, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let port = 0;
let ready = "";
let joining = "";
let words: string[] = [];
let child: Bun.Subprocess;

const group = () =>
  `{apiVersion: networking.istio.io/v1, kind: WorkloadGroup, metadata: {name: reviews, namespace: shop}, spec: {metadata: {labels: {team: books}}, template: {labels: {version: v7}, ports: {http: ${port}}, serviceAccount: reader, locality: eu/a, weight: 3}, probe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [test, -e, "${ready}"]}}}}`;

function start(): void {
  words = [];
  const flags = ["run", "--kubeconfig", joining, "--group", "reviews", "-n", "shop", "--port-variable", "PORT"];
  child = mesh.processes.startWeft([...flags, "--", ...app("echo.ts")], words);
}

beforeAll(async () => {
  mesh = await TestMesh.start();
  port = await freePort();
  ready = join(mesh.dataDir, "ready");
  joining = join(mesh.dataDir, "join.yaml");
  writeFileSync(ready, "");
  await mesh.apply(group());
  await mesh.apply(
    "{apiVersion: networking.istio.io/v1beta1, kind: ProxyConfig, metadata: {name: everybody, namespace: weft-system}, spec: {concurrency: 2}}",
  );
  const made = await mesh.processes.weft(["token", "create", "--service-account", "reader", "-n", "shop", "--reusable"]);
  expect(made.code).toBe(0);
  writeFileSync(joining, made.out, { mode: 0o600 });
  start();
}, 60_000);

afterAll(async () => {
  await mesh?.stop();
}, 30_000);

const entries = async (): Promise<KubeObject[]> => [...(await mesh.entries())];
const healthOf = (entry: KubeObject | undefined): string =>
  (entry?.status as { conditions?: Condition[] } | undefined)?.conditions?.find(({ type }) => type === "Healthy")?.status ?? "none";
const untilHealth = (wanted: string): Promise<KubeObject | undefined> =>
  eventually(
    20_000,
    async () => (await entries())[0],
    (entry) => healthOf(entry) === wanted,
  );

test("the entry has what the group says, and the sidecar the processes that the ProxyConfig says", async () => {
  const entry = await untilHealth("True");
  const owner = await mesh.processes.weftJson<KubeObject>(["get", "workloadgroup", "reviews", "-n", "shop"]);
  expect(entry?.metadata.labels).toEqual({ app: "reviews", team: "books", version: "v7", "security.istio.io/tlsMode": "istio" });
  expect(entry?.metadata.ownerReferences).toMatchObject([{ kind: "WorkloadGroup", name: "reviews", uid: owner.metadata.uid as string }]);
  expect(entry?.metadata.annotations?.["weft.dev/inbound"]).toBe(`http=${port}`);
  expect(entry?.spec).toMatchObject({ serviceAccount: "reader", locality: "eu/a", weight: 3 });
  expect(words.join("\n")).toContain("ProxyConfig weft-system/everybody: the sidecar serves with 2 processes");
  const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim().split(" ");
  const sidecar = children
    .map((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0"))
    .find((each) => each.includes("--bootstrap"));
  expect(sidecar?.slice(sidecar.indexOf("--workers")).slice(0, 2)).toEqual(["--workers", "2"]);
}, 60_000);

test("the group's probe takes the instance out, and lets it in again", async () => {
  rmSync(ready);
  expect(healthOf(await untilHealth("False"))).toBe("False");
  writeFileSync(ready, "");
  expect(healthOf(await untilHealth("True"))).toBe("True");
}, 60_000);

test("started while the control plane is away, it is what the group said before", async () => {
  const before = (await entries())[0]?.metadata.name ?? "none";
  const root = join(mesh.dataDir, "state", "weft", "run");
  const kept = () => readdirSync(root).some((name) => existsSync(join(root, name, "snapshot", "snapshot")));
  expect(await eventually(10_000, async () => kept(), Boolean)).toBe(true);
  const control = mesh.processes.controlPlane as Bun.Subprocess;
  control.kill("SIGKILL");
  await control.exited;
  killTree(child.pid);
  await child.exited;
  start();
  const up = async () => words.join("\n").includes(`${before} in shop has a sidecar`);
  expect(await eventually(20_000, up, Boolean)).toBe(true);
  await mesh.processes.startControlPlane([]);
  const entry = await eventually(
    20_000,
    async () => (await entries())[0],
    (each) => healthOf(each) === "True",
  );
  expect([entry?.metadata.name, entry?.spec]).toMatchObject([before, { serviceAccount: "reader", weight: 3 }]);
}, 90_000);

test("what the group does not say is refused before anything starts", async () => {
  const tried = async (...flags: string[]) => {
    const { code, err } = await mesh.processes.weft(["run", "-n", "shop", "--wait", "5", ...flags, "--", "true"]);
    return `${code} ${err}`;
  };
  expect(await tried("--group", "nobody")).toContain("1 weft: error: there is no WorkloadGroup shop/nobody (--group)");
  expect(await tried("--group", "reviews")).toContain(`port ${port} is taken`);
  const other = join(mesh.dataDir, "other.yaml");
  writeFileSync(other, (await mesh.processes.weft(["token", "create", "--service-account", "other", "-n", "shop"])).out, { mode: 0o600 });
  expect(await tried("--kubeconfig", other, "--group", "reviews")).toContain(
    'template.serviceAccount of WorkloadGroup reviews says "reader", but the join credential',
  );
}, 60_000);

test("entries go with their group", async () => {
  expect((await mesh.processes.weft(["delete", "workloadgroup", "reviews", "-n", "shop"])).code).toBe(0);
  expect(await eventually(20_000, entries, (left) => left.length === 0)).toEqual([]);
  child.kill("SIGTERM");
  expect(await child.exited).toBe(128 + 15);
}, 60_000);
