// Owns: what planning and admission read of the mesh: objects, indices over them, and models made of them. Reading is recording (./graph.ts): a
// computation that reads a world is run again when something it read has changed, and only then. Nobody changes a world but its owner (LiveWorld).
// Objects have passed validation when they come here: this file trusts their shape.

import type { AuthorizationPolicyObject } from "../api/kinds/authorizationpolicy.ts";
import type { EndpointSliceObject } from "../api/kinds/endpointslice.ts";
import type { HTTPRouteObject } from "../api/kinds/httproute-spec.ts";
import type { PeerAuthenticationObject } from "../api/kinds/peerauthentication.ts";
import { type PortProtocol, portProtocol, type ServiceObject } from "../api/kinds/service.ts";
import type { TelemetryObject } from "../api/kinds/telemetry.ts";
import { defaultServiceAccount, isEndpoint, labelsOf, type WorkloadEntryObject } from "../api/kinds/workloadentry.ts";
import type { KubeObject } from "../api/meta.ts";
import { matchesLabels } from "../api/selector.ts";
import { serviceHost, tlsModeLabel, tlsModeMutual } from "../wire/names.ts";
import { formatIdentity } from "../wire/spiffe.ts";
import { Cell, Family, Graph } from "./graph.ts";
import { keyOf, namespaceOf, Objects, type Source, type Taken } from "./objects.ts";
import {
  httpRouteSource,
  peerAuthenticationSource,
  policySource,
  serviceSource,
  sliceSource,
  sources,
  telemetrySource,
  workloadSource,
} from "./sources.ts";

export { keyOf, namespaceOf } from "./objects.ts";

export interface ServicePortModel {
  readonly name: string;
  readonly port: number;
  readonly protocol: PortProtocol;
  readonly targetPort: number | string | undefined;
}

/** A service by its names; plain data, which plans carry. */
export interface ServiceRef {
  /** `NS/NAME` */
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly host: string;
}

export interface ServiceModel extends ServiceRef {
  /** In the object's order. */
  readonly ports: readonly ServicePortModel[];
  /** Where a name without port leads: port 80, or else the first; never one of UDP. */
  readonly defaultPort: ServicePortModel | undefined;
  /** The first of UDP. */
  readonly defaultUdpPort: ServicePortModel | undefined;
  /** Empty = no selector: endpoints come from EndpointSlices. */
  readonly selector: Readonly<Record<string, string>>;
  /** Selected workloads, sorted by key. Whoever reads this, and nobody else, is told when one of them changes. */
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

/** The objects of one kind. Lists are sorted by `NS/NAME`. */
export interface ObjectsOf<T extends KubeObject, I extends string> {
  /** By `NS/NAME`. */
  get(key: string): T | undefined;
  in(namespace: string): readonly T[];
  by(index: I, text: string): readonly T[];
  all(): readonly T[];
  /** Keys only: whoever needs no more is not told when an object changes and stays where it is filed. */
  keys(index: I | "all" | "namespace", text: string): readonly string[];
  /** How many keys are filed there; depends on nothing, so only for choosing between equally right ways. */
  count(index: I, text: string): number;
}

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
  /**
   * Names of services (`HOST` or `HOST:PORT`) that a workload's forward proxy has asked for or is known to use, by the workload's key;
   * undefined = its proxy cannot ask, and is given the whole mesh.
   */
  demanded(workload: string): readonly string[] | undefined;
  /** What a connected proxy of the workload calls itself (`envoy/1.40.0`), where it is not one of Weft's; undefined = it is, or none is connected here. */
  foreign(workload: string): string | undefined;
  /** Of every workload whose proxy can ask. Depends on nothing: for making a world like this one. */
  demands(): ReadonlyMap<string, readonly string[]>;
  /** Any kind of ./sources.ts. */
  objects<T extends KubeObject, I extends string>(source: Source<T, I>): ObjectsOf<T, I>;
  /** For `derived`. */
  readonly values: Values;
}

/** Where a world keeps what was computed from it. */
export interface Values {
  family<V>(token: object, compute: (key: string) => V, same: (a: V, b: V) => boolean): Family<V>;
}

