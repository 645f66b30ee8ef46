// Owns: what a Gateway's listeners are worth: whether they conflict, which kinds and namespaces they take routes from, their certificates. Nothing here
// depends on routes, so that a route's change does not touch it.

import { tlsSecretType } from "../../api/kinds/gateway-secret.ts";
import {
  builtInClass,
  type CertificateRef,
  type GatewayListener,
  type GatewayObject,
  gatewayController,
  type LabelSelector,
  type ListenerProtocol,
  routeKindsOf,
  tlsFiles,
} from "../../api/kinds/gateway-spec.ts";
import { inGatewayApi } from "../../api/kinds/istiogateway-spec.ts";
import type { ListenerSetObject } from "../../api/kinds/listenerset-spec.ts";
import { trustedProxies } from "../../api/kinds/trusted-proxies.ts";
import type { KubeObject } from "../../api/meta.ts";
import type { Source } from "../objects.ts";
import type { CertificatePlan } from "../plan/gateways.ts";
import {
  gatewayClassSource,
  gatewaySource,
  istioGatewaySource,
  listenerSetSources,
  namespaceSource,
  type ParentIndex,
  secretSource,
} from "../route-sources.ts";
import { byAge, derived, equal, keyOf, namespaceOf, type World } from "../world.ts";
import { permitted } from "./backends.ts";
import { lower } from "./gateway-hosts.ts";
import { namesOfPair } from "./pem.ts";

export interface GatewayModel {
  readonly key: string;
  readonly namespace: string;
  /** Its own, then those of `sets`. */
  readonly listeners: readonly ListenerModel[];
  /** `KIND NS/NAME` of each ListenerSet that it takes, in the order of precedence. */
  readonly sets: readonly string[];
  /** Before it, whose word on the client is taken. */
  readonly trustedProxies: number;
}

export interface Trouble {
  readonly reason: string;
  readonly message: string;
}

export interface ListenerModel {
  /** Unique in the Gateway; of a set's with the set in front. */
  readonly name: string;
  /** As its own object names it. */
  readonly section: string;
  /** `KIND NS/NAME` of the ListenerSet that it comes from; undefined = it is the Gateway's own. */
  readonly set: string | undefined;
  readonly port: number;
  readonly protocol: ListenerProtocol;
  /** `*` = any. */
  readonly hostname: string;
  readonly passthrough: boolean;
  /** Kinds of routes it takes. */
  readonly kinds: readonly string[];
  readonly from: "All" | "Selector" | "Same";
  readonly selector: LabelSelector;
  /** It is not opened. */
  readonly conflict: Trouble | undefined;
  /** A reference of its own that leads nowhere; where it is the certificate, the listener is not opened. */
  readonly unresolved: Trouble | undefined;
  readonly certificate: CertificatePlan | undefined;
  /** Names of `certificate`. */
  readonly names: readonly string[];
  /** Those beside `certificate`, for the names that they alone have. */
  readonly others: readonly NamedCertificate[];
}

export interface NamedCertificate {
  readonly certificate: CertificatePlan;
  /** Its DNS names, in lower case; of a wildcard the star stands for one label. */
  readonly names: readonly string[];
}

/** By `NS/NAME`; undefined = there is no such Gateway, or it is not Weft's. */
export const gatewayModel = derived<GatewayModel | undefined>((world, key) => {
  const gateway = world.objects(gatewaySource).get(key) ?? ofIstio(world, key);
  if (gateway === undefined || !isOurs(world, gateway)) return undefined;
  const listeners: ListenerModel[] = [];
  for (const listener of gateway.spec.listeners) listeners.push(listenerModel(world, gateway, undefined, listener, listeners));
  const sets = setsOf(world, gateway);
  for (const set of sets)
    for (const listener of set.spec.listeners) listeners.push(listenerModel(world, set, nameOfSet(set), listener, listeners));
  return { key, namespace: namespaceOf(gateway), listeners, sets: sets.map(nameOfSet), trustedProxies: trustedProxies(gateway) };
}, equal);

