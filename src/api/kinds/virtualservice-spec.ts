// Owns: the shape of an Istio VirtualService, and the small readers that its validation and its compiler share.

import { serviceHost } from "../../wire/names.ts";
import type { KubeObject } from "../meta.ts";

export interface TextMatch {
  readonly exact?: string;
  readonly prefix?: string;
  readonly regex?: string;
}

export interface VirtualMatch {
  readonly name?: string;
  readonly uri?: TextMatch;
  readonly ignoreUriCase?: boolean;
  readonly scheme?: TextMatch;
  readonly method?: TextMatch;
  readonly authority?: TextMatch;
  readonly headers?: Readonly<Record<string, TextMatch>>;
  readonly withoutHeaders?: Readonly<Record<string, TextMatch>>;
  readonly queryParams?: Readonly<Record<string, TextMatch>>;
  readonly port?: number;
  readonly gateways?: readonly string[];
  readonly sourceNamespace?: string;
  readonly sourceLabels?: Readonly<Record<string, string>>;
}

/** Of `tcp` and `tls`. */
export interface ConnectionMatch {
  /** Of `tls`, where it must be there. */
  readonly sniHosts?: readonly string[];
  /** Of `tcp` at Gateways: whom the connection comes from, and the address that it came to. */
  readonly sourceSubnet?: string;
  readonly destinationSubnets?: readonly string[];
  readonly port?: number;
  readonly gateways?: readonly string[];
  readonly sourceNamespace?: string;
  readonly sourceLabels?: Readonly<Record<string, string>>;
}

export interface ConnectionRoute {
  readonly match?: readonly ConnectionMatch[];
  readonly route?: readonly { readonly destination?: Destination; readonly weight?: number }[];
}

export interface Destination {
  readonly host: string;
  readonly subset?: string;
  readonly port?: { readonly number?: number };
}

export interface VirtualEdits {
  readonly set?: Readonly<Record<string, string>>;
  readonly add?: Readonly<Record<string, string>>;
  readonly remove?: readonly string[];
}

export interface VirtualHeaders {
  readonly request?: VirtualEdits;
  readonly response?: VirtualEdits;
}

export interface VirtualDestination {
  readonly destination?: Destination;
  readonly weight?: number;
  readonly headers?: VirtualHeaders;
}

interface Percent {
  readonly value?: number;
}

export interface VirtualFault {
  readonly delay?: { readonly fixedDelay?: string; readonly percentage?: Percent; readonly percent?: number };
  readonly abort?: { readonly httpStatus?: number; readonly grpcStatus?: string; readonly percentage?: Percent };
}

export interface VirtualCors {
  readonly allowOrigins?: readonly TextMatch[];
  readonly allowOrigin?: readonly string[];
  readonly allowMethods?: readonly string[];
  readonly allowHeaders?: readonly string[];
  readonly exposeHeaders?: readonly string[];
  readonly maxAge?: string;
  readonly allowCredentials?: boolean;
  readonly unmatchedPreflights?: "UNSPECIFIED" | "FORWARD" | "IGNORE";
}

export interface VirtualRoute {
  readonly name?: string;
  readonly match?: readonly VirtualMatch[];
  readonly route?: readonly VirtualDestination[];
  readonly redirect?: {
    readonly uri?: string;
    readonly authority?: string;
    readonly port?: number;
    readonly scheme?: string;
    readonly redirectCode?: number;
    readonly derivePort?: "FROM_PROTOCOL_DEFAULT" | "FROM_REQUEST_PORT";
  };
  readonly directResponse?: { readonly status: number; readonly body?: { readonly string?: string } };
  readonly delegate?: { readonly name?: string; readonly namespace?: string };
  readonly rewrite?: {
    readonly uri?: string;
    readonly authority?: string;
    readonly uriRegexRewrite?: { readonly match?: string; readonly rewrite?: string };
  };
  readonly timeout?: string;
  readonly retries?: { readonly attempts?: number; readonly perTryTimeout?: string; readonly retryOn?: string };
  readonly fault?: VirtualFault;
  readonly mirror?: Destination;
  readonly mirrorPercent?: number;
  readonly mirrorPercentage?: Percent;
  readonly mirrors?: readonly { readonly destination?: Destination; readonly percentage?: Percent }[];
  readonly corsPolicy?: VirtualCors;
  readonly headers?: VirtualHeaders;
}

export interface VirtualServiceObject extends KubeObject {
  spec?: {
    hosts?: readonly string[];
    gateways?: readonly string[];
    http?: readonly VirtualRoute[];
    tls?: readonly ConnectionRoute[];
    tcp?: readonly ConnectionRoute[];
    exportTo?: readonly string[];
  };
}

/** The whole name of a host: short names are of the object's own namespace, as in Istio; `*` is every host. */
export function wholeHost(host: string, namespace: string): string {
  const lower = host.toLowerCase();
  return lower === "*" || lower.includes(".") ? lower : serviceHost(lower, namespace);
}

/** The hosts that it speaks about; none where it is there to be delegated to. */
export function virtualHosts(object: Pick<VirtualServiceObject, "metadata" | "spec">): string[] {
  return (object.spec?.hosts ?? []).map((host) => wholeHost(host, object.metadata.namespace ?? "default"));
}

/** The word among `gateways` that means sidecars. */
export const meshGateway = "mesh";

/** It speaks to sidecars. */
export function speaksToMesh({ spec = {} }: Pick<VirtualServiceObject, "spec">): boolean {
  return (
    (spec.hosts ?? []).length > 0 && (spec.gateways === undefined || spec.gateways.length === 0 || spec.gateways.includes(meshGateway))
  );
}

