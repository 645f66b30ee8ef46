// Owns: the dashboard's files as the server hands them out, bundled from ui/ when the first browser asks and kept in memory.
// Must not be imported at start-up's cost: importing it does nothing, `loadDashboard` does. Must never emit inline script or style.

import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { packageRoot } from "../../base/root.ts";

/** One file of the dashboard. */
export interface Asset {
  readonly type: string;
  readonly body: Uint8Array<ArrayBuffer> | string;
  /** The name carries a hash of the content: a browser may keep it for ever. The page itself (`/`) is not. */
  readonly immutable: boolean;
}

/** Finds a file by URL path (`/`, `/assets/…`); undefined = not one of the dashboard's. */
export type Dashboard = (path: string) => Asset | undefined;

/** What the page needs and no more; send it with `/` (harmless with the rest). Script, style and worker come from this origin only. */
export const contentSecurityPolicy =
  "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

let loading: Promise<Dashboard> | undefined;

/**
 * Bundles on the first call (a fraction of a second), answers from memory afterwards. A failed build is tried again on the next call.
 * Rejects with an AggregateError that lists what the bundler found.
 */
export function loadDashboard(): Promise<Dashboard> {
  loading ??= buildDashboard().catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

/** Bundles anew, whatever is in memory: for the development server. */
export async function buildDashboard(): Promise<Dashboard> {
  const folder = pathToFileURL(join(packageRoot(), "ui/"));
  const files = new Map<string, Asset>();
  const add = (name: string, type: string, body: Asset["body"]): string => {
    const path = `/assets/${name}`;
    files.set(path, { type, body, immutable: true });
    return path;
  };
  const hashed = async (stem: string, extension: string, url: URL): Promise<[string, Uint8Array<ArrayBuffer>]> => {
    const body = await Bun.file(url).bytes();
    return [`${stem}-${Bun.hash(body).toString(36)}.${extension}`, body];
  };
  // ELK runs in a worker, as it comes: already minified, and its generated code gains nothing from a bundler.
  const [workerName, workerBody] = await hashed(
    "layout",
    "js",
    pathToFileURL(Bun.resolveSync("elkjs/lib/elk-worker.min.js", packageRoot())),
  );
  const workerUrl = add(workerName, "text/javascript; charset=utf-8", workerBody);
  const [iconName, iconBody] = await hashed("icon", "svg", new URL("icon.svg", folder));
  const icon = add(iconName, "image/svg+xml", iconBody);

  const result = await Bun.build({
    entrypoints: [fileURLToPath(new URL("main.tsx", folder)), fileURLToPath(new URL("style.css", folder))],
    target: "browser",
    format: "esm",
    minify: true,
    splitting: true,
    naming: { entry: "[name]-[hash].[ext]", chunk: "[name]-[hash].[ext]", asset: "[name]-[hash].[ext]" },
    define: { "process.env.NODE_ENV": '"production"', weftLayoutWorkerUrl: JSON.stringify(workerUrl) },
    throw: true,
  });
  let script = "";
  let style = "";
  for (const output of result.outputs) {
    const name = output.path.replace(/^.*\//, "");
    const isStyle = name.endsWith(".css");
    // The style entry also leaves an empty script behind; nothing refers to it.
    if (output.kind === "entry-point" && !isStyle && !name.startsWith("main-")) continue;
    const path = add(
      name,
      isStyle ? "text/css; charset=utf-8" : "text/javascript; charset=utf-8",
      new Uint8Array(await output.arrayBuffer()),
    );
    if (isStyle) style = path;
    else if (output.kind === "entry-point") script = path;
  }
  const template = await Bun.file(new URL("index.html", folder)).text();
  const page = template.replace("%script%", script).replace("%style%", style).replace("%icon%", icon);
  files.set("/", { type: "text/html; charset=utf-8", body: page, immutable: false });
  return (path) => files.get(path);
}
