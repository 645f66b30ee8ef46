// Owns: believable data for the development server: a small shop, moving with time, the same for the same seed and moment. Nothing of it reaches the product.

import type { EdgeStats, GraphAnswer, MeshObject, ProxyObject, SeriesAnswer } from "../src/api/live.ts";
import type { KubeObject } from "../src/api/meta.ts";

export type Scenario = "shop" | "empty" | "quiet" | "large";

interface App {
  readonly id: string;
  readonly versions: readonly (readonly [version: string, instances: number, ready: number])[];
}

interface Link {
  readonly from: string;
  readonly to: string;
  readonly rate: number;
  readonly success: number;
  readonly p50: number;
  readonly p99: number;
  readonly protocol?: "http" | "tcp";
  readonly plain?: boolean;
  readonly split?: readonly (readonly [version: string, share: number, success: number])[];
}

const shop: { apps: readonly App[]; links: readonly Link[] } = {
  apps: [
    { id: "shop/visitors", versions: [["", 1, 1]] },
    { id: "shop/front", versions: [["v3", 2, 2]] },
    { id: "shop/catalog", versions: [["v1", 1, 1]] },
    {
      id: "shop/reviews",
      versions: [
        ["v1", 1, 1],
        ["v2", 2, 2],
      ],
    },
    { id: "shop/ratings", versions: [["v1", 1, 1]] },
    { id: "shop/cart", versions: [["v1", 2, 1]] },
    { id: "shop/orders", versions: [["v2", 1, 1]] },
    { id: "shop/mailer", versions: [["v1", 1, 1]] },
    { id: "bank/ledger", versions: [["v1", 1, 1]] },
    { id: "unknown/unknown", versions: [] },
  ],
  links: [
    { from: "shop/visitors", to: "shop/front", rate: 62, success: 0.9974, p50: 11, p99: 48 },
    { from: "shop/front", to: "shop/catalog", rate: 58, success: 1, p50: 1.8, p99: 6.4 },
    {
      from: "shop/front",
      to: "shop/reviews",
      rate: 41,
      success: 0.9991,
      p50: 4.2,
      p99: 21,
      split: [
        ["v1", 0.1, 1],
        ["v2", 0.9, 0.999],
      ],
    },
    { from: "shop/reviews", to: "shop/ratings", rate: 37, success: 0.921, p50: 2.9, p99: 240 },
    { from: "shop/front", to: "shop/cart", rate: 17, success: 0.9987, p50: 2.2, p99: 9.1 },
    { from: "shop/front", to: "shop/orders", rate: 4.1, success: 0.972, p50: 14, p99: 61 },
    { from: "shop/orders", to: "shop/cart", rate: 4.0, success: 1, p50: 2.1, p99: 8 },
    { from: "shop/orders", to: "bank/ledger", rate: 0.4, success: 1, p50: 0.9, p99: 3.2, protocol: "tcp" },
    { from: "unknown/unknown", to: "shop/catalog", rate: 0.8, success: 1, p50: 1.6, p99: 5, plain: true },
  ],
};

/** Everything the API would answer, as functions of the moment (ms since the epoch). */
export interface DevMesh {
  graph(atMs: number, windowSeconds: number): GraphAnswer;
  series(of: "node" | "edge", id: string, minutes: number, atMs: number): SeriesAnswer | null;
  mesh(atMs: number): MeshObject;
  proxies(atMs: number): ProxyObject[];
  objects(plural: string): KubeObject[] | null;
}

