// Tokens that are revoked at one control plane end what is open by them at another one on the same etcd: streams of proxies, and watches of users.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { type ControlPlane, startControlPlane } from "../../src/control/plane.ts";
import { DiscoveryRequestSchema } from "../../src/wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { secretStreamPath, secretTypeUrl } from "../../src/wire/trust.ts";
import { EtcdServers } from "../support/etcd.ts";
import { needsPeers } from "../support/peers.ts";

describe.skipIf(!needsPeers("shared-revoked.test.ts", "etcd"))("what is revoked at another control plane", () => {
  let servers: EtcdServers;
  const planes: ControlPlane[] = [];
  const folders: string[] = [];
  const ends: (() => void)[] = [];
  let roots = "";

  beforeAll(async () => {
    servers = await EtcdServers.start();
    const store = {
      kind: "etcd",
      address: { members: servers.addresses.split(","), prefix: "/revoked", tls: undefined, user: undefined },
    } as const;
    for (let n = 0; n < 2; n++) {
      const dir = mkdtempSync(join(tmpdir(), "weft-revoked-"));
      folders.push(dir);
      planes.push(await startControlPlane({ dataDir: dir, apiPort: 0, xdsPort: 0, dashboardPort: 0, store }));
    }
    roots = readFileSync(join(folders[0] as string, "ca.crt"), "utf8");
  }, 60_000);
  afterAll(async () => {
    for (const end of ends) end();
    for (const plane of planes) await plane.stop();
    await servers?.stop();
    for (const dir of folders) rmSync(dir, { recursive: true, force: true });
  }, 30_000);

  async function ask<T>(at: number, method: string, path: string, body?: unknown): Promise<T> {
    const token = readFileSync(join(folders[at] as string, "admin.token"), "utf8").trim();
    const response = await fetch((planes[at] as ControlPlane).apiUrl + path, {
      method,
      tls: { ca: roots },
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      proxy: "",
    });
    if (!response.ok) throw new Error(await response.text());
    return (await response.json()) as T;
  }
  const until = async (what: string, holds: () => boolean) => {
    const end = performance.now() + 20_000;
    while (!holds()) {
      if (performance.now() > end) throw new Error(`not within 20 s: ${what}`);
      await Bun.sleep(5);
    }
  };

  test("that the mesh's keys stand in etcd as they are is told to whoever checks", async () => {
    expect(await ask<{ sharedKeys: string }>(0, "GET", "/weft/v1alpha1/ca")).toMatchObject({ sharedKeys: "plain" });
  });

  test("a join token's stream ends, with the reason", async () => {
    const tokens = "/apis/weft.dev/v1alpha1/namespaces/shop/jointokens";
    await ask(0, "POST", tokens, {
      apiVersion: "weft.dev/v1alpha1",
      kind: "JoinToken",
      metadata: { name: "many", namespace: "shop" },
      spec: { serviceAccount: "reviews", expiresAt: `${new Date(Date.now() + 3_600_000).toISOString().slice(0, 19)}Z`, use: "Reusable" },
    });
    const issued = await ask<{ status: { token: string } }>(0, "POST", "/api/v1/namespaces/shop/serviceaccounts/reviews/token", {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: { boundObjectRef: { apiVersion: "weft.dev/v1alpha1", kind: "JoinToken", name: "many" } },
    });
    const client = new Client((planes[0] as ControlPlane).xdsAddress, credentials.createSsl(Buffer.from(roots)), {
      "grpc.ssl_target_name_override": "weft",
      "grpc.default_authority": "weft",
    });
    ends.push(() => client.close());
    const metadata = new Metadata();
    metadata.set("authorization", `Bearer ${issued.status.token}`);
    const call = client.makeBidiStreamRequest(
      secretStreamPath,
      (m: Uint8Array) => Buffer.from(m),
      (b: Buffer) => b,
      metadata,
    );
    ends.push(() => call.cancel());
    let error: ServiceError | undefined;
    let got = 0;
    call.on("data", () => {
      got++;
    });
    call.on("error", (cause: ServiceError) => {
      error = cause;
    });
    call.write(toBinary(DiscoveryRequestSchema, create(DiscoveryRequestSchema, { typeUrl: secretTypeUrl, resourceNames: ["ROOTCA"] })));
    await until("the stream is in", () => got === 1 || error !== undefined);
    expect(error).toBeUndefined();
    const at = performance.now();
    await ask(1, "DELETE", `${tokens}/many`);
    await until("it has ended", () => error !== undefined);
    expect(performance.now() - at).toBeLessThan(8_000);
    expect(`${status[error?.code ?? 0]} ${error?.details}`).toStartWith("UNAUTHENTICATED the join token many was revoked");
  }, 60_000);

  test("a user's watch ends, with the reason", async () => {
    const users = "/apis/weft.dev/v1alpha1/users";
    await ask(0, "POST", users, { apiVersion: "weft.dev/v1alpha1", kind: "User", metadata: { name: "alice" }, spec: {} });
    await ask(0, "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "alice-views" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "view" },
      subjects: [{ kind: "User", name: "alice", apiGroup: "rbac.authorization.k8s.io" }],
    });
    const { status: issued } = await ask<{ status: { token: string } }>(0, "POST", `${users}/alice/token`, { spec: {} });
    const response = await fetch(`${(planes[0] as ControlPlane).apiUrl}/api/v1/services?watch=true`, {
      tls: { ca: roots },
      headers: { authorization: `Bearer ${issued.token}` },
      proxy: "",
    });
    expect(response.status).toBe(200);
    await ask(1, "DELETE", `${users}/alice`);
    const last = (await response.text()).trim().split("\n").at(-1) ?? "";
    expect(JSON.parse(last)).toMatchObject({
      type: "ERROR",
      object: { code: 401, message: expect.stringContaining('"alice" of this token was deleted') },
    });
  }, 60_000);
});
