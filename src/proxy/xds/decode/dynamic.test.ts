// Clusters that lead wherever a request says, as Envoy writes them: what is taken, and what is refused by its path.

import { expect, test } from "bun:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { ClusterSchema } from "../../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClusterConfigSchema } from "../../../wire/gen/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.ts";
import type { DnsCacheConfigSchema } from "../../../wire/gen/envoy/extensions/common/dynamic_forward_proxy/v3/dns_cache_pb.ts";
import { RouterSchema } from "../../../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import type { DecodeWorld } from "./gate.ts";
import { decodeResource } from "./resource.ts";

const world: DecodeWorld = { readFile: () => new Uint8Array(0), staticSecrets: new Map(), controlClusters: new Set() };

function decode(cache: MessageInitShape<typeof DnsCacheConfigSchema>, more: object = {}) {
  const typedConfig = anyPack(
    ClusterConfigSchema,
    create(ClusterConfigSchema, { clusterImplementationSpecifier: { case: "dnsCacheConfig", value: cache } }),
  );
  const message = create(ClusterSchema, {
    name: "names",
    lbPolicy: 6,
    clusterDiscoveryType: { case: "clusterType", value: { name: "envoy.clusters.dynamic_forward_proxy", typedConfig } },
    ...more,
  });
  const found = decodeResource("cluster", toBinary(ClusterSchema, message), world);
  return "violations" in found ? found.violations.map((one) => `${one.path}: ${one.message}`) : found.config;
}

test("one of Envoy's", () => {
  expect(decode({ name: "cache", dnsLookupFamily: 4 })).toMatchObject({ name: "names", source: { kind: "dynamic", endpoints: [] } });
});

test("what cannot be had otherwise is refused by its path", () => {
  const where = "cluster_type.typed_config.dns_cache_config";
  expect(decode({ dnsLookupFamily: 1, dnsRefreshRate: { seconds: 5n }, hostTtl: { seconds: 60n }, maxHosts: 5 })).toEqual([
    `${where}.name: is missing`,
    `${where}.dns_lookup_family: is not supported; AUTO and ALL are`,
    `${where}.dns_refresh_rate: is not supported; it is 60s`,
    `${where}.host_ttl: is not supported; names are kept until others need their place`,
    `${where}.max_hosts: is not supported; it is 1024`,
  ]);
  expect(decode({ name: "cache" }, { lbPolicy: 0, outlierDetection: {} })).toEqual([
    "lb_policy: must be CLUSTER_PROVIDED in a cluster of this type",
    "outlier_detection: is not supported in a cluster of this type",
  ]);
  const other = { case: "clusterType", value: { name: "x", typedConfig: anyPack(RouterSchema, create(RouterSchema, {})) } };
  expect(decode({ name: "cache" }, { clusterDiscoveryType: other })).toEqual([
    "cluster_type.typed_config: holds envoy.extensions.filters.http.router.v3.Router; the only cluster type that is supported is envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
  ]);
});
