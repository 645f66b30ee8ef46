// Owns: the virtual kinds as the API server asks for them: Mesh from the start, Proxy from the sessions, Edge from the analysis. Read-only.

import { type EdgeObject, liveGroup, liveVersion, type MeshObject } from "../api/live.ts";
import type { KubeObject } from "../api/meta.ts";
import type { VirtualSource } from "./apiserver/deps.ts";
import type { ProxyList } from "./xds/proxies.ts";

export interface MeshFacts {
  readonly trustDomain: string;
  readonly version: string;
  readonly xdsAddress: string;
  /** Of every control plane that is there, this one first. */
  readonly xdsAddresses: readonly string[];
  readonly caBundle: string;
  readonly dashboardUrl: string;
  readonly startedAtMs: number;
}

export interface LiveSources {
  readonly proxies: ProxyList;
  readonly insight: { edges(): readonly EdgeObject[]; subscribe(onChange: () => void): () => void };
  readonly mesh: () => MeshFacts;
}

export function liveObjects(sources: LiveSources): VirtualSource {
  return {
    list(resource): readonly KubeObject[] {
      switch (resource) {
        case `meshes.${liveGroup}`:
          return [meshObject(sources.mesh())];
        case `proxies.${liveGroup}`:
          return sources.proxies.list();
        case `edges.${liveGroup}`:
          return sources.insight.edges();
        default:
          return [];
      }
    },
    subscribe(resource, onChange) {
      if (resource === `proxies.${liveGroup}`) return sources.proxies.subscribe(onChange);
      if (resource === `edges.${liveGroup}`) return sources.insight.subscribe(onChange);
      return () => {};
    },
  };
}

function meshObject(facts: MeshFacts): MeshObject {
  const startedAt = new Date(facts.startedAtMs).toISOString();
  return {
    apiVersion: `${liveGroup}/${liveVersion}`,
    kind: "Mesh",
    metadata: { name: "default", creationTimestamp: `${startedAt.slice(0, 19)}Z` },
    spec: { trustDomain: facts.trustDomain },
    status: {
      version: facts.version,
      xdsAddress: facts.xdsAddress,
      xdsAddresses: [...facts.xdsAddresses],
      caBundle: facts.caBundle,
      dashboardUrl: facts.dashboardUrl,
      startedAt,
    },
  };
}
