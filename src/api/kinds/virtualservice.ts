// Owns: networking.istio.io VirtualService: how requests for a host are routed, changed, mirrored and made to fail. What is not built is refused.

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { extendSchema, notImplemented, type Schema, show } from "../schema.ts";
import schema from "../schemas/virtualservice.json" with { type: "json" };
import { ruleDurationMs } from "./destinationrule-spec.ts";
import {
  type Destination,
  faultsAnnotation,
  grpcCode,
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
  fields: { spec: { ...whole, required: ["hosts"] } },
  unimplemented: {
    "spec.tls": "use a TLSRoute",
    "spec.tcp": "use a TCPRoute",
    "spec.http[].delegate": "write the routes into this object, or use one HTTPRoute for each team",
    "spec.http[].match[].sourceLabels": "use sourceNamespace, or a header that the caller sets",
    "spec.http[].match[].statPrefix": "statistics are kept by route name",
    "spec.http[].redirect.derivePort": "write port",
    "spec.http[].directResponse.body.bytes": "use body.string",
    "spec.http[].retries.retryRemoteLocalities": "another instance is taken wherever it is",
    "spec.http[].fault.delay.exponentialDelay": "use fixedDelay",
    "spec.http[].fault.abort.http2Error": "use httpStatus or grpcStatus",
  },
  notes: [
    "Speaks for the HTTP ports of the Services that `hosts` names: short names in its own namespace, or NAME.NAMESPACE.svc.cluster.local. For a host of another namespace it speaks to callers of its own namespace only.",
    '`exportTo: ["."]` makes it speak to callers of its own namespace. The oldest VirtualService of a host decides; a port that an HTTPRoute or GRPCRoute is attached to follows that one.',
    "`fault` takes effect only where the namespace `weft-system` has the label `weft.dev/fault-injection: enabled`; without it such an object is refused, and when the label goes the faults go too. The status says so.",
    "Without `timeout` a request may last as long as it wants; without `retries` it is repeated where that can do no harm, and `attempts: 0` switches that off.",
    "Faults without a field come in the annotation `weft.dev/faults`, by the names of routes: `slow rate=64KiB/s@50%, broken reset=1% client=spiffe://cluster.local/ns/shop/sa/front`. `client` (a `*` at its end stands for anything) restricts all faults of its route, `fault` included.",
    "`mirror` sends a copy when the whole request is there, up to 64 KiB; its host ends in `-shadow`, as in Istio.",
  ],
  rules: virtualServiceRules,
  columns: [
    textColumn("Hosts", "The hosts it speaks about.", (object) => ((object as VirtualServiceObject).spec?.hosts ?? []).join(",")),
    ageColumn,
  ],
});

type Add = (path: string, message: string) => void;

function virtualServiceRules(object: KubeObject): Violation[] {
  const out: Violation[] = [];
  const add: Add = (path, message) => out.push({ path, message });
  const { spec = {} } = object as VirtualServiceObject;
  const hosts = spec.hosts ?? [];
  if (hosts.length === 0) add("spec.hosts", notImplemented("no host", "name the Services that it is about"));
  for (const [n, host] of hosts.entries()) {
    const path = `spec.hosts[${n}]`;
    if (host.includes("*")) add(path, notImplemented("a wildcard", "name each Service"));
    else if (!isHost(host)) add(path, `${show(host)} must be the name of a Service, or NAME.NAMESPACE.svc.cluster.local`);
    else if (hosts.indexOf(host) !== n) add(path, `${show(host)} stands there twice`);
  }
  for (const [n, gateway] of (spec.gateways ?? []).entries())
    if (gateway !== "mesh")
      add(`spec.gateways[${n}]`, notImplemented(show(gateway), 'use an HTTPRoute for a Gateway; "mesh" is for sidecars'));
  for (const [n, to] of (spec.exportTo ?? []).entries())
    if (to !== "*" && to !== ".") add(`spec.exportTo[${n}]`, notImplemented(show(to), 'write "*" or "."'));
  if ((spec.http ?? []).length === 0) add("spec.http", "needs at least one route");
  annotationRules(object as VirtualServiceObject, add);
  for (const [n, route] of (spec.http ?? []).entries()) routeRules(route, `spec.http[${n}]`, add);
  return out;
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

function isHost(host: string): boolean {
  const label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
  return new RegExp(`^${label}(\\.${label}\\.svc\\.cluster\\.local)?$`, "i").test(host);
}

function routeRules(route: VirtualRoute, path: string, add: Add): void {
  const actions = [route.route, route.redirect, route.directResponse].filter((one) => one !== undefined);
  if (actions.length !== 1) add(path, "needs exactly one of route, redirect, directResponse");
  for (const [n, match] of (route.match ?? []).entries()) matchRules(match, `${path}.match[${n}]`, add);
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
  if (attempts !== undefined && (attempts < 0 || attempts > 100)) add(`${path}.retries.attempts`, `${attempts} must be 0 to 100`);
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
    if (redirect.uri?.includes("%PREFIX()%"))
      add(`${path}.redirect.uri`, notImplemented("%PREFIX()%", "use an HTTPRoute's ReplacePrefixMatch"));
  }
  if (directResponse !== undefined && (directResponse.status < 200 || directResponse.status > 599))
    add(`${path}.directResponse.status`, `${directResponse.status} must be 200 to 599`);
  if ((directResponse?.body?.string ?? "").length > 4_096) add(`${path}.directResponse.body.string`, "must have at most 4096 characters");
  if (corsPolicy !== undefined) {
    time("corsPolicy.maxAge", corsPolicy.maxAge, 0);
    for (const [n, origin] of (corsPolicy.allowOrigins ?? []).entries()) textRules(origin, `${path}.corsPolicy.allowOrigins[${n}]`, add);
  }
}