/** `NS/NAME` of a gateway as a VirtualService of `namespace` writes it: NAME or NS/NAME. */
export function gatewayKey(text: string, namespace: string): string {
  return text.includes("/") ? text : `${namespace}/${text}`;
}

/** `NS/NAME` of the Gateways that it is bound to, each once. */
export function boundGateways({ metadata, spec = {} }: Pick<VirtualServiceObject, "metadata" | "spec">): string[] {
  if ((spec.hosts ?? []).length === 0) return [];
  const names = (spec.gateways ?? []).filter((name) => name !== meshGateway);
  return [...new Set(names.map((name) => gatewayKey(name, metadata.namespace ?? "default")))];
}

/** `NS/NAME` of the VirtualService that a route delegates to; its namespace is the root's unless it says one. */
export function delegateKey({ name = "", namespace }: NonNullable<VirtualRoute["delegate"]>, own: string): string {
  return `${namespace === undefined || namespace === "" ? own : namespace}/${name}`;
}

/** `NS/NAME` of all that it delegates to, each once. */
export function delegates({ metadata, spec = {} }: Pick<VirtualServiceObject, "metadata" | "spec">): string[] {
  const own = metadata.namespace ?? "default";
  return [...new Set((spec.http ?? []).flatMap(({ delegate }) => (delegate === undefined ? [] : [delegateKey(delegate, own)])))];
}

/** Some match asks for labels of the caller. */
export function asksForLabels({ spec = {} }: Pick<VirtualServiceObject, "spec">): boolean {
  const routes = [...(spec.http ?? []), ...(spec.tls ?? []), ...(spec.tcp ?? [])];
  return routes.some(({ match }) => (match ?? []).some(({ sourceLabels }) => Object.keys(sourceLabels ?? {}).length > 0));
}

/** `*` = all namespaces, `.` and absence of a word replaced by what they mean. */
export function exportedTo(words: readonly string[] | undefined, own: string): readonly string[] {
  return words === undefined || words.length === 0 ? ["*"] : words.map((word) => (word === "." ? own : word));
}

/** Numbers of `grpcStatus` (grpc.io, status codes). */
export const grpcCodes: Readonly<Record<string, number>> = Object.fromEntries(
  [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
  ].map((name, code) => [name, code]),
);

/** The code of a name or a number; undefined = it is none. */
export function grpcCode(text: string): number | undefined {
  if (/^\d{1,2}$/.test(text)) return Number(text) <= 16 ? Number(text) : undefined;
  return Object.hasOwn(grpcCodes, text) ? grpcCodes[text] : undefined;
}

/** What Istio calls retry conditions, as far as our proxies have them; a number is a status that is tried again. */
export const retryWords = [
  "connect-failure",
  "reset",
  "reset-before-request",
  "refused-stream",
  "gateway-error",
  "5xx",
  "retriable-4xx",
  "retriable-status-codes",
] as const;

/** Annotation of a VirtualService: faults that Istio has no fields for, by the names of its routes. See `parseFaults`. */
export const faultsAnnotation = "weft.dev/faults";

/** Shares are percentages. `clients`: SPIFFE IDs, a `*` at the end stands for anything; they are meant by the route's other faults too. */
export interface OwnFault {
  readonly reset?: number;
  readonly rate?: { readonly kibPerSecond: number; readonly percent: number };
  readonly clients?: readonly string[];
}

/**
 * Reads `ROUTE reset=1%, ROUTE rate=64KiB/s@50% client=spiffe://mesh/ns/shop/sa/front`: entries behind commas, terms behind blanks, `client` as often as
 * wanted. A string is what is wrong with it.
 */
export function parseFaults(text: string): ReadonlyMap<string, OwnFault> | string {
  const out = new Map<string, OwnFault>();
  for (const entry of text.split(",").map((one) => one.trim())) {
    const [route = "", ...terms] = entry.split(/\s+/);
    if (route === "" || terms.length === 0) return `${JSON.stringify(entry)} must be ROUTE and what happens there`;
    if (out.has(route)) return `${route} stands there twice`;
    const fault: { reset?: number; rate?: NonNullable<OwnFault["rate"]>; clients?: string[] } = {};
    for (const term of terms) {
      const reset = /^reset=(\d+(?:\.\d+)?)%$/.exec(term);
      const rate = /^rate=([1-9]\d{0,8})KiB\/s(?:@(\d+(?:\.\d+)?)%)?$/.exec(term);
      const client = /^client=(spiffe:\/\/[^\s*]+\*?)$/.exec(term);
      if (reset !== null && Number(reset[1]) <= 100) fault.reset = Number(reset[1]);
      else if (rate !== null && Number(rate[2] ?? 100) <= 100)
        fault.rate = { kibPerSecond: Number(rate[1]), percent: Number(rate[2] ?? 100) };
      else if (client !== null) fault.clients = [...(fault.clients ?? []), client[1] as string];
      else return `${JSON.stringify(term)} is none of reset=1%, rate=64KiB/s, rate=64KiB/s@50%, client=spiffe://…`;
    }
    out.set(route, fault);
  }
  return out;
}

/** What the annotation says of a route; undefined = nothing. */
export function ownFault(object: Pick<VirtualServiceObject, "metadata">, route: string | undefined): OwnFault | undefined {
  const text = object.metadata.annotations?.[faultsAnnotation];
  const parsed = text === undefined || route === undefined ? "" : parseFaults(text);
  return typeof parsed === "string" ? undefined : parsed.get(route as string);
}

/** Label of the namespace `weft-system` that allows faults to be injected in the mesh: `enabled`. */
export const faultSwitch = "weft.dev/fault-injection";
