// Owns: reading the API over HTTP with the cookie the page was given. Every outcome is a value; nothing throws past here.

import type { GraphAnswer, MeshObject, ProxyObject, SeriesAnswer } from "../../src/api/live.ts";
import type { KubeObject } from "../../src/api/meta.ts";

/** Why there is no answer. `away`: nobody listens or the answer broke off. `refused`: 401 or 403. `error`: any other status. */
export type Failure =
  | { readonly kind: "away"; readonly message: string }
  | { readonly kind: "refused"; readonly status: 401 | 403; readonly message: string }
  | { readonly kind: "error"; readonly status: number; readonly message: string };

export type Answer<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly failure: Failure };

export type Fetch = (path: string, init: RequestInit) => Promise<Response>;

/** A request that takes longer counts as away: the page must say so rather than stand still. */
const timeoutMs = 5_000;

async function get<T>(fetcher: Fetch, path: string, signal: AbortSignal): Promise<Answer<T>> {
  try {
    const response = await fetcher(path, {
      headers: { accept: "application/json" },
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    });
    if (response.ok) return { ok: true, value: (await response.json()) as T };
    const message = await reasonOf(response);
    const { status } = response;
    if (status === 401 || status === 403) return { ok: false, failure: { kind: "refused", status, message } };
    return { ok: false, failure: { kind: "error", status, message } };
  } catch (error) {
    const late = error instanceof DOMException && error.name === "TimeoutError";
    return { ok: false, failure: { kind: "away", message: late ? `no answer within ${timeoutMs / 1000} s` : "it does not answer" } };
  }
}

/** The message of a Kubernetes Status, or the first line of whatever came instead. */
async function reasonOf(response: Response): Promise<string> {
  const body = await response.text();
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === "object" && parsed !== null && "message" in parsed && typeof parsed.message === "string") return parsed.message;
  } catch {
    // Not JSON: fall through to its first line.
  }
  return (body.split("\n", 1)[0] ?? "").slice(0, 200) || response.statusText;
}

interface List<T> {
  readonly items: readonly T[];
}

/** The reads the page does, each with the signal that ends it. */
export interface Api {
  graph(windowSeconds: number, signal: AbortSignal): Promise<Answer<GraphAnswer>>;
  mesh(signal: AbortSignal): Promise<Answer<MeshObject>>;
  proxies(signal: AbortSignal): Promise<Answer<List<ProxyObject>>>;
  /** `of`: `node` with an id `NS/APP`, `edge` with `NS/APP>NS/APP`. */
  series(of: "node" | "edge", id: string, minutes: number, signal: AbortSignal): Promise<Answer<SeriesAnswer>>;
  list(kind: ListedKind, signal: AbortSignal): Promise<Answer<List<KubeObject>>>;
}

const listPaths = {
  entries: "/apis/networking.istio.io/v1/workloadentries",
  services: "/api/v1/services",
  routes: "/apis/gateway.networking.k8s.io/v1/httproutes",
  policies: "/apis/security.istio.io/v1/authorizationpolicies",
} as const;
export type ListedKind = keyof typeof listPaths;
export const listedKinds = Object.keys(listPaths) as ListedKind[];

export function createApi(fetcher: Fetch): Api {
  return {
    graph: (windowSeconds, signal) => get(fetcher, `/insight/v1alpha1/graph?windowSeconds=${windowSeconds}`, signal),
    mesh: (signal) => get(fetcher, "/apis/weft.dev/v1alpha1/meshes/default", signal),
    proxies: (signal) => get(fetcher, "/apis/weft.dev/v1alpha1/proxies", signal),
    series: (of, id, minutes, signal) =>
      get(fetcher, `/insight/v1alpha1/series?${of}=${encodeURIComponent(id)}&minutes=${minutes}`, signal),
    list: (kind, signal) => get(fetcher, listPaths[kind], signal),
  };
}
