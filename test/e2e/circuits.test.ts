// Circuit breaking that can be seen: an instance that is ejected and a limit that refuses stand in metrics and in `weft status`, each is an Event with its
// reason, and what happens while the control plane is away is in the sidecar's log at once and an Event when it is back.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { killTree } from "../../demo/processes.ts";
import { app, eventually, metricSum, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let client: Running;
let instances: readonly Running[];

beforeAll(async () => {
  mesh = await TestMesh.start();
  const made: Running[] = [];
  for (const name of ["a", "b", "c"]) made.push(await mesh.run({ service: "moody", name, command: app("moody.ts") }));
  instances = made;
  client = await mesh.run({ service: "client", name: "client", command: app("echo.ts") });
  await mesh.apply(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: moody, namespace: shop}
spec:
  host: moody
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool: {http: {http2MaxRequests: 4}}
    outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 120s, maxEjectionPercent: 100}
`);
  const dump = async () => JSON.stringify(await (await fetch(`http://127.0.0.1:${client.adminPort}/config_dump`)).json());
  expect(await eventually(10_000, dump, (text) => text.includes('"consecutive5xx":3'))).toContain('"consecutive5xx":3');
}, 90_000);
afterAll(async () => {
  await mesh?.stop();
}, 30_000);

const mood = async (of: Running | undefined, words: string) => await (await fetch(`http://127.0.0.1:${of?.appPort}/mood?${words}`)).text();
const ask = async (path = "/"): Promise<number> => {
  const answer = await fetch(`http://moody.shop${path}`, { proxy: client.httpProxy });
  await answer.text();
  return answer.status;
};
const nameOf = (of: Running | undefined): string => of?.entry.metadata.name ?? "";
const statusText = async (): Promise<string> => (await mesh.processes.weft(["status"])).out;

interface Noted {
  readonly reason: string;
  readonly message: string;
  readonly involvedObject: { readonly name: string };
}

async function noted(reason: string, about: string): Promise<Noted | undefined> {
  const read = async () =>
    (await mesh.processes.weftJson<{ items: Noted[] }>(["get", "events", "-n", "shop"])).items.find(
      (one) => one.reason === reason && one.involvedObject.name === about,
    );
  return await eventually(10_000, read, (found) => found !== undefined);
}

/** Asks until the client's sidecar has taken this one out. */
async function provoke(of: Running | undefined): Promise<void> {
  const before = await metricSum(client, "weft_endpoint_ejections_total");
  await mood(of, "errors=100");
  const after = async () => {
    await Promise.all([ask(), ask()]);
    return await metricSum(client, "weft_endpoint_ejections_total");
  };
  expect(await eventually(10_000, after, (count) => count > before)).toBe(before + 1);
}

test("an ejected instance: metrics, status, Event", async () => {
  await provoke(instances[0]);
  expect(await metricSum(client, "weft_endpoint_ejected", { reason: "consecutive_5xx", workload: nameOf(instances[0]) })).toBe(1);
  const line = `has taken shop/${nameOf(instances[0])} out of its balance: consecutive_5xx`;
  expect(await eventually(10_000, statusText, (text) => text.includes(line))).toContain(line);
  expect((await noted("Ejected", nameOf(instances[0])))?.message).toContain("consecutive_5xx");
  await mood(instances[0], "errors=0");
}, 60_000);

test("a limit that refuses: metrics, status, Event on the caller", async () => {
  await Promise.all(instances.map((one) => mood(one, "slow=1000")));
  const seen = await Promise.all(Array.from({ length: 12 }, () => ask()));
  await Promise.all(instances.map((one) => mood(one, "slow=0")));
  // Of twelve at once four are let through; none of the others has waited for them.
  expect(seen.filter((status) => status === 200).length).toBe(4);
  expect(seen.filter((status) => status === 503).length).toBe(8);
  expect(await metricSum(client, "weft_circuit_breaker_refused_total", { limit: "max_requests" })).toBe(8);
  expect(await metricSum(client, "weft_circuit_breaker_opened_total", { limit: "max_requests" })).toBe(1);
  const line = "max_requests is reached";
  expect(await eventually(4_000, statusText, (text) => text.includes(line))).toContain(line);
  expect((await noted("CircuitOpened", nameOf(client)))?.message).toContain("moody.shop");
  // Nothing is refused any more: it closes by itself.
  const open = () => metricSum(client, "weft_circuit_breaker_open");
  expect(await eventually(15_000, open, (value) => value === 0)).toBe(0);
  expect(await eventually(10_000, statusText, (text) => !text.includes(line))).not.toContain(line);
}, 60_000);

test("while the control plane is away it is in the log, and an Event when it is back", async () => {
  const control = mesh.processes.controlPlane;
  expect(control).toBeDefined();
  killTree(control?.pid ?? 0);
  await control?.exited;
  await provoke(instances[1]);
  const words = async () => client.workload.words.join("\n");
  expect(await eventually(5_000, words, (text) => text.includes("An endpoint was ejected"))).toContain("An endpoint was ejected");
  await mesh.processes.startControlPlane([]);
  expect((await noted("Ejected", nameOf(instances[1])))?.message).toContain("consecutive_5xx");
}, 60_000);