export function createDevMesh(scenario: Scenario, seed: number, dashboardUrl: () => string): DevMesh {
  const { apps, links } =
    scenario === "shop"
      ? shop
      : scenario === "large"
        ? large(seed)
        : scenario === "quiet"
          ? { apps: shop.apps.slice(0, -1), links: [] }
          : { apps: [], links: [] };

  /** -1..1, smooth in time, different for each name. */
  const wave = (name: string, atMs: number): number => {
    const phase = (hash(`${seed} ${name}`) % 6283) / 1000;
    const t = atMs / 1000;
    const jitter = (hash(`${seed} ${name} ${Math.floor(t / 2)}`) % 2000) / 1000 - 1;
    return 0.5 * Math.sin(t / 47 + phase) + 0.3 * Math.sin(t / 13 + phase * 2) + 0.2 * jitter;
  };
  const numbers = (link: Link, atMs: number): { rate: number; success: number; p50: number; p99: number } => {
    const key = `${link.from}>${link.to}`;
    return {
      rate: link.rate * (1 + 0.18 * wave(`${key} r`, atMs)),
      success: link.success === 1 ? 1 : Math.min(1, Math.max(0, link.success + (1 - link.success) * 0.4 * wave(`${key} s`, atMs))),
      p50: link.p50 * (1 + 0.12 * wave(`${key} 50`, atMs)),
      p99: link.p99 * (1 + 0.3 * wave(`${key} 99`, atMs)),
    };
  };
  const end = (id: string): { workload: string; namespace: string; app: string; version: string } => {
    const [namespace = "", app = ""] = id.split("/");
    return { workload: app, namespace, app, version: apps.find((a) => a.id === id)?.versions[0]?.[0] ?? "" };
  };

  const stats = (link: Link, atMs: number, windowSeconds: number): EdgeStats => {
    const n = numbers(link, atMs);
    const tcp = link.protocol === "tcp";
    return {
      source: end(link.from),
      destination: { ...end(link.to), service: `${end(link.to).app}.${end(link.to).namespace}.svc.cluster.local` },
      protocol: link.protocol ?? "http",
      windowSeconds,
      requestsPerSecond: n.rate,
      successRatio: tcp ? null : n.success,
      p50Ms: tcp ? null : n.p50,
      p99Ms: tcp ? null : n.p99,
      bytesPerSecond: tcp ? 48_000 * (1 + 0.3 * wave("bytes", atMs)) : n.rate * 900,
      openConnections: tcp ? 4 : 8,
      mutualTls: link.plain !== true,
    };
  };

  const nodeNumbers = (id: string, atMs: number): { rate: number; success: number | null; p50: number | null; p99: number | null } => {
    const inbound = links.filter((l) => l.to === id && l.protocol !== "tcp").map((l) => numbers(l, atMs));
    const rate = inbound.reduce((sum, n) => sum + n.rate, 0);
    if (rate === 0) return { rate: 0, success: null, p50: null, p99: null };
    const mean = (pick: (n: (typeof inbound)[number]) => number): number => inbound.reduce((sum, n) => sum + pick(n) * n.rate, 0) / rate;
    return { rate, success: mean((n) => n.success), p50: mean((n) => n.p50), p99: Math.max(...inbound.map((n) => n.p99)) };
  };

  const instances = apps.flatMap((app) => {
    const [namespace = "", name = ""] = app.id.split("/");
    return app.versions.flatMap(([version, count, ready]) =>
      Array.from({ length: count }, (_, i) => {
        const tail = hash(`${seed} ${app.id} ${version} ${i}`).toString(16).slice(0, 6).padStart(6, "0");
        return {
          name: `${name}${version === "" ? "" : `-${version}`}-${tail}`,
          app: name,
          namespace,
          version,
          ready: i < ready,
          port: 40_000 + (hash(app.id + version + i) % 9_000),
        };
      }),
    );
  });

  return {
    graph: (atMs, windowSeconds) => ({
      at: new Date(atMs).toISOString(),
      windowSeconds,
      nodes: apps.map((app) => {
        const [namespace = "", name = ""] = app.id.split("/");
        const n = nodeNumbers(app.id, atMs);
        const versions = app.versions.map(([version, count, ready]) => ({ version, instances: count, ready }));
        return { id: app.id, name, namespace, versions, requestsPerSecond: n.rate, successRatio: n.success, p50Ms: n.p50, p99Ms: n.p99 };
      }),
      edges: links.map((link) => {
        const s = stats(link, atMs, windowSeconds);
        const only = apps.find((a) => a.id === link.to)?.versions[0]?.[0] ?? "";
        const split = link.split ?? [[only, 1, s.successRatio ?? 1] as const];
        return {
          id: `${link.from}>${link.to}`,
          from: link.from,
          to: link.to,
          stats: s,
          byVersion: split.map(([version, share, success]) => ({
            version,
            requestsPerSecond: s.requestsPerSecond * share,
            successRatio: s.successRatio === null ? null : success,
          })),
        };
      }),
    }),
    series: (of, id, minutes, atMs) => {
      const link = of === "edge" ? links.find((l) => `${l.from}>${l.to}` === id) : undefined;
      if (of === "edge" ? link === undefined : !apps.some((a) => a.id === id)) return null;
      const stepSeconds = 5;
      const last = Math.floor(atMs / (stepSeconds * 1000)) * stepSeconds * 1000;
      const points = Array.from({ length: (minutes * 60) / stepSeconds }, (_, i, all = (minutes * 60) / stepSeconds) => {
        const at = last - (all - 1 - i) * stepSeconds * 1000;
        const n = link ? numbers(link, at) : nodeNumbers(id, at);
        return { at, requestsPerSecond: n.rate, successRatio: link?.protocol === "tcp" ? null : n.success, p50Ms: n.p50, p99Ms: n.p99 };
      });
      return { stepSeconds, points };
    },
    mesh: (atMs) => ({
      apiVersion: "weft.dev/v1alpha1",
      kind: "Mesh",
      metadata: { name: "default" },
      spec: { trustDomain: "cluster.local" },
      status: {
        version: "0.1.0",
        xdsAddress: "127.0.0.1:7444",
        caBundle: "",
        dashboardUrl: dashboardUrl(),
        startedAt: new Date(atMs - 3_600_000).toISOString(),
      },
    }),
    proxies: (atMs) =>
      instances.map((instance) => {
        const rejected = instance.app === "reviews" && instance.version === "v1";
        const type = (resources: number, bad = false) => ({ accepted: bad ? "8d1f0c2a" : "b7743e19", sent: "b7743e19", resources });
        return {
          apiVersion: "weft.dev/v1alpha1",
          kind: "Proxy",
          metadata: { name: instance.name, namespace: instance.namespace, labels: { app: instance.app, version: instance.version } },
          status: {
            connected: instance.ready,
            agent: "weft/0.1.0",
            identity: `spiffe://cluster.local/ns/${instance.namespace}/sa/${instance.app}`,
            address: `127.0.0.1:${instance.port}`,
            connectedAt: new Date(atMs - 1_200_000).toISOString(),
            mode: "delta" as const,
            types: { cluster: type(14), endpoint: type(9), listener: type(4), route: type(2, rejected) },
            synced: instance.ready && !rejected,
            ...(instance.app !== "front" || !instance.ready
              ? {}
              : {
                  ejected: instances
                    .filter((other) => other.app === "reviews" && other.version === "v2")
                    .slice(0, 1)
                    .map((other) => ({
                      cluster: "outbound|80||reviews.shop.svc.cluster.local",
                      endpoint: `127.0.0.1:${other.port}`,
                      workload: `shop/${other.name}`,
                      reason: "consecutive_5xx",
                    })),
                }),
            ...(instance.app === "reviews" && instance.version === "v2" && instance.ready
              ? { openCircuits: [{ cluster: "outbound|80||ratings.shop.svc.cluster.local", limit: "max_requests" }] }
              : {}),
            lastRejection: rejected
              ? {
                  type: "route" as const,
                  version: "b7743e19",
                  reason: "route outbound-http-proxy: virtual host reviews.shop: field 31 (rate_limits) is not supported",
                  at: new Date(atMs - 95_000).toISOString(),
                }
              : null,
          },
        };
      }),
    objects: (plural) => {
      switch (plural) {
        case "workloadentries":
          return instances.map((i) => ({
            apiVersion: "networking.istio.io/v1",
            kind: "WorkloadEntry",
            metadata: {
              name: i.name,
              namespace: i.namespace,
              labels: { app: i.app, ...(i.version === "" ? {} : { version: i.version }), "security.istio.io/tlsMode": "istio" },
            },
            spec: { address: "127.0.0.1", ports: { http: i.port }, serviceAccount: i.app },
            status: {
              conditions: [
                {
                  type: "Healthy",
                  status: i.ready ? "True" : "False",
                  reason: i.ready ? "Answering" : "NotAnswering",
                  message: i.ready ? "" : "127.0.0.1:9082 refuses connections",
                },
              ],
            },
          }));
        case "services":
          return apps
            .filter((a) => a.versions.length > 0)
            .map((a) => {
              const [namespace = "", name = ""] = a.id.split("/");
              return {
                apiVersion: "v1",
                kind: "Service",
                metadata: { name, namespace },
                spec: { selector: { app: name }, ports: [{ name: "http", port: 80 }] },
              };
            });
        case "httproutes":
          return scenario === "shop" ? routes : [];
        case "authorizationpolicies":
          return scenario === "shop" ? policies : [];
        default:
          return null;
      }
    },
  };
}

