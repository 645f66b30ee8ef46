// Which protocols a service of the mesh may speak, with real processes on both sides: gRPC, HTTP/2 without TLS, WebSocket; by local port and by HTTP_PROXY.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { connect as dial, type Socket } from "node:net";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { freePort } from "../../demo/cast.ts";
import { weftBin } from "../../demo/processes.ts";
import { app, eventually, metricSum, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let api: Running;
let client: Running;
let echo: Running;
const ports = { api: 0, chat: 0, h2: 0 };

beforeAll(async () => {
  mesh = await TestMesh.start();
  for (const name of ["api", "chat", "h2"] as const) ports[name] = await freePort();
  [api, echo] = await Promise.all([
    mesh.run({ service: "api", name: "api-a", protocol: "grpc", command: app("grpc-echo.ts") }),
    mesh.run({ service: "echo", name: "echo-a", flags: ["--verbose"], command: app("echo.ts") }),
    mesh.run({ service: "api-next", name: "api-next", protocol: "grpc", command: app("grpc-echo.ts") }),
    mesh.run({ service: "chat", name: "chat-a", command: app("websocket-echo.ts") }),
    mesh.run({ service: "h2", name: "h2-a", protocol: "http2", command: app("http2-echo.ts") }),
  ]);
  client = await mesh.run({
    service: "client",
    name: "client",
    upstreams: [`api=${ports.api}`, `chat=${ports.chat}`, `h2=${ports.h2}`],
    command: app("echo.ts"),
  });
}, 60_000);

afterAll(async () => {
  await mesh?.stop();
}, 30_000);

const same = (bytes: Buffer): Buffer => bytes;
const soon = () => ({ deadline: Date.now() + 5000 });

function withGrpc<T>(target: string, use: (client: grpc.Client) => Promise<T>): Promise<T> {
  const made = new grpc.Client(target, grpc.credentials.createInsecure());
  return use(made).finally(() => made.close());
}

type Outcome = { readonly code: number; readonly text: string };

function unary(of: grpc.Client, path: string, text: string): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  of.makeUnaryRequest(path, same, same, Buffer.from(text), new grpc.Metadata(), soon(), (error, answer) =>
    resolve(error === null ? { code: 0, text: String(answer) } : { code: error.code, text: error.details }),
  );
  return promise;
}

function read(stream: grpc.ClientReadableStream<Buffer> | grpc.ClientDuplexStream<Buffer, Buffer>): Promise<string[]> {
  const { promise, resolve, reject } = Promise.withResolvers<string[]>();
  const got: string[] = [];
  stream.on("data", (bytes: Buffer) => void got.push(bytes.toString()));
  stream.on("error", reject);
  stream.on("end", () => resolve(got));
  return promise;
}

