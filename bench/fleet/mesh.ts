// Owns: the objects of a simulated fleet: services, instances that call some of them, a route for each service, and endpoints without proxies.
// Pure; the same numbers give the same objects.
import { sidecarAnnotations, tlsLabel } from "./names.ts";

export interface Shape {
  readonly services: number;
  readonly proxies: number;
  /** Services that each proxy uses. */
  readonly uses: number;
}

export interface Stored {
  readonly resource: string;
  readonly object: {
    apiVersion: string;
    kind: string;
    metadata: { name: string; namespace: string; [field: string]: unknown };
    [field: string]: unknown;
  };
}

export const namespace = "fleet";
export const account = "fleet";
export const entries = "workloadentries.networking.istio.io";
export const routes = "httproutes.gateway.networking.k8s.io";

export const serviceName = (at: number) => `s${String(at).padStart(5, "0")}`;
export const proxyName = (at: number) => `p${String(at).padStart(5, "0")}`;
/** Used by exactly ten proxies, whatever the size of the fleet. */
export const rareService = "rare";
export const rareCallers = 10;

const meta = (name: string, more: object = {}) => ({
  name,
  namespace,
  uid: Bun.hash(name).toString(16).padStart(32, "0"),
  creationTimestamp: "2026-01-01T00:00:00Z",
  generation: 1,
  ...more,
});

/** Which services a proxy uses: spread evenly, so that each is used by `proxies * uses / services` of them. */
export function usedBy(shape: Shape, proxy: number): number[] {
  const { services, uses } = shape;
  // Steps of a number prime to most sizes spread the uses of neighbours.
  return Array.from({ length: uses }, (_, at) => (proxy * uses + at * 7) % services);
}

export function callers(shape: Shape, service: number): number[] {
  return Array.from({ length: shape.proxies }, (_, at) => at).filter((proxy) => usedBy(shape, proxy).includes(service));
}

export function service(name: string): Stored {
  return {
    resource: "services",
    object: {
      apiVersion: "v1",
      kind: "Service",
      metadata: meta(name),
      spec: { selector: { app: name }, ports: [{ name: "http", port: 80, protocol: "TCP" }] },
    },
  };
}

/** A route that names its own service: what a user has to split traffic later. `timeoutMs` is what a change changes. */
export function route(name: string, timeoutMs: number): Stored {
  return {
    resource: routes,
    object: {
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "HTTPRoute",
      metadata: meta(name),
      spec: {
        parentRefs: [{ group: "", kind: "Service", name }],
        rules: [
          {
            matches: [{ path: { type: "PathPrefix", value: "/" } }],
            backendRefs: [{ group: "", kind: "Service", name, port: 80, weight: 1 }],
            timeouts: { request: `${timeoutMs}ms` },
          },
        ],
      },
    },
  };
}

/** One instance; with `upstreams` it has a proxy. */
export function instance(name: string, app: string, address: string, upstreams: readonly string[]): Stored {
  return {
    resource: entries,
    object: {
      apiVersion: "networking.istio.io/v1",
      kind: "WorkloadEntry",
      metadata: meta(name, {
        labels: { app, ...tlsLabel },
        annotations: sidecarAnnotations(upstreams.map((upstream, at) => `${upstream}=${10_000 + at}`)),
      }),
      spec: { address, ports: { http: 15_000 }, serviceAccount: account },
    },
  };
}

const address = (at: number) => `10.${(at >> 16) & 255}.${(at >> 8) & 255}.${at & 255}`;

/** Services, a route each, and proxies that are their instances too. */
export function fleet(shape: Shape): Stored[] {
  const out: Stored[] = [service(rareService), instance("rare-1", rareService, "10.250.0.1", [])];
  for (let at = 0; at < shape.services; at++) out.push(service(serviceName(at)), route(serviceName(at), 1000));
  for (let at = 0; at < shape.proxies; at++) {
    const upstreams = usedBy(shape, at).map(serviceName);
    if (at < rareCallers) upstreams.push(rareService);
    out.push(instance(proxyName(at), serviceName(at % shape.services), address(at), upstreams));
  }
  return out;
}

/** Services with instances that have no proxies: for the time a large mesh takes to load. */
export function registry(services: number, endpoints: number): Stored[] {
  const out: Stored[] = [];
  for (let at = 0; at < services; at++) out.push(service(serviceName(at)));
  for (let at = 0; at < endpoints; at++) out.push(instance(`e${String(at).padStart(6, "0")}`, serviceName(at % services), address(at), []));
  return out;
}