/** Reads a derived value; with `cell` it can be watched. */
export interface Derived<V> {
  (world: World, key: string): V;
  cell(world: World, key: string): Cell<V>;
}

/**
 * A value made from the world and a text, remembered until something that was read to make it changes. `compute` must read nothing but its
 * arguments and other derived values. `same` tells whether a new value differs from the last; where it does not, nobody above is computed again
 * (default: the same object; `equal` compares contents).
 */
export function derived<V>(compute: (world: World, key: string) => V, same: (a: V, b: V) => boolean = Object.is): Derived<V> {
  const token = {};
  const cell = (world: World, key: string) => world.values.family(token, (each) => compute(world, each), same).cell(key);
  return Object.assign((world: World, key: string) => cell(world, key).read(), { cell });
}

/** Compares plain data. */
export function equal<V>(a: V, b: V): boolean {
  return Bun.deepEquals(a, b);
}

/** A map whose entries are looked up when they are read, so that readers depend on what they read. */
export class View<V> implements ReadonlyMap<string, V> {
  readonly #get: (key: string) => V | undefined;
  readonly #has: (key: string) => boolean;
  readonly #keys: () => readonly string[];

  constructor(
    get: (key: string) => V | undefined,
    keys: () => readonly string[],
    has: (key: string) => boolean = (key) => get(key) !== undefined,
  ) {
    this.#get = get;
    this.#has = has;
    this.#keys = keys;
  }

  get size(): number {
    return this.#keys().length;
  }

  get(key: string): V | undefined {
    return this.#get(key);
  }

  has(key: string): boolean {
    return this.#has(key);
  }

  forEach(run: (value: V, key: string, map: ReadonlyMap<string, V>) => void): void {
    for (const [key, value] of this) run(value, key, this);
  }

  *entries(): MapIterator<[string, V]> {
    for (const key of this.#keys()) {
      const value = this.#get(key);
      if (value !== undefined) yield [key, value];
    }
  }

  keys(): MapIterator<string> {
    return this.#keys().values() as MapIterator<string>;
  }

  *values(): MapIterator<V> {
    for (const [, value] of this.entries()) yield value;
  }

  [Symbol.iterator](): MapIterator<[string, V]> {
    return this.entries();
  }
}

/** A world and the hand that changes it. */
export class LiveWorld implements World {
  readonly trustDomain: string;
  readonly graph: Graph = new Graph();
  readonly values: Values;
  readonly services: ReadonlyMap<string, ServiceModel>;
  readonly workloads: ReadonlyMap<string, WorkloadModel>;
  readonly policies: ReadonlyMap<string, readonly AuthorizationPolicyObject[]>;
  readonly telemetries: ReadonlyMap<string, readonly TelemetryObject[]>;
  readonly peerAuthentications: ReadonlyMap<string, readonly PeerAuthenticationObject[]>;
  readonly servicesOf: ReadonlyMap<string, readonly ServiceModel[]>;
  readonly #objects: Objects;
  readonly #demands = new Map<string, Cell<readonly string[] | undefined>>();
  readonly #foreign = new Map<string, Cell<string | undefined>>();
  readonly #families = new Map<object, Family<unknown>>();

  constructor(trustDomain: string) {
    this.trustDomain = trustDomain;
    this.#objects = new Objects(this.graph, sources);
    this.values = {
      family: <V>(token: object, compute: (key: string) => V, same: (a: V, b: V) => boolean) => {
        let family = this.#families.get(token) as Family<V> | undefined;
        if (family === undefined) {
          family = new Family(this.graph, compute, same);
          this.#families.set(token, family as Family<unknown>);
        }
        return family;
      },
    };
    const keys = (of: Source<never, never>) => () => this.#objects.of(of.id).keys("all", "");
    const has = (of: Source<never, never>) => (key: string) => hasObject(this, `${of.id} ${key}`);
    const plain = (each: Source<never, string>) => each as Source<never, never>;
    this.services = new View((key) => serviceOf(this, key), keys(plain(serviceSource)), has(plain(serviceSource)));
    this.workloads = new View((key) => workloadOf(this, key), keys(plain(workloadSource)), has(plain(workloadSource)));
    this.servicesOf = new View((key) => servicesOfWorkload(this, key), keys(plain(workloadSource)));
    const spaces = (of: Source<never, string>) => () => namespacesWith(this, of.id);
    this.policies = new View((namespace) => policiesIn(this, namespace), spaces(policySource));
    this.telemetries = new View((namespace) => telemetriesIn(this, namespace), spaces(telemetrySource));
    this.peerAuthentications = new View((namespace) => peersIn(this, namespace), spaces(peerAuthenticationSource));
  }

