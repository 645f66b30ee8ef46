// Owns: telling a user why the local port of an explicit upstream stays closed: the service has no port of that transport, or of that number. Never refuses: the
// service may get the port later, and the local port opens with it.

import type { Upstream } from "../../api/kinds/workloadentry.ts";
import type { KubeObject } from "../../api/meta.ts";
import type { Clock } from "../../base/clock.ts";
import { ApiFailure, type Client, Unreachable } from "../client.ts";
import type { ServicePort } from "./objects.ts";
import type { Say } from "./say.ts";

/** How often a service that is not there yet is looked for; as often as `weft run` looks after its registration. */
const againMs = 30_000;

/** What is said of an upstream whose local port stays closed; undefined: it is open, or the service is none of this mesh. Pure. */
export function upstreamFault(service: KubeObject, upstream: Upstream): string | undefined {
  const { type, ports = [] } = (service.spec ?? {}) as { type?: string; ports?: readonly ServicePort[] };
  if (type === "ExternalName") return undefined;
  const { transport, port } = upstream;
  const numbered = ports.filter((each) => port === undefined || each.port === port);
  if (numbered.some((each) => transportOf(each) === transport)) return undefined;
  const label = `Service ${service.metadata.namespace}/${service.metadata.name}`;
  const closed = `so that 127.0.0.1:${upstream.localPort} stays closed for ${transport.toUpperCase()}`;
  const head = `--upstream ${written(upstream)}: `;
  if (numbered.length > 0) {
    const other = transport === "tcp" ? "udp" : "tcp";
    const what =
      port === undefined ? `${label} has only ${other.toUpperCase()} ports` : `port ${port} of ${label} is ${other.toUpperCase()}`;
    return `${head}${what}, ${closed}; write --upstream ${written({ ...upstream, transport: other })}`;
  }
  const has = ports.map((each) => `${each.port}/${transportOf(each)}`).join(", ");
  return `${head}${label} has no port${port === undefined ? "" : ` ${port}`}, ${closed}; it has ${has || "none"}`;
}

/** Says it of each upstream: at once, and of a service that is not there yet when it comes. Never throws, and says nothing where it may not look. */
export function tellClosedUpstreams(client: Client, namespace: string, upstreams: readonly Upstream[], clock: Clock, say: Say): void {
  let open = upstreams;
  const look = async () => {
    const left: Upstream[] = [];
    for (const upstream of open) {
      try {
        const path = `/api/v1/namespaces/${upstream.namespace ?? namespace}/services/${upstream.service}`;
        const fault = upstreamFault(await client.json<KubeObject>(path, { timeoutMs: 5000 }), upstream);
        if (fault !== undefined) say.warn(fault);
      } catch (error) {
        if (error instanceof Unreachable || (error instanceof ApiFailure && (error.code === 404 || error.code >= 500))) left.push(upstream);
      }
    }
    open = left;
    // One round after another: a control plane that is away answers late.
    if (open.length > 0) clock.after(againMs, () => void look());
  };
  if (open.length > 0) void look();
}

function transportOf({ protocol }: ServicePort): Upstream["transport"] {
  return protocol === "UDP" ? "udp" : "tcp";
}

function written({ service, namespace, port, localPort, transport }: Upstream): string {
  const from = `${service}${namespace === undefined ? "" : `.${namespace}`}${port === undefined ? "" : `:${port}`}`;
  return `${from}=${localPort}${transport === "udp" ? "/udp" : ""}`;
}
