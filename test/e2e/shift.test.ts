// `weft shift` as users meet it: real instances of two versions, real traffic through sidecars, and a control plane that ends in the middle of it.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { bunCommand } from "../../demo/processes.ts";
import { eventually, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let caller: Running;
let calling = true;
let answered = { v1: 0, v2: 0, failed: 0 };

const app = (version: string, failing: boolean): readonly string[] => [
  bunCommand,
  "-e",
  `Bun.serve({ hostname: "127.0.0.1", port: Number(process.env.PORT), fetch: () => new Response("${version}", { status: ${failing} && Math.random() < 0.5 ? 500 : 200 }) }); await new Promise(() => {});`,
];

const services = ["v1", "v2", "v3"]
  .map(
    (version) => `---
apiVersion: v1
kind: Service
metadata: { name: reviews-${version}, namespace: shop }
spec: { selector: { app: reviews, version: ${version} }, ports: [{ name: http, port: 80 }] }
`,
  )
  .join("");
const route = `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: reviews, namespace: shop }
spec:
  parentRefs: [{ group: "", kind: Service, name: reviews, port: 80 }]
  rules:
    - backendRefs:
        - { name: reviews-v1, port: 80, weight: 1 }
        - { name: reviews-v2, port: 80, weight: 0 }
        - { name: reviews-v3, port: 80, weight: 0 }
`;

async function call(): Promise<void> {
  while (calling) {
    try {
      const answer = await fetch("http://reviews.shop/", { proxy: caller.httpProxy, keepalive: true, signal: AbortSignal.timeout(5_000) });
      const body = await answer.text();
      if (answer.status !== 200) answered.failed++;
      else answered[body as "v1" | "v2"]++;
    } catch {
      answered.failed++;
    }
    await Bun.sleep(5);
  }
}

interface Shift {
  readonly spec: { readonly to: string };
  readonly status?: { readonly phase: string; readonly percent: number; readonly steps: readonly { readonly percent: number }[] };
}
const shifts = async () => (await mesh.processes.weftJson<{ items: Shift[] }>(["get", "trafficshifts", "-n", "shop"])).items;

let load: Promise<unknown>;
beforeAll(async () => {
  mesh = await TestMesh.start();
  await mesh.run({ service: "reviews", name: "reviews-v1", version: "v1", command: app("v1", false) });
  await mesh.run({ service: "reviews", name: "reviews-v2", version: "v2", command: app("v2", false) });
  await mesh.run({ service: "reviews", name: "reviews-v3", version: "v3", command: app("v3", true) });
  caller = await mesh.run({ service: "web", name: "web-1", command: app("web", false) });
  await mesh.apply(services + route);
  load = Promise.all([1, 2, 3].map(() => call()));
}, 60_000);
afterAll(async () => {
  calling = false;
  await load;
  await mesh?.stop();
}, 20_000);

test("a healthy version gets all of the traffic, in steps, and no request fails", async () => {
  await eventually(
    5_000,
    async () => answered.v1,
    (count) => count > 20,
  );
  answered = { v1: 0, v2: 0, failed: 0 };
  const { code, out, err } = await mesh.processes.weft([
    "shift",
    "reviews",
    "-n",
    "shop",
    "--to",
    "v2",
    "--from",
    "v1",
    "--by",
    "50%",
    "--every",
    "4s",
    "--until-error-rate",
    "1%",
    "--until-latency",
    "0",
    "--min-requests",
    "20",
  ]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  expect(out).toMatch(
    /0 % to 50 %: begins at 0 %\n.* 50 % to 100 %: reviews-v2 answered \d+ requests, 0 failed\n.*Succeeded: reviews-v2 answered/,
  );
  expect(answered.failed).toBe(0);
  const before = answered.v2;
  await eventually(
    5_000,
    async () => answered.v2,
    (count) => count > before + 20,
  );
  const events = async () => (await mesh.processes.weft(["get", "events", "-n", "shop"])).out;
  expect(await eventually(5_000, events, (text) => text.includes("Succeeded"))).toContain("Succeeded");
}, 60_000);

test("one that fails goes back to nothing", async () => {
  const { code, out } = await mesh.processes.weft([
    "shift",
    "reviews",
    "-n",
    "shop",
    "--to",
    "v3",
    "--from",
    "v2",
    "--by",
    "20%",
    "--every",
    "30s",
  ]);
  expect(code).toBe(1);
  expect(out).toMatch(/back to 0 %: \d+ % of \d+ requests failed; allowed are 1 %, and the older backend failed 0 %/);
  const { spec } = await mesh.processes.weftJson<{ spec: { rules: { backendRefs: { weight: number }[] }[] } }>([
    "get",
    "httproute",
    "reviews",
    "-n",
    "shop",
  ]);
  expect(spec.rules[0]?.backendRefs.map((ref) => ref.weight)).toEqual([0, 100, 0]);
}, 60_000);

test("a shift goes on when the control plane has been killed and is back", async () => {
  const from = await mesh.processes.weft([
    "shift",
    "reviews",
    "-n",
    "shop",
    "--to",
    "v1",
    "--from",
    "v2",
    "--by",
    "50%",
    "--every",
    "4s",
    "--until-latency",
    "0",
    "--no-wait",
  ]);
  expect(from.code).toBe(0);
  answered.failed = 0;
  await eventually(
    5_000,
    async () => (await shifts()).map((each) => each.status?.percent),
    (all) => all.includes(50),
  );
  const control = mesh.processes.controlPlane as Bun.Subprocess;
  control.kill("SIGKILL");
  await control.exited;
  await mesh.processes.startControlPlane(["--dashboard-port", "0"]);
  const ended = await eventually(25_000, shifts, (all) =>
    all.some((each) => each.spec.to === "reviews-v1" && each.status?.phase === "Succeeded"),
  );
  expect(ended.find((each) => each.spec.to === "reviews-v1")?.status).toMatchObject({ phase: "Succeeded", percent: 100 });
  expect(ended.find((each) => each.spec.to === "reviews-v1")?.status?.steps.map((step) => step.percent)).toEqual([50, 100]);
  expect(answered.failed).toBe(0);
}, 60_000);

test("what cannot be shifted is refused with the way out", async () => {
  const none = await mesh.processes.weft(["shift", "web", "-n", "shop", "--to", "v2"]);
  expect([none.code, none.err]).toEqual([1, expect.stringContaining("no HTTPRoute in namespace shop is attached to Service web")]);
  const other = await mesh.processes.weft(["shift", "reviews", "-n", "shop", "--to", "v9"]);
  expect(other.err).toContain(
    "has v9 or reviews-v9 among its backends (they are: reviews-v1, reviews-v2, reviews-v3); add it with weight: 0",
  );
  const step = await mesh.processes.weft(["shift", "reviews", "-n", "shop", "--to", "v1", "--by", "0%"]);
  expect([step.code, step.err]).toEqual([2, expect.stringContaining('--by takes 1% to 100%, not "0%"')]);
  const two = await mesh.processes.weft(["shift", "reviews", "-n", "shop", "--to", "v1"]);
  expect(two.err).toContain("has several other backends (reviews-v2, reviews-v3); name one with --from");
});
