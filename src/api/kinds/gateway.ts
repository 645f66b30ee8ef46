// Owns: gateway.networking.k8s.io Gateway: ports on the edge of the mesh, served by a `weft gateway` process.

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { Condition, KubeObject, Violation } from "../meta.ts";
import { extendSchema, notImplemented, type Schema, show } from "../schema.ts";
import published from "../schemas/gateway.json" with { type: "json" };
import { type Add, gather } from "./gateway-refs.ts";
import {
  type AllowedNamespaces,
  type GatewayListener,
  type GatewayObject,
  type LabelSelector,
  routeKindsOf,
  tlsFiles,
} from "./gateway-spec.ts";
import { istioProxyConfig, mostTrustedProxies, trustedProxiesAnnotation, trustedProxiesRules } from "./trusted-proxies.ts";

const protocols = Object.keys(routeKindsOf);
const transportOf = (listener: GatewayListener): "udp" | "tcp" => (listener.protocol === "UDP" ? "udp" : "tcp");

/** Server-side apply tells listeners apart by their names, as the published CRD has it. */
function named(schema: Schema): Schema {
  const listeners = schema.properties?.listeners ?? {};
  return { ...schema, properties: { ...schema.properties, listeners: { ...listeners, listType: "map", listMapKeys: ["name"] } } };
}

/** GEP-1713; the selector is that of a listener's allowedRoutes. */
const allowedListeners: Schema = {
  type: "object",
  properties: {
    namespaces: {
      type: "object",
      default: { from: "None" },
      properties: {
        from: { type: "string", enum: ["All", "Selector", "Same", "None"], default: "None" },
        selector:
          (published as Schema).properties?.listeners?.items?.properties?.allowedRoutes?.properties?.namespaces?.properties?.selector ?? {},
      },
    },
  },
};

export const gatewaySpec: Schema = extendSchema(
  extendSchema(named(published as Schema), "listeners[]", { protocol: { type: "string", enum: protocols } }),
  "",
  { allowedListeners },
);

export const gatewayKind = defineKind({
  group: "gateway.networking.k8s.io",
  versions: ["v1", "v1beta1"],
  kind: "Gateway",
  plural: "gateways",
  shortNames: ["gtw"],
  categories: ["gateway-api"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: gatewaySpec },
  unimplemented: {
    "spec.addresses": "a Gateway listens where `weft gateway` runs; its --address says where",
    "spec.infrastructure": "labels of the process are those of `weft gateway`; remove it",
    "spec.backendTLS": "the mesh presents its own certificates to backends; remove it",
    "spec.tls": "put tls on each listener; client certificates are not asked for",
    "spec.defaultScope": "let routes name the Gateway in parentRefs",
    "spec.listeners[].tls.frontendValidation":
      "client certificates are not asked for: use an AuthorizationPolicy on addresses, or a TLS listener with Passthrough",
  },
  notes: [
    "Served by `weft gateway NAME`, which opens the ports of all listeners; several processes may serve one Gateway. Until one runs, `Programmed` is false.",
    "gatewayClassName names a GatewayClass with controllerName weft.dev/gateway, or is `weft`, which needs no object. Gateways of other classes are left alone.",
    "A listener of HTTPS, or of TLS with mode Terminate, takes its certificate from a Secret of type kubernetes.io/tls (`certificateRefs`, one; of another namespace with a ReferenceGrant), or from files on the machine of the process: `options` weft.dev/certificate-file and weft.dev/private-key-file.",
    "Listeners may share a port: of HTTP by their hostnames; of HTTPS and TLS by their hostnames, which must differ. A request belongs to the listener with the longest hostname that fits, whatever routes it has.",
    "Routes attach to listeners of their protocol, from the Gateway's own namespace unless allowedRoutes says otherwise; a route without a hostname in common with the listener is not accepted (NoMatchingListenerHostname).",
    "`allowedListeners` says from which namespaces ListenerSets may add listeners: none, unless it is there.",
    `The annotation \`${trustedProxiesAnnotation}: "1"\` says how many proxies stand before it (0 to ${mostTrustedProxies}; also Istio's \`${istioProxyConfig}\` with gatewayTopology.numTrustedProxies alone): the client is then whom the first of them has written into \`x-forwarded-for\`, for policies, limits, keys and logs, and its \`x-forwarded-proto\` is kept.`,
    "AuthorizationPolicies that select the process (labels of `weft gateway`, app: NAME) judge what comes in. Its calls into the mesh go over mutual TLS with its own identity.",
  ],
  rules: gatewayRules,
  columns: [
    textColumn("Class", "GatewayClass it belongs to.", (object) => (object as GatewayObject).spec?.gatewayClassName ?? ""),
    textColumn("Address", "Where processes serve it.", addresses),
    textColumn("Programmed", "Whether its ports are open.", (object) => conditionOf(object, "Programmed")),
    ageColumn,
  ],
});

function addresses(object: KubeObject): string {
  const list = (object.status as { addresses?: { value?: string }[] } | undefined)?.addresses ?? [];
  return list.map(({ value }) => value ?? "").join(",");
}

/** Status of a condition, or `Unknown`. */
export function conditionOf(object: KubeObject, type: string): string {
  const list = (object.status as { conditions?: Condition[] } | undefined)?.conditions ?? [];
  return list.find((each) => each.type === type)?.status ?? "Unknown";
}

