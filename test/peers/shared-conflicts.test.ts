// Objects that contradict each other, written at the same moment at two control planes on one etcd: exactly one is stored, and the other is refused with the
// words that it would have got later.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startControlPlane } from "../../src/control/plane.ts";
import { apiCaller } from "../support/api-caller.ts";
import { EtcdServers } from "../support/etcd.ts";
import { needsPeers } from "../support/peers.ts";

describe.skipIf(!needsPeers("shared-conflicts.test.ts", "etcd"))("contradictions at two control planes on one etcd", () => {
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

  const both = async () => {
    const prefix = `/conflicts-${++serial}`;
    const up = async () => {
      const dir = mkdtempSync(join(tmpdir(), "weft-conflicts-"));
      cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
      const address = { members: servers.addresses.split(","), prefix, tls: undefined, user: undefined };
      const plane = await startControlPlane({
        dataDir: dir,
        apiPort: 0,
        xdsPort: 0,
        dashboardPort: 0,
        apiRate: 0,
        store: { kind: "etcd", address },
      });
      cleanups.push(() => plane.stop());
      return apiCaller<Body>(plane);
    };
    return [await up(), await up()] as const;
  };

  for (const [what, path, make] of [
    ["HTTPRoutes", "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes", route],
    ["PeerAuthentications", "/apis/security.istio.io/v1/namespaces/shop/peerauthentications", authentication],
  ] as const) {
    test(`${what}: one of both is stored, the other refused as if it had come later`, async () => {
      const planes = await both();
      await planes[0]("POST", "/api/v1/namespaces", { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
      const winners = [0, 0];
      for (let round = 0; round < 40; round++) {
        const objects = [make(round, "a"), make(round, "b")] as const;
        const answers = await Promise.all(planes.map((plane, at) => plane("POST", path, objects[at])));
        expect(answers.map(({ status }) => status).sort()).toEqual([201, 422]);
        const lost = answers[0]?.status === 422 ? 0 : 1;
        winners[1 - lost]!++;
        const later = await planes[1 - lost]!("POST", path, objects[lost]);
        expect(later.status).toBe(422);
        expect(answers[lost]?.body.message).toBe(later.body.message);
        expect(later.body.message).toContain(objects[1 - lost]!.metadata.name);
      }
      expect(winners[0]! + winners[1]!).toBe(40);
    }, 60_000);
  }

  test("updates and transactions are held to it as well", async () => {
    const planes = await both();
    const path = "/apis/security.istio.io/v1/namespaces/shop/peerauthentications";
    for (let round = 0; round < 15; round++) {
      const [a, b] = [authentication(round, "a"), authentication(round, "b")];
      // Good beside each other at first: neither states a mode.
      for (const [at, object] of [a, b].entries()) {
        const answer = await planes[at]!("POST", path, { ...object, spec: { selector: object.spec.selector } });
        expect(answer.status).toBe(201);
      }
      const patch = (spec: unknown) => ({ spec });
      const [one, two] = await Promise.all([
        planes[0]("PATCH", `${path}/${a.metadata.name}`, patch(a.spec)),
        planes[1]("POST", "/weft/v1alpha1/transactions", {
          operations: [
            { method: "PATCH", path: `${path}/${b.metadata.name}`, contentType: "application/merge-patch+json", body: patch(b.spec) },
          ],
        }),
      ]);
      expect([one.status, two.status].sort()).toEqual([200, 422]);
      const modes = await Promise.all(
        [a, b].map(async ({ metadata }) => (await planes[0]("GET", `${path}/${metadata.name}`)).body.spec.mtls),
      );
      expect(modes.filter((mtls) => mtls !== undefined).length).toBe(1);
    }
  }, 60_000);

  test("what contradicts nothing is all stored, from both at once", async () => {
    const planes = await both();
    const path = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes";
    const writes = Array.from({ length: 60 }, (_, at) => planes[at % 2]!("POST", path, route(at, "a")));
    expect((await Promise.all(writes)).map(({ status }) => status)).toEqual(Array.from({ length: 60 }, () => 201));
  }, 60_000);
});

function route(round: number, side: "a" | "b") {
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "HTTPRoute",
    metadata: { name: `route-${round}-${side}` },
    spec: {
      parentRefs: [{ group: "", kind: "Service", name: `service-${round}` }],
      rules: [{ backendRefs: [{ name: `backend-${side}`, port: 80 }] }],
    },
  };
}

function authentication(round: number, side: "a" | "b") {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "PeerAuthentication",
    metadata: { name: `auth-${round}-${side}` },
    spec: { selector: { matchLabels: { app: `app-${round}` } }, mtls: { mode: side === "a" ? "STRICT" : "PERMISSIVE" } },
  };
}

interface Body {
  readonly message: string;
  readonly spec: { readonly mtls?: unknown };
}
