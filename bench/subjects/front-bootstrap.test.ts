import { expect, test } from "bun:test";
import type { Certificates, Identity } from "../certs.ts";
import { type FrontWants, frontBootstrap } from "./front-bootstrap.ts";

const identity = (name: string): Identity => ({
  certFile: `${name}.crt`,
  keyFile: `${name}.key`,
  bothFile: `${name}.pem`,
  spiffeId: `spiffe://bench.local/${name}`,
  commonName: name,
});
const certs: Certificates = {
  caFile: "ca.crt",
  client: identity("client"),
  server: identity("server"),
  stranger: identity("stranger"),
  impostorServer: identity("impostor-server"),
  impostorClient: identity("impostor-client"),
};
const resources = (wants: FrontWants) =>
  JSON.parse(frontBootstrap({ plain: 1, tls: 2, mutual: 3, tcp: 4, admin: 5, originHttp1: 6, originHttp2: 7, originGrpc: 8 }, certs, wants))
    .static_resources;

test("a front has what its case wants and nothing that could keep it from starting", () => {
  const small = resources({ http2: false, tls: false, tcp: true, bufferBytes: 4096 });
  expect(small.listeners.map((one: { name: string }) => one.name)).toEqual(["plain", "opaque"]);
  expect(small.listeners[0].per_connection_buffer_limit_bytes).toBe(4096);
  expect(JSON.stringify(small)).not.toContain("http2_protocol_options");
  const whole = resources({ http2: true, tls: true, tcp: false });
  expect(whole.listeners.map((one: { name: string }) => one.name)).toEqual(["plain", "tls", "mutual"]);
  expect(whole.clusters.map((one: { name: string }) => one.name)).toEqual(["one", "nowhere", "two", "calls"]);
});

test("only the mutual listener asks for certificates, and both offer h2 where it is wanted", () => {
  const { listeners } = resources({ http2: true, tls: true, tcp: false });
  const [, tls, mutual] = listeners.map(
    (one: { filter_chains: [{ transport_socket?: { typed_config: object } }] }) => one.filter_chains[0].transport_socket?.typed_config,
  );
  expect(tls.require_client_certificate).toBeUndefined();
  expect(tls.common_tls_context.validation_context).toBeUndefined();
  expect(mutual.require_client_certificate).toBe(true);
  expect(tls.common_tls_context.alpn_protocols).toEqual(["h2", "http/1.1"]);
});