const routes: KubeObject[] = [
  {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "HTTPRoute",
    metadata: { name: "reviews-split", namespace: "shop", uid: "0f3c", resourceVersion: "41", generation: 3 },
    spec: {
      parentRefs: [{ group: "", kind: "Service", name: "reviews", port: 80 }],
      rules: [
        {
          matches: [{ path: { type: "PathPrefix", value: "/" } }],
          backendRefs: [
            { name: "reviews-v1", port: 80, weight: 10 },
            { name: "reviews-v2", port: 80, weight: 90 },
          ],
          timeouts: { request: "2s" },
        },
      ],
    },
    status: {
      parents: [
        {
          conditions: [
            { type: "Accepted", status: "True", reason: "Accepted", message: "" },
            { type: "ResolvedRefs", status: "True", reason: "ResolvedRefs", message: "" },
          ],
        },
      ],
    },
  },
  {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "HTTPRoute",
    metadata: { name: "reviews-canary", namespace: "shop" },
    spec: {
      parentRefs: [{ group: "", kind: "Service", name: "reviews", port: 80 }],
      rules: [{ matches: [{ headers: [{ name: "x-canary", value: "1" }] }], backendRefs: [{ name: "reviews-v3", port: 80 }] }],
    },
    status: {
      parents: [
        {
          conditions: [
            {
              type: "ResolvedRefs",
              status: "False",
              reason: "BackendNotFound",
              message: "backendRefs[0]: there is no Service reviews-v3 in namespace shop",
            },
          ],
        },
      ],
    },
  },
];

