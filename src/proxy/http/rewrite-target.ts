// Owns: path and host of a forwarded request where a regular expression, a header or the endpoint makes them. Routes that ask for neither never come here.

import { pathEnd } from "../authz/path.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import type { Head } from "../http1/head.ts";
import { withQuery } from "../route/rewrite.ts";
import type { CompiledForward } from "../route/table.ts";
import { latin1, text } from "./bytes.ts";
import type { Exchange } from "./exchange.ts";
import { fieldNamed } from "./grpc.ts";

/** Sets `x.newPath` and `x.newHost`. Empty: done; else why the request cannot be forwarded. */
export function rewriteTarget(x: Exchange, forward: CompiledForward, bytes: Uint8Array, head: Head): string {
  const source = x.path ?? bytes;
  const from = x.path === null ? head.pathFrom : 0;
  const to = x.path === null ? head.pathTo : x.path.length;
  const end = pathEnd(source, from, to);
  if (forward.pathRewrite !== null) {
    const path = forward.pathRewrite(source, from, end);
    if (path === null) return "the rewritten path is too long";
    x.newPath = withQuery(path, source, end, to);
  }
  const hostFrom = forward.hostFrom;
  if (hostFrom?.kind === "header") {
    const i = fieldNamed(bytes, head, hostFrom.name);
    if (i >= 0) {
      const host = text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
      if (!isHost(host)) return "the header that names the host holds none";
      x.newHost = latin1(host);
    }
  } else if (hostFrom?.kind === "path") {
    const host = hostFrom.rewrite(source, from, end);
    if (host === null || !isHost(host)) return "the path does not make a host";
    x.newHost = latin1(host);
  }
  return "";
}

/** The name that an endpoint was configured by; null: it has an address only, and the host stays (as with Envoy's `auto_host_rewrite`). */
export function endpointHost(endpoint: Endpoint): Uint8Array | null {
  const name = endpoint.config.hostname;
  return name === undefined || name === "" ? null : latin1(name);
}

/** RFC 9110 4.2.1 with RFC 3986 3.2.2: what may stand in Host without a surprise to whoever reads it. */
function isHost(value: string): boolean {
  if (value.length === 0 || value.length > 255) return false;
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    const letter = (code >= 97 && code <= 122) || (code >= 65 && code <= 90) || (code >= 48 && code <= 58);
    if (!letter && code !== 45 && code !== 46 && code !== 95 && code !== 91 && code !== 93) return false;
  }
  return true;
}