  get routes(): readonly HTTPRouteObject[] {
    return allRoutes(this, "");
  }

  objects<T extends KubeObject, I extends string>(of: Source<T, I>): ObjectsOf<T, I> {
    const filed = this.#objects.of(of.id);
    const all = (keys: readonly string[]) => keys.map((key) => filed.get(key)).filter((each) => each !== undefined) as T[];
    return {
      get: (key) => filed.get(key) as T | undefined,
      in: (namespace) => all(filed.keys("namespace", namespace)),
      by: (index, text) => all(filed.keys(index, text)),
      all: () => all(filed.keys("all", "")),
      keys: (index, text) => filed.keys(index, text),
      count: (index, text) => filed.count(index, text),
    };
  }

  demanded(workload: string): readonly string[] | undefined {
    return this.#demandOf(workload).read();
  }

  foreign(workload: string): string | undefined {
    return this.#foreignOf(workload).read();
  }

  /** See `foreign`. */
  setForeign(workload: string, agent: string | undefined): void {
    this.#foreignOf(workload).set(agent);
  }

  #foreignOf(workload: string): Cell<string | undefined> {
    let cell = this.#foreign.get(workload);
    if (cell === undefined) {
      const made: Cell<string | undefined> = Cell.input<string | undefined>(this.graph, undefined, Object.is, () => {
        if (made.peek() === undefined) this.#foreign.delete(workload);
      });
      cell = made;
      this.#foreign.set(workload, cell);
    }
    return cell;
  }

  demands(): ReadonlyMap<string, readonly string[]> {
    const out = new Map<string, readonly string[]>();
    for (const [workload, cell] of this.#demands) {
      const names = cell.peek();
      if (names !== undefined) out.set(workload, names);
    }
    return out;
  }

  /** See `demanded`. Sorted and without doubles. */
  demand(workload: string, names: readonly string[] | undefined): void {
    this.#demandOf(workload).set(names);
  }

  #demandOf(workload: string): Cell<readonly string[] | undefined> {
    let cell = this.#demands.get(workload);
    if (cell === undefined) {
      const made: Cell<readonly string[] | undefined> = Cell.input<readonly string[] | undefined>(this.graph, undefined, equal, () => {
        if (made.peek() === undefined) this.#demands.delete(workload);
      });
      cell = made;
      this.#demands.set(workload, cell);
    }
    return cell;
  }

  put(object: KubeObject): Taken {
    return this.#objects.put(object);
  }

  remove(object: Pick<KubeObject, "apiVersion" | "kind" | "metadata">): Taken {
    return this.#objects.remove(object);
  }
}

/**
 * A world of these objects. Kinds that the compiler does not read are passed over. Order of `objects` does not matter. `like`: a world whose proxies
 * use the same services (`demanded`).
 */
export function buildWorld(objects: Iterable<KubeObject>, trustDomain: string, like?: World): LiveWorld {
  const world = new LiveWorld(trustDomain);
  for (const [workload, names] of like?.demands() ?? []) world.demand(workload, names);
  for (const object of objects) world.put(object);
  return world;
}

/** Key: source id, blank, `NS/NAME`. Existence alone, so that its readers are not told of other changes. */
const hasObject = derived((world, key) => {
  const [id = "", name = ""] = key.split(" ");
  return world.objects({ id, indices: {} }).get(name) !== undefined;
});

/** Key: source id. */
const namespacesWith = derived<readonly string[]>(
  (world, id) => [
    ...new Set(
      world
        .objects({ id, indices: {} })
        .keys("all", "")
        .map((key) => key.slice(0, key.indexOf("/"))),
    ),
  ],
  equal,
);

const sameList = <T>(a: readonly T[] | undefined, b: readonly T[] | undefined) =>
  a === b || (a !== undefined && b !== undefined && a.length === b.length && a.every((each, at) => each === b[at]));

