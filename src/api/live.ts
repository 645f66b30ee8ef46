// Owns: the shapes of live state as the API serves it: virtual kinds (`weft.dev/v1alpha1` Mesh, Proxy, Edge) and the analysis endpoints.
// The CLI and the dashboard read exactly these. Rates are per second, latencies in milliseconds, ratios from 0 to 1.

import type { KubeObject } from "./meta.ts";

export const liveGroup = "weft.dev";
export const liveVersion = "v1alpha1";

/** `GET /apis/weft.dev/v1alpha1/meshes/default`: what a client needs to join. Cluster-scoped. */
export interface MeshObject extends KubeObject {
  kind: "Mesh";
  spec: { trustDomain: string };
  status: {
    version: string;
    /** host:port of the xDS, identity, metrics and access-log services (gRPC over TLS). */
    xdsAddress: string;
    /** Of every control plane of the mesh, the one that answers first. */
    xdsAddresses?: string[];
    /** PEM of the mesh's roots. */
    caBundle: string;
    dashboardUrl: string;
    startedAt: string;
  };
}

export type XdsTypeName = "cluster" | "endpoint" | "listener" | "route";
/** With virtual hosts that a proxy asks for one by one. */
export type StreamTypeName = XdsTypeName | "host";

export interface ProxyTypeStatus {
  /** Version the proxy has accepted; empty before the first. */
  accepted: string;
  /** Version sent last; differs from `accepted` while an answer is awaited or after a rejection. */
  sent: string;
  resources: number;
}

/** One connected (or lately lost) proxy; named like its WorkloadEntry and in its namespace. */
export interface ProxyObject extends KubeObject {
  kind: "Proxy";
  status: {
    connected: boolean;
    /** `weft/0.1.0`, `envoy/1.40.0`. */
    agent: string;
    identity: string;
    address: string;
    connectedAt: string;
    mode: "delta" | "sotw";
    types: Record<XdsTypeName, ProxyTypeStatus>;
    /** Virtual hosts that it has asked for one by one; absent = it asks for none so. */
    hosts?: { asked: number; held: number };
    /** Every type accepted in its newest version. */
    synced: boolean;
    lastRejection: { type: StreamTypeName; version: string; reason: string; at: string } | null;
    /** The newest certificate that it is known to have; absent = nobody knows (it came with a token, and asked for none over this connection). */
    certificate?: { notBefore: string; notAfter: string };
    /** Resources it rejected, which are not offered again until they change; the first of them. */
    quarantine?: { type: StreamTypeName; name: string; version: string; reason: string }[];
    /** What of the mesh's policies this kind of client cannot do; `refused`: calls concerned are refused, otherwise they go without it. */
    notEnforced?: { subject: string; message: string; refused: boolean }[];
    /** Instances that it has taken out of its balance for now, the first of them; `workload`: `NAMESPACE/NAME` of the instance, where it knows it. */
    ejected?: { cluster: string; endpoint: string; workload?: string; reason: string }[];
    /** Limits of clusters that refuse now. */
    openCircuits?: { cluster: string; limit: string }[];
    /** Types it asked for that are not served here. */
    unknownTypes?: string[];
  };
}

export interface EdgeEnd {
  workload: string;
  namespace: string;
  app: string;
  version: string;
}

/** Traffic of one pair over the window; as reported by the caller's sidecar, or by the callee's where no caller reports. */
export interface EdgeStats {
  source: EdgeEnd;
  destination: EdgeEnd & { service: string };
  protocol: "http" | "grpc" | "tcp";
  windowSeconds: number;
  requestsPerSecond: number;
  /** 0 to 1; answers that are not 5xx and not cut short. null when nothing was asked in the window. */
  successRatio: number | null;
  p50Ms: number | null;
  p99Ms: number | null;
  /** tcp: bytes a second both ways, open connections. */
  bytesPerSecond: number;
  openConnections: number;
  /** null: nothing travelled, every request was refused at its caller. */
  mutualTls: boolean | null;
}

/** `weft.dev/v1alpha1` Edge: `kubectl get edges -A`. Namespace is the source's. */
export interface EdgeObject extends KubeObject {
  kind: "Edge";
  status: EdgeStats;
}

/** `GET /insight/v1alpha1/graph?windowSeconds=30` */
export interface GraphAnswer {
  at: string;
  windowSeconds: number;
  nodes: {
    /** `namespace/app` */
    id: string;
    name: string;
    namespace: string;
    versions: { version: string; instances: number; ready: number }[];
    requestsPerSecond: number;
    successRatio: number | null;
    p50Ms: number | null;
    p99Ms: number | null;
  }[];
  edges: {
    id: string;
    from: string;
    to: string;
    stats: EdgeStats;
    byVersion: { version: string; requestsPerSecond: number; successRatio: number | null }[];
  }[];
}

/** `GET /insight/v1alpha1/series?node=NS/APP` or `?edge=NS/APP>NS/APP`, `&minutes=5`: one point each `stepSeconds`, oldest first. */
export interface SeriesAnswer {
  stepSeconds: number;
  points: { at: number; requestsPerSecond: number; successRatio: number | null; p50Ms: number | null; p99Ms: number | null }[];
}

/** `GET /insight/v1alpha1/logs?follow=true&namespace=NS&app=APP`: JSON lines of these. */
export interface LogLine {
  at: string;
  /** `access`: one request or connection a sidecar reported. `event`: something the control plane did or saw. */
  kind: "access" | "event";
  level: "info" | "warn" | "error";
  namespace: string;
  workload: string;
  message: string;
  access?: {
    reporter: "source" | "destination";
    source: string;
    destination: string;
    method: string;
    authority: string;
    path: string;
    status: number;
    flags: string;
    reason: string;
    durationMs: number;
    attempts: number;
    requestId: string;
  };
}
