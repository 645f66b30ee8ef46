// Owns: one route of a VirtualService as a RoutePlan: match, action, edits, retries, mirrors, CORS, faults; and what a destination leads to. Who is spoken
// to is decided elsewhere (./virtualservice.ts).

import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import { ruleDurationMs } from "../../api/kinds/destinationrule-spec.ts";
import {
  type Destination,
  faultSwitch,
  grpcCode,
  type OwnFault,
  type TextMatch,
  type VirtualCors,
  type VirtualEdits,
  type VirtualFault,
  type VirtualHeaders,
  type VirtualMatch,
  type VirtualRoute,
  wholeHost,
} from "../../api/kinds/virtualservice-spec.ts";
import type { KubeObject } from "../../api/meta.ts";
import { outboundCluster, subsetCluster } from "../../wire/names.ts";
import { externalPlan, externalService, isVisible, serviceWithName } from "../plan/external.ts";
import { targetPlan } from "../plan/mesh.ts";
import {
  type BackendPlan,
  type CorsPlan,
  defaultRetry,
  type FaultPlan,
  type HeaderEditsPlan,
  type MatchPlan,
  noEdits,
  type RetryPlan,
  type RoutePlan,
  type ValueMatchPlan,
} from "../plan/routes.ts";
import { namespaceSource } from "../route-sources.ts";
import { serviceSource } from "../sources.ts";
import { compareText, derived, keyOf, type World } from "../world.ts";
import type { WholeRoute } from "./virtualservice-delegate.ts";

/** Faults may be injected: the root namespace says so. */
export const faultsAllowed = derived<boolean>((world) => {
  return (
    world.objects(namespaceSource).get(keyOf({ metadata: { name: rootNamespace } } as KubeObject))?.metadata.labels?.[faultSwitch] ===
    "enabled"
  );
});

/** A plan for each match that `fits`; of a route without matches one. */
export function planWhole(
  world: World,
  { name, route, namespace, fault: own }: WholeRoute,
  fits: (match: VirtualMatch) => boolean,
): readonly RoutePlan[] {
  const matches = route.match === undefined || route.match.length === 0 ? [{}] : route.match;
  const wanted = route.fault !== undefined || own !== undefined;
  return matches.filter(fits).map((match: VirtualMatch, n): RoutePlan => {
    const fault = wanted && faultsAllowed(world, "") ? planFault(route.fault ?? {}, own) : undefined;
    return {
      name: [name, match.name ?? (matches.length > 1 ? String(n) : "")].filter((one) => one !== "").join("."),
      match: planMatch(match),
      action: planAction(world, namespace, route),
      requestHeaders: planEdits(route.headers?.request),
      responseHeaders: planEdits(route.headers?.response),
      ...(route.corsPolicy === undefined ? {} : { cors: planCors(route.corsPolicy) }),
      ...(fault === undefined ? {} : { fault }),
    };
  });
}

function textKind(text: TextMatch): { readonly kind: "exact" | "prefix" | "regex" | "present"; readonly value: string } {
  if (text.exact !== undefined) return { kind: "exact", value: text.exact };
  if (text.prefix !== undefined) return { kind: "prefix", value: text.prefix };
  if (text.regex !== undefined) return { kind: "regex", value: text.regex };
  return { kind: "present", value: "" };
}

function planMatch(match: VirtualMatch): MatchPlan {
  const headers: ValueMatchPlan[] = [];
  for (const [field, name] of [
    ["authority", ":authority"],
    ["scheme", ":scheme"],
  ] as const) {
    const text = match[field];
    if (text !== undefined) headers.push({ name, ...textKind(text) });
  }
  const method = match.method?.exact;
  if (match.method !== undefined && method === undefined) headers.push({ name: ":method", ...textKind(match.method) });
  for (const [name, text] of Object.entries(match.headers ?? {})) headers.push({ name: name.toLowerCase(), ...textKind(text) });
  for (const [name, text] of Object.entries(match.withoutHeaders ?? {}))
    headers.push({ name: name.toLowerCase(), ...textKind(text), invert: true });
  const query = Object.entries(match.queryParams ?? {}).map(([name, text]): ValueMatchPlan => ({ name, ...textKind(text) }));
  return {
    path: planPath(match),
    method,
    headers: headers.sort((a, b) => compareText(a.name, b.name)),
    query: query.sort((a, b) => compareText(a.name, b.name)),
  };
}

function planPath({ uri, ignoreUriCase }: VirtualMatch): MatchPlan["path"] {
  const folding = ignoreUriCase === true ? { ignoreCase: true as const } : {};
  if (uri?.exact !== undefined) return { kind: "exact", value: uri.exact, ...folding };
  if (uri?.regex !== undefined) return { kind: "regex", value: uri.regex };
  return { kind: "prefix", value: uri?.prefix ?? "/", ...(uri?.prefix === undefined ? {} : folding) };
}

