// Judge: Envoy as a sidecar that enforces our RateLimitPolicy and OverloadPolicy: its own filters count what is local, ask our rate limit service about what is
// global, tell clients apart by their certificates, and pass over the filter that only ours has; the policy's status says what Envoy leaves out.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { agentFiles } from "../../src/wire/grpc-names.ts";
import { needsPeers } from "../support/peers.ts";
import { freePort, Mesh, until } from "./xds-setup.ts";

describe.skipIf(!needsPeers("test/peers/rate-limits.test.ts", "envoy"))("rate limits at an Envoy", () => {
  let mesh: Mesh;
  let app: Bun.Server<undefined>;
  const port = freePort();
  const folders = new Map<string, string>();
  let log = () => "";

  beforeAll(async () => {
    mesh = await Mesh.start();
    app = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("ok") });
    await mesh.service("api", 80, "http");
    for (const account of ["api", "web"]) folders.set(account, await mesh.agent(account));
    await mesh.entry("api-1", "api", "api", { name: "http", port, appPort: app.port ?? 0 });
    await mesh.create("ratelimitpolicies", "weft.dev/v1alpha1", "RateLimitPolicy", "api", {
      targetRefs: [{ kind: "Service", name: "api" }],
      rules: [
        { name: "local", match: { path: { value: "/local" } }, by: [{ type: "Header", header: "X-User" }], requests: 2, per: "24h" },
        {
          name: "global",
          scope: "Global",
          match: { path: { value: "/global" }, method: "GET" },
          by: [{ type: "Identity" }],
          requests: 3,
          per: "24h",
        },
      ],
      whenServiceFails: "Deny",
      timeout: "5s",
    });
    await mesh.create("overloadpolicies", "weft.dev/v1alpha1", "OverloadPolicy", "api", {
      targetRefs: [{ kind: "Service", name: "api" }],
      criticalityHeader: "x-criticality",
    });
    log = mesh.envoy(mesh.bootstrap("api-1", "--envoy", "--dir", folders.get("api") as string)).log;
    await until("Envoy serves", () =>
      get("web", "/").then(
        () => true,
        () => false,
      ),
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${log()}`);
    });
  }, 60_000);
  afterAll(async () => {
    await mesh?.stop();
    await app?.stop(true);
  }, 20_000);

  async function get(account: string, path: string, headers: Record<string, string> = {}): Promise<Response> {
    const folder = folders.get(account) as string;
    const pem = (name: string) => readFileSync(join(folder, name), "utf8");
    // Its certificate names a workload, no host.
    const tls = { cert: pem(agentFiles.certificate), key: pem(agentFiles.key), rejectUnauthorized: false };
    return fetch(`https://127.0.0.1:${port}${path}`, { tls, headers, keepalive: false, signal: AbortSignal.timeout(10_000) });
  }
  const statuses = async (count: number, ask: () => Promise<Response>) => {
    const found: number[] = [];
    for (let n = 0; n < count; n++) found.push((await ask()).status);
    return found;
  };

  test("local: a bucket for each value of a header, one for all without", async () => {
    expect(await statuses(3, () => get("web", "/local/x?y=1", { "x-user": "ann" }))).toEqual([200, 200, 429]);
    expect(await statuses(3, () => get("web", "/local", { "x-user": "bob" }))).toEqual([200, 200, 429]);
    expect(await statuses(3, () => get("web", "/local"))).toEqual([200, 200, 429]);
    expect(await statuses(3, () => get("web", "/locals"))).toEqual([200, 200, 200]);
  });

  test("global: our service counts, by the identity in the client's certificate", async () => {
    const first = await get("web", "/global");
    expect([first.status, first.headers.get("x-ratelimit-limit"), first.headers.get("x-ratelimit-remaining")]).toEqual([
      200,
      '3, 3;w=86400;name="shop/api/global"',
      "2",
    ]);
    expect(await statuses(4, () => get("web", "/global"))).toEqual([200, 200, 429, 429]);
    expect(await statuses(4, () => get("api", "/global"))).toEqual([200, 200, 200, 429]);
    expect((await get("web", "/elsewhere")).status).toBe(200);
  });

  test("what Envoy has not is in the status of the policy", async () => {
    const conditions = async (plural: string) => {
      const text = await mesh.text(`/apis/weft.dev/v1alpha1/namespaces/shop/${plural}/api`);
      const { status } = JSON.parse(text) as {
        status?: { ancestors: { conditions: { type: string; reason: string; message: string }[] }[] };
      };
      return status?.ancestors[0]?.conditions ?? [];
    };
    const enforced = await until("a word about Envoy", async () =>
      (await conditions("overloadpolicies")).find(({ reason }) => reason === "ForeignProxy"),
    );
    expect(enforced.message).toMatch(
      /shop\/api-1 is served by a proxy that is not Weft's \(envoy\/1\.\d+\.\d+\), which does not enforce criticalityHeader/,
    );
    expect((await conditions("ratelimitpolicies")).map(({ reason }) => reason)).toEqual(["Accepted", "Enforced"]);
  });
});
