// Owns: the virtual, read-only kinds of weft.dev (Mesh, Proxy, Edge). Their shapes are in ../live.ts; the server makes the objects from live state.

import { ageColumn, defineKind, type KindSpec, textColumn } from "../define.ts";
import { type EdgeObject, liveGroup, liveVersion, type MeshObject, type ProxyObject } from "../live.ts";
import type { KubeObject } from "../meta.ts";

const common: Pick<KindSpec, "group" | "versions" | "hasStatus" | "virtual" | "categories" | "fields" | "rules"> = {
  group: liveGroup,
  versions: [liveVersion],
  hasStatus: true,
  virtual: true,
  categories: ["weft"],
  fields: { spec: { type: "object", description: "What is shown and does not change while it runs." } },
  rules: (object) => [{ path: "kind", message: `${object.kind} is a view of live state and cannot be written` }],
};

const mesh = (object: KubeObject) => (object as MeshObject).status;
const proxy = (object: KubeObject) => (object as ProxyObject).status;
const edge = (object: KubeObject) => (object as EdgeObject).status;

export const meshKind = defineKind({
  ...common,
  kind: "Mesh",
  plural: "meshes",
  namespaced: false,
  columns: [
    textColumn("Trust-Domain", "Trust domain of every identity.", (object) => (object as MeshObject).spec?.trustDomain ?? ""),
    textColumn("xDS", "Where proxies connect.", (object) => mesh(object)?.xdsAddress ?? ""),
    textColumn("Dashboard", "Address of the dashboard.", (object) => mesh(object)?.dashboardUrl ?? ""),
    textColumn("Version", "Of the control plane.", (object) => mesh(object)?.version ?? ""),
    ageColumn,
  ],
});

export const proxyKind = defineKind({
  ...common,
  kind: "Proxy",
  plural: "proxies",
  shortNames: ["px"],
  namespaced: true,
  columns: [
    {
      name: "Connected",
      type: "boolean",
      description: "A stream to the control plane is open.",
      priority: 0,
      value: (object) => proxy(object)?.connected ?? false,
    },
    {
      name: "Synced",
      type: "boolean",
      description: "Every type is accepted in its newest version.",
      priority: 0,
      value: (object) => proxy(object)?.synced ?? false,
    },
    textColumn("Identity", "SPIFFE ID of the proxy's certificate.", (object) => proxy(object)?.identity ?? ""),
    textColumn("Agent", "Program and version.", (object) => proxy(object)?.agent ?? ""),
    textColumn("Last-Rejection", "Type and reason of the last update it refused.", (object) => {
      const last = proxy(object)?.lastRejection;
      return last === null || last === undefined ? "" : `${last.type}: ${last.reason}`;
    }),
    textColumn("Address", "Where the stream comes from.", (object) => proxy(object)?.address ?? "", 1),
    ageColumn,
  ],
});

/** Two digits after the point below ten, one below a hundred, none above. */
function short(value: number): string {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}

const milliseconds = (value: number | null | undefined) => (value === null || value === undefined ? "-" : `${short(value)}ms`);

export const edgeKind = defineKind({
  ...common,
  kind: "Edge",
  plural: "edges",
  namespaced: true,
  columns: [
    textColumn("Source", "Calling workload, with its version.", (object) => endName(edge(object)?.source)),
    textColumn("Destination", "Called workload, with its version.", (object) => endName(edge(object)?.destination)),
    textColumn("RPS", "Requests a second over the window.", (object) =>
      edge(object) === undefined ? "-" : short(edge(object).requestsPerSecond),
    ),
    textColumn("Success", "Answers that are not 5xx, in percent.", (object) => {
      const ratio = edge(object)?.successRatio;
      return ratio === null || ratio === undefined ? "-" : `${(ratio * 100).toFixed(2)}%`;
    }),
    textColumn("P50", "Median latency.", (object) => milliseconds(edge(object)?.p50Ms)),
    textColumn("P99", "99th percentile of latency.", (object) => milliseconds(edge(object)?.p99Ms)),
    textColumn(
      "mTLS",
      "Whether all of it was mutually authenticated and encrypted; - where every request was refused at its caller.",
      (object) => String(edge(object)?.mutualTls ?? "-"),
    ),
    textColumn("Protocol", "http, grpc or tcp.", (object) => edge(object)?.protocol ?? "", 1),
  ],
});

function endName(end: { app: string; version: string; namespace: string } | undefined): string {
  if (end === undefined) return "";
  const version = end.version === "" || end.version === "unknown" ? "" : `@${end.version}`;
  return `${end.namespace}/${end.app}${version}`;
}
