// Owns: the list of subjects a case runs, made from the programs that are there. Weft and Envoy get the text of one bootstrap maker.
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Certificates } from "../certs.ts";
import { freePorts } from "../machine.ts";
import type { Found, Tool } from "../peers.ts";
import { type HopPorts, hopBootstrap, type PairPorts, pairClientBootstrap, pairServerBootstrap } from "./bootstrap.ts";
import { haproxyHop, haproxyPairClient, haproxyPairServer } from "./haproxy.ts";
import { nginxHop, nginxPairClient, nginxPairServer } from "./nginx.ts";
import type { Subject } from "./subject.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const NGINX_NOTE = "nginx keeps no counters per route or endpoint (stub_status only)";

export interface BuildContext {
  readonly dir: string;
  readonly originPort: number;
  readonly tools: Readonly<Record<Tool, Found>>;
}

/** Runs the proxy as a user does. */
export function weftProxy(bootstrapFile: string): readonly string[] {
  const script = join(ROOT, "bin/weft");
  if (existsSync(script)) return [script, "proxy", "--bootstrap", bootstrapFile];
  return [process.execPath, join(ROOT, "src/main.ts"), "proxy", "--bootstrap", bootstrapFile];
}

export function envoy(path: string, bootstrapFile: string): readonly string[] {
  return [path, "-c", bootstrapFile, "--concurrency", "1", "--disable-hot-restart", "-l", "error"];
}

function write(dir: string, name: string, text: string): string {
  const file = join(dir, `${name}.json`);
  writeFileSync(file, text);
  return file;
}

async function hopPorts(origin: number): Promise<HopPorts> {
  const [listen, admin] = await freePorts(2);
  return { listen: listen!, admin: admin!, origin };
}

/** Subjects of the plain hop, Weft first; programs that are missing are left out. */
export async function hopSubjects(context: BuildContext): Promise<Subject[]> {
  const { dir, tools, originPort } = context;
  const subjects: Subject[] = [];
  const one = (name: string, version: string, ports: HopPorts, command: readonly string[], note?: string): void => {
    subjects.push({ name, version, port: ports.listen, proxies: [{ side: "proxy", command }], ...(note === undefined ? {} : { note }) });
  };
  const weftPorts = await hopPorts(originPort);
  one("weft", "this tree", weftPorts, weftProxy(write(dir, "weft-hop", hopBootstrap(weftPorts))));
  if (tools.envoy.path !== null) {
    const ports = await hopPorts(originPort);
    one("envoy", tools.envoy.version, ports, envoy(tools.envoy.path, write(dir, "envoy-hop", hopBootstrap(ports))));
  }
  if (tools.haproxy.path !== null) {
    const ports = await hopPorts(originPort);
    one("haproxy", tools.haproxy.version, ports, haproxyHop(tools.haproxy.path, dir, ports));
  }
  if (tools.nginx.path !== null) {
    const ports = await hopPorts(originPort);
    one("nginx", tools.nginx.version, ports, nginxHop(tools.nginx.path, dir, ports), NGINX_NOTE);
  }
  return subjects;
}

/** The rogue TLS servers that every A must refuse. */
export interface Rogues {
  readonly impostor: number;
  readonly stranger: number;
}

/** Subjects of the mutual-TLS pair, Weft first; Envoy twice, with HTTP/1.1 and with HTTP/2 between its two. */
export async function pairSubjects(context: BuildContext, certs: Certificates, rogues: Rogues): Promise<Subject[]> {
  const { dir, tools, originPort } = context;
  const subjects: Subject[] = [];
  const pair = async (
    name: string,
    version: string,
    make: (ports: PairPorts) => { a: readonly string[]; b: readonly string[] },
    note?: string,
  ): Promise<void> => {
    const [listen, middle, adminA, adminB] = await freePorts(4);
    const ports: PairPorts = { listen: listen!, middle: middle!, adminA: adminA!, adminB: adminB!, origin: originPort, ...rogues };
    const { a, b } = make(ports);
    const proxies = [
      { side: "b", command: b },
      { side: "a", command: a },
    ];
    subjects.push({ name, version, port: ports.listen, middlePort: ports.middle, proxies, ...(note === undefined ? {} : { note }) });
  };
  const files = (name: string, ports: PairPorts, middle: "http1" | "http2"): { a: string; b: string } => ({
    a: write(dir, `${name}-a`, pairClientBootstrap(ports, certs, middle)),
    b: write(dir, `${name}-b`, pairServerBootstrap(ports, certs, middle)),
  });
  await pair("weft", "this tree", (ports) => {
    const { a, b } = files("weft", ports, "http1");
    return { a: weftProxy(a), b: weftProxy(b) };
  });
  const envoyPath = tools.envoy.path;
  if (envoyPath !== null) {
    for (const middle of ["http1", "http2"] as const) {
      await pair(`envoy-${middle}`, tools.envoy.version, (ports) => {
        const { a, b } = files(`envoy-${middle}`, ports, middle);
        return { a: envoy(envoyPath, a), b: envoy(envoyPath, b) };
      });
    }
  }
  const haproxyPath = tools.haproxy.path;
  if (haproxyPath !== null) {
    await pair("haproxy", tools.haproxy.version, (ports) => ({
      a: haproxyPairClient(haproxyPath, dir, ports, certs),
      b: haproxyPairServer(haproxyPath, dir, ports, certs),
    }));
  }
  const nginxPath = tools.nginx.path;
  if (nginxPath !== null) {
    const make = (ports: PairPorts) => ({
      a: nginxPairClient(nginxPath, dir, ports, certs),
      b: nginxPairServer(nginxPath, dir, ports, certs),
    });
    await pair("nginx", tools.nginx.version, make, NGINX_NOTE);
  }
  return subjects;
}