function gatewayRules(object: KubeObject): Violation[] {
  const { spec } = object as GatewayObject;
  return gather((add) => {
    for (const { path, message } of trustedProxiesRules(object)) add(path, message);
    listenerRules(spec.listeners, add);
    const { namespaces } = spec.allowedListeners ?? {};
    checkNamespaces(namespaces, "spec.allowedListeners.namespaces", add);
  });
}

/** What must hold of the listeners of one object, under `spec.listeners`. */
export function listenerRules(listeners: readonly GatewayListener[], add: Add): void {
  const names = new Map<string, number>();
  const places = new Map<string, number>();
  for (const [at, listener] of listeners.entries()) {
    const path = `spec.listeners[${at}]`;
    const before = names.get(listener.name);
    if (before !== undefined) add(`${path}.name`, `${show(listener.name)} is taken by spec.listeners[${before}]`);
    else names.set(listener.name, at);
    const place = `${transportOf(listener)} ${listener.port} ${listener.protocol} ${listener.hostname?.toLowerCase() ?? ""}`;
    const same = places.get(place);
    if (same !== undefined)
      add(path, `has port, protocol and hostname of spec.listeners[${same}], so that nothing tells them apart; change one of them`);
    else places.set(place, at);
    checkListener(listener, path, add);
  }
}

function checkNamespaces({ from, selector }: AllowedNamespaces = {}, path: string, add: Add): void {
  if (from === "Selector") {
    if (selector === undefined) add(`${path}.selector`, "is required for from: Selector");
    else checkSelector(selector, `${path}.selector`, add);
  } else if (selector !== undefined) add(`${path}.selector`, "belongs to from: Selector only");
}

function checkListener(listener: GatewayListener, path: string, add: Add): void {
  const { protocol, hostname, tls, allowedRoutes } = listener;
  if (hostname !== undefined && (protocol === "TCP" || protocol === "UDP"))
    add(`${path}.hostname`, `${protocol} shows no host name; remove it`);
  if (hostname !== undefined && /^[0-9]{1,3}(\.[0-9]{1,3}){3}$/.test(hostname))
    add(`${path}.hostname`, `${show(hostname)} is an IP address; hostnames are DNS names`);
  if (protocol === "HTTPS" || protocol === "TLS") {
    if (tls === undefined) add(`${path}.tls`, `is required for protocol ${protocol}`);
    else checkTls(listener, tls, `${path}.tls`, add);
  } else if (tls !== undefined)
    add(`${path}.tls`, `must not be there for protocol ${protocol}; write protocol ${protocol === "HTTP" ? "HTTPS" : "TLS"}`);
  checkNamespaces(allowedRoutes?.namespaces, `${path}.allowedRoutes.namespaces`, add);
}

function checkTls(listener: GatewayListener, tls: NonNullable<GatewayListener["tls"]>, path: string, add: Add): void {
  const refs = tls.certificateRefs ?? [];
  const options = tls.options ?? {};
  const known = Object.values(tlsFiles) as readonly string[];
  for (const name of Object.keys(options))
    if (!known.includes(name))
      add(`${path}.options["${name}"]`, notImplemented(`option ${show(name)}`, `known are ${known.join(" and ")}`));
  if (tls.mode === "Passthrough") {
    if (listener.protocol === "HTTPS") add(`${path}.mode`, "HTTPS is decrypted here; for Passthrough write protocol TLS");
    if (refs.length > 0) add(`${path}.certificateRefs`, "Passthrough decrypts nothing; remove them");
    if (Object.keys(options).length > 0) add(`${path}.options`, "Passthrough decrypts nothing; remove them");
    return;
  }
  const files = [options[tlsFiles.certificate], options[tlsFiles.privateKey]];
  const given = files.filter((file) => file !== undefined);
  if (given.length === 1) add(`${path}.options`, `${tlsFiles.certificate} and ${tlsFiles.privateKey} go together`);
  for (const file of given) if (!file.startsWith("/")) add(`${path}.options`, `${show(file)} must be a path from the root`);
  if (refs.length + given.length === 0)
    add(`${path}.certificateRefs`, `is required for mode Terminate: the name of a Secret, or name files in options ${known.join(" and ")}`);
  if (refs.length > 0 && given.length > 0) add(`${path}.options`, "files and certificateRefs exclude each other; remove one");
  for (const [at, ref] of refs.entries())
    if ((ref.group ?? "") !== "" || (ref.kind ?? "Secret") !== "Secret")
      add(`${path}.certificateRefs[${at}]`, `a certificate comes from a Secret, not from ${ref.group ?? ""}/${ref.kind ?? ""}`);
}

const operators = ["In", "NotIn", "Exists", "DoesNotExist"];

function checkSelector(selector: LabelSelector, path: string, add: Add): void {
  for (const [at, { operator, values = [] }] of (selector.matchExpressions ?? []).entries()) {
    const where = `${path}.matchExpressions[${at}]`;
    if (!operators.includes(operator)) add(`${where}.operator`, `must be one of ${operators.join(", ")}, got ${show(operator)}`);
    else if ((operator === "In" || operator === "NotIn") !== values.length > 0)
      add(`${where}.values`, values.length > 0 ? `must not be there for ${operator}` : `is required for ${operator}`);
  }
}
