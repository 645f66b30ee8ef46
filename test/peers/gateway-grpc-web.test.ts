// Judge: gRPC-Web frames by curl at a Gateway with a GRPCRoute, over HTTP/1.1 and HTTP/2, for a gRPC server (grpc-js on Node) in the mesh; and a listener
// without one, which passes them on as they are.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { freePort } from "../../demo/cast.ts";
import { execute } from "../support/execute.ts";
import { app, eventually, TestMesh } from "../support/mesh.ts";
import { findPeer, needsPeers } from "../support/peers.ts";

const run = needsPeers("test/peers/gateway-grpc-web.test.ts", "node", "curl");

describe.skipIf(!run)("gRPC-Web at a Gateway", () => {
  let mesh: TestMesh;
  const ports = { web: 0, plain: 0 };
  const frame = Buffer.from("\0\0\0\0\x05hello");

  const call = (port: number, host: string, type: string, body: Uint8Array | string, ...more: string[]): ReturnType<typeof execute> => {
    const url = `http://${host}:${port}/judge.Judge/Unary`;
    const argv = [
      "-sS",
      "-m",
      "5",
      "--resolve",
      `${host}:${port}:127.0.0.1`,
      "-H",
      `content-type: ${type}`,
      "--data-binary",
      "@-",
      ...more,
      url,
    ];
    return execute([findPeer("curl") as string, ...argv], { stdin: body });
  };

  beforeAll(async () => {
    mesh = await TestMesh.start();
    ports.web = await freePort();
    ports.plain = await freePort();
    await mesh.run({
      service: "api",
      name: "api-1",
      protocol: "grpc",
      command: [findPeer("node") as string, `${import.meta.dir}/grpc-js-program.mjs`, "server"],
    });
    await mesh.run({ service: "pages", name: "pages-1", command: app("echo.ts") });
    await mesh.apply(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: weft
  listeners: [{name: web, port: ${ports.web}, protocol: HTTP}, {name: plain, port: ${ports.plain}, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: api, namespace: shop}
spec: {parentRefs: [{name: edge, sectionName: web}], hostnames: [api.example.com], rules: [{backendRefs: [{name: api, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: pages, namespace: shop}
spec: {parentRefs: [{name: edge, sectionName: plain}], rules: [{backendRefs: [{name: pages, port: 80}]}]}
`);
    mesh.processes.startWeft(["gateway", "edge", "--namespace", "shop"]);
    await eventually(
      30_000,
      () =>
        call(ports.web, "api.example.com", "application/grpc-web", frame, "-o", "/dev/null", "-w", "%{http_code}").catch(() => ({
          out: "",
        })),
      ({ out }) => out === "200",
    );
  }, 90_000);
  afterAll(async () => {
    await mesh?.stop();
  }, 30_000);

  for (const version of ["--http1.1", "--http2-prior-knowledge"])
    test(`a call, binary and text (${version.slice(2)})`, async () => {
      const binary = await call(ports.web, "api.example.com", "application/grpc-web", frame, version);
      expect(Buffer.from(binary.bytes).subarray(0, 10)).toEqual(frame);
      expect(Buffer.from(binary.bytes).subarray(15).toString()).toMatch(/^grpc-status: ?0\r\n/);
      const text = await call(ports.web, "api.example.com", "application/grpc-web-text", frame.toString("base64"), version);
      const back = Buffer.concat((text.out.match(/[^=]+=*/g) ?? []).map((part) => Buffer.from(part, "base64")));
      expect(back.subarray(0, 10)).toEqual(frame);
    }, 60_000);

  test("where no GRPCRoute is, a server may speak it itself", async () => {
    const { out } = await call(ports.plain, "pages.example.com", "application/grpc-web", frame, "--http1.1");
    expect((JSON.parse(out) as { headers: Record<string, string> }).headers["content-type"]).toBe("application/grpc-web");
  }, 60_000);
});
