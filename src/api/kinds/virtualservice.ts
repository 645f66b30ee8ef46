// Owns: networking.istio.io VirtualService: how requests for a host are routed, changed, mirrored and made to fail. What is not built is refused.

import { ageColumn, defineKind, dnsLabel, textColumn } from "../define.ts";
import { isToken, wrongExpression, wrongFieldName, wrongFieldValue, wrongHost, wrongPath, wrongSubstitution } from "../http-words.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { extendSchema, notImplemented, type Schema, show } from "../schema.ts";
import schema from "../schemas/virtualservice.json" with { type: "json" };
import { ruleDurationMs } from "./destinationrule-spec.ts";
import { parseSubnet } from "./subnet.ts";
import {
  type ConnectionMatch,
  type ConnectionRoute,
  type Destination,
  faultsAnnotation,
  grpcCode,
  meshGateway,
  parseFaults,
  retryWords,
  type TextMatch,
  type VirtualFault,
  type VirtualHeaders,
  type VirtualMatch,
  type VirtualRoute,
  type VirtualServiceObject,
} from "./virtualservice-spec.ts";

/** Newer than the schema that the package publishes. */
const newer: Readonly<Record<string, Schema>> = {
  mirrors: {
    type: "array",
    items: {
      type: "object",
      required: ["destination"],
      properties: {
        destination: {
          type: "object",
          required: ["host"],
          properties: {
            host: { type: "string" },
            subset: { type: "string" },
            port: { type: "object", properties: { number: { type: "integer" } } },
          },
        },
        percentage: { type: "object", properties: { value: { type: "any" } } },
      },
    },
  },
};
const cors: Readonly<Record<string, Schema>> = {
  unmatchedPreflights: { type: "string", enum: ["UNSPECIFIED", "FORWARD", "IGNORE"] },
};
const rewrite: Readonly<Record<string, Schema>> = {
  uriRegexRewrite: { type: "object", properties: { match: { type: "string" }, rewrite: { type: "string" } } },
};
const whole = [
  ["http[]", newer],
  ["http[].corsPolicy", cors],
  ["http[].rewrite", rewrite],
].reduce((sum, [place, fields]) => extendSchema(sum, place as string, fields as Readonly<Record<string, Schema>>), schema as Schema);

export const virtualServiceKind = defineKind({
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  kind: "VirtualService",
  plural: "virtualservices",
  shortNames: ["vs"],
  categories: ["istio-io", "networking-istio-io"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: whole },
  unimplemented: {
    "spec.http[].match[].statPrefix": "statistics are kept by route name",
    "spec.http[].mirror_percent": "write mirrorPercentage.value",
    "spec.tls[].match[].destinationSubnets": "callers reach services by name: use sniHosts and port",
    "spec.http[].directResponse.body.bytes": "use body.string",
    "spec.http[].retries.retryRemoteLocalities": "another instance is taken wherever it is",
    "spec.http[].fault.delay.exponentialDelay": "use fixedDelay",
    "spec.http[].fault.abort.http2Error": "use httpStatus or grpcStatus",
  },
  notes: [
    "Speaks for the Services that `hosts` names (short names in its own namespace, or NAME.NAMESPACE.svc.cluster.local), hosts of ServiceEntries, and wildcards over both; an exact name goes before a wildcard. For a host of another namespace it speaks to callers of its own namespace only.",
    '`exportTo` says whose callers it speaks to: namespaces, `"."` its own, `"*"` all. What is for some callers goes before what is for all; of two for the same callers the second is refused. A port that an HTTPRoute or GRPCRoute is attached to follows that one.',
    "`gateways` names Gateways of either group (NAME or NAMESPACE/NAME) that `weft gateway` serves, and `mesh` for sidecars, which is the default. At a Gateway its hosts are those that listener and object have in common, and several objects for one host are one, the oldest first; a host that an HTTPRoute names there follows that one. Matches on callers (sourceLabels, sourceNamespace) fit nobody there.",
    "`delegate`: the routes of a VirtualService without hosts stand in the place of the route, with matches that lie within its own, and get what it says of them unless they say it themselves. A delegate may delegate on. What cannot be followed is left out, and the status names both objects; who would close a circle is refused.",
    "`tls` and `tcp` speak for ports of opaque bytes: at a local port (`weft run --upstream`) and at Gateways. Through HTTP_PROXY, where nobody sees the name in the handshake, `tcp` alone.",
    "`fault` takes effect only where the namespace `weft-system` has the label `weft.dev/fault-injection: enabled`; without it such an object is refused, and when the label goes the faults go too. The status says so.",
    "Without `timeout` a request may last as long as it wants; without `retries` it is repeated where that can do no harm, and `attempts: 0` switches that off.",
    "Faults without a field come in the annotation `weft.dev/faults`, by the names of routes: `slow rate=64KiB/s@50%, broken reset=1% client=spiffe://cluster.local/ns/shop/sa/front`. `client` (a `*` at its end stands for anything) restricts all faults of its route, `fault` included.",
    "`mirror` sends a copy when the whole request is there, up to 64 KiB; its host ends in `-shadow`, as in Istio.",
  ],
  rules: virtualServiceRules,
  columns: [
    textColumn("Gateways", "Gateways at which it speaks; empty: sidecars.", (object) =>
      listed((object as VirtualServiceObject).spec?.gateways),
    ),
    textColumn("Hosts", "The hosts it speaks about.", (object) => listed((object as VirtualServiceObject).spec?.hosts)),
    ageColumn,
  ],
});

