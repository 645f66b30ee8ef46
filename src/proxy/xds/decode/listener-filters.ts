// Owns: the table of listener filters, and what they ask to be done with a connection before its chain is chosen. UDP listeners have a table of their own.

import type { Listener } from "../../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { listenerFilterDefaults } from "../../chain/select.ts";
import type { ListenerFilters } from "../../config.ts";
import { HttpInspector, OriginalDst, ProxyProtocol, TlsInspector } from "../proto/types.ts";
import { at, decodeExtension, type Extension, extension, type Gate, millis } from "./gate.ts";

type ListenerFilter =
  | { readonly kind: "tls" | "http" | "original-dst" }
  | { readonly kind: "proxy-protocol"; readonly rules: NonNullable<ListenerFilters["proxyProtocol"]> };

const listenerFilters: readonly Extension<ListenerFilter>[] = [
  extension(TlsInspector, (): ListenerFilter => ({ kind: "tls" })),
  extension(HttpInspector, (): ListenerFilter => ({ kind: "http" })),
  extension(OriginalDst, (): ListenerFilter => ({ kind: "original-dst" })),
  // stat_prefix names Envoy's own statistics.
  extension(ProxyProtocol, (gate, filter, path): ListenerFilter => {
    const refused: readonly number[] = filter.disallowedVersions;
    // Envoy's V1 is 0 and V2 is 1.
    const versions = ([1, 2] as const).filter((version) => !refused.includes(version - 1));
    if (versions.length === 0) gate.add(at(path, "disallowed_versions"), "leaves no version to read");
    return { kind: "proxy-protocol", rules: { allowAbsent: filter.allowRequestsWithoutProxyProtocol, versions } };
  }),
];

/** `inspectTls`: asked for by name. `before` is absent when nothing but that is asked for. */
export function decodeListenerFilters(
  gate: Gate,
  listener: Listener,
  path: string,
): { readonly inspectTls: boolean; readonly before: ListenerFilters | undefined } {
  const list = at(path, "listener_filters");
  let inspectTls = false;
  let inspectHttp = false;
  let originalDestination = false;
  let proxyProtocol: ListenerFilters["proxyProtocol"] = null;
  listener.listenerFilters.forEach((filter, n) => {
    const where = `${list}[${n}]`;
    const decoded = decodeExtension(gate, listenerFilters, "listener filter", filter.name, filter.configType, where);
    switch (decoded?.kind) {
      case "tls":
        inspectTls = true;
        break;
      case "http":
        inspectHttp = true;
        break;
      case "original-dst":
        originalDestination = true;
        break;
      case "proxy-protocol":
        if (inspectTls || inspectHttp) gate.add(where, "must stand before the inspectors: its header comes before what they look at");
        proxyProtocol = decoded.rules;
        break;
      default:
    }
  });
  if (originalDestination && proxyProtocol !== null)
    gate.add(list, "original_dst and proxy_protocol are not supported together: both say where the connection was meant to go");
  const timeoutMs = millis(gate, at(path, "listener_filters_timeout"), listener.listenerFiltersTimeout, listenerFilterDefaults.timeoutMs);
  const continueOnTimeout = listener.continueOnListenerFiltersTimeout;
  const usual = timeoutMs === listenerFilterDefaults.timeoutMs && !continueOnTimeout;
  if (usual && !inspectHttp && !originalDestination && proxyProtocol === null) return { inspectTls, before: undefined };
  return { inspectTls, before: { proxyProtocol, originalDestination, inspectHttp, timeoutMs, continueOnTimeout } };
}