describe("gRPC", () => {
  const local = () => `127.0.0.1:${ports.api}`;

  test("every kind of call through a local port", () =>
    withGrpc(local(), async (of) => {
      expect(await unary(of, "/test.Echo/Unary", "hello")).toEqual({ code: 0, text: "api-a hello" });
      const gathered = Promise.withResolvers<string>();
      const gather = of.makeClientStreamRequest("/test.Echo/Gather", same, same, new grpc.Metadata(), soon(), (error, answer) =>
        error === null ? gathered.resolve(String(answer)) : gathered.reject(error),
      );
      for (let n = 0; n < 10; n++) gather.write(Buffer.from(String(n)));
      gather.end();
      expect(await gathered.promise).toBe("0123456789");
      const poured = of.makeServerStreamRequest("/test.Echo/Pour", same, same, Buffer.from("50"), new grpc.Metadata(), soon());
      expect(await read(poured)).toEqual(Array.from({ length: 50 }, (_none, n) => String(n)));
      // Each message waits for the answer to the one before: whoever holds a message back stops this.
      const talk = of.makeBidiStreamRequest("/test.Echo/Talk", same, same, new grpc.Metadata(), soon());
      let heard = 0;
      talk.on("data", () => {
        if (++heard < 10) talk.write(Buffer.from(String(heard)));
        else talk.end();
      });
      const all = read(talk);
      talk.write(Buffer.from("0"));
      expect(await all).toEqual(Array.from({ length: 10 }, (_none, n) => `re ${n}`));
    }));

  test("a failure of the server is the server's, one of the mesh has its code and reason", async () => {
    await withGrpc(local(), async (of) => {
      expect(await unary(of, "/test.Echo/Fail", "")).toEqual({ code: grpc.status.FAILED_PRECONDITION, text: "not ready" });
      await mesh.apply(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: api, namespace: shop}
spec: {selector: {matchLabels: {app: api}}, action: DENY, rules: [{to: [{operation: {paths: [/test.Other/Gather]}}]}]}
`);
      const denied = await eventually(
        5000,
        () => unary(of, "/test.Other/Gather", ""),
        ({ code }) => code === grpc.status.PERMISSION_DENIED,
      );
      expect(denied.code).toBe(grpc.status.PERMISSION_DENIED);
      expect(denied.text).toContain("denied");
    });
  });

  test("an HTTPRoute sends one method elsewhere", () =>
    withGrpc(local(), async (of) => {
      await mesh.apply(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: api}]
  rules:
    - matches: [{path: {type: Exact, value: /test.Other/Unary}}]
      backendRefs: [{name: api-next, port: 80}]
    - backendRefs: [{name: api, port: 80}]
`);
      const moved = await eventually(
        5000,
        () => unary(of, "/test.Other/Unary", "x"),
        ({ text }) => text === "api-next x",
      );
      expect(moved).toEqual({ code: 0, text: "api-next x" });
      expect(await unary(of, "/test.Echo/Unary", "x")).toEqual({ code: 0, text: "api-a x" });
    }));

  test("by the proxy variable, which gRPC libraries answer with CONNECT", async () => {
    const before = process.env.grpc_proxy;
    process.env.grpc_proxy = client.httpProxy;
    try {
      await withGrpc("api:80", async (of) =>
        expect(await unary(of, "/test.Echo/Unary", "by proxy")).toEqual({ code: 0, text: "api-a by proxy" }),
      );
    } finally {
      if (before === undefined) delete process.env.grpc_proxy;
      else process.env.grpc_proxy = before;
    }
  });

  test("messages and methods are counted on both sides", async () => {
    const calls = { grpc_service: "test.Echo", grpc_method: "Pour", grpc_status: "OK" };
    expect(await metricSum(client, "weft_grpc_calls_total", { reporter: "source", ...calls })).toBe(1);
    expect(await metricSum(api, "weft_grpc_calls_total", { reporter: "destination", ...calls })).toBe(1);
    const failed = { grpc_method: "Fail", grpc_status: "FAILED_PRECONDITION" };
    expect(await metricSum(api, "weft_grpc_calls_total", failed)).toBe(1);
    const requests = { reporter: "destination", request_protocol: "grpc", connection_security_policy: "mutual_tls" };
    expect(await metricSum(api, "istio_requests_total", { ...requests, grpc_response_status: "9" })).toBe(1);
    expect(await metricSum(api, "istio_response_messages_total", requests)).toBeGreaterThanOrEqual(62);
    expect(await metricSum(client, "istio_request_messages_total", { reporter: "source" })).toBeGreaterThanOrEqual(22);
  });
});

describe("HTTP/2 without TLS", () => {
  test("from a client with prior knowledge at a local port", async () => {
    const session = connectHttp2(`http://127.0.0.1:${ports.h2}`);
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    session.on("error", reject);
    const stream = session.request({ ":path": "/over/http2" });
    let text = "";
    stream.on("data", (bytes: Buffer) => {
      text += bytes.toString();
    });
    stream.on("end", () => resolve(text));
    stream.on("error", reject);
    expect(JSON.parse(await promise)).toEqual({ instance: "h2-a", version: "2.0", path: "/over/http2" });
    session.close();
  });

  test("from a client of HTTP/2 to a service that speaks HTTP/1.1", async () => {
    const session = connectHttp2(`http://127.0.0.1:${ports.chat}`);
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
    session.on("error", reject);
    const stream = session.request({ ":path": "/" });
    stream.on("response", (headers) => resolve(headers[":status"]));
    stream.on("error", reject);
    stream.resume();
    expect(await promise).toBe(200);
    session.close();
  });

  test("from HTTP/1.1 clients, by the proxy variable and at the local port", async () => {
    const expected = { instance: "h2-a", version: "2.0" };
    expect(await (await fetch("http://h2/a", { proxy: client.httpProxy })).json()).toEqual({ ...expected, path: "/a" });
    expect(await (await fetch(`http://127.0.0.1:${ports.h2}/b`, { proxy: "" })).json()).toEqual({ ...expected, path: "/b" });
  });

  test("is what HTTP/1.1 rides between two sidecars; the application still gets HTTP/1.1", async () => {
    await mesh.apply(`
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: echo, namespace: shop}
spec: {selector: {matchLabels: {app: echo}}, accessLogging: [{providers: [{name: weft}]}]}
`);
    const logged = await eventually(
      5000,
      async () => {
        await fetch("http://echo/ridden", { proxy: client.httpProxy });
        return echo.workload.words.find((line) => line.includes('"path":"/ridden"')) ?? "";
      },
      (line) => line !== "",
    );
    expect(logged).toContain('"protocol":"HTTP/2"');
  });
});