const policies: KubeObject[] = [
  {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "ledger-from-orders-only", namespace: "bank" },
    spec: {
      selector: { matchLabels: { app: "ledger" } },
      action: "ALLOW",
      rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/orders"] } }] }],
    },
  },
  {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "reviews-read-only", namespace: "shop" },
    spec: {
      selector: { matchLabels: { app: "reviews" } },
      action: "ALLOW",
      rules: [
        { from: [{ source: { principals: ["cluster.local/ns/shop/sa/front"] } }], to: [{ operation: { methods: ["GET", "HEAD"] } }] },
      ],
    },
  },
];

/** Sixty services in four namespaces: to see how the page bears a crowd. */
function large(seed: number): { apps: readonly App[]; links: readonly Link[] } {
  const namespaces = ["web", "core", "data", "edge"];
  const apps = Array.from(
    { length: 60 },
    (_, i): App => ({ id: `${namespaces[i % 4]}/svc-${String(i).padStart(2, "0")}`, versions: [["v1", 1 + (i % 3), 1 + (i % 3)]] }),
  );
  const links = apps.flatMap((app, i) =>
    i === 0
      ? []
      : [hash(`${seed} a ${i}`) % i, ...(i % 3 === 0 ? [hash(`${seed} b ${i}`) % i] : [])].map(
          (from): Link => ({
            from: apps[from]!.id,
            to: app.id,
            rate: 1 + (hash(`r ${i}`) % 900) / 10,
            success: i % 17 === 0 ? 0.93 : 0.9995,
            p50: 2 + (i % 7),
            p99: 10 + (i % 50),
          }),
        ),
  );
  return { apps, links: [...new Map(links.map((l) => [`${l.from}>${l.to}`, l])).values()] };
}

/** FNV-1a, 32 bits: enough to spread names. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}
