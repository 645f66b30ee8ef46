// Owns: which clusters a listener or a route table names. Pure.

import type { AccessLogConfig, ListenerConfig, RouteTableConfig } from "../../config.ts";

/** Names of clusters that a listener leads to (its inline routes included), each once. */
export function clustersOf(listener: ListenerConfig): ReadonlySet<string> {
  const names = new Set<string>();
  if (listener.udp !== undefined) {
    names.add(listener.udp.cluster);
    for (const log of listener.udp.accessLogs) addLog(names, log);
  }
  for (const chain of listener.chains) {
    const terminal = chain.terminal;
    if (terminal.kind === "tcp") for (const one of terminal.clusters) names.add(one.cluster);
    else if ("inline" in terminal.routes) for (const name of routeClusters(terminal.routes.inline)) names.add(name);
    if (terminal.kind === "http") {
      const limits = terminal.stages?.globalRateLimit?.filter?.cluster;
      if (limits !== undefined) names.add(limits);
      const auth = terminal.stages?.extAuthz;
      if (auth?.filter != null && !auth.off) names.add(auth.filter.service.cluster);
    }
    for (const log of terminal.accessLogs) addLog(names, log);
  }
  return names;
}

/** Names of clusters that a route table leads to, each once. */
export function routeClusters(routes: RouteTableConfig): ReadonlySet<string> {
  const names = new Set<string>();
  for (const host of routes.virtualHosts) {
    for (const { action, stages } of host.routes) {
      const auth = stages?.extAuthz;
      if (auth !== undefined && auth !== "off" && auth.route?.service != null) names.add(auth.route.service.cluster);
      if (action.kind !== "forward") continue;
      for (const one of action.clusters) names.add(one.cluster);
      for (const one of action.mirrors ?? []) names.add(one.cluster);
    }
  }
  return names;
}

function addLog(names: Set<string>, log: AccessLogConfig): void {
  if (log.sink.kind === "als") names.add(log.sink.cluster);
}
