// Owns: the dashboard's HTTP server on the loopback address: sign-in, the page's files, and the API for a browser that is signed in.
// Never answers a stranger: without a cookie there is the sign-in page and nothing else. Never lets another site act: a request that a
// foreign page caused is refused, and a foreign host name (DNS rebinding) is too.

import type { Logger } from "../../base/log.ts";
import type { ApiServer } from "../apiserver/deps.ts";
import { adminCaller } from "../identity/access.ts";
import type { Dashboard } from "./assets.ts";
import type { SignIn } from "./signin.ts";

export interface DashboardDeps {
  readonly api: ApiServer;
  readonly signIn: SignIn;
  readonly nowMs: () => number;
  readonly log: Logger;
  /** Bundles the page on first use; it costs some 100 ms and must not be part of the start. */
  readonly load: () => Promise<{ readonly find: Dashboard; readonly contentSecurityPolicy: string }>;
}

type Holder = Parameters<ApiServer["handle"]>[1];

const apiPaths = ["/api", "/apis", "/insight", "/openapi", "/version", "/healthz", "/livez", "/readyz", "/metrics"];

/** The handler; listening is `listenDashboard`. */
export function dashboardHandler(deps: DashboardDeps): (request: Request, holder: Holder) => Promise<Response> {
  return async (request, holder) => {
    const url = new URL(request.url);
    if (!isLoopbackName(url.hostname)) {
      return plain(421, `The dashboard answers to 127.0.0.1 and localhost, not to ${url.hostname}.\n`);
    }
    const foreign = foreignOrigin(request, url);
    const safe = request.method === "GET" || request.method === "HEAD";
    if (foreign !== undefined && !safe) return plain(403, `A page of ${foreign} may not change anything here.\n`);

    const token = url.searchParams.get("token");
    if (token !== null && safe && url.pathname === "/") {
      if (!deps.signIn.accepts(token)) return signInPage("This link's token is not this mesh's. Take the link that weft up printed last.");
      return new Response(null, { status: 303, headers: { location: "/", "set-cookie": deps.signIn.cookie(deps.nowMs()), ...common } });
    }
    if (url.pathname === "/sign-in" && request.method === "POST") {
      const form = new URLSearchParams((await request.text()).slice(0, 4096));
      if (!deps.signIn.accepts((form.get("token") ?? "").trim())) return signInPage("That is not this mesh's admin token.");
      return new Response(null, { status: 303, headers: { location: "/", "set-cookie": deps.signIn.cookie(deps.nowMs()), ...common } });
    }
    if (url.pathname === "/sign-out" && request.method === "POST") {
      return new Response(null, { status: 303, headers: { location: "/", "set-cookie": deps.signIn.clear(), ...common } });
    }

    const isApi = apiPaths.some((path) => url.pathname === path || url.pathname.startsWith(`${path}/`));
    if (isApi) {
      const bearer = /^bearer +(\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
      if (bearer !== undefined && deps.signIn.accepts(bearer)) return deps.api.handle(request, holder, adminCaller);
      const byCookie = deps.signIn.isSignedIn(request.headers.get("cookie"), deps.nowMs());
      // Reads too: SameSite=Strict keeps the cookie off foreign requests, and this does not lean on it alone.
      if (byCookie && foreign !== undefined) return plain(403, `A page of ${foreign} may not read anything here.\n`);
      return byCookie ? deps.api.handle(request, holder, adminCaller) : deps.api.handle(request, holder);
    }
    if (!safe) return plain(405, "Only GET is possible here.\n");
    if (!deps.signIn.isSignedIn(request.headers.get("cookie"), deps.nowMs())) {
      return url.pathname === "/" ? signInPage() : plain(401, "Sign in first, at /.\n");
    }
    return serveFile(deps, url.pathname);
  };
}

export function listenDashboard(
  host: string,
  port: number,
  handler: ReturnType<typeof dashboardHandler>,
): { readonly port: number; stop(): Promise<void> } {
  const server = Bun.serve({ hostname: host, port, idleTimeout: 60, fetch: (request, bun) => handler(request, bun) });
  return { port: server.port ?? port, stop: () => server.stop(true) };
}

async function serveFile(deps: DashboardDeps, path: string): Promise<Response> {
  try {
    const { find, contentSecurityPolicy } = await deps.load();
    // Addresses inside the page (/services/…) are the page's own; it sorts them out itself.
    const asset = find(path) ?? (path.startsWith("/assets/") || path.includes(".") ? undefined : find("/"));
    if (asset === undefined) return plain(404, "There is no such file.\n");
    return new Response(asset.body, {
      headers: {
        ...common,
        "content-type": asset.type,
        "cache-control": asset.immutable ? "private, max-age=31536000, immutable" : "no-cache",
        "content-security-policy": contentSecurityPolicy,
      },
    });
  } catch (cause) {
    deps.log.error({ cause }, "The dashboard could not be built");
    return plain(500, `The dashboard could not be built: ${cause instanceof Error ? cause.message : String(cause)}\n`);
  }
}

/** The other site that caused this request, by what browsers say of it; undefined = none. */
function foreignOrigin(request: Request, url: URL): string | undefined {
  const origin = request.headers.get("origin");
  if (origin !== null && origin !== url.origin) return origin;
  const site = request.headers.get("sec-fetch-site");
  // Opening the page from a link elsewhere is a navigation and fine; it carries no cookie and gets the sign-in page.
  if ((site === "cross-site" || site === "same-site") && request.headers.get("sec-fetch-mode") !== "navigate")
    return `another site (${site})`;
  return undefined;
}

function isLoopbackName(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

const common = { "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store" } as const;

function plain(status: number, text: string): Response {
  return new Response(text, { status, headers: { ...common, "content-type": "text/plain; charset=utf-8" } });
}

function signInPage(problem = ""): Response {
  const body = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Weft: sign in</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 15vh auto; padding: 0 1rem }
input, button { font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; margin-top: .5rem }
.problem { color: #c0392b }
</style>
<h1>Weft</h1>
<p>Open the link that <code>weft up</code> printed, or paste the token from <code>admin.token</code> in its data folder.</p>
${problem === "" ? "" : `<p class="problem" role="alert">${problem}</p>`}
<form method="post" action="/sign-in">
<label>Token <input name="token" type="password" autocomplete="current-password" required autofocus></label>
<button>Sign in</button>
</form>
</html>
`;
  return new Response(body, {
    status: problem === "" ? 200 : 403,
    headers: {
      ...common,
      "content-type": "text/html; charset=utf-8",
      "content-security-policy":
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    },
  });
}
