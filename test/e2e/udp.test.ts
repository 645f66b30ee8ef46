// UDP in the mesh's own objects, with real processes: `weft run --protocol udp`, a caller's local port, and the policies that forbid datagrams.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { freePort } from "../../demo/cast.ts";
import type { Condition, KubeObject } from "../../src/api/meta.ts";
import { app, eventually, metricSum, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let dns: Running;
let client: Running;
let localPort = 0;

beforeAll(async () => {
  mesh = await TestMesh.start();
  localPort = await freePort();
  dns = await mesh.run({ service: "dns", name: "dns-a", protocol: "udp", command: app("udp-echo.ts") });
  client = await mesh.run({ service: "client", name: "client", upstreams: [`dns=${localPort}/udp`], command: app("echo.ts") });
}, 60_000);

afterAll(async () => {
  await mesh?.stop();
}, 30_000);

/** The answer to a datagram from a socket of its own; empty when none comes in time. */
async function ask(text: string, limitMs: number): Promise<string> {
  const answer = Promise.withResolvers<string>();
  const socket = await Bun.udpSocket({
    connect: { hostname: "127.0.0.1", port: localPort },
    socket: { data: (_socket, bytes) => answer.resolve(bytes.toString()), error() {} },
  });
  socket.send(text);
  const timer = setTimeout(() => answer.resolve(""), limitMs);
  const got = await answer.promise;
  clearTimeout(timer);
  socket.close();
  return got;
}

async function conditionOf(kind: string, name: string, type: string): Promise<Condition | undefined> {
  const object = await mesh.processes.weftJson<KubeObject>(["get", kind, name, "-n", "shop"]);
  return ((object.status as { conditions?: Condition[] } | undefined)?.conditions ?? []).find((each) => each.type === type);
}

const answers = (text: string) =>
  eventually(
    5000,
    () => ask(text, 100),
    (answer) => answer !== "",
  );
const silence = (text: string) =>
  eventually(
    5000,
    () => ask(text, 100),
    (answer) => answer === "",
  );

const permissive = (mode: string) => `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: dns, namespace: shop}
spec: {selector: {matchLabels: {app: dns}}, portLevelMtls: {"${dns.appPort}": {mode: ${mode}}}}
`;

test("under strict mutual TLS no datagram is sent, and everybody who looks is told why", async () => {
  expect(dns.entry.spec.ports).toEqual({ udp: dns.appPort });
  expect(await silence("one")).toBe("");
  const words = await eventually(
    5000,
    async () => dns.workload.words.join("\n"),
    (text) => text.includes("STRICT"),
  );
  expect(words).toContain(`no datagrams are sent to shop/${dns.entry.metadata.name} (port ${dns.appPort}), since mutual TLS is STRICT`);
  expect(words).toContain(`portLevelMtls {"${dns.appPort}": {mode: PERMISSIVE}}`);
  expect(await conditionOf("service", "dns", "UDPCarried")).toMatchObject({ status: "False", reason: "StrictMutualTLS" });
  expect(await metricSum(client, "weft_udp_datagrams_dropped_total", { reason: "no_endpoint" })).toBeGreaterThan(0);
});

test("PERMISSIVE for the port lets them through to the application, counted", async () => {
  await mesh.apply(permissive("PERMISSIVE"));
  expect(await answers("two")).toBe("dns-a two");
  expect(await conditionOf("service", "dns", "UDPCarried")).toMatchObject({ status: "True", reason: "Carried" });
  const labels = { destination_service_name: "dns", destination_workload: dns.entry.metadata.name, request_protocol: "udp" };
  expect(await metricSum(client, "weft_udp_sessions_total", labels)).toBeGreaterThan(0);
  expect(await metricSum(client, "weft_udp_datagrams_received_total", labels)).toBeGreaterThan(0);
  expect(await metricSum(client, "weft_udp_datagrams_sent_total", labels)).toBeGreaterThan(0);
});

test("a policy that would have to know the caller stops them, and one that lets everybody in does not", async () => {
  const policy = (rules: string) => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: dns, namespace: shop}
spec: {selector: {matchLabels: {app: dns}}, rules: ${rules}}
`;
  await mesh.apply(policy("[{from: [{source: {namespaces: [shop]}}]}]"));
  expect(await silence("three")).toBe("");
  expect(await conditionOf("service", "dns", "UDPCarried")).toMatchObject({ status: "False", reason: "AuthorizationPolicy" });
  expect(await conditionOf("authorizationpolicy", "dns", "DatagramsWithheld")).toMatchObject({ status: "True" });
  await mesh.apply(policy(`[{to: [{operation: {ports: ["${dns.appPort}"]}}]}]`));
  expect(await answers("four")).toBe("dns-a four");
});

test("DISABLE carries them too, and STRICT again ends a session that is there", async () => {
  await mesh.apply(permissive("DISABLE"));
  expect(await answers("five")).toBe("dns-a five");
  const got: string[] = [];
  const socket = await Bun.udpSocket({
    connect: { hostname: "127.0.0.1", port: localPort },
    socket: { data: (_socket, bytes) => void got.push(bytes.toString()), error() {} },
  });
  socket.send("six");
  await eventually(
    5000,
    async () => got.length,
    (count) => count > 0,
  );
  await mesh.apply(permissive("STRICT"));
  expect(await silence("seven")).toBe("");
  const before = got.length;
  socket.send("eight");
  expect(await silence("nine")).toBe("");
  expect(got.length).toBe(before);
  socket.close();
});

test("an upstream without /udp to a service that has only UDP ports is told what to write", async () => {
  const port = await freePort();
  const mistaken = await mesh.run({ service: "mistaken", name: "mistaken", upstreams: [`dns=${port}`], command: app("echo.ts") });
  const words = await eventually(
    20_000,
    async () => mistaken.workload.words.join("\n"),
    (text) => text.includes("/udp"),
  );
  expect(words).toContain(
    `Service shop/dns has only UDP ports, so that 127.0.0.1:${port} stays closed for TCP; write --upstream dns=${port}/udp`,
  );
}, 60_000);

test("a port that is taken already is refused before anything starts", async () => {
  const { code, err } = await mesh.processes.weft([
    "run",
    "--service",
    "late",
    "-n",
    "shop",
    "--protocol",
    "udp",
    "--port",
    String(dns.appPort),
    "--",
    "true",
  ]);
  expect(code).toBe(1);
  expect(err).toContain(`UDP port ${dns.appPort} is taken`);
});
