// The two halves meet here: whatever the compiler makes of the golden meshes, the proxy's strict decoder takes, and reads as it was meant.

import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { buildWorld, compileAll } from "../src/compile/compile.ts";
import { objectsOf } from "../src/compile/testing/objects.ts";
import type { ListenerConfig, RouteTableConfig } from "../src/proxy/config.ts";
import { decodeResource } from "../src/proxy/xds/decode/resource.ts";
import type { XdsSnapshot } from "../src/wire/xds-types.ts";
import { pushOrder } from "../src/wire/xds-types.ts";

const testdata = join(import.meta.dir, "../src/compile/testdata");

const world = {
  readFile: (path: string): Uint8Array => {
    throw new Error(`no resource should name a file, but one names ${path}`);
  },
  readSystemFile: (path: string): Uint8Array => readFileSync(path),
  staticSecrets: new Map(),
  controlClusters: new Set(["xds-grpc"]),
};

function compiled(name: string): ReadonlyMap<string, XdsSnapshot> {
  return compileAll(buildWorld(objectsOf(readFileSync(join(testdata, name, "input.yaml"), "utf8")), "cluster.local")).snapshots;
}

describe("the proxy takes every resource of", () => {
  for (const name of readdirSync(testdata).sort()) {
    test(name, () => {
      for (const [key, snapshot] of compiled(name)) {
        for (const type of pushOrder) {
          for (const resource of snapshot.resources[type].values()) {
            const decoded = decodeResource(type, resource.value, world);
            expect("violations" in decoded ? decoded.violations : [], `${key} ${type} ${resource.name}`).toEqual([]);
            expect(decoded.name).toBe(resource.name);
          }
        }
      }
    });
  }
});

function listener(snapshots: ReadonlyMap<string, XdsSnapshot>, key: string, name: string): ListenerConfig {
  const decoded = decodeResource("listener", snapshots.get(key)!.resources.listener.get(name)!.value, world);
  if ("violations" in decoded) throw new Error(JSON.stringify(decoded.violations));
  return decoded.config;
}

describe("and reads it as it was meant", () => {
  test("a policy that allows nothing is a filter that allows nothing", () => {
    const terminal = listener(compiled("policies"), "bank/vault-cccccc", "inbound|http").chains[0]!.terminal;
    expect(terminal.kind === "http" ? terminal.rbac.map((each) => [each.action, each.policies.length]) : undefined).toEqual([
      ["deny", 1],
      ["allow", 0],
    ]);
  });

  test("inbound ports take nothing but mutual TLS 1.3 of the mesh", () => {
    for (const name of ["inbound|http", "inbound|tcp-sync"]) {
      const { chains, direction } = listener(compiled("policies"), "shop/cart-aaaaaa", name);
      expect(direction).toBe("inbound");
      expect(chains).toHaveLength(1);
      expect(chains[0]!.tls).toMatchObject({
        requireClientCertificate: true,
        minVersion: "TLSv1.3",
        certificate: { kind: "secret", name: "default" },
        roots: { kind: "secret", name: "ROOTCA" },
        peerNames: [{ type: "uri", match: { kind: "prefix", value: "spiffe://cluster.local/" } }],
      });
    }
  });

  test("the lost share of a backend that does not exist is a 500", () => {
    const decoded = decodeResource(
      "route",
      compiled("routes").get("shop/web-aaaaaa")!.resources.route.get("outbound-http-proxy")!.value,
      world,
    );
    const table = (decoded as { config: RouteTableConfig }).config;
    const route = table.virtualHosts.flatMap((host) => host.routes).find((each) => each.name === "shop/catalog/partly-missing")!;
    expect(route.action).toMatchObject({ kind: "forward", missingClusterStatus: 500, clusters: [{ weight: 9 }, { weight: 1 }] });
  });
});
