// Global rate limits of control planes that share a store in etcd: each answers for what the others have given out too, and what one of them has given out is not
// given out again when it is gone.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { type ControlPlane, startControlPlane } from "../../src/control/plane.ts";
import {
  RateLimitRequestSchema,
  type RateLimitResponse,
  RateLimitResponseSchema,
} from "../../src/wire/gen/envoy/service/ratelimit/v3/rls_pb.ts";
import { EtcdServers } from "../support/etcd.ts";
import { needsPeers } from "../support/peers.ts";

describe.skipIf(!needsPeers("shared-limits.test.ts", "etcd"))("limits of control planes on one etcd", () => {
  let servers: EtcdServers;
  const planes: ControlPlane[] = [];
  const clients: Client[] = [];
  const folders: string[] = [];
  let bearer = "";
  let roots = "";

  beforeAll(async () => {
    servers = await EtcdServers.start();
    const store = {
      kind: "etcd",
      address: { members: servers.addresses.split(","), prefix: "/limits", tls: undefined, user: undefined },
    } as const;
    for (let n = 0; n < 2; n++) {
      const dir = mkdtempSync(join(tmpdir(), "weft-limits-"));
      folders.push(dir);
      planes.push(await startControlPlane({ dataDir: dir, apiPort: 0, xdsPort: 0, dashboardPort: 0, store }));
    }
    roots = readFileSync(join(folders[0] as string, "ca.crt"), "utf8");
    await ask("POST", "/apis/weft.dev/v1alpha1/namespaces/shop/ratelimitpolicies", {
      apiVersion: "weft.dev/v1alpha1",
      kind: "RateLimitPolicy",
      metadata: { name: "api", namespace: "shop" },
      spec: { targetRefs: [{ kind: "Service", name: "api" }], rules: [{ name: "quota", scope: "Global", requests: 100, per: "24h" }] },
    });
    const token = await ask<{ status: { token: string } }>("POST", "/api/v1/namespaces/shop/serviceaccounts/api/token", {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: {},
    });
    bearer = token.status.token;
    for (const plane of planes)
      clients.push(
        new Client(plane.xdsAddress, credentials.createSsl(Buffer.from(roots)), {
          "grpc.ssl_target_name_override": "weft",
          "grpc.default_authority": "weft",
        }),
      );
  }, 60_000);
  afterAll(async () => {
    for (const client of clients) client.close();
    for (const plane of planes) await plane.stop();
    await servers?.stop();
    for (const dir of folders) rmSync(dir, { recursive: true, force: true });
  }, 30_000);

  async function ask<T>(method: string, path: string, body: unknown): Promise<T> {
    const token = readFileSync(join(folders[0] as string, "admin.token"), "utf8").trim();
    const response = await fetch((planes[0] as ControlPlane).apiUrl + path, {
      method,
      tls: { ca: roots },
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
      proxy: "",
    });
    if (!response.ok) throw new Error(await response.text());
    return (await response.json()) as T;
  }

  function limit(at: number): Promise<RateLimitResponse> {
    const metadata = new Metadata();
    metadata.set("authorization", `Bearer ${bearer}`);
    const request = create(RateLimitRequestSchema, {
      domain: "weft",
      descriptors: [{ entries: [{ key: "weft.dev/rule", value: "shop/api/quota" }] }],
    });
    return new Promise((resolve, reject) =>
      (clients[at] as Client).makeUnaryRequest(
        "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
        (message: typeof request) => Buffer.from(toBinary(RateLimitRequestSchema, message)),
        (bytes) => fromBinary(RateLimitResponseSchema, bytes),
        request,
        metadata,
        (error, answer) => (error === null && answer !== undefined ? resolve(answer) : reject(error)),
      ),
    );
  }
  const remaining = async (at: number) => (await limit(at)).statuses[0]?.limitRemaining ?? -1;
  const until = async (what: string, holds: () => boolean | Promise<boolean>) => {
    const end = performance.now() + 20_000;
    while (!(await holds())) {
      if (performance.now() > end) throw new Error(`not within 20 s: ${what}`);
      await Bun.sleep(200);
    }
  };

  test("each answers for what the others have given out, also for one that is gone", async () => {
    await until("the second knows the policy", async () => (await limit(1)).statuses[0]?.currentLimit !== undefined);
    for (let n = 0; n < 60; n++) await limit(0);
    await until("the second knows of the 60", async () => (await remaining(1)) < 40);
    await planes[0]?.stop();
    expect(await remaining(1)).toBeLessThan(40);
    let given = 0;
    while ((await limit(1)).overallCode === 1) given++;
    expect(given).toBeLessThan(40);
  }, 60_000);
});
