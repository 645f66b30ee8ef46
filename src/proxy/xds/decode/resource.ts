// Owns: the table of xDS resource types: which message each is, its name, and its decoder. One resource in, one configuration or its violations out.

import type { StreamType } from "../../../wire/xds-types.ts";
import type { ClusterConfig, EndpointConfig, ListenerConfig, RouteTableConfig, VirtualHostConfig } from "../../config.ts";
import type { MessageType } from "../proto/message.ts";
import { Cluster, ClusterLoadAssignment, Listener, RouteConfiguration, VirtualHost } from "../proto/types.ts";
import { decodeCluster } from "./cluster.ts";
import { decodeEndpoints } from "./endpoint.ts";
import { decodeAgain, remember } from "./endpoint-changes.ts";
import { type DecodeWorld, decodeStrict, Gate, type Violation } from "./gate.ts";
import { decodeListener } from "./listener.ts";
import { decodeHost, decodeRoutes } from "./route.ts";

/** What each type decodes to. */
export interface DecodedByType {
  cluster: ClusterConfig;
  endpoint: readonly EndpointConfig[];
  listener: ListenerConfig;
  route: RouteTableConfig;
  host: VirtualHostConfig;
}

interface Family<M, Out> {
  readonly message: MessageType<M>;
  readonly name: (message: M) => string;
  readonly decode: (gate: Gate, message: M) => Out;
}

function family<M, Out>(
  message: MessageType<M>,
  name: (message: M) => string,
  decode: (gate: Gate, message: M) => Out,
): (gate: Gate, bytes: Uint8Array) => { name: string; config: Out } | undefined {
  const one: Family<M, Out> = { message, name, decode };
  return (gate, bytes) => {
    const found = decodeStrict(gate, one.message, bytes, "");
    return found === undefined ? undefined : { name: one.name(found), config: one.decode(gate, found) };
  };
}

const families: { readonly [T in StreamType]: (gate: Gate, bytes: Uint8Array) => { name: string; config: DecodedByType[T] } | undefined } =
  {
    cluster: family(
      Cluster,
      (m) => m.name,
      (gate, m) => decodeCluster(gate, m, ""),
    ),
    endpoint: family(
      ClusterLoadAssignment,
      (m) => m.clusterName,
      (gate, m) => decodeEndpoints(gate, m, true, ""),
    ),
    listener: family(
      Listener,
      (m) => m.name,
      (gate, m) => {
        if (m.name === "") gate.add("name", "must not be empty");
        return decodeListener(gate, m, "");
      },
    ),
    route: family(
      RouteConfiguration,
      (m) => m.name,
      (gate, m) => decodeRoutes(gate, m, ""),
    ),
    host: family(
      VirtualHost,
      (m) => m.name,
      (gate, m) => decodeHost(gate, m),
    ),
  };

export type DecodeResult<T extends StreamType> =
  | { readonly name: string; readonly config: DecodedByType[T] }
  /** `name` is empty when not even that could be read. */
  | { readonly name: string; readonly violations: readonly Violation[] };

/**
 * Decodes one resource by itself: what is wrong with it says nothing of its neighbours. `before`: what its last good version decoded to; of a long list of
 * endpoints only what has changed is decoded then.
 */
export function decodeResource<T extends StreamType>(
  type: T,
  bytes: Uint8Array,
  world: DecodeWorld,
  before?: { readonly name: string; readonly config: DecodedByType[T] },
): DecodeResult<T> {
  if (type === "endpoint" && before !== undefined) {
    const gate = new Gate(world);
    const config = decodeAgain(gate, before.config as readonly EndpointConfig[], bytes);
    // A violation is told with its path by the whole way below.
    if (config !== null && gate.clean) return { name: before.name, config } as DecodeResult<T>;
  }
  const gate = new Gate(world);
  const found = families[type](gate, bytes);
  if (found === undefined || !gate.clean) return { name: found?.name ?? "", violations: gate.violations };
  if (type === "endpoint") remember(found.config as readonly EndpointConfig[], bytes);
  return found as DecodeResult<T>;
}
