// Owns: which traffic is that of a backend: a Service's own, as the analysis knows destinations. Pure but for what it is given to ask.

import type { KubeObject } from "../../api/meta.ts";
import type { EdgeKey } from "../../insight/edges.ts";
import type { Totals } from "../../insight/window.ts";

/** By the application and version that its selector names; one that selects by other labels is known by its name only, as callers address it. */
export function backendTraffic(
  serviceOf: (namespace: string, name: string) => KubeObject | undefined,
  traffic: (matches: (destination: EdgeKey["destination"]) => boolean, from: number, to: number) => Totals,
): (namespace: string, service: string, from: number, to: number) => Totals {
  return (namespace, service, from, to) => {
    const selector = (serviceOf(namespace, service)?.spec as { selector?: Record<string, string> } | undefined)?.selector ?? {};
    const { app, version } = selector;
    const named = `${service}.${namespace}.`;
    return traffic(
      (destination) =>
        destination.namespace === namespace &&
        ((app !== undefined && version !== undefined && destination.app === app && destination.version === version) ||
          (version === undefined && (destination.service === service || destination.service.startsWith(named)))),
      from,
      to,
    );
  };
}