/** ListenerSets that a Gateway takes (GEP-1713): the oldest goes first, then by namespace and name. */
function setsOf(world: World, gateway: GatewayObject): ListenerSetObject[] {
  const { from = "None", selector = {} } = gateway.spec.allowedListeners?.namespaces ?? {};
  if (from === "None") return [];
  return Object.values(listenerSetSources)
    .flatMap((each) => world.objects(each).by("gateway", keyOf(gateway)))
    .filter((set) => takesFrom(world, namespaceOf(gateway), { from, selector }, namespaceOf(set)))
    .sort(byAge);
}

function nameOfSet(set: ListenerSetObject): string {
  return `${set.kind} ${keyOf(set)}`;
}

/** Routes with a parent that is a Gateway, or a ListenerSet of it; each once. */
export function attachedTo<T extends KubeObject>(world: World, from: Source<T, ParentIndex>, gateway: string): readonly T[] {
  const routes = world.objects(from);
  const own = routes.by("gateway", gateway);
  const sets = gatewayModel(world, gateway)?.sets ?? [];
  return sets.length === 0 ? own : [...new Set([...own, ...sets.flatMap((set) => routes.by("set", set))])];
}

/** Istio's, in Gateway API's words. */
function ofIstio(world: World, key: string): GatewayObject | undefined {
  const object = world.objects(istioGatewaySource).get(key);
  return object === undefined ? undefined : inGatewayApi(object);
}

function isOurs(world: World, gateway: GatewayObject): boolean {
  const name = gateway.spec.gatewayClassName;
  // Cluster-scoped objects are filed under the default namespace.
  const found = world.objects(gatewayClassSource).get(`default/${name}`);
  return found === undefined ? name === builtInClass : found.spec.controllerName === gatewayController;
}

/** A listener that can be opened. */
export function isUsable(listener: ListenerModel): boolean {
  const needsCertificate = (listener.protocol === "HTTPS" || listener.protocol === "TLS") && !listener.passthrough;
  return listener.conflict === undefined && (!needsCertificate || listener.certificate !== undefined);
}

/** `owner`: the Gateway, or the set, whose name `set` is. */
function listenerModel(
  world: World,
  owner: KubeObject,
  set: string | undefined,
  listener: GatewayListener,
  before: readonly ListenerModel[],
): ListenerModel {
  const { name, port, protocol, tls, allowedRoutes } = listener;
  const known = routeKindsOf[protocol];
  const asked = allowedRoutes?.kinds ?? [];
  const kinds = asked.length === 0 ? known : known.filter((kind) => asked.some((each) => each.kind === kind && isGatewayGroup(each.group)));
  const wrong = asked.filter((each) => !known.includes(each.kind) || !isGatewayGroup(each.group));
  const passthrough = tls?.mode === "Passthrough";
  const certificates = tls === undefined || passthrough ? [] : certificatesOf(world, owner, listener);
  const bad = certificates.find((each): each is Trouble => "reason" in each);
  const [first, ...others] = certificates.filter((each): each is NamedCertificate => !("reason" in each));
  const hostname = lower(listener.hostname);
  return {
    name: set === undefined ? name : `${set.replace(" ", "/")}/${name}`,
    section: name,
    set,
    port,
    protocol,
    hostname,
    passthrough,
    kinds: protocol === "TLS" && passthrough ? kinds.filter((kind) => kind === "TLSRoute") : kinds,
    from: allowedRoutes?.namespaces?.from ?? "Same",
    selector: allowedRoutes?.namespaces?.selector ?? {},
    conflict: conflictOf(listener, set, hostname, before),
    unresolved:
      bad ??
      (wrong.length === 0
        ? undefined
        : {
            reason: "InvalidRouteKinds",
            message: `a listener of protocol ${protocol} takes ${known.join(", ")}, not ${wrong.map((each) => each.kind).join(", ")}`,
          }),
    certificate: first?.certificate,
    names: first?.names ?? [],
    others,
  };
}

function isGatewayGroup(group: string | undefined): boolean {
  return group === undefined || group === "gateway.networking.k8s.io";
}