const listed = <T>(list: readonly T[]) => (list.length === 0 ? undefined : list);

const policiesIn = derived((world, namespace) => listed(world.objects(policySource).in(namespace)), sameList);
const telemetriesIn = derived((world, namespace) => listed([...world.objects(telemetrySource).in(namespace)].sort(byAge)), sameList);
const peersIn = derived((world, namespace) => listed([...world.objects(peerAuthenticationSource).in(namespace)].sort(byAge)), sameList);
const allRoutes = derived((world) => [...world.objects(httpRouteSource).all()].sort(byAge), sameList);

const workloadOf = derived((world, key) => {
  const entry = world.objects(workloadSource).get(key);
  return entry === undefined ? undefined : workloadModel(entry, world.trustDomain);
});

/** What selectors see of a workload; stands still while its health or its ports change. */
export const selectableOf = derived<Selectable | undefined>((world, key) => {
  const found = world.workloads.get(key);
  return found === undefined ? undefined : { namespace: found.namespace, labels: found.labels };
}, equal);

const serviceOf = derived((world, key) => {
  const object = world.objects(serviceSource).get(key);
  return object === undefined ? undefined : serviceModel(world, object);
});

/** Keys of the workloads that a service selects; stands still while these change in other ways. */
const selectedBy = derived<readonly string[]>((world, key) => {
  const service = world.services.get(key);
  if (service === undefined) return [];
  return selectedIn(world, service.namespace, service.selector);
}, equal);

/** Keys of the workloads of a namespace that have all of some labels; none for an empty selector. */
export function selectedIn(world: World, namespace: string, selector: Readonly<Record<string, string>>): readonly string[] {
  const entries = world.objects(workloadSource);
  let best: string | undefined;
  let fewest = Number.POSITIVE_INFINITY;
  for (const [label, value] of Object.entries(selector)) {
    const text = `${namespace}/${label}=${value}`;
    const count = entries.count("label", text);
    if (count >= fewest) continue;
    best = text;
    fewest = count;
  }
  if (best === undefined) return [];
  return entries.keys("label", best).filter((key) => matchesLabels(selector, selectableOf(world, key)?.labels ?? {}));
}

const workloadsOf = derived<readonly WorkloadModel[]>(
  (world, key) => selectedBy(world, key).flatMap((each) => world.workloads.get(each) ?? []),
  sameList,
);

const slicesOf = derived<readonly EndpointSliceObject[]>((world, key) => {
  const service = world.services.get(key);
  return service === undefined || Object.keys(service.selector).length > 0 ? [] : world.objects(sliceSource).by("service", key);
}, sameList);

const servicesOfWorkload = derived<readonly ServiceModel[] | undefined>((world, key) => {
  const workload = selectableOf(world, key);
  if (workload === undefined) return undefined;
  const keys = new Set<string>();
  for (const [label, value] of Object.entries(workload.labels))
    for (const each of world.objects(serviceSource).keys("selector", `${workload.namespace}/${label}=${value}`)) keys.add(each);
  const found: ServiceModel[] = [];
  for (const each of [...keys].sort()) {
    const service = world.services.get(each);
    if (service !== undefined && matchesLabels(service.selector, workload.labels)) found.push(service);
  }
  return listed(found);
}, sameList);

/** Oldest first; objects without a time of creation (not stored yet) come last. */
export function byAge(a: KubeObject, b: KubeObject): number {
  return compareText(a.metadata.creationTimestamp ?? "~", b.metadata.creationTimestamp ?? "~") || compareText(keyOf(a), keyOf(b));
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

function serviceModel(world: World, object: ServiceObject): ServiceModel {
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
  return {
    key,
    name: object.metadata.name,
    namespace,
    host: serviceHost(object.metadata.name, namespace),
    ports,
    defaultPort: connected.find((port) => port.port === 80) ?? connected[0],
    defaultUdpPort: ports.find((port) => port.protocol === "udp"),
    selector,
    get workloads() {
      return workloadsOf(world, key);
    },
    get slices() {
      return slicesOf(world, key);
    },
    object,
  };
}

export function serviceRef({ key, name, namespace, host }: ServiceRef): ServiceRef {
  return { key, name, namespace, host };
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
