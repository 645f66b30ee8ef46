// Who may list proxies may not read Secrets: private keys that gateways and DestinationRules bring into resources are not shown.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { parseAllDocuments } from "yaml";
import { kindOf } from "../../api/kinds.ts";
import type { KubeObject } from "../../api/meta.ts";
import { buildWorld } from "../../compile/compile.ts";
import { snapshotOf } from "../../compile/layout.ts";
import { ClusterSchema } from "../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { UpstreamTlsContextSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { withoutPrivateKeys } from "./blot.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const blotted = (text: string) => new TextDecoder().decode(withoutPrivateKeys(bytes(text)));

test("every key is blotted out, byte for byte, and nothing else", () => {
  const certificate = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n";
  expect(blotted(certificate)).toBe(certificate);
  const key = (kind: string, body: string) => `-----BEGIN ${kind}PRIVATE KEY-----${body}-----END ${kind}PRIVATE KEY-----\n`;
  expect(blotted(`a${key("", "\nabc\n")}${certificate}${key("EC ", "\nde\n")}z`)).toBe(
    `a${key("", "*****")}${certificate}${key("EC ", "****")}z`,
  );
  expect(blotted("-----BEGIN PRIVATE KEY-----abc")).toBe("-----BEGIN PRIVATE KEY-----***");
  const whole = bytes(certificate);
  expect(withoutPrivateKeys(whole)).toBe(whole);
});

test("a cluster and a listener can still be read, and what proxies are sent is whole", () => {
  const seen: string[] = [];
  for (const [name, workload] of [
    ["egress-tls", "shop/caller-1"],
    ["gateway", "shop/edge-1"],
  ] as const) {
    const file = join(import.meta.dir, "..", "..", "compile", "testdata", name, "input.yaml");
    const objects = parseAllDocuments(readFileSync(file, "utf8")).map((each) => {
      const object = each.toJS() as KubeObject;
      kindOf(object)?.applyDefaults(object);
      return object;
    });
    const resources = snapshotOf(buildWorld(objects, "cluster.local"), workload)?.resources;
    for (const resource of [...(resources?.cluster.values() ?? []), ...(resources?.listener.values() ?? [])]) {
      const text = Buffer.from(resource.value).toString("latin1");
      if (!text.includes("PRIVATE KEY-----")) continue;
      seen.push(`${resource.type} ${resource.name}`);
      expect(text).toMatch(/PRIVATE KEY-----\nMIG/);
      const shown = withoutPrivateKeys(resource.value);
      expect(Buffer.from(shown).toString("latin1")).not.toMatch(/PRIVATE KEY-----\nMIG/);
      expect(shown.length).toBe(resource.value.length);
      if (resource.type !== "cluster") continue;
      const socket = fromBinary(ClusterSchema, shown).transportSocket?.configType;
      const context = socket?.case === "typedConfig" ? anyUnpack(socket.value, UpstreamTlsContextSchema) : undefined;
      const key = context?.commonTlsContext?.tlsCertificates[0]?.privateKey?.specifier.value;
      expect(key).toMatch(/^-----BEGIN PRIVATE KEY-----\*+-----END PRIVATE KEY-----\n$/);
    }
  }
  expect(seen.length).toBeGreaterThan(1);
  expect(seen).toContain("cluster outbound|80||pay.example");
});
