// What foreign programs see of a running mesh: openssl the wire, curl the forward proxy, promtool the metrics, kubectl the API.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { app, type Running, TestMesh } from "../support/mesh.ts";
import { findPeer, needsPeers } from "../support/peers.ts";

const run = needsPeers("test/peers/wire.test.ts", "openssl", "curl", "promtool", "kubectl");

async function execute(
  argv: readonly string[],
  options: { stdin?: string; env?: Record<string, string> } = {},
): Promise<{ code: number; text: string }> {
  const child = Bun.spawn([...argv], {
    stdin: new TextEncoder().encode(options.stdin ?? ""),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, ...options.env },
  });
  const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
  return { code, text: out + err };
}

describe.skipIf(!run)("foreign programs", () => {
  let mesh: TestMesh;
  let echo: Running;
  let client: Running;

  beforeAll(async () => {
    mesh = await TestMesh.start();
    [echo, client] = await Promise.all([
      mesh.run({ service: "echo", name: "echo-1", command: app("echo.ts") }),
      mesh.run({ service: "client", name: "client", command: app("echo.ts") }),
    ]);
  }, 60_000);

  afterAll(async () => {
    await mesh?.stop();
  }, 30_000);

  const inbound = (): string => `${echo.entry.spec.address}:${Object.values(echo.entry.spec.ports)[0]}`;
  const openssl = (...args: string[]): readonly string[] => [findPeer("openssl") ?? "openssl", ...args];
  const roots = (): string => join(mesh.dataDir, "ca.crt");

  test("openssl: TLS 1.3, the SPIFFE identity, a chain under the mesh's root", async () => {
    const { text } = await execute(openssl("s_client", "-connect", inbound(), "-CAfile", roots(), "-showcerts"), { stdin: "" });
    expect(text).toMatch(/New, TLSv1\.3|Protocol *: TLSv1\.3/);
    const leaf = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/.exec(text)?.[0] ?? "";
    const shown = await execute(openssl("x509", "-noout", "-text"), { stdin: leaf });
    expect(shown.text).toContain("URI:spiffe://cluster.local/ns/shop/sa/echo");
    expect(shown.text).toContain("prime256v1");
    const verified = await execute(openssl("verify", "-CAfile", roots()), { stdin: leaf });
    expect(verified.text).toContain("stdin: OK");
  });

  test("openssl: TLS 1.2 is refused, and so is a caller without a certificate", async () => {
    const old = await execute(openssl("s_client", "-connect", inbound(), "-tls1_2"));
    expect(old.text).toMatch(/alert protocol version|no protocols available|unsupported protocol/);
    const bare = await execute([
      "sh",
      "-c",
      `(printf 'GET / HTTP/1.1\\r\\nhost: echo\\r\\n\\r\\n'; sleep 1) | ${openssl().join(" ")} s_client -quiet -connect ${inbound()} -CAfile ${roots()}`,
    ]);
    expect(bare.text).not.toContain("HTTP/1.1 200");
  });

  test("curl: absolute form, CONNECT, and a refusal that says why", async () => {
    const curl = findPeer("curl") ?? "curl";
    const plain = await execute([curl, "-sS", "--noproxy", "", "-x", client.httpProxy, "-w", "\n%{http_code}", "http://echo/by-curl"]);
    expect(plain.text).toContain('"path":"/by-curl"');
    expect(plain.text).toEndWith("\n200");
    const tunnel = await execute([
      curl,
      "-sS",
      "--noproxy",
      "",
      "-p",
      "-x",
      client.httpProxy,
      "-w",
      "\n%{http_code}",
      "http://echo.shop/through-a-tunnel",
    ]);
    expect(tunnel.text).toContain('"path":"/through-a-tunnel"');
    const unknown = await execute([curl, "-sSi", "--noproxy", "", "-x", client.httpProxy, "http://nowhere.example/"]);
    expect(unknown.text.toLowerCase()).toContain("x-weft-reason:");
  });

  test("promtool: the control plane's and the sidecars' metrics", async () => {
    const promtool = findPeer("promtool") ?? "promtool";
    expect((await fetch("http://echo/", { proxy: client.httpProxy })).status).toBe(200);
    for (const workload of [echo, client]) {
      const port = workload.entry.metadata.annotations?.["prometheus.io/port"];
      const text = await (await fetch(`http://127.0.0.1:${port}/stats/prometheus`, { proxy: "" })).text();
      expect(text).toContain("istio_requests_total{");
      expect(text).toContain('destination_service="echo.shop.svc.cluster.local"');
      expect(text).toContain("process_resident_memory_bytes");
      const verdict = await execute([promtool, "check", "metrics"], { stdin: text });
      // The one thing promtool has against it is Istio's own name.
      expect(verdict.text.trim().split("\n")).toEqual([
        'istio_request_duration_milliseconds use base unit "seconds" instead of "milliseconds"',
      ]);
    }
    const kubeconfig = await mesh.processes.weft(["kubeconfig"]);
    const metrics = await execute([findPeer("kubectl") ?? "kubectl", "get", "--raw", "/metrics"], {
      env: { KUBECONFIG: join(mesh.dataDir, "admin.kubeconfig") },
    });
    expect(kubeconfig.out).toContain("kind: Config");
    expect(metrics.code).toBe(0);
    expect(await execute([promtool, "check", "metrics"], { stdin: metrics.text })).toEqual({ code: 0, text: "" });
  });

  test("kubectl: instances, services, proxies and edges of the running mesh", async () => {
    const kubectl = findPeer("kubectl") ?? "kubectl";
    const env = { KUBECONFIG: join(mesh.dataDir, "admin.kubeconfig") };
    await fetch("http://echo/", { proxy: client.httpProxy });
    const proxies = await execute([kubectl, "get", "proxies", "-n", "shop"], { env });
    expect(proxies.code).toBe(0);
    expect(proxies.text).toContain(echo.entry.metadata.name);
    expect((await execute([kubectl, "get", "workloadentries,services", "-A"], { env })).text).toContain("service/echo");
    await Bun.sleep(1500);
    expect((await execute([kubectl, "get", "edges", "-A"], { env })).text).toContain("echo");
  });
});