/** As the published CRD's columns show lists. */
function listed(names: readonly string[] | undefined): string {
  return names === undefined ? "" : JSON.stringify(names);
}

type Add = (path: string, message: string) => void;

function virtualServiceRules(object: KubeObject): Violation[] {
  const out: Violation[] = [];
  const add: Add = (path, message) => out.push({ path, message });
  const { spec = {} } = object as VirtualServiceObject;
  const hosts = spec.hosts ?? [];
  for (const [n, host] of hosts.entries()) {
    const path = `spec.hosts[${n}]`;
    if (!isPattern(host)) add(path, `${show(host)} must be the name of a Service, a DNS name, or *. and a DNS name`);
    else if (hosts.indexOf(host) !== n) add(path, `${show(host)} stands there twice`);
    else if (!isHost(host) && !boundElsewhere(spec) && isMeshName(host))
      add(path, `${show(host)} must be the name of a Service, or NAME.NAMESPACE.svc.cluster.local`);
  }
  if (hosts.length === 0) delegateRules(spec, add);
  for (const [n, gateway] of (spec.gateways ?? []).entries()) {
    const path = `spec.gateways[${n}]`;
    if (!/^([a-z0-9]([-a-z0-9]*[a-z0-9])?\/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(gateway))
      add(path, `${show(gateway)} must be mesh, NAME or NAMESPACE/NAME of a Gateway`);
    else if (spec.gateways?.indexOf(gateway) !== n) add(path, `${show(gateway)} stands there twice`);
  }
  for (const [n, to] of (spec.exportTo ?? []).entries())
    if (to === "~") add(`spec.exportTo[${n}]`, '"~" exports to nobody, so that the object would do nothing; delete it instead');
    else if (to !== "*" && to !== "." && !dnsLabel.test(to))
      add(`spec.exportTo[${n}]`, `must be ".", "*" or the name of a namespace, got ${show(to)}`);
  const { http = [], tls = [], tcp = [] } = spec;
  if (http.length + tls.length + tcp.length === 0) add("spec.http", "needs at least one route, or tls or tcp does");
  annotationRules(object as VirtualServiceObject, add);
  const bound = {
    gateways: spec.gateways === undefined || spec.gateways.length === 0 ? [meshGateway] : spec.gateways,
    root: hosts.length > 0,
  };
  for (const [n, route] of http.entries()) routeRules(route, `spec.http[${n}]`, bound, add);
  for (const [n, route] of tls.entries()) connectionRules(route, `spec.tls[${n}]`, hosts, bound, add);
  for (const [n, route] of tcp.entries()) connectionRules(route, `spec.tcp[${n}]`, undefined, bound, add);
  return out;
}

/** Gateways that the object names, and whether it has hosts. */
interface Bound {
  readonly gateways: readonly string[];
  readonly root: boolean;
}

/** What is there to be delegated to takes hosts and gateways of whom it serves. */
function delegateRules(spec: NonNullable<VirtualServiceObject["spec"]>, add: Add): void {
  if ((spec.gateways ?? []).length > 0)
    add("spec.gateways", "belongs to an object with hosts; one without is delegated to, and goes where that one goes");
  for (const layer of ["tls", "tcp"] as const)
    if ((spec[layer] ?? []).length > 0) add(`spec.${layer}`, "needs spec.hosts: only http routes can be delegated to");
}

function boundElsewhere(spec: NonNullable<VirtualServiceObject["spec"]>): boolean {
  return (spec.gateways ?? []).some((name) => name !== meshGateway);
}

/** A sidecar takes connections from its own application alone, at its own address: only a Gateway sees who comes from where. */
function subnetRules(match: ConnectionMatch, path: string, bound: Bound, add: Add): void {
  const { sourceSubnet, destinationSubnets } = match;
  if (sourceSubnet === undefined && destinationSubnets === undefined) return;
  const gateways = match.gateways === undefined || match.gateways.length === 0 ? bound.gateways : match.gateways;
  const field = sourceSubnet === undefined ? "destinationSubnets" : "sourceSubnet";
  if (gateways.includes(meshGateway))
    add(
      `${path}.${field}`,
      "is for Gateways: name them in gateways, without mesh; sidecars tell callers apart by sourceNamespace and sourceLabels",
    );
  const wrong = (text: string) => `${show(text)} must be an IP address or a network such as 192.0.2.0/24`;
  if (sourceSubnet !== undefined && parseSubnet(sourceSubnet) === undefined) add(`${path}.sourceSubnet`, wrong(sourceSubnet));
  if (destinationSubnets?.length === 0) add(`${path}.destinationSubnets`, "needs at least one network");
  for (const [n, text] of (destinationSubnets ?? []).entries())
    if (parseSubnet(text) === undefined) add(`${path}.destinationSubnets[${n}]`, wrong(text));
}

function connectionRules(route: ConnectionRoute, path: string, hosts: readonly string[] | undefined, bound: Bound, add: Add): void {
  const to = route.route ?? [];
  if (to.length === 0) add(`${path}.route`, "needs at least one destination");
  for (const [n, one] of to.entries()) destination(one.destination, `${path}.route[${n}].destination`, add);
  weightRules(to, path, add);
  const matches = route.match ?? [];
  if (hosts !== undefined && matches.length === 0) add(`${path}.match`, "is required: sniHosts say which connections are meant");
  for (const [n, match] of matches.entries()) {
    const where = `${path}.match[${n}]`;
    sourceRules(match, where, bound, add);
    if (hosts === undefined) {
      subnetRules(match, where, bound, add);
      continue;
    }
    if ((match.sniHosts ?? []).length === 0) add(`${where}.sniHosts`, "needs at least one name");
    for (const [at, name] of (match.sniHosts ?? []).entries())
      if (!isPattern(name)) add(`${where}.sniHosts[${at}]`, `${show(name)} must be a DNS name, or *. and a DNS name`);
      else if (!hosts.some((host) => covers(host, name)))
        add(`${where}.sniHosts[${at}]`, `${show(name)} is none of spec.hosts, nor within a wildcard of them`);
  }
}

/** As in Istio a name of the handshake lies within the hosts of the object. */
function covers(host: string, name: string): boolean {
  if (host === "*" || host === name) return true;
  return host.startsWith("*.") && (name.startsWith("*.") ? name.slice(1) : name).endsWith(host.slice(1));
}

function sourceRules(match: ConnectionMatch, path: string, bound: Bound, add: Add): void {
  if (match.port !== undefined && (match.port < 1 || match.port > 65_535)) add(`${path}.port`, `${match.port} must be 1 to 65535`);
  if (bound.root) {
    for (const [n, gateway] of (match.gateways ?? []).entries())
      if (!bound.gateways.includes(gateway))
        add(`${path}.gateways[${n}]`, `${show(gateway)} is none of spec.gateways (${bound.gateways.join(", ")}); a match narrows them`);
    for (const field of ["sourceLabels", "sourceNamespace"] as const)
      if (match[field] !== undefined && !bound.gateways.includes(meshGateway))
        add(`${path}.${field}`, `is about sidecars, and spec.gateways names no ${show(meshGateway)}`);
  }
}

function annotationRules({ metadata, spec = {} }: VirtualServiceObject, add: Add): void {
  const text = metadata.annotations?.[faultsAnnotation];
  if (text === undefined) return;
  const path = `metadata.annotations["${faultsAnnotation}"]`;
  const parsed = parseFaults(text);
  if (typeof parsed === "string") {
    add(path, parsed);
    return;
  }
  for (const [name, { reset, rate, clients }] of parsed) {
    const route = (spec.http ?? []).find((one) => one.name === name);
    if (route === undefined) add(path, `there is no route ${show(name)} in spec.http`);
    else if (clients !== undefined && reset === undefined && rate === undefined && route.fault === undefined)
      add(path, `${show(name)} has clients but no fault`);
  }
}

const label = "[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?";
const dnsName = new RegExp(`^(?=.{1,253}$)${label}(\\.${label})*$`, "i");

/** A Service's name, short or whole, or a name outside the mesh's domain. */
function isHost(host: string): boolean {
  return dnsName.test(host) && !isMeshName(host);
}

/** Within the mesh's domain, and not of the form that Services have. */
function isMeshName(host: string): boolean {
  const lower = host.toLowerCase();
  return !lower.startsWith("*") && lower.endsWith(".cluster.local") && !/^[^.]+\.[^.]+\.svc\.cluster\.local$/.test(lower);
}

/** A name, `*.` and a name, or `*`. */
function isPattern(host: string): boolean {
  return host === "*" || dnsName.test(host.startsWith("*.") ? host.slice(2) : host);
}

function routeRules(route: VirtualRoute, path: string, bound: Bound, add: Add): void {
  const actions = [route.route, route.redirect, route.directResponse, route.delegate].filter((one) => one !== undefined);
  if (actions.length !== 1) add(path, "needs exactly one of route, redirect, directResponse, delegate");
  for (const [n, match] of (route.match ?? []).entries()) {
    matchRules(match, `${path}.match[${n}]`, bound, add);
    if (route.delegate !== undefined && match.uri?.regex !== undefined)
      add(
        `${path}.match[${n}].uri.regex`,
        "cannot stand beside delegate: nobody could say whether a delegate's match lies within it; use a prefix",
      );
  }
  if (route.delegate !== undefined) {
    const { name, namespace } = route.delegate;
    if (name === undefined || name === "") add(`${path}.delegate.name`, "is required: the VirtualService that has the routes");
    if (namespace !== undefined && namespace !== "" && !dnsLabel.test(namespace))
      add(`${path}.delegate.namespace`, `${show(namespace)} is no namespace`);
  }
  destinationRules(route, path, add);
  rewriteRules(route, path, add);
  const time = (where: string, text: string | undefined, least: number): void => {
    const ms = text === undefined ? least : ruleDurationMs(text);
    if (ms === undefined || ms < least)
      add(`${path}.${where}`, `${show(text)} must be a duration such as 10s or 1m30s${least > 0 ? ", above 0" : ""}`);
  };
  time("timeout", route.timeout, 0);
  time("retries.perTryTimeout", route.retries?.perTryTimeout, 1);
  const attempts = route.retries?.attempts;
  if (attempts !== undefined && (attempts < 0 || attempts > 20)) add(`${path}.retries.attempts`, `${attempts} must be 0 to 20`);
  for (const word of (route.retries?.retryOn ?? "")
    .split(",")
    .map((one) => one.trim())
    .filter((one) => one !== "")) {
    if (/^[1-5]\d\d$/.test(word) || (retryWords as readonly string[]).includes(word)) continue;
    add(`${path}.retries.retryOn`, notImplemented(show(word), `use a status code, or ${retryWords.join(", ")}`));
  }
  headerRules(route.headers, `${path}.headers`, add);
  for (const [n, one] of (route.route ?? []).entries()) headerRules(one.headers, `${path}.route[${n}].headers`, add);
  if (route.fault !== undefined) faultRules(route.fault, `${path}.fault`, add);
  const { redirect, directResponse, corsPolicy } = route;
  if (redirect !== undefined) {
    if (![301, 302, 303, 307, 308].includes(redirect.redirectCode ?? 301))
      add(`${path}.redirect.redirectCode`, `${redirect.redirectCode} must be 301, 302, 303, 307 or 308`);
    if (redirect.derivePort !== undefined && redirect.port !== undefined) add(`${path}.redirect.derivePort`, "and port exclude each other");
    const { uri, authority, scheme, port } = redirect;
    const wrongUri = uri === undefined || uri === "" ? undefined : wrongPath(uri);
    if (wrongUri !== undefined) add(`${path}.redirect.uri`, wrongUri);
    const wrongAuthority = authority === undefined || authority === "" ? undefined : wrongHost(authority);
    if (wrongAuthority !== undefined) add(`${path}.redirect.authority`, wrongAuthority);
    if (scheme !== undefined && scheme !== "" && !/^[a-z][a-z0-9+.-]*$/i.test(scheme))
      add(`${path}.redirect.scheme`, `${show(scheme)} is no scheme; write http or https`);
    if (port !== undefined && (port < 1 || port > 65_535)) add(`${path}.redirect.port`, `${port} must be 1 to 65535`);
    if (redirect.uri?.includes("%PREFIX()%"))
      add(`${path}.redirect.uri`, notImplemented("%PREFIX()%", "use an HTTPRoute's ReplacePrefixMatch"));
  }
  if (directResponse !== undefined && (directResponse.status < 200 || directResponse.status > 599))
    add(`${path}.directResponse.status`, `${directResponse.status} must be 200 to 599`);
  if (Buffer.byteLength(directResponse?.body?.string ?? "") > 4_096)
    add(`${path}.directResponse.body.string`, "must have at most 4096 bytes");
  if (corsPolicy !== undefined) {
    time("corsPolicy.maxAge", corsPolicy.maxAge, 0);
    for (const [n, origin] of (corsPolicy.allowOrigins ?? []).entries()) textRules(origin, `${path}.corsPolicy.allowOrigins[${n}]`, add);
    for (const field of ["allowMethods", "allowHeaders", "exposeHeaders"] as const)
      for (const [n, word] of (corsPolicy[field] ?? []).entries())
        if (!isToken(word))
          add(`${path}.corsPolicy.${field}[${n}]`, `${show(word)} is no ${field === "allowMethods" ? "method" : "header name"}`);
  }
}

function headerRules(headers: VirtualHeaders | undefined, path: string, add: Add): void {
  for (const side of ["request", "response"] as const) {
    for (const field of ["set", "add"] as const)
      for (const [name, value] of Object.entries(headers?.[side]?.[field] ?? {})) {
        const where = `${path}.${side}.${field}.${name}`;
        if (/%[A-Z_]+(\([^)]*\))?(:\d+)?%/.test(value)) add(where, notImplemented(`the command in ${show(value)}`, "write a fixed value"));
        // Istio: it is the host of the request that goes on.
        const isHost = side === "request" && field === "set" && ["host", ":authority"].includes(name.toLowerCase());
        const wrong = isHost ? wrongHost(value) : (wrongFieldName(name) ?? wrongFieldValue(value));
        if (wrong !== undefined) add(where, wrong);
      }
    for (const [n, name] of (headers?.[side]?.remove ?? []).entries()) {
      const wrong = wrongFieldName(name);
      if (wrong !== undefined) add(`${path}.${side}.remove[${n}]`, wrong);
    }
  }
}

