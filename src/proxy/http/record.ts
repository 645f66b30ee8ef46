// Owns: building the access record of a finished request, only once a sink has said that it wants it.

import type { HttpChain } from "../chain/chain.ts";
import { Head, parseRequest } from "../http1/head.ts";
import { putUuid } from "../http1/write.ts";
import type { AccessRecord } from "../telemetry/record.ts";
import { equalsIgnoreCase, latin1, text } from "./bytes.ts";
import { loggedClient } from "./client-address.ts";
import type { Exchange } from "./exchange.ts";
import { cameSecurely } from "./forwarded.ts";

const head = new Head();
/** Of a request that could not be read. */
const nothingRead = new Head();
const userAgentName = latin1("user-agent");

export function httpRecord(exchange: Exchange, durationMs: number): AccessRecord {
  const bytes = exchange.bytes;
  const down = exchange.down;
  const terminal = exchange.chain.terminal as HttpChain;
  head.limits = terminal.limits;
  const parsed = parseRequest(bytes, exchange.headFrom, exchange.headTo, head) > 0;
  let userAgent = "";
  if (parsed) {
    for (let i = 0; i < head.count; i++) {
      if (equalsIgnoreCase(bytes, head.nameFrom[i] as number, head.nameTo[i] as number, userAgentName)) {
        userAgent = text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
      }
    }
  }
  const endpoint = exchange.endpoint;
  const cluster = exchange.cluster ?? exchange.refusedBy;
  const local = down.core.local;
  const inbound = exchange.chain.inbound;
  const self = local.workload || "unknown";
  return {
    kind: "http",
    startTimeMs: down.core.wallMs() - durationMs,
    durationMs,
    protocol: exchange.ownHalf.version === 2 ? "HTTP/2" : exchange.minor === 0 ? "HTTP/1.0" : "HTTP/1.1",
    method: parsed ? text(bytes, head.from, head.methodTo) : "",
    scheme: cameSecurely(terminal, exchange.chain.tls !== null, bytes, parsed ? head : nothingRead) ? "https" : "http",
    authority: parsed ? text(bytes, head.authorityFrom, head.authorityTo) : "",
    path: parsed ? text(bytes, head.pathFrom, head.pathTo) : "",
    userAgent,
    requestId: parsed ? requestIdOf(exchange, bytes) : "",
    status: exchange.status,
    flags: exchange.flag === null ? [] : [exchange.flag],
    details: exchange.details,
    reason: exchange.reason,
    requestBytes: exchange.requestBytes,
    responseBytes: exchange.responseBytes,
    routeName: exchange.route?.name ?? "",
    upstreamCluster: cluster?.config.name ?? "",
    upstreamAddress: endpoint === null ? null : { host: endpoint.host, port: endpoint.port },
    attempts: exchange.attempts,
    downstreamRemote: loggedClient(exchange, bytes, parsed ? head : null),
    downstreamLocal: down.local(),
    downstreamPeer: down.peer?.principal ?? null,
    upstreamPeer: exchange.upstreamPeer,
    tlsVersion: down.peer?.tlsVersion ?? null,
    reporter: inbound ? "destination" : "source",
    source: inbound ? down.peer?.serviceAccount || "unknown" : self,
    destination: inbound ? self : (endpoint?.config.workload?.workload ?? cluster?.config.service?.name ?? "unknown"),
  };
}

const room = new Uint8Array(36);

function requestIdOf(exchange: Exchange, bytes: Uint8Array): string {
  if (head.requestId >= 0) return text(bytes, head.valueFrom[head.requestId] as number, head.valueTo[head.requestId] as number);
  if (!exchange.addedId) return "";
  putUuid(room, 0, exchange.id0, exchange.id1, exchange.id2, exchange.id3);
  return text(room, 0, 36);
}