function planEdits(edits: VirtualEdits | undefined): HeaderEditsPlan {
  if (edits === undefined) return noEdits;
  const list = (values: Readonly<Record<string, string>> | undefined) =>
    Object.entries(values ?? {})
      .map(([name, value]) => ({ name: name.toLowerCase(), value }))
      .filter(({ name }) => name !== "host" && name !== ":authority")
      .sort((a, b) => compareText(a.name, b.name));
  return { set: list(edits.set), add: list(edits.add), remove: [...(edits.remove ?? [])].map((name) => name.toLowerCase()).sort() };
}

/** Istio: `Host` among the headers that are set is the host of the forwarded request. */
function hostOf(headers: VirtualHeaders | undefined): string | undefined {
  const set = Object.entries(headers?.request?.set ?? {});
  return set.find(([name]) => ["host", ":authority"].includes(name.toLowerCase()))?.[1];
}

function planAction(world: World, namespace: string, route: VirtualRoute): RoutePlan["action"] {
  const { redirect, directResponse, rewrite } = route;
  if (redirect !== undefined) {
    return {
      kind: "redirect",
      status: (redirect.redirectCode ?? 301) as 301,
      scheme: redirect.scheme,
      host: redirect.authority,
      port: redirect.port ?? derivedPort(redirect),
      path: redirect.uri === undefined ? undefined : { kind: "full", value: redirect.uri },
    };
  }
  if (directResponse !== undefined) return { kind: "direct", status: directResponse.status, body: directResponse.body?.string ?? "" };
  const several = (route.route ?? []).length > 1;
  const backends = (route.route ?? []).map((one): BackendPlan => {
    const host = hostOf(one.headers);
    return {
      ...resolve(world, namespace, one.destination as Destination),
      // Istio: a single destination needs no weight.
      weight: several ? (one.weight ?? 0) : 1,
      ...(one.headers?.request === undefined ? {} : { requestHeaders: planEdits(one.headers.request) }),
      ...(one.headers?.response === undefined ? {} : { responseHeaders: planEdits(one.headers.response) }),
      ...(several && host !== undefined ? { hostRewrite: host } : {}),
    };
  });
  const only = several ? undefined : hostOf(route.route?.[0]?.headers);
  const host = rewrite?.authority ?? hostOf(route.headers) ?? only;
  const regex = rewrite?.uriRegexRewrite;
  const mirrors = planMirrors(world, namespace, route);
  return {
    kind: "forward",
    backends,
    timeoutMs: route.timeout === undefined ? 0 : (ruleDurationMs(route.timeout) ?? 0),
    retry: planRetry(route.retries),
    ...(rewrite?.uri === undefined ? {} : { prefixRewrite: rewrite.uri }),
    ...(regex?.match === undefined ? {} : { regexRewrite: { regex: regex.match, substitution: regex.rewrite ?? "" } }),
    ...(host === undefined ? {} : { hostRewrite: host }),
    ...(mirrors.length === 0 ? {} : { mirrors }),
  };
}

/** FROM_PROTOCOL_DEFAULT; the port of the request, Istio's other word, is what stays when nothing is said. */
function derivedPort({ derivePort, scheme }: NonNullable<VirtualRoute["redirect"]>): number | undefined {
  if (derivePort !== "FROM_PROTOCOL_DEFAULT") return undefined;
  return scheme === "https" ? 443 : 80;
}

function planRetry(retries: VirtualRoute["retries"]): RetryPlan {
  if (retries === undefined) return defaultRetry;
  const words = (retries.retryOn ?? "")
    .split(",")
    .map((word) => word.trim())
    .filter((word) => word !== "");
  const codes = words.filter((word) => /^\d+$/.test(word)).map(Number);
  const on = words.filter((word) => !/^\d+$/.test(word));
  return {
    attempts: retries.attempts ?? 2,
    codes: [...new Set(codes)].sort((a, b) => a - b),
    perTryTimeoutMs: retries.perTryTimeout === undefined ? 0 : (ruleDurationMs(retries.perTryTimeout) ?? 0),
    ...(words.length === 0 ? {} : { on, onlyOn: true as const }),
  };
}

const perMillion = (percent: number | undefined, otherwise: number): number => Math.round((percent ?? otherwise) * 10_000);

function planMirrors(world: World, namespace: string, route: VirtualRoute): { cluster: string; perMillion: number }[] {
  const all = [
    ...(route.mirror === undefined
      ? []
      : [{ destination: route.mirror, percentage: route.mirrorPercentage ?? { value: route.mirrorPercent ?? 100 } }]),
    ...(route.mirrors ?? []),
  ];
  return all.flatMap(({ destination, percentage }) => {
    if (destination === undefined) return [];
    const to = resolve(world, namespace, destination);
    const share = perMillion(percentage?.value, 100);
    return to.missing || share === 0 ? [] : [{ cluster: to.cluster, perMillion: share }];
  });
}