function matchRules(match: VirtualMatch, path: string, bound: Bound, add: Add): void {
  sourceRules(match, path, bound, add);
  for (const field of ["uri", "scheme", "method", "authority"] as const) {
    const text = match[field];
    if (text !== undefined) textRules(text, `${path}.${field}`, add, field === "uri");
  }
  if (match.ignoreUriCase === true && match.uri?.regex !== undefined)
    add(`${path}.ignoreUriCase`, "has no effect on a regex; write (?i) into it");
  for (const field of ["headers", "withoutHeaders", "queryParams"] as const) {
    for (const [name, text] of Object.entries(match[field] ?? {})) {
      const where = `${path}.${field}.${name}`;
      if (field !== "queryParams" && !isToken(name)) add(where, `${show(name)} is no header name`);
      if (name === "") add(`${path}.${field}`, "has an entry without a name");
      if (Object.keys(text).length > 0) textRules(text, where, add);
    }
  }
}

/** `anyPrefix`: an empty one stands for everything. */
function textRules(text: TextMatch, path: string, add: Add, anyPrefix = false): void {
  const given = (["exact", "prefix", "regex"] as const).filter((kind) => text[kind] !== undefined);
  if (given.length !== 1) add(path, "needs exactly one of exact, prefix, regex");
  if (text.prefix === "" && !anyPrefix) add(`${path}.prefix`, "must not be empty; to ask whether it is there at all, write {}");
  if (text.regex === undefined) return;
  const wrong = wrongExpression(text.regex);
  if (wrong !== undefined) add(`${path}.regex`, wrong);
}

