import { expect, test } from "bun:test";
import { createRegistry, fromJson, type JsonObject, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { ClusterSchema } from "../../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ProxyProtocolUpstreamTransportSchema } from "../../../wire/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.ts";
import { RawBufferSchema } from "../../../wire/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.ts";
import { UpstreamTlsContextSchema } from "../../../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { decodeResource } from "./resource.ts";

const registry = createRegistry(ProxyProtocolUpstreamTransportSchema, RawBufferSchema, UpstreamTlsContextSchema);
const world = { readFile: () => new Uint8Array(), staticSecrets: new Map(), controlClusters: new Set<string>() };

const extensions = "type.googleapis.com/envoy.extensions.transport_sockets";
const raw = { name: "raw", typedConfig: { "@type": `${extensions}.raw_buffer.v3.RawBuffer` } };
const tls = { name: "tls", typedConfig: { "@type": `${extensions}.tls.v3.UpstreamTlsContext`, sni: "a" } };

function wrapped(fields: JsonObject): JsonObject {
  return { name: "proxy", typedConfig: { "@type": `${extensions}.proxy_protocol.v3.ProxyProtocolUpstreamTransport`, ...fields } };
}

function decode(fields: JsonObject) {
  const json: JsonValue = { name: "db", ...fields };
  return decodeResource("cluster", toBinary(ClusterSchema, fromJson(ClusterSchema, json, { registry })), world);
}

test("the PROXY protocol of a cluster, in both versions and not at all", () => {
  const version = (socket: JsonObject | undefined): unknown => {
    const found = decode(socket === undefined ? {} : { transportSocket: socket });
    if ("violations" in found) throw new Error(JSON.stringify(found.violations));
    return found.config.proxyProtocol;
  };
  expect(version(wrapped({ transportSocket: raw }))).toBe(1);
  expect(version(wrapped({ config: { version: "V2" }, transportSocket: raw }))).toBe(2);
  expect(version(raw)).toBeUndefined();
  expect(version(undefined)).toBeUndefined();
});

test("what it cannot be combined with is refused by name", () => {
  const wrong = (fields: JsonObject): readonly string[] => {
    const found = decode(fields);
    return "violations" in found ? found.violations.map((one) => `${one.path}: ${one.message}`) : [];
  };
  const at = "transport_socket.typed_config";
  expect(wrong({ transportSocket: wrapped({ transportSocket: tls }) })).toEqual([
    `${at}.transport_socket: TLS behind a PROXY protocol header is not supported; use raw_buffer`,
  ]);
  expect(wrong({ transportSocket: wrapped({}) })).toEqual([`${at}.transport_socket: is missing; use raw_buffer`]);
  expect(wrong({ transportSocket: wrapped({ config: { passThroughTlvs: {} }, transportSocket: raw }) })).toEqual([
    `${at}.config.pass_through_tlvs: is not supported: values beside the addresses are not passed on`,
  ]);
  const match = { name: "m", match: { a: "b" }, transportSocket: wrapped({ transportSocket: raw }) };
  expect(wrong({ transportSocketMatches: [match] })[0]).toContain("ProxyProtocolUpstreamTransport is not a supported transport socket");
  // A wrapper in a wrapper: one header is all there is.
  expect(wrong({ transportSocket: wrapped({ transportSocket: wrapped({ transportSocket: raw }) }) })[0]).toContain(
    "ProxyProtocolUpstreamTransport is not a supported transport socket",
  );
});
