// Owns: the table of xDS resource types, and the order in which changes of different types travel. Both processes share it.

/** The four resource types of this mesh. Secrets never travel: a sidecar makes its own key (see proxy/identity). */
export type XdsType = "cluster" | "endpoint" | "listener" | "route";

/** All types of a stream. `host`: virtual hosts that a proxy asks for one by one, when a request first needs them (Envoy's VHDS); delta only. */
export type StreamType = XdsType | "host";

export const typeUrl: Readonly<Record<StreamType, string>> = {
  cluster: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
  endpoint: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
  listener: "type.googleapis.com/envoy.config.listener.v3.Listener",
  route: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
  host: "type.googleapis.com/envoy.config.route.v3.VirtualHost",
};

const byUrl: ReadonlyMap<string, StreamType> = new Map(
  (Object.keys(typeUrl) as StreamType[]).map((type) => [typeUrl[type], type] as const),
);

/** The type behind a type URL, or undefined for one we do not speak. */
export function xdsTypeOf(url: string): StreamType | undefined {
  return byUrl.get(url);
}

/** Make before break: additions go in this order, removals in reverse (Envoy xDS protocol, "Eventual consistency considerations"). */
export const pushOrder: readonly XdsType[] = ["cluster", "endpoint", "listener", "route"];

/** The same with what is asked for one by one: it leads to all the others. */
export const streamOrder: readonly StreamType[] = [...pushOrder, "host"];

/** Name of a virtual host that is asked for (Envoy's VHDS): the route table and the host as the request has it, in lower case. */
export function demandedHost(table: string, host: string): string {
  return `${table}/${host}`;
}

/** The host behind such a name; undefined = it is none of this table. */
export function hostOfDemand(table: string, name: string): string | undefined {
  return name.startsWith(`${table}/`) && name.length > table.length + 1 ? name.slice(table.length + 1) : undefined;
}

/** One resource as it travels: content-addressed, encoded once. */
export interface XdsResource {
  readonly type: StreamType;
  readonly name: string;
  /** Hash of `value`; equal bytes have equal versions. */
  readonly version: string;
  /** The protobuf message, encoded (what goes into Any.value). */
  readonly value: Uint8Array;
}

/** Everything one workload's proxy should hold. */
export interface XdsSnapshot {
  readonly workload: string;
  readonly resources: Readonly<Record<XdsType, ReadonlyMap<string, XdsResource>>>;
  /** Of a proxy that asks for virtual hosts one by one: the names it has asked for, and those of them that there are. */
  readonly hosts?: { readonly asked: readonly string[]; readonly found: ReadonlyMap<string, XdsResource> };
}
