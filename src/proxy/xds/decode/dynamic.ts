// Owns: clusters that lead wherever a request says, as Envoy's dynamic forward proxy has them: the cluster's type and the filter that goes with it. What of
// the cache of names can be set otherwise than ours is refused.

import type { Cluster, Cluster_CustomClusterType } from "../../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import type { DnsCacheConfig } from "../../../wire/gen/envoy/extensions/common/dynamic_forward_proxy/v3/dns_cache_pb.ts";
import type { FilterConfig } from "../../../wire/gen/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.ts";
import { nameLimits } from "../../names/names.ts";
import { DynamicCluster } from "../proto/types.ts";
import { at, type Gate, millis, unpack } from "./gate.ts";

/** CLUSTER_PROVIDED, the only policy that Envoy takes there. */
const clusterProvided = 6;

export function decodeDynamic(gate: Gate, cluster: Cluster, type: Cluster_CustomClusterType, path: string): void {
  const where = at(path, "cluster_type.typed_config");
  const typeName = type.typedConfig?.typeUrl.slice(type.typedConfig.typeUrl.lastIndexOf("/") + 1) ?? "";
  if (type.typedConfig === undefined || typeName !== DynamicCluster.name) {
    gate.add(where, `holds ${typeName === "" ? "nothing" : typeName}; the only cluster type that is supported is ${DynamicCluster.name}`);
    return;
  }
  const config = unpack(gate, DynamicCluster, type.typedConfig, where);
  if (config === undefined) return;
  if (config.clusterImplementationSpecifier.case !== "dnsCacheConfig") gate.add(at(where, "dns_cache_config"), "is missing");
  else decodeCache(gate, config.clusterImplementationSpecifier.value, at(where, "dns_cache_config"));
  if (cluster.lbPolicy !== clusterProvided) gate.add(at(path, "lb_policy"), "must be CLUSTER_PROVIDED in a cluster of this type");
  if (cluster.loadAssignment !== undefined) gate.add(at(path, "load_assignment"), "cannot stand beside cluster_type");
  if (cluster.edsClusterConfig !== undefined) gate.add(at(path, "eds_cluster_config"), "cannot stand beside cluster_type");
  if (cluster.outlierDetection !== undefined) gate.add(at(path, "outlier_detection"), "is not supported in a cluster of this type");
  if (cluster.healthChecks.length > 0) gate.add(at(path, "health_checks"), "is not supported in a cluster of this type");
}

export function decodeNamesFilter(gate: Gate, { implementationSpecifier: { case: kind, value } }: FilterConfig, path: string): void {
  if (kind === "dnsCacheConfig") decodeCache(gate, value, at(path, "dns_cache_config"));
  else gate.add(at(path, "dns_cache_config"), "is missing");
}

function decodeCache(gate: Gate, cache: DnsCacheConfig, path: string): void {
  if (cache.name === "") gate.add(at(path, "name"), "is missing");
  if (cache.dnsLookupFamily !== 0 && cache.dnsLookupFamily !== 4)
    gate.add(at(path, "dns_lookup_family"), "is not supported; AUTO and ALL are");
  const refreshMs = millis(gate, at(path, "dns_refresh_rate"), cache.dnsRefreshRate, nameLimits.refreshMs);
  if (refreshMs !== nameLimits.refreshMs)
    gate.add(at(path, "dns_refresh_rate"), `is not supported; it is ${nameLimits.refreshMs / 1_000}s`);
  if (cache.hostTtl !== undefined) gate.add(at(path, "host_ttl"), "is not supported; names are kept until others need their place");
  if (cache.maxHosts !== undefined && cache.maxHosts !== nameLimits.hosts)
    gate.add(at(path, "max_hosts"), `is not supported; it is ${nameLimits.hosts}`);
}