function planFault({ delay, abort }: VirtualFault, own: OwnFault = {}): FaultPlan | undefined {
  const { reset, rate, clients = [] } = own;
  const ms = delay?.fixedDelay === undefined ? undefined : ruleDurationMs(delay.fixedDelay);
  // Istio: without a percentage all requests are meant.
  const out: FaultPlan = {
    ...(ms === undefined ? {} : { delay: { ms, perMillion: perMillion(delay?.percentage?.value ?? delay?.percent, 100) } }),
    ...(abort === undefined
      ? {}
      : {
          abort: {
            status:
              abort.grpcStatus === undefined
                ? { kind: "http" as const, value: abort.httpStatus ?? 503 }
                : { kind: "grpc" as const, value: grpcCode(abort.grpcStatus) ?? 14 },
            perMillion: perMillion(abort.percentage?.value, 100),
          },
        }),
    ...(rate === undefined ? {} : { bandwidth: { kibPerSecond: rate.kibPerSecond, perMillion: perMillion(rate.percent, 100) } }),
    ...(reset === undefined ? {} : { resetPerMillion: perMillion(reset, 100) }),
  };
  if (Object.keys(out).length === 0) return undefined;
  const callers = [...clients].sort().map((client) => {
    return client.endsWith("*") ? { kind: "prefix" as const, value: client.slice(0, -1) } : { kind: "exact" as const, value: client };
  });
  return { ...out, ...(callers.length === 0 ? {} : { clients: callers }) };
}

function planCors(cors: VirtualCors): CorsPlan {
  const origins = [
    ...(cors.allowOrigins ?? []).map((origin) => textKind(origin)),
    ...(cors.allowOrigin ?? []).map((value) => ({ kind: "exact" as const, value })),
  ];
  const maxAge = cors.maxAge === undefined ? undefined : ruleDurationMs(cors.maxAge);
  return {
    origins: origins.flatMap(({ kind, value }) => (kind === "present" ? [] : [{ kind, value }])),
    methods: (cors.allowMethods ?? []).join(","),
    headers: (cors.allowHeaders ?? []).join(","),
    expose: (cors.exposeHeaders ?? []).join(","),
    maxAgeSeconds: maxAge === undefined ? undefined : Math.floor(maxAge / 1_000),
    credentials: cors.allowCredentials ?? false,
    forwardUnmatched: cors.unmatchedPreflights !== "IGNORE",
  };
}

// ---- destinations -----------------------------------------------------------------------------------------------------------

export interface ResolvedDestination {
  readonly cluster: string;
  readonly missing: boolean;
  /** Why, in words; empty where it is there. */
  readonly problem: string;
}

/** `namespace`: where the route is written. */
export function resolveFully(world: World, namespace: string, to: Destination): ResolvedDestination {
  const host = wholeHost(to.host, namespace);
  const [key] = world.objects(serviceSource).keys("host", host);
  const service = key === undefined ? externalService(world, host) : world.services.get(key);
  const port = to.port?.number ?? service?.defaultPort?.port ?? 0;
  const cluster = to.subset === undefined ? outboundCluster(port, host) : subsetCluster(port, to.subset, host);
  const lost = (problem: string): ResolvedDestination => ({ cluster: cluster.replace("outbound|", "unresolved|"), missing: true, problem });
  if (service === undefined)
    return lost(`there is no Service ${host}${isOutside(host) ? `, and no ServiceEntry has that host${meantHost(world, host)}` : ""}`);
  const entry = key === undefined ? externalPlan(world, host) : undefined;
  if (entry !== undefined && !isVisible(entry, namespace))
    return lost(`the ServiceEntry with host ${host} is not exported from namespace ${entry.namespace} to ${namespace}`);
  const what = entry === undefined ? `Service ${host}` : `the ServiceEntry with host ${host}`;
  if (to.port?.number === undefined && service.ports.length > 1)
    return lost(`${what} has several ports: say which by destination.port.number`);
  if (targetPlan(world, outboundCluster(port, host)) === undefined) return lost(`${what} has no port ${port}`);
  if (to.subset !== undefined && targetPlan(world, cluster) === undefined)
    return lost(`no DestinationRule for ${host} has a subset ${JSON.stringify(to.subset)}`);
  return { cluster, missing: false, problem: "" };
}

/** As in Istio a host with a dot is a whole name: ` (write …)` where it is a short one of a Service. */
export function meantHost(world: World, host: string): string {
  const key = serviceWithName(world, host);
  return key === undefined ? "" : ` (write ${world.services.get(key)?.host})`;
}

function isOutside(host: string): boolean {
  return !host.endsWith(".svc.cluster.local");
}

/** What of it a plan holds. */
export function resolve(world: World, namespace: string, to: Destination): { readonly cluster: string; readonly missing: boolean } {
  const { cluster, missing } = resolveFully(world, namespace, to);
  return { cluster, missing };
}
