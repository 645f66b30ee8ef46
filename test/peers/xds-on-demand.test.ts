// Judges virtual hosts on demand (VHDS) by Envoy: under `weft.dev/uses: *` it holds nothing of the mesh until a request comes, asks for the host by delta xDS,
// is given it with its cluster and endpoints, and goes on with the request.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { needsPeers } from "../support/peers.ts";
import { freePort, Mesh, until } from "./xds-setup.ts";

describe.skipIf(!needsPeers("xds-on-demand.test.ts", "envoy"))("Envoy asks for hosts one by one", () => {
  let mesh: Mesh;
  const port = freePort();
  const apps = ["stock", "bank", "later"].map((name) => ({
    name,
    server: Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response(name) }),
  }));
  let log = (): string => "";

  beforeAll(async () => {
    mesh = await Mesh.start();
    for (const { name, server } of apps.slice(0, 2)) await serve(name, server.port as number);
    const folder = await mesh.agent("lazy");
    await mesh.entry("lazy-1", "lazy", "lazy", undefined, { "weft.dev/http-proxy-port": String(port), "weft.dev/uses": "*" });
    log = mesh.envoy(mesh.bootstrap("lazy-1", "--envoy", "--dir", folder)).log;
    await until("Envoy holds its listener", async () => (await mesh.shown("lazy-1"))?.types.listener.resources === 1, 30_000).catch(
      async (error: Error) => {
        throw new Error(`${error.message}: ${JSON.stringify(await mesh.shown("lazy-1"))}\n${log()}`);
      },
    );
  }, 60_000);

  afterAll(async () => {
    await mesh?.stop();
    for (const { server } of apps) await server.stop(true);
  });

  async function serve(name: string, appPort: number): Promise<void> {
    await mesh.service(name, 80, "http", false);
    await mesh.text("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", "POST", {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name, namespace: "shop", labels: { "kubernetes.io/service-name": name } },
      addressType: "IPv4",
      ports: [{ name: "http", port: appPort }],
      endpoints: [{ addresses: ["127.0.0.1"] }],
    });
  }

  const ask = async (host: string): Promise<string> => {
    const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { host }, signal: AbortSignal.timeout(10_000) }).catch(
      (error: Error) => error,
    );
    return answer instanceof Error ? answer.message : `${answer.status} ${await answer.text()}`;
  };
  const holds = async () => (await mesh.shown("lazy-1"))?.types.cluster.resources;

  test("a request is held until its host has come, and no other service is given", async () => {
    expect(await holds()).toBe(0);
    await until("the first request is served", async () => (await ask("stock")) === "200 stock", 20_000).catch(async (error: Error) => {
      throw new Error(`${error.message}: ${await ask("stock")}\n${JSON.stringify(await mesh.shown("lazy-1"))}\n${log()}`);
    });
    expect(await holds()).toBe(1);
    expect(await ask("stock")).toBe("200 stock");
    expect(await ask("stock.shop.svc.cluster.local:80")).toBe("200 stock");
    expect(await holds()).toBe(1);
    // It answers the response a moment after the request goes on.
    await until("both hosts are acknowledged", async () => (await mesh.shown("lazy-1"))?.hosts?.held === 2);
    expect((await mesh.shown("lazy-1"))?.hosts).toEqual({ asked: 2, held: 2 });
  }, 60_000);

  test("a host that there is not is refused at once, and served once there is one", async () => {
    expect(await ask("later")).toMatch(/^404 /);
    await serve("later", apps[2]?.server.port as number);
    await until("it is served", async () => (await ask("later")) === "200 later", 20_000);
  }, 60_000);
});