function destinationRules(route: VirtualRoute, path: string, add: Add): void {
  const all = route.route;
  if (all !== undefined) {
    if (all.length === 0) add(`${path}.route`, "needs at least one destination");
    for (const [n, one] of all.entries()) {
      destination(one.destination, `${path}.route[${n}].destination`, add);
    }
    weightRules(all, path, add);
  }
  if (route.mirror !== undefined) destination(route.mirror, `${path}.mirror`, add);
  if (route.mirror !== undefined && (route.mirrors ?? []).length > 0) add(`${path}.mirror`, "and mirrors exclude each other");
  percent(route.mirrorPercentage?.value, `${path}.mirrorPercentage.value`, add);
  percent(route.mirrorPercent, `${path}.mirrorPercent`, add);
  for (const [n, one] of (route.mirrors ?? []).entries()) {
    destination(one.destination, `${path}.mirrors[${n}].destination`, add);
    percent(one.percentage?.value, `${path}.mirrors[${n}].percentage.value`, add);
  }
}

function weightRules(all: readonly { readonly weight?: number }[], path: string, add: Add): void {
  for (const [n, { weight }] of all.entries())
    if (weight !== undefined && (weight < 0 || weight > 1_000_000)) add(`${path}.route[${n}].weight`, `${weight} must be 0 to 1000000`);
  if (all.length > 1 && all.reduce((sum, one) => sum + (one.weight ?? 0), 0) === 0)
    add(`${path}.route`, "the weights add up to 0: give at least one destination a weight above 0");
}

