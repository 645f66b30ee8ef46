// Control planes that share a store in etcd, in this process: one mesh, one authority, one of them doing singleton work.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MeshObject } from "../../src/api/live.ts";
import { silentLogger } from "../../src/base/log.ts";
import { type ControlPlane, startControlPlane } from "../../src/control/plane.ts";
import { EtcdServers } from "../support/etcd.ts";
import { needsPeers } from "../support/peers.ts";
import { Relay } from "../support/relay.ts";

describe.skipIf(!needsPeers("shared-store.test.ts", "etcd"))("control planes on one etcd", () => {
  let servers: EtcdServers;
  let serial = 0;
  const cleanups: (() => unknown)[] = [];
  beforeAll(async () => {
    servers = await EtcdServers.start();
  }, 30_000);
  afterEach(async () => {
    for (const run of cleanups.splice(0).reverse()) await run();
  });
  afterAll(async () => {
    await servers?.stop();
  });

  const folder = () => {
    const dir = mkdtempSync(join(tmpdir(), "weft-shared-"));
    cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
    return dir;
  };
  const up = async (
    dir: string,
    prefix: string,
    more: Partial<Parameters<typeof startControlPlane>[0]> = {},
    members = servers.addresses.split(","),
  ) => {
    const store = { kind: "etcd", address: { members, prefix, tls: undefined, user: undefined } } as const;
    const plane = await startControlPlane({ dataDir: dir, apiPort: 0, xdsPort: 0, dashboardPort: 0, store, ...more });
    cleanups.push(() => plane.stop());
    return plane;
  };
  const ask = async (plane: ControlPlane, method: string, path: string, body?: unknown) => {
    const config = Bun.YAML.parse(readFileSync(plane.kubeconfigPath, "utf8")) as {
      clusters: [{ cluster: { server: string; "certificate-authority-data": string } }];
      users: [{ user: { token: string } }];
    };
    const { cluster } = config.clusters[0];
    const response = await fetch(cluster.server + path, {
      method,
      tls: { ca: Buffer.from(cluster["certificate-authority-data"], "base64").toString() },
      headers: { authorization: `Bearer ${config.users[0].user.token}`, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      proxy: "",
    });
    return { status: response.status, body: (await response.json().catch(() => undefined)) as never };
  };
  const until = async (what: string, holds: () => boolean | Promise<boolean>, limitMs = 8_000) => {
    const end = performance.now() + limitMs;
    while (!(await holds())) {
      if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`);
      await Bun.sleep(20);
    }
  };
  const namespace = (name: string) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } });

  test("are one mesh: what one writes the other serves, with one revision, one authority and each other's addresses", async () => {
    const prefix = `/shared-${++serial}`;
    const one = await up(folder(), prefix, { trustDomain: "mesh.test" });
    const two = await up(folder(), prefix);
    expect([one.created, two.created]).toEqual([true, false]);
    expect(two.trustDomain).toBe("mesh.test");
    expect((await ask(one, "POST", "/api/v1/namespaces", namespace("n1"))).status).toBe(201);
    expect((await ask(two, "GET", "/api/v1/namespaces/n1")).status).toBe(200);
    // The token of one is good at the other.
    expect((await ask(two, "POST", "/api/v1/namespaces", namespace("n2"))).status).toBe(201);
    const mesh = async (plane: ControlPlane) => (await ask(plane, "GET", "/apis/weft.dev/v1alpha1/meshes/default")).body as MeshObject;
    await until("both addresses", async () => (await mesh(one)).status.xdsAddresses?.length === 2);
    expect((await mesh(two)).status.xdsAddresses?.sort()).toEqual([one.xdsAddress, two.xdsAddress].sort());
    expect((await mesh(one)).status.caBundle).toBe((await mesh(two)).status.caBundle);
  }, 20_000);

  test("refuse a second authority, and a folder of another mesh, before anything is served", async () => {
    const prefix = `/shared-${++serial}`;
    await up(folder(), prefix);
    const own = folder();
    const alone = await startControlPlane({ dataDir: own, apiPort: 0, xdsPort: 0, dashboardPort: 0 });
    await alone.stop();
    const refused = await up(own, prefix).catch((cause: unknown) => cause as Error);
    expect(refused).toMatchObject({ name: "IdentityError" });
    expect((refused as Error).message).toMatch(
      /two certificate authorities claim one mesh: .* of trust domain cluster\.local.*To join that mesh start with an empty folder/,
    );
    const other = await up(folder(), prefix, { trustDomain: "other.test" }).catch((cause: unknown) => cause as Error);
    expect((other as Error).message).toMatch(/--trust-domain other\.test differs from the trust domain cluster\.local/);
  }, 20_000);

  test("warn of keys that are not sealed, and of sealed ones without their key say only the refusal", async () => {
    const warned: string[] = [];
    const log = { ...silentLogger, warn: (_fields: unknown, words: string) => void warned.push(words) };
    const plain = /stand in etcd as they are/;
    await up(folder(), `/shared-${++serial}`, { log });
    expect(warned.filter((words) => plain.test(words))).toHaveLength(1);
    const prefix = `/shared-${++serial}`;
    const storeKey = join(folder(), "store.key");
    await Bun.write(storeKey, new Uint8Array(32).fill(7));
    warned.length = 0;
    await up(folder(), prefix, { log, storeKey });
    const refused = await up(folder(), prefix, { log }).catch((cause: unknown) => cause as Error);
    expect((refused as Error).message).toMatch(/in etcd is sealed; give the file it was sealed with: --store-key FILE/);
    expect(warned.filter((words) => plain.test(words))).toEqual([]);
  }, 60_000);

  test("collect garbage once: one of them, and the other when that one is gone", async () => {
    const prefix = `/shared-${++serial}`;
    const one = await up(folder(), prefix);
    const two = await up(folder(), prefix);
    const orphaned = async (plane: ControlPlane, name: string) => {
      const owner = (await ask(plane, "POST", "/api/v1/namespaces", namespace(`owner-${name}`))).body as {
        metadata: { uid: string; name: string };
      };
      const owned = {
        ...namespace(`owned-${name}`),
        metadata: {
          name: `owned-${name}`,
          ownerReferences: [{ apiVersion: "v1", kind: "Namespace", name: owner.metadata.name, uid: owner.metadata.uid }],
        },
      };
      expect((await ask(plane, "POST", "/api/v1/namespaces", owned)).status).toBe(201);
      await ask(plane, "DELETE", `/api/v1/namespaces/owner-${name}`);
      await until("the garbage is gone", async () => (await ask(plane, "GET", `/api/v1/namespaces/owned-${name}`)).status === 404);
    };
    await orphaned(two, "a");
    await one.stop();
    await orphaned(two, "b");
  }, 20_000);

  test("are backed up by any of them, into a folder that starts alone with the same keys and revisions", async () => {
    const prefix = `/shared-${++serial}`;
    const one = await up(folder(), prefix);
    expect((await ask(one, "POST", "/api/v1/namespaces", namespace("kept"))).status).toBe(201);
    const config = Bun.YAML.parse(readFileSync(one.kubeconfigPath, "utf8")) as {
      clusters: [{ cluster: { server: string; "certificate-authority-data": string } }];
      users: [{ user: { token: string } }];
    };
    const ca = Buffer.from(config.clusters[0].cluster["certificate-authority-data"], "base64").toString();
    const answer = await fetch(`${config.clusters[0].cluster.server}/weft/v1alpha1/backup`, {
      tls: { ca },
      headers: { authorization: `Bearer ${config.users[0].user.token}` },
      proxy: "",
    });
    const file = join(folder(), "weft.backup");
    await Bun.write(file, await answer.arrayBuffer());
    const kept = (await ask(one, "GET", "/api/v1/namespaces/kept")).body as { metadata: { resourceVersion: string } };
    await one.stop();
    const { restoreBackup } = await import("../../src/control/backup.ts");
    const dir = join(folder(), "alone");
    restoreBackup(file, dir);
    const alone = await startControlPlane({ dataDir: dir, apiPort: 0, xdsPort: 0, dashboardPort: 0 });
    cleanups.push(() => alone.stop());
    const found = (await ask(alone, "GET", "/api/v1/namespaces/kept")).body as { metadata: { resourceVersion: string } };
    expect(found.metadata.resourceVersion).toBe(kept.metadata.resourceVersion);
    expect(readFileSync(join(dir, "ca.crt"), "utf8").trim()).toBe(ca.trim());
  }, 20_000);

  test("answer readiness by whether etcd answers, and say when what they know is out of date for good", async () => {
    const prefix = `/shared-${++serial}`;
    const relay = await Relay.start(() => servers.members[0]?.clientPort as number);
    cleanups.push(() => relay.stop());
    let lost = "";
    const one = await up(folder(), prefix, { onLost: (why) => (lost = why) }, [`127.0.0.1:${relay.port}`]);
    const { openEtcdStore } = await import("../../src/control/store/etcd/store.ts");
    const direct = await openEtcdStore({ members: servers.addresses.split(","), prefix, tls: undefined, user: undefined });
    cleanups.push(() => direct.close());
    relay.cut();
    for (let at = 0; at < 20; at++) {
      const name = `x${at}`;
      await direct.create({ resource: "namespaces", namespace: "", name }, namespace(name));
    }
    await direct.compact(await direct.revision());
    await until("not ready", async () => (await ask(one, "GET", "/readyz")).status !== 200, 12_000);
    relay.open();
    await until("lost", () => lost !== "");
    expect(lost).toMatch(/history is kept from \d+ on only/);
  }, 30_000);
});
