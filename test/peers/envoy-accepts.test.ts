// Judge: Envoy itself takes every resource of the goldens. Listeners, clusters and routes go into a static bootstrap (EDS and RDS inlined,
// since `--mode validate` asks no server) and `envoy --mode validate` must accept it.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findPeer, needsPeers } from "../support/peers.ts";

type Json = Record<string, unknown>;
type Snapshot = Record<"listener" | "route" | "cluster" | "endpoint", Record<string, Json>>;

const testdata = join(import.meta.dir, "../../src/compile/testdata");
const ready = needsPeers("envoy-accepts.test.ts", "envoy");

function goldens(): string[] {
  return readdirSync(testdata)
    .sort()
    .flatMap((name) =>
      readdirSync(join(testdata, name))
        .filter((file) => file.endsWith(".json") && file !== "statuses.json")
        .map((file) => `${name}/${file}`),
    );
}

/** The snapshot as the static resources of a bootstrap. */
function bootstrapOf(snapshot: Snapshot): Json {
  const clusters = Object.values(snapshot.cluster).map((cluster): Json => {
    if (cluster.type !== "EDS") return cluster;
    const { eds_cluster_config: eds, ...rest } = cluster;
    const assignment = snapshot.endpoint[(eds as { service_name: string }).service_name];
    return { ...rest, type: "STATIC", load_assignment: assignment };
  });
  for (const name of ["xds-grpc", "sds-grpc"]) {
    clusters.push({
      name,
      type: "STATIC",
      typed_extension_protocol_options: {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
          "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
      load_assignment: { cluster_name: name, endpoints: [] },
    });
  }
  return {
    node: { id: "sidecar~shop~test", cluster: "test" },
    static_resources: { listeners: Object.values(snapshot.listener).map((each) => inlineRoutes(each, snapshot) as Json), clusters },
  };
}

/** A filter of ours that says it is optional: over xDS Envoy passes over it (rate-limits.test.ts), but a file cannot hold a type that it does not know. */
function passedOver(value: unknown): boolean {
  const { is_optional, typed_config } = (value ?? {}) as { is_optional?: boolean; typed_config?: { "@type": string } };
  return is_optional === true && typed_config?.["@type"].startsWith("type.googleapis.com/weft.") === true;
}

function inlineRoutes(value: unknown, snapshot: Snapshot): unknown {
  if (Array.isArray(value)) return value.filter((each) => !passedOver(each)).map((each) => inlineRoutes(each, snapshot));
  if (typeof value !== "object" || value === null) return value;
  const out: Json = {};
  for (const [key, child] of Object.entries(value)) {
    // A table from a server may name clusters that do not exist (yet); an inline one must say so.
    if (key === "rds")
      out.route_config = { ...snapshot.route[(child as { route_config_name: string }).route_config_name], validate_clusters: false };
    else out[key] = inlineRoutes(child, snapshot);
  }
  return out;
}

/** Our own words for what Envoy has none for: it refuses them by name, and its old configuration goes on. */
const ours: Readonly<Record<string, string>> = {
  "virtual-services/bank.teller-1.json": "weft.fault.v1.Fault",
  "virtual-services/shop.front-1.json": "weft.fault.v1.Fault",
};

describe.skipIf(!ready)("envoy --mode validate", () => {
  for (const golden of goldens()) {
    const refused = ours[golden];
    test(`${refused === undefined ? "accepts" : `knows no ${refused} in`} ${golden}`, async () => {
      const folder = mkdtempSync(join(tmpdir(), "weft-envoy-"));
      try {
        const file = join(folder, "bootstrap.json");
        writeFileSync(file, JSON.stringify(bootstrapOf(JSON.parse(readFileSync(join(testdata, golden), "utf8")) as Snapshot)));
        // Files, not pipes: Envoy opens the access log's /dev/stdout anew, which a socket cannot bear.
        const [stdout, stderr] = [join(folder, "stdout"), join(folder, "stderr")];
        const run = Bun.spawn([findPeer("envoy")!, "--mode", "validate", "-c", file, "--log-level", "warning"], {
          stdout: Bun.file(stdout),
          stderr: Bun.file(stderr),
        });
        const code = await run.exited;
        const said = `${readFileSync(stdout, "utf8")}${readFileSync(stderr, "utf8")}`;
        if (refused === undefined) {
          expect(code, said).toBe(0);
          expect(said).toContain("OK");
        } else {
          expect(code).toBe(1);
          expect(said).toContain(refused);
        }
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }, 30_000);
  }
});
