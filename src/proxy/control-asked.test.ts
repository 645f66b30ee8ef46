import { expect, test } from "bun:test";
import type { GlobalRateLimitConfig, UpstreamTlsConfig } from "./config.ts";
import { controlAsked } from "./control-asked.ts";
import { cluster, endpoint, hop } from "./testing/fixture.ts";

const tls: UpstreamTlsConfig = {
  certificate: null,
  roots: { kind: "pem", pem: "roots" },
  peerNames: [],
  alpn: ["h2"],
  sni: "weft",
  minVersion: "TLSv1.3",
};
const control = cluster("xds-grpc", [endpoint(1)], { control: true, protocol: "http2", tls });
const asks = (name: string) => ({
  globalRateLimit: { filter: { cluster: name }, route: null, limits: [] } as unknown as GlobalRateLimitConfig,
});

test("the control plane's cluster is the data path's only where a filter asks it", () => {
  const clusters = [cluster("c", [endpoint(2)]), control];
  expect(controlAsked(hop(clusters), true)).toEqual([]);
  expect(controlAsked(hop(clusters, undefined, { stages: asks("c") }), true)).toEqual([]);
  const [found] = controlAsked(hop(clusters, undefined, { stages: asks("xds-grpc") }), true);
  expect(found).toMatchObject({
    control: false,
    tls: { certificate: { kind: "secret", name: "default" }, roots: { kind: "secret", name: "ROOTCA" }, sni: "weft" },
  });
  // The same again, so that nothing is built anew.
  expect(controlAsked(hop(clusters, undefined, { stages: asks("xds-grpc") }), true)[0]).toBe(found as never);
});

test("a proxy without an identity asks with what its bootstrap says", () => {
  const other = { ...control };
  expect(controlAsked(hop([other], undefined, { stages: asks("xds-grpc") }), false)[0]?.tls).toBe(tls);
});
