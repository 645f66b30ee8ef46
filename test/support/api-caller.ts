// Owns: asking the API of a control plane in this process by the administrator's token, where a test wants the answer as it is and no client's view of it.

import { readFileSync } from "node:fs";
import type { ControlPlane } from "../../src/control/plane.ts";

export interface ApiAnswer<Body> {
  readonly status: number;
  readonly body: Body;
}

/** `PATCH` is a merge patch. */
export function apiCaller<Body>(plane: ControlPlane) {
  const config = Bun.YAML.parse(readFileSync(plane.kubeconfigPath, "utf8")) as {
    clusters: [{ cluster: { server: string; "certificate-authority-data": string } }];
    users: [{ user: { token: string } }];
  };
  const { cluster } = config.clusters[0];
  const ca = Buffer.from(cluster["certificate-authority-data"], "base64").toString();
  return async (method: string, path: string, body?: unknown): Promise<ApiAnswer<Body>> => {
    const type = method === "PATCH" ? "application/merge-patch+json" : "application/json";
    const response = await fetch(cluster.server + path, {
      method,
      tls: { ca },
      headers: { authorization: `Bearer ${config.users[0].user.token}`, "content-type": type },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      proxy: "",
    });
    return { status: response.status, body: (await response.json()) as Body };
  };
}
