// Owns: the indices over all objects that planning and admission read. Built once per compile; never changed afterwards.
// Objects have passed validation when they come here: this file trusts their shape.

import type { AuthorizationPolicyObject } from "../api/kinds/authorizationpolicy.ts";
import { type EndpointSliceObject, sliceServiceLabel } from "../api/kinds/endpointslice.ts";
import type { HTTPRouteObject } from "../api/kinds/httproute-spec.ts";
import type { PeerAuthenticationObject } from "../api/kinds/peerauthentication.ts";
import { type PortProtocol, portProtocol, type ServiceObject } from "../api/kinds/service.ts";
import type { TelemetryObject } from "../api/kinds/telemetry.ts";
import { defaultServiceAccount, isEndpoint, labelsOf, type WorkloadEntryObject } from "../api/kinds/workloadentry.ts";
import type { KubeObject } from "../api/meta.ts";
import { matchesLabels } from "../api/selector.ts";
import { serviceHost, tlsModeLabel, tlsModeMutual } from "../wire/names.ts";
import { formatIdentity } from "../wire/spiffe.ts";

export interface ServicePortModel {
  readonly name: string;
  readonly port: number;
  readonly protocol: PortProtocol;
  readonly targetPort: number | string | undefined;
}

export interface ServiceModel {
  /** `NS/NAME` */
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly host: string;
  /** In the object's order. */
  readonly ports: readonly ServicePortModel[];
  /** Where a name without port leads: port 80, or else the first; never one of UDP. */
  readonly defaultPort: ServicePortModel | undefined;
  /** The first of UDP. */
  readonly defaultUdpPort: ServicePortModel | undefined;
  /** Empty = no selector: endpoints come from EndpointSlices. */
  readonly selector: Readonly<Record<string, string>>;
  /** Selected workloads, sorted by key. */
  readonly workloads: readonly WorkloadModel[];
  /** Sorted by name; only for services without selector. */
  readonly slices: readonly EndpointSliceObject[];
  readonly object: ServiceObject;
}

/** What selectors of policies look at. */
export type Selectable = Pick<WorkloadModel, "namespace" | "labels">;

export interface WorkloadModel {
  /** `NS/NAME` */
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly healthy: boolean;
  /** It has a sidecar that takes mutual TLS. */
  readonly mutualTls: boolean;
  readonly serviceAccount: string;
  /** SPIFFE ID. */
  readonly identity: string;
  readonly entry: WorkloadEntryObject;
}

/** Kinds are filed by name so that admission can swap one object without sorting out the rest again. */
export interface World {
  readonly trustDomain: string;
  /** By `NS/NAME`, sorted, as are all maps and lists here unless they say otherwise. */
  readonly services: ReadonlyMap<string, ServiceModel>;
  readonly workloads: ReadonlyMap<string, WorkloadModel>;
  /** Oldest first, then by `NS/NAME`: the order in which Gateway API resolves ties. */
  readonly routes: readonly HTTPRouteObject[];
  /** By namespace. */
  readonly policies: ReadonlyMap<string, readonly AuthorizationPolicyObject[]>;
  /** By namespace, oldest first. */
  readonly telemetries: ReadonlyMap<string, readonly TelemetryObject[]>;
  /** By namespace, oldest first. */
  readonly peerAuthentications: ReadonlyMap<string, readonly PeerAuthenticationObject[]>;
  /** Services that select a workload, by the workload's key. */
  readonly servicesOf: ReadonlyMap<string, readonly ServiceModel[]>;
}

/** Sorts out the objects of the mesh; kinds that the compiler does not read are passed over. Order of `objects` does not matter. */
export function buildWorld(objects: Iterable<KubeObject>, trustDomain: string): World {
  const sorted = new Map<string, KubeObject[]>();
  for (const object of objects) push(sorted, object.kind, object);
  for (const list of sorted.values()) list.sort(byKey);
  const of = <T extends KubeObject>(kind: string): T[] => (sorted.get(kind) ?? []) as T[];

  const workloads = new Map<string, WorkloadModel>();
  for (const entry of of<WorkloadEntryObject>("WorkloadEntry")) workloads.set(keyOf(entry), workloadModel(entry, trustDomain));
  const index = labelIndex(workloads.values());

  const slices = new Map<string, EndpointSliceObject[]>();
  for (const slice of of<EndpointSliceObject>("EndpointSlice"))
    push(slices, `${namespaceOf(slice)}/${slice.metadata.labels?.[sliceServiceLabel] ?? ""}`, slice);

  const services = new Map<string, ServiceModel>();
  const servicesOf = new Map<string, ServiceModel[]>();
  for (const object of of<ServiceObject>("Service")) {
    const service = serviceModel(object, index, slices);
    services.set(service.key, service);
    for (const workload of service.workloads) push(servicesOf, workload.key, service);
  }

  const policies = new Map<string, AuthorizationPolicyObject[]>();
  for (const policy of of<AuthorizationPolicyObject>("AuthorizationPolicy")) push(policies, namespaceOf(policy), policy);
  const telemetries = new Map<string, TelemetryObject[]>();
  for (const telemetry of of<TelemetryObject>("Telemetry").sort(byAge)) push(telemetries, namespaceOf(telemetry), telemetry);

  const peerAuthentications = new Map<string, PeerAuthenticationObject[]>();
  for (const each of of<PeerAuthenticationObject>("PeerAuthentication").sort(byAge)) push(peerAuthentications, namespaceOf(each), each);

  return {
    trustDomain,
    peerAuthentications,
    services,
    workloads,
    routes: of<HTTPRouteObject>("HTTPRoute").sort(byAge),
    policies,
    telemetries,
    servicesOf,
  };
}