/** HTTPS and TLS share ports; nothing else does, but for listeners of one protocol that have names. One that is not opened itself stands in nobody's way. */
function conflictOf(
  { port, protocol }: GatewayListener,
  set: string | undefined,
  hostname: string,
  before: readonly ListenerModel[],
): Trouble | undefined {
  const sharing = (other: ListenerProtocol) => (other === "HTTPS" ? "TLS" : other);
  for (const other of before) {
    if (other.conflict !== undefined || other.port !== port || (other.protocol === "UDP") !== (protocol === "UDP")) continue;
    // Who writes a set need not be let know what others write.
    const who = other.set === set ? `listener ${other.section}` : "another listener of the Gateway";
    if (sharing(other.protocol) !== sharing(protocol))
      return {
        reason: "ProtocolConflict",
        message: `port ${port} is of ${who}, which speaks ${other.protocol}; ${protocol} cannot be told from it`,
      };
    if (other.hostname === hostname || protocol === "TCP" || protocol === "UDP")
      return {
        reason: "HostnameConflict",
        message: `${who} has port ${port}${hostname === "*" ? "" : ` and hostname ${hostname}`} already`,
      };
  }
  return undefined;
}

/** In the order in which they are named: the first is for all names that no other has. */
function certificatesOf(world: World, owner: KubeObject, { tls }: GatewayListener): (NamedCertificate | Trouble)[] {
  const options = tls?.options ?? {};
  const [chainFile, keyFile] = [options[tlsFiles.certificate], options[tlsFiles.privateKey]];
  if (chainFile !== undefined && keyFile !== undefined)
    return [{ certificate: { kind: "files", chain: chainFile, privateKey: keyFile }, names: [] }];
  const refs = tls?.certificateRefs ?? [];
  if (refs.length === 0) return [{ reason: "InvalidCertificateRef", message: "tls names no certificate" }];
  return refs.map((ref) => certificateOf(world, owner, ref));
}

function certificateOf(world: World, owner: KubeObject, ref: CertificateRef): NamedCertificate | Trouble {
  const namespace = ref.namespace ?? namespaceOf(owner);
  const key = `${namespace}/${ref.name}`;
  if (namespace !== namespaceOf(owner) && !permitted(world, owner, "Secret", namespace, ref.name))
    return {
      reason: "RefNotPermitted",
      message: `Secret ${key} is in another namespace, and no ReferenceGrant in ${namespace} lets ${owner.kind}s of ${namespaceOf(owner)} refer to it`,
    };
  const secret = world.objects(secretSource).get(key);
  if (secret === undefined) return { reason: "InvalidCertificateRef", message: `there is no Secret ${key}` };
  if (secret.type !== tlsSecretType)
    return { reason: "InvalidCertificateRef", message: `Secret ${key} is of type ${secret.type ?? ""}, not ${tlsSecretType}` };
  const text = (name: string) => Buffer.from(secret.data?.[name] ?? "", "base64").toString("utf8");
  const [chain, privateKey] = [text("tls.crt"), text("tls.key")];
  const names = namesOfPair(chain, privateKey);
  if (typeof names === "string") return { reason: "InvalidCertificateRef", message: `Secret ${key}: ${names}` };
  return { certificate: { kind: "pem", chain, privateKey }, names };
}

/** Whether a listener takes routes, or a Gateway ListenerSets, from a namespace. `own`: that of the Gateway, or of the set that has the listener. */
export function takesFrom(
  world: World,
  own: string,
  { from, selector }: Pick<ListenerModel, "from" | "selector">,
  namespace: string,
): boolean {
  switch (from) {
    case "All":
      return true;
    case "Same":
      return namespace === own;
    case "Selector":
      return selects(selector, labelsOfNamespace(world, namespace));
  }
}

/** Kubernetes labels every namespace with its name. */
function labelsOfNamespace(world: World, namespace: string): Readonly<Record<string, string>> {
  const object = world.objects(namespaceSource).get(`default/${namespace}`);
  return { ...object?.metadata.labels, "kubernetes.io/metadata.name": namespace };
}

export function selects({ matchLabels = {}, matchExpressions = [] }: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  const label = (key: string) => (Object.hasOwn(labels, key) ? labels[key] : undefined);
  if (!Object.entries(matchLabels).every(([key, value]) => label(key) === value)) return false;
  return matchExpressions.every(({ key, operator, values = [] }) => {
    const value = label(key);
    switch (operator) {
      case "In":
        return value !== undefined && values.includes(value);
      case "NotIn":
        return value === undefined || !values.includes(value);
      case "Exists":
        return value !== undefined;
      case "DoesNotExist":
        return value === undefined;
      default:
        return false;
    }
  });
}
