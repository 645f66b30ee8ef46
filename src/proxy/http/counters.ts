// Owns: finding the counters of a finished request: they sit on the endpoint (source side) or on the connection (destination side), so this is a
// field load but for the first request of each pair.

import type { Cluster } from "../balance/cluster.ts";
import type { Core } from "../runtime/core.ts";
import { inboundParties, outboundParties } from "../telemetry/labels.ts";
import { RequestCounters } from "../telemetry/request.ts";
import type { Exchange } from "./exchange.ts";

/** One per engine for requests that found no cluster at all. */
const nowhere = new WeakMap<Core, RequestCounters>();
/** Per engine: inbound counters by peer and cluster. Bounded by `RequestMetrics`; cleared when it grows past this. */
const largest = 1_024;
const inbound = new WeakMap<Core, Map<string, RequestCounters>>();

export function requestCountersFor(exchange: Exchange): RequestCounters {
  const down = exchange.down;
  const cluster = exchange.cluster ?? exchange.refusedBy;
  if (exchange.chain.inbound) {
    const known = down.counters;
    if (known !== null && down.countersOf === cluster) return known;
    const found = inboundCounters(down.core, down.peer?.principal ?? "", exchange, cluster);
    down.counters = found;
    down.countersOf = cluster;
    return found;
  }
  const endpoint = exchange.endpoint;
  if (endpoint !== null) {
    let counters = endpoint.requestSeries as RequestCounters | null;
    if (counters === null) {
      counters = new RequestCounters(
        down.core.requests,
        outboundParties(down.core.local, endpoint.cluster, endpoint.config, endpoint.transport.tls !== null),
      );
      endpoint.requestSeries = counters;
    }
    return counters;
  }
  if (cluster !== null) {
    let counters = cluster.requestSeries as RequestCounters | null;
    if (counters === null) {
      counters = new RequestCounters(down.core.requests, outboundParties(down.core.local, cluster, null, false));
      cluster.requestSeries = counters;
    }
    return counters;
  }
  let counters = nowhere.get(down.core);
  if (counters === undefined) {
    counters = new RequestCounters(down.core.requests, outboundParties(down.core.local, null, null, false));
    nowhere.set(down.core, counters);
  }
  return counters;
}

function inboundCounters(core: Core, principal: string, exchange: Exchange, cluster: Cluster | null): RequestCounters {
  let known = inbound.get(core);
  if (known === undefined || known.size > largest) {
    known = new Map();
    inbound.set(core, known);
  }
  const service = cluster?.config.service ?? null;
  const key = `${principal} ${service?.host ?? ""}`;
  let counters = known.get(key);
  if (counters === undefined) {
    counters = new RequestCounters(core.requests, inboundParties(core.local, exchange.down.peer, service));
    known.set(key, counters);
  }
  return counters;
}