export function namespaceOf(object: KubeObject): string {
  return object.metadata.namespace ?? "default";
}

/** `NS/NAME` */
export function keyOf(object: KubeObject): string {
  return `${namespaceOf(object)}/${object.metadata.name}`;
}

function byKey(a: KubeObject, b: KubeObject): number {
  return compareText(keyOf(a), keyOf(b));
}

/** Oldest first; objects without a time of creation (not stored yet) come last. */
export function byAge(a: KubeObject, b: KubeObject): number {
  return compareText(a.metadata.creationTimestamp ?? "~", b.metadata.creationTimestamp ?? "~") || byKey(a, b);
}

/** By UTF-16 code unit, the same on every machine. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

function workloadModel(entry: WorkloadEntryObject, trustDomain: string): WorkloadModel {
  const labels = labelsOf(entry);
  const namespace = namespaceOf(entry);
  const serviceAccount = entry.spec.serviceAccount ?? defaultServiceAccount;
  return {
    key: keyOf(entry),
    name: entry.metadata.name,
    namespace,
    labels,
    healthy: isEndpoint(entry),
    mutualTls: labels[tlsModeLabel] === tlsModeMutual,
    serviceAccount,
    identity: formatIdentity({ trustDomain, namespace, serviceAccount }),
    entry,
  };
}

/** By `NS/KEY=VALUE`: a selector is answered by looking at one of its labels and filtering, not by looking at every workload. */
type LabelIndex = ReadonlyMap<string, readonly WorkloadModel[]>;

function labelIndex(workloads: Iterable<WorkloadModel>): LabelIndex {
  const out = new Map<string, WorkloadModel[]>();
  for (const workload of workloads)
    for (const [key, value] of Object.entries(workload.labels)) push(out, `${workload.namespace}/${key}=${value}`, workload);
  return out;
}

function serviceModel(object: ServiceObject, index: LabelIndex, slices: ReadonlyMap<string, readonly EndpointSliceObject[]>): ServiceModel {
  const namespace = namespaceOf(object);
  const key = keyOf(object);
  const selector = object.spec.selector ?? {};
  const ports = (object.spec.ports ?? []).map((port) => ({
    name: port.name ?? "",
    port: port.port,
    protocol: portProtocol(port),
    targetPort: port.targetPort,
  }));
  const connected = ports.filter((port) => port.protocol !== "udp");
  let candidates: readonly WorkloadModel[] | undefined;
  for (const [label, value] of Object.entries(selector)) {
    const found = index.get(`${namespace}/${label}=${value}`) ?? [];
    if (candidates === undefined || found.length < candidates.length) candidates = found;
  }
  return {
    key,
    name: object.metadata.name,
    namespace,
    host: serviceHost(object.metadata.name, namespace),
    ports,
    defaultPort: connected.find((port) => port.port === 80) ?? connected[0],
    defaultUdpPort: ports.find((port) => port.protocol === "udp"),
    selector,
    workloads: (candidates ?? []).filter((workload) => matchesLabels(selector, workload.labels)),
    slices: candidates === undefined ? (slices.get(key) ?? []) : [],
    object,
  };
}

/** The port of `workload` that a service's port leads to: by the service port's name, by its target's name, by number. */
export function resolvePort(
  workload: WorkloadModel,
  port: ServicePortModel,
): { readonly number: number; readonly name: string | undefined } {
  const named = workload.entry.spec.ports ?? {};
  if (Object.hasOwn(named, port.name)) return { number: named[port.name]!, name: port.name };
  if (typeof port.targetPort === "string") {
    const found = Object.hasOwn(named, port.targetPort) ? named[port.targetPort] : undefined;
    return found === undefined ? { number: port.port, name: undefined } : { number: found, name: port.targetPort };
  }
  const number = port.targetPort ?? port.port;
  return {
    number,
    name: Object.keys(named)
      .sort()
      .find((name) => named[name] === number),
  };
}
