// Owns: a stand-in for the control plane while working on the dashboard, and in its tests: the real page over made-up data in the shapes of api/live.ts.
// A development tool: `weft up` never runs it. Start it with `bun ui/dev-server.ts [--port 7450] [--scenario shop|empty|quiet|large]`; edits to ui/ show at the next reload.

import { parseArgs } from "node:util";
// rule 1: the tool serves what the control plane serves, so it takes the page from where the control plane takes it; ui/'s own pages do not import it.
import { buildDashboard, contentSecurityPolicy, type Dashboard } from "../src/control/dashboard/assets.ts";
import { createDevMesh, type DevMesh, type Scenario } from "./dev-data.ts";

export interface DevServerOptions {
  readonly port: number;
  readonly scenario: Scenario;
  readonly seed: number;
  readonly now: () => number;
  readonly dashboard: () => Promise<Dashboard>;
}

export interface DevServer {
  readonly url: string;
  readonly port: number;
  /** Answers to the API from now on: as normal, or with this status. To be away altogether, stop it and start one on the same port. */
  behave(how: "normal" | 401 | 500): void;
  show(scenario: Scenario): void;
  /** API requests answered so far. */
  asked(): number;
  stop(): Promise<void>;
}

export function startDevServer(options: DevServerOptions): DevServer {
  let how: "normal" | 401 | 500 = "normal";
  let asked = 0;
  let url = "";
  const meshOf = (scenario: Scenario): DevMesh => createDevMesh(scenario, options.seed, () => url);
  let mesh = meshOf(options.scenario);

  const answer = (requested: URL): Response => {
    const atMs = options.now();
    const query = requested.searchParams;
    switch (requested.pathname) {
      case "/insight/v1alpha1/graph":
        return Response.json(mesh.graph(atMs, Number(query.get("windowSeconds") ?? 30)));
      case "/insight/v1alpha1/series": {
        const of = query.has("edge") ? "edge" : "node";
        const series = mesh.series(of, query.get(of) ?? "", Number(query.get("minutes") ?? 5), atMs);
        return series === null ? failure(404, `no ${of} ${query.get(of)}`) : Response.json(series);
      }
      case "/apis/weft.dev/v1alpha1/meshes/default":
        return Response.json(mesh.mesh(atMs));
      case "/apis/weft.dev/v1alpha1/proxies":
        return Response.json({ kind: "ProxyList", items: mesh.proxies(atMs) });
      default: {
        const items = mesh.objects(requested.pathname.split("/").at(-1) ?? "");
        return items === null ? failure(404, `the server does not know ${requested.pathname}`) : Response.json({ kind: "List", items });
      }
    }
  };

  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: options.port,
    idleTimeout: 30,
    async fetch(request) {
      const requested = new URL(request.url);
      if (!/^\/(api|apis|insight)\//.test(requested.pathname)) {
        const asset = (await options.dashboard())(requested.pathname);
        if (asset === undefined) return new Response("not found\n", { status: 404 });
        return new Response(asset.body, {
          headers: {
            "content-type": asset.type,
            "content-security-policy": contentSecurityPolicy,
            "cache-control": asset.immutable ? "public, max-age=31536000, immutable" : "no-cache",
          },
        });
      }
      asked++;
      if (how === "normal") return answer(requested);
      if (how === 401) return failure(401, "no credentials: the dashboard's cookie is missing or no longer valid");
      return failure(500, "the store does not answer: database is locked");
    },
  });
  const port = server.port ?? options.port;
  url = `http://127.0.0.1:${port}/`;
  return {
    url,
    port,
    behave: (next) => {
      how = next;
    },
    show: (scenario) => {
      mesh = meshOf(scenario);
    },
    asked: () => asked,
    stop: () => server.stop(true),
  };
}

function failure(code: number, message: string): Response {
  return Response.json({ kind: "Status", apiVersion: "v1", status: "Failure", code, message }, { status: code });
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "7450" },
      scenario: { type: "string", default: "shop" },
      seed: { type: "string", default: "1" },
    },
  });
  const scenarios: readonly Scenario[] = ["shop", "empty", "quiet", "large"];
  const scenario = scenarios.find((name) => name === values.scenario);
  if (scenario === undefined) throw new Error(`--scenario ${values.scenario}: there are ${scenarios.join(", ")}`);
  // Bundled anew for each page, so that an edit shows at the next reload.
  let latest: Promise<Dashboard> | undefined;
  const server = startDevServer({
    port: Number(values.port),
    scenario,
    seed: Number(values.seed),
    now: () => Date.now(),
    dashboard: () => (latest ??= buildDashboard().finally(() => setTimeout(() => (latest = undefined), 2_000))),
  });
  process.stdout.write(`dashboard over made-up data: ${server.url} (scenario ${scenario})\n`);
}
