// PeerAuthentication with real processes: what STRICT refuses and says of it, what PERMISSIVE takes on one port, and that DISABLE is plain text on the wire.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createServer, connect as dial } from "node:net";
import { connect as dialTls } from "node:tls";
import { freePort } from "../../demo/cast.ts";
import { app, eventually, metricSum, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let echo: Running;
let lines: Running;
let client: Running;
let localLines = 0;

beforeAll(async () => {
  mesh = await TestMesh.start();
  localLines = await freePort();
  [echo, lines] = await Promise.all([
    mesh.run({ service: "echo", name: "echo-a", command: app("echo.ts") }),
    mesh.run({ service: "lines", name: "lines-a", protocol: "tcp", command: app("tcp-echo.ts") }),
  ]);
  client = await mesh.run({ service: "client", name: "client", upstreams: [`lines=${localLines}`], command: app("echo.ts") });
}, 60_000);

afterAll(async () => {
  await mesh?.stop();
}, 30_000);

/** Where peers dial. */
const inboundPort = ({ entry }: Running): number => Object.values(entry.spec.ports)[0] as number;
const throughMesh = (path: string): Promise<Response> => fetch(`http://echo${path}`, { proxy: client.httpProxy });

/** Status of a request in plain text to the sidecar's own port; 0 when the connection breaks. */
const plainStatus = (): Promise<number> =>
  fetch(`http://127.0.0.1:${inboundPort(echo)}/plain`, { proxy: "", headers: { connection: "close" } }).then(
    ({ status }) => status,
    () => 0,
  );

/** What a plain TCP client hears that says `says`, until it has heard `until` or the other side ends. */
function hear(port: number, says: string, until: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let heard = "";
  const socket = dial(port, "127.0.0.1", () => {
    if (says !== "") socket.write(says);
  });
  socket.on("data", (bytes) => {
    heard += bytes.toString("latin1");
    if (heard.includes(until)) socket.end();
  });
  socket.on("error", () => {});
  socket.on("close", () => resolve(heard));
  return promise;
}

const mode = (app: string, word: string) =>
  mesh.apply(`
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: ${app}, namespace: shop}
spec: {selector: {matchLabels: {app: ${app}}}, mtls: {mode: ${word}}}
`);

describe("STRICT, the default", () => {
  test("refuses a plain HTTP caller, says why and counts it", async () => {
    expect(await plainStatus()).toBe(0);
    expect(await metricSum(echo, "weft_downstream_tls_refused_total", { reason: "plain_text" })).toBe(1);
    const words = await eventually(
      3000,
      async () => echo.workload.words.join("\n"),
      (text) => text.includes("plain HTTP"),
    );
    expect(words).toContain("the peer sent plain HTTP to a TLS port");
    expect((await throughMesh("/")).status).toBe(200);
  });

  test("refuses a plain TCP caller the same way", async () => {
    expect(await hear(inboundPort(lines), "ping\n", "ping")).not.toContain("ping");
    expect(await metricSum(lines, "weft_downstream_tls_refused_total", { reason: "plain_text" })).toBe(1);
    expect(await hear(localLines, "ping\n", "ping\n")).toBe("hello\nping\n");
  });
});

describe("PERMISSIVE", () => {
  beforeAll(async () => {
    await mode("echo", "PERMISSIVE");
    await mode("lines", "PERMISSIVE");
  });

  test("takes plain HTTP beside mutual TLS on one port, and counts them apart", async () => {
    expect(await eventually(5000, plainStatus, (status) => status === 200)).toBe(200);
    const before = await metricSum(echo, "istio_requests_total", { connection_security_policy: "mutual_tls" });
    expect((await throughMesh("/")).status).toBe(200);
    const counted = (policy: string) =>
      metricSum(echo, "istio_requests_total", { reporter: "destination", connection_security_policy: policy });
    expect(
      await eventually(
        3000,
        () => counted("mutual_tls"),
        (count) => count > before,
      ),
    ).toBe(before + 1);
    expect(await counted("none")).toBeGreaterThan(0);
  });

  test("a policy that names callers does not let a plain one in", async () => {
    await mesh.apply(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: echo, namespace: shop}
spec: {selector: {matchLabels: {app: echo}}, rules: [{from: [{source: {namespaces: [shop]}}]}]}
`);
    expect(await eventually(5000, plainStatus, (status) => status === 403)).toBe(403);
    expect((await throughMesh("/")).status).toBe(200);
    expect((await mesh.processes.weft(["delete", "authorizationpolicy", "echo", "-n", "shop"])).code).toBe(0);
    expect(await eventually(5000, plainStatus, (status) => status === 200)).toBe(200);
  });

  test("a plain TCP client that speaks first is served at once, one that waits for the server after three seconds", async () => {
    const spoken = await eventually(
      5000,
      () => hear(inboundPort(lines), "ping\n", "ping\n"),
      (heard) => heard.includes("ping"),
    );
    expect(spoken).toBe("hello\nping\n");
    const began = performance.now();
    expect(await hear(inboundPort(lines), "", "hello\n")).toBe("hello\n");
    const waited = performance.now() - began;
    expect(waited).toBeGreaterThan(2500);
    expect(waited).toBeLessThan(6000);
    expect(await hear(localLines, "ping\n", "ping\n")).toBe("hello\nping\n");
  }, 20_000);

  test("a TLS client without a certificate is refused all the same", async () => {
    const { promise, resolve } = Promise.withResolvers<string>();
    const socket = dialTls({ port: inboundPort(lines), host: "127.0.0.1", rejectUnauthorized: false });
    let heard = "";
    socket.on("data", (bytes) => (heard += bytes));
    socket.on("error", () => {});
    socket.on("close", () => resolve(heard));
    expect(await promise).toBe("");
    expect(await metricSum(lines, "weft_downstream_tls_refused_total", { reason: "no_certificate" })).toBe(1);
  });
});

describe("DISABLE", () => {
  test("sidecars call each other in plain text, which the wire shows", async () => {
    await mode("echo", "DISABLE");
    expect(await eventually(5000, plainStatus, (status) => status === 200)).toBe(200);
    // In the place of the sidecar's port: what the caller's sidecar really sends.
    const wire = await overheard(async (address, port) => {
      await mesh.apply(`
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: overheard, namespace: shop, labels: {app: overheard, security.istio.io/tlsMode: istio}}
spec: {address: ${address}, ports: {http: ${port}}, serviceAccount: echo}
---
apiVersion: v1
kind: Service
metadata: {name: overheard, namespace: shop}
spec: {selector: {app: overheard}, ports: [{name: http, port: 80}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: overheard, namespace: shop}
spec: {selector: {matchLabels: {app: overheard}}, mtls: {mode: DISABLE}}
`);
      await eventually(
        5000,
        async () => (await fetch("http://overheard/in-the-clear", { proxy: client.httpProxy })).status,
        (status) => status === 200,
      );
    });
    expect(wire).toContain("GET /in-the-clear HTTP/1.1\r\n");
    const plain = { reporter: "source", destination_service_name: "echo", connection_security_policy: "none" };
    const before = await metricSum(client, "istio_requests_total", plain);
    expect((await throughMesh("/")).status).toBe(200);
    expect(await metricSum(client, "istio_requests_total", plain)).toBe(before + 1);
  }, 20_000);

  test("back to STRICT by way of PERMISSIVE: the last step fails no request of the mesh", async () => {
    const mutual = { reporter: "source", destination_service_name: "echo", connection_security_policy: "mutual_tls" };
    const before = await metricSum(client, "istio_requests_total", mutual);
    await mode("echo", "PERMISSIVE");
    await eventually(
      5000,
      async () => {
        await throughMesh("/");
        return metricSum(client, "istio_requests_total", mutual);
      },
      (count) => count > before,
    );
    const statuses: number[] = [];
    let going = true;
    const asking = (async () => {
      while (going) statuses.push((await throughMesh("/")).status);
    })();
    await mode("echo", "STRICT");
    expect(await eventually(5000, plainStatus, (status) => status === 0)).toBe(0);
    going = false;
    await asking;
    expect(statuses.filter((status) => status !== 200)).toEqual([]);
    expect((await throughMesh("/")).status).toBe(200);
  }, 20_000);
});

/** All that arrives on a port during `run`, which answers every connection's first bytes with an empty 200. */
async function overheard(run: (address: string, port: number) => Promise<void>): Promise<string> {
  let heard = "";
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      heard += bytes.toString("latin1");
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  await run(address.address, address.port);
  server.close();
  return heard;
}