function headerRules(headers: VirtualHeaders | undefined, path: string, add: Add): void {
  for (const side of ["request", "response"] as const)
    for (const field of ["set", "add"] as const)
      for (const [name, value] of Object.entries(headers?.[side]?.[field] ?? {})) {
        const where = `${path}.${side}.${field}.${name}`;
        if (/%[A-Z_]+(\([^)]*\))?(:\d+)?%/.test(value)) add(where, notImplemented(`the command in ${show(value)}`, "write a fixed value"));
        if (!/^:?[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) add(where, `${show(name)} is no header name`);
      }
}

function matchRules(match: VirtualMatch, path: string, add: Add): void {
  for (const [n, gateway] of (match.gateways ?? []).entries())
    if (gateway !== "mesh")
      add(`${path}.gateways[${n}]`, notImplemented(show(gateway), 'use an HTTPRoute for a Gateway; "mesh" is for sidecars'));
  for (const field of ["uri", "scheme", "method", "authority"] as const) {
    const text = match[field];
    if (text !== undefined) textRules(text, `${path}.${field}`, add);
  }
  if (match.ignoreUriCase === true && match.uri?.regex !== undefined)
    add(`${path}.ignoreUriCase`, "has no effect on a regex; write (?i) into it");
  if (match.port !== undefined && (match.port < 1 || match.port > 65_535)) add(`${path}.port`, `${match.port} must be 1 to 65535`);
  for (const field of ["headers", "withoutHeaders", "queryParams"] as const) {
    for (const [name, text] of Object.entries(match[field] ?? {})) {
      const where = `${path}.${field}.${name}`;
      if (field !== "queryParams" && !/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) add(where, `${show(name)} is no header name`);
      if (Object.keys(text).length > 0) textRules(text, where, add);
    }
  }
}

function textRules(text: TextMatch, path: string, add: Add): void {
  const given = (["exact", "prefix", "regex"] as const).filter((kind) => text[kind] !== undefined);
  if (given.length !== 1) add(path, "needs exactly one of exact, prefix, regex");
  if (text.regex !== undefined) regexRule(text.regex, `${path}.regex`, add);
}

/** Checked here, so that the mistake is heard where it is made and not from every proxy. */
function regexRule(source: string, path: string, add: Add): void {
  const { RE2JS } = require("re2js") as typeof import("re2js");
  try {
    RE2JS.compile(source);
  } catch (error) {
    add(path, `${show(source)} is not a regular expression in RE2 syntax: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function destinationRules(route: VirtualRoute, path: string, add: Add): void {
  const all = route.route;
  if (all !== undefined) {
    if (all.length === 0) add(`${path}.route`, "needs at least one destination");
    for (const [n, one] of all.entries()) {
      destination(one.destination, `${path}.route[${n}].destination`, add);
      if (one.weight !== undefined && (one.weight < 0 || one.weight > 1_000_000))
        add(`${path}.route[${n}].weight`, `${one.weight} must be 0 to 1000000`);
    }
    if (all.length > 1 && all.reduce((sum, one) => sum + (one.weight ?? 0), 0) === 0)
      add(`${path}.route`, "the weights add up to 0: give at least one destination a weight above 0");
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

function destination(to: Destination | undefined, path: string, add: Add): void {
  if (to === undefined || !isHost(to.host))
    add(`${path}.host`, `${show(to?.host)} must be the name of a Service, or NAME.NAMESPACE.svc.cluster.local`);
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
  if (rewrite.uriRegexRewrite?.match !== undefined) regexRule(rewrite.uriRegexRewrite.match, `${path}.rewrite.uriRegexRewrite.match`, add);
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
