// Owns: the table of xDS resource types, and the order in which changes of different types travel. Both processes share it.

/** The four resource types of this mesh. Secrets never travel: a sidecar makes its own key (see proxy/identity). */
export type XdsType = "cluster" | "endpoint" | "listener" | "route";

export const typeUrl: Readonly<Record<XdsType, string>> = {
  cluster: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
  endpoint: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
  listener: "type.googleapis.com/envoy.config.listener.v3.Listener",
  route: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
};

const byUrl: ReadonlyMap<string, XdsType> = new Map((Object.keys(typeUrl) as XdsType[]).map((type) => [typeUrl[type], type] as const));

/** The type behind a type URL, or undefined for one we do not speak. */
export function xdsTypeOf(url: string): XdsType | undefined {
  return byUrl.get(url);
}

/** Types as they travel on one stream. */
export const streamOrder: readonly XdsType[] = ["cluster", "endpoint", "listener", "route"];

/** Make before break: additions go in this order, removals in reverse (Envoy xDS protocol, "Eventual consistency considerations"). */
export const pushOrder: readonly XdsType[] = ["cluster", "endpoint", "listener", "route"];

/** One resource as it travels: content-addressed, encoded once. */
export interface XdsResource {
  readonly type: XdsType;
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
}
