// A namespace is deleted at one control plane while something is made in it at another, on one etcd: nothing is ever left in a namespace that is gone.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startControlPlane } from "../../src/control/plane.ts";
import { apiCaller } from "../support/api-caller.ts";
import { EtcdServers } from "../support/etcd.ts";
import { needsPeers } from "../support/peers.ts";

const rounds = 60;

describe.skipIf(!needsPeers("shared-namespaces.test.ts", "etcd"))("namespaces at two control planes on one etcd", () => {
  let servers: EtcdServers;
  const planes: ReturnType<typeof apiCaller<Body>>[] = [];
  const cleanups: (() => unknown)[] = [];
  beforeAll(async () => {
    servers = await EtcdServers.start();
    for (let at = 0; at < 2; at++) {
      const dir = mkdtempSync(join(tmpdir(), "weft-namespaces-"));
      cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
      const address = { members: servers.addresses.split(","), prefix: "/namespaces", tls: undefined, user: undefined };
      const plane = await startControlPlane({
        dataDir: dir,
        apiPort: 0,
        xdsPort: 0,
        dashboardPort: 0,
        apiRate: 0,
        store: { kind: "etcd", address },
      });
      cleanups.push(() => plane.stop());
      planes.push(apiCaller<Body>(plane));
    }
  }, 60_000);
  afterAll(async () => {
    for (const run of cleanups.splice(0).reverse()) await run();
    await servers?.stop();
  });

  for (const way of ["alone", "in a transaction"] as const)
    test(`an object that is made ${way} never outlives its namespace`, async () => {
      const seen = new Map<string, number>();
      for (let round = 0; round < rounds; round++) {
        const name = `${way === "alone" ? "a" : "t"}${round}`;
        const [one, two] = round % 2 === 0 ? [planes[0]!, planes[1]!] : [planes[1]!, planes[0]!];
        const path = `/api/v1/namespaces/${name}`;
        expect((await one("POST", "/api/v1/namespaces", namespace(name))).status).toBe(201);
        const make = () =>
          way === "alone"
            ? two("POST", `${path}/services`, service)
            : two("POST", "/weft/v1alpha1/transactions", { operations: [{ method: "POST", path: `${path}/services`, body: service }] });
        // Whoever is ahead is ahead by a little more each time.
        const lead = ((round % 15) - 7) / 2;
        const [gone, made] = await Promise.all([
          Bun.sleep(Math.max(0, lead)).then(() => one("DELETE", path)),
          Bun.sleep(Math.max(0, -lead)).then(make),
        ]);
        const left = await two("GET", `${path}/services/cart`);
        const held = await two("GET", path);
        const outcome = `${gone.status} ${made.status} ${left.status} ${held.status}`;
        seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
        if (left.status === 200) expect(held.status).toBe(200);
        // The write came to nothing, or the deletion did, or the object came later and its namespace anew.
        expect(outcome).toMatch(/^(200 (404|422) 404 404|409 (201|200) 200 200|200 (201|200) 200 200)$/);
        if (made.status === 404) expect(made.body.message).toBe(`namespaces "${name}" not found`);
        if (gone.status === 409)
          expect(gone.body.message).toMatch(/the namespace is not empty; delete what is in it first \(services: cart\)/);
      }
      expect([...seen.values()].reduce((sum, count) => sum + count, 0)).toBe(rounds);
    }, 60_000);

  test("one whose deletion waits takes nothing new, at either of them", async () => {
    const held = { ...namespace("held"), metadata: { name: "held", finalizers: ["test.weft.dev/hold"] } };
    expect((await planes[0]!("POST", "/api/v1/namespaces", held)).status).toBe(201);
    expect((await planes[0]!("DELETE", "/api/v1/namespaces/held")).status).toBe(200);
    for (const plane of planes) {
      const answer = await plane("POST", "/api/v1/namespaces/held/services", service);
      expect(answer.status).toBe(403);
      expect(answer.body.message).toBe(
        'services "cart" is forbidden: unable to create new content in namespace held because it is being terminated',
      );
    }
    const freed = await planes[1]!("PATCH", "/api/v1/namespaces/held", { metadata: { finalizers: null } });
    expect(freed.status).toBe(200);
    expect((await planes[0]!("GET", "/api/v1/namespaces/held")).status).toBe(404);
  }, 60_000);
});

const service = { apiVersion: "v1", kind: "Service", metadata: { name: "cart" }, spec: { ports: [{ port: 80 }] } };
const namespace = (name: string) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } });

interface Body {
  readonly message: string;
}