describe("WebSocket", () => {
  /** Greeting, then the echo of a message. */
  async function talk(socket: WebSocket): Promise<[greeting: string, echo: string]> {
    const heard: string[] = [];
    const done = Promise.withResolvers<void>();
    socket.onmessage = ({ data }) => {
      heard.push(String(data));
      if (heard.length === 1) socket.send("x".repeat(100_000));
      else done.resolve();
    };
    socket.onerror = () => done.reject(new Error("the WebSocket broke"));
    socket.onclose = () => done.reject(new Error("the WebSocket closed"));
    await done.promise;
    socket.onclose = null;
    socket.close();
    return [heard[0] ?? "", `${heard[1]?.length} bytes`];
  }

  test("at a local port", async () => {
    expect(await talk(new WebSocket(`ws://127.0.0.1:${ports.chat}/local`))).toEqual(["chat-a /local", "100000 bytes"]);
  });

  test("by the proxy variable, in a tunnel", async () => {
    const socket = new WebSocket("ws://chat/tunnel", { proxy: client.httpProxy } as unknown as string[]);
    expect(await talk(socket)).toEqual(["chat-a /tunnel", "100000 bytes"]);
  });

  test("by the proxy variable, from a client that asks in absolute form", async () => {
    const { socket, answer } = await upgrade(Number(new URL(client.httpProxy).port), "http://chat/absolute");
    expect(answer).toStartWith("HTTP/1.1 101 ");
    expect(answer.toLowerCase()).toContain("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=");
    // The greeting: a text frame without mask.
    await eventually(
      3000,
      async () => socket.heard(),
      (heard) => heard.includes("chat-a /absolute"),
    );
    expect(socket.heard()).toContain("\u0081\u0010chat-a /absolute");
    socket.end();
  });

  test("is counted with 101 when it ends", async () => {
    const labels = { reporter: "source", destination_service_name: "chat", response_code: "101" };
    expect(
      await eventually(
        5000,
        () => metricSum(client, "istio_requests_total", labels),
        (count) => count >= 2,
      ),
    ).toBe(2);
  });
});

describe("gRPC-Web", () => {
  /** The documented file, on free ports. */
  function documented(port: number, local: number): string {
    const page = readFileSync(join(import.meta.dir, "../../docs/bootstrap.md"), "utf8");
    const text = [...page.matchAll(/```yaml\n(.*?)```/gs)].map((match) => match[1] as string).find((block) => block.includes("grpc_web"));
    if (text === undefined) throw new Error("docs/bootstrap.md has no example of gRPC-Web");
    const file = join(mesh.dataDir, "web.yaml");
    writeFileSync(file, text.replace("port_value: 8000", `port_value: ${port}`).replace("port_value: 50051", `port_value: ${local}`));
    return file;
  }

  test("by a proxy that is itself a program of the mesh, as the page on bootstrap files has it", async () => {
    const port = await freePort();
    const local = await freePort();
    const command = [weftBin, "proxy", "--bootstrap", documented(port, local)];
    await mesh.run({ service: "edge", name: "edge", port, upstreams: [`api=${local}`], command });
    const frame = Buffer.from([0, 0, 0, 0, 5, ...Buffer.from("hello")]);
    const call = (type: string, body: string | Uint8Array) =>
      fetch(`http://127.0.0.1:${port}/test.Echo/Unary`, { proxy: "", method: "POST", headers: { "content-type": type }, body });
    const binary = await call("application/grpc-web+proto", frame);
    expect(binary.headers.get("content-type")).toBe("application/grpc-web+proto");
    const answer = await binary.text();
    expect(answer).toStartWith("\0\0\0\0\u000bapi-a hello");
    expect(answer).toContain("grpc-status: 0\r\n");
    const text = await (await call("application/grpc-web-text", frame.toString("base64"))).text();
    const parts = (text.match(/[^=]+=*/g) ?? []).map((part) => Buffer.from(part, "base64"));
    const decoded = Buffer.concat(parts).toString("latin1");
    expect(decoded).toStartWith("\0\0\0\0\u000bapi-a hello\u0080");
    expect(decoded).toContain("grpc-status: 0\r\n");
    expect(await metricSum(api, "istio_requests_total", { source_workload: "edge", request_protocol: "grpc" })).toBe(2);
  });
});

/** RFC 6455 1.3's own example of a handshake. */
function upgrade(port: number, target: string): Promise<{ answer: string; socket: { heard(): string; end(): void } }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ answer: string; socket: { heard(): string; end(): void } }>();
  let heard = "";
  const socket: Socket = dial(port, "127.0.0.1", () =>
    socket.write(
      `GET ${target} HTTP/1.1\r\nHost: chat\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n`,
    ),
  );
  socket.on("data", (bytes) => {
    heard += bytes.toString("latin1");
    if (heard.includes("\r\n\r\n")) resolve({ answer: heard, socket: { heard: () => heard, end: () => socket.destroy() } });
  });
  socket.on("error", reject);
  socket.on("close", () => reject(new Error(`closed after ${JSON.stringify(heard)}`)));
  return promise;
}