function destination(to: Destination | undefined, path: string, add: Add): void {
  if (to === undefined || !isHost(to.host))
    add(`${path}.host`, `${show(to?.host)} must be the name of a Service, NAME.NAMESPACE.svc.cluster.local, or a host of a ServiceEntry`);
  if (to?.subset === "udp") add(`${path}.subset`, '"udp" is how clusters of UDP ports are named');
}

function percent(value: number | undefined, path: string, add: Add): void {
  if (value !== undefined && (typeof value !== "number" || value < 0 || value > 100))
    add(path, `${show(value)} must be a number of 0 to 100`);
}

function rewriteRules({ rewrite, match, route }: VirtualRoute, path: string, add: Add): void {
  if (rewrite === undefined) return;
  if (route === undefined) add(`${path}.rewrite`, "belongs to a route with destinations");
  if (rewrite.uri !== undefined && rewrite.uriRegexRewrite !== undefined)
    add(`${path}.rewrite`, "uri and uriRegexRewrite exclude each other");
  if (rewrite.uri !== undefined && (match ?? []).some((one) => one.uri?.regex !== undefined))
    add(`${path}.rewrite.uri`, "replaces a prefix or the whole path, and match.uri is a regex; use uriRegexRewrite");
  const { uriRegexRewrite: by, uri, authority } = rewrite;
  const wrongBy = by === undefined ? undefined : wrongSubstitution(by.match ?? "", by.rewrite ?? "");
  if (wrongBy !== undefined) add(`${path}.rewrite.uriRegexRewrite`, wrongBy);
  const wrongUri = uri === undefined || uri === "" ? undefined : wrongPath(uri);
  if (wrongUri !== undefined) add(`${path}.rewrite.uri`, wrongUri);
  const wrongAuthority = authority === undefined || authority === "" ? undefined : wrongHost(authority);
  if (wrongAuthority !== undefined) add(`${path}.rewrite.authority`, wrongAuthority);
}

function faultRules({ delay, abort }: VirtualFault, path: string, add: Add): void {
  if (delay !== undefined) {
    const ms = delay.fixedDelay === undefined ? undefined : ruleDurationMs(delay.fixedDelay);
    if (ms === undefined || ms < 1) add(`${path}.delay.fixedDelay`, `${show(delay.fixedDelay)} must be a duration of at least 1 ms`);
    percent(delay.percentage?.value, `${path}.delay.percentage.value`, add);
    percent(delay.percent, `${path}.delay.percent`, add);
  }
  if (abort === undefined) return;
  percent(abort.percentage?.value, `${path}.abort.percentage.value`, add);
  if ((abort.httpStatus === undefined) === (abort.grpcStatus === undefined))
    add(`${path}.abort`, "needs exactly one of httpStatus, grpcStatus");
  if (abort.httpStatus !== undefined && (abort.httpStatus < 200 || abort.httpStatus > 599))
    add(`${path}.abort.httpStatus`, `${abort.httpStatus} must be 200 to 599`);
  if (abort.grpcStatus !== undefined && grpcCode(abort.grpcStatus) === undefined)
    add(`${path}.abort.grpcStatus`, `${show(abort.grpcStatus)} must be the name or number of a gRPC status`);
}
