// The two files, as their readers want them; the peers' tests run them for real.

import { expect, test } from "bun:test";
import { UsageFailure } from "../failure.ts";
import { parse } from "../parse.ts";
import type { Terminal } from "../terminal.ts";
import { verbNamed } from "../verbs.ts";
import { run } from "./bootstrap.ts";

async function printed(...words: string[]): Promise<Record<string, never>> {
  const spec = verbNamed("bootstrap");
  if (spec === undefined) throw new Error("no such verb");
  let out = "";
  const terminal = { out: (text: string) => (out += text), err: () => {} } as unknown as Terminal;
  await run({ spec, args: parse(spec, words), terminal, env: {}, stop: new AbortController().signal });
  return JSON.parse(out) as Record<string, never>;
}

test("for gRPC: the agent's socket, its files, and who it is", async () => {
  expect(await printed("--grpc", "--dir", "/run/web", "-n", "shop", "--name", "web-1")).toEqual({
    xds_servers: [{ server_uri: "unix:///run/web/agent.sock", channel_creds: [{ type: "insecure" }], server_features: ["xds_v3"] }],
    node: { id: "grpc~shop~web-1", cluster: "shop", locality: {} },
    certificate_providers: {
      default: {
        plugin_name: "file_watcher",
        config: {
          certificate_file: "/run/web/cert.pem",
          private_key_file: "/run/web/key.pem",
          ca_certificate_file: "/run/web/roots.pem",
          refresh_interval: "10s",
        },
      },
    },
    server_listener_resource_name_template: "grpc/server?xds.resource.listening_address=%s",
  } as never);
});

test("for Envoy: delta or state of the world, a gateway where one is asked for", async () => {
  const plain = (await printed("--envoy", "--dir", "/run/e", "--name", "e-1")) as unknown as {
    node: { id: string };
    dynamic_resources: { ads_config: { api_type: string } };
    static_resources: { clusters: { name: string }[]; listeners?: { address: object }[] };
  };
  expect(plain.node.id).toBe("sidecar~default~e-1");
  expect(plain.dynamic_resources.ads_config.api_type).toBe("DELTA_GRPC");
  expect(plain.static_resources.clusters.map(({ name }) => name)).toEqual(["xds-grpc", "sds-grpc"]);
  expect(plain.static_resources.listeners).toBeUndefined();
  const edge = (await printed(
    "--envoy",
    "--sotw",
    "--dir",
    "/run/e",
    "--name",
    "e-1",
    "--gateway",
    "[::]:8080",
  )) as unknown as typeof plain;
  expect(edge.dynamic_resources.ads_config.api_type).toBe("GRPC");
  expect(edge.static_resources.listeners?.[0]?.address).toEqual({ socket_address: { address: "::", port_value: 8080 } });
});

for (const [words, said] of [
  [["--dir", "/d", "--name", "n"], "--grpc or --envoy"],
  [["--grpc", "--envoy", "--dir", "/d", "--name", "n"], "--grpc or --envoy"],
  [["--grpc", "--name", "n"], "--dir"],
  [["--grpc", "--dir", "/d"], "--name"],
  [["--grpc", "--dir", "/d", "--name", "n", "--gateway", "0.0.0.0:80"], "--gateway is for --envoy"],
  [["--envoy", "--dir", "/d", "--name", "n", "--gateway", "8080"], "not ADDRESS:PORT"],
  [["--envoy", "--dir", "/d", "--name", "n", "--admin-port", "x"], "not a port"],
] as const)
  test(`refused: ${words.join(" ")}`, async () => {
    const outcome = await printed(...words).catch((error: unknown) => error);
    expect(outcome).toBeInstanceOf(UsageFailure);
    expect((outcome as UsageFailure).message).toContain(said);
  });
