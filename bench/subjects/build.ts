// Owns: the list of subjects a case runs, made from the programs that are there. Weft and Envoy get the text of one bootstrap maker.
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Certificates } from "../certs.ts";
import { freePorts } from "../machine.ts";
import type { Found, Tool } from "../peers.ts";
import { type HopPorts, hopBootstrap, type PairPorts, pairClientBootstrap, pairServerBootstrap } from "./bootstrap.ts";
import { type FrontPorts, type FrontWants, frontBootstrap } from "./front-bootstrap.ts";
import { haproxyFront, haproxyHop, haproxyPairClient, haproxyPairServer } from "./haproxy.ts";
import { nginxFront, nginxHop, nginxPairClient, nginxPairServer } from "./nginx.ts";
import type { Subject } from "./subject.ts";

/** `$WEFT_BENCH_TREE`: another checkout (with its node_modules) whose proxy is measured by this bench. */
export const proxyTree = process.env.WEFT_BENCH_TREE ?? new URL("../..", import.meta.url).pathname;
const NGINX_NOTE = "nginx keeps no counters per route or endpoint (stub_status only)";

export interface BuildContext {
  readonly dir: string;
  readonly originPort: number;
  readonly tools: Readonly<Record<Tool, Found>>;
}

/** Runs the proxy as a user does. */
export function weftProxy(bootstrapFile: string, ...flags: readonly string[]): readonly string[] {
  const script = join(proxyTree, "bin/weft");
  if (existsSync(script)) return [script, "proxy", "--bootstrap", bootstrapFile, ...flags];
  return [process.execPath, join(proxyTree, "src/main.ts"), "proxy", "--bootstrap", bootstrapFile, ...flags];
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
    extra: Partial<Subject> = {},
  ): Promise<void> => {
    const [listen, middle, adminA, adminB, tapPort, relayPort, tapAdmin] = await freePorts(7);
    const ports: PairPorts = { listen: listen!, middle: middle!, adminA: adminA!, adminB: adminB!, origin: originPort, ...rogues };
    const { a, b } = make(ports);
    const tapPorts = { ...ports, listen: tapPort!, middle: relayPort!, adminA: tapAdmin!, tag: "-tap" };
    const tap = { port: tapPort!, relayPort: relayPort!, command: make(tapPorts).a };
    const proxies = [
      { side: "b", command: b },
      { side: "a", command: a },
    ];
    subjects.push({ name, version, port: ports.listen, middlePort: ports.middle, proxies, tap, ...extra });
  };
  const files = (name: string, ports: PairPorts, middle: "http1" | "http2"): { a: string; b: string } => ({
    a: write(dir, `${name}-a${ports.tag ?? ""}`, pairClientBootstrap(ports, certs, middle)),
    b: write(dir, `${name}-b${ports.tag ?? ""}`, pairServerBootstrap(ports, certs, middle)),
  });
  for (const middle of ["http1", "http2"] as const) {
    await pair(
      `weft-${middle}`,
      "this tree",
      (ports) => {
        const { a, b } = files(`weft-${middle}`, ports, middle);
        return { a: weftProxy(a), b: weftProxy(b) };
      },
      { optional: true },
    );
  }
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
    await pair("nginx", tools.nginx.version, make, { note: NGINX_NOTE });
  }
  return subjects;
}

/** The origin of the fronts. */
export interface FrontOrigin {
  readonly http1: number;
  readonly http2: number;
  readonly grpc: number;
}

/** Subjects with a front's listeners, Weft first. nginx has no opaque listener here: its stream module is a package of its own. */
export async function frontSubjects(
  context: { readonly dir: string; readonly tools: Readonly<Record<Tool, Found>> },
  origin: FrontOrigin,
  certs: Certificates,
  wants: FrontWants,
): Promise<Subject[]> {
  const { dir, tools } = context;
  const subjects: Subject[] = [];
  const front = async (
    name: string,
    version: string,
    make: (ports: FrontPorts, http2: number) => readonly string[],
    note?: string,
  ): Promise<void> => {
    const [plain, tls, mutual, tcp, admin, http2] = await freePorts(6);
    const ports = {
      plain: plain!,
      tls: tls!,
      mutual: mutual!,
      tcp: tcp!,
      admin: admin!,
      originHttp1: origin.http1,
      originHttp2: origin.http2,
      originGrpc: origin.grpc,
    };
    subjects.push({
      name,
      version,
      port: ports.plain,
      front: {
        http2: name === "nginx" ? http2! : ports.plain,
        tls: ports.tls,
        mutual: ports.mutual,
        tcp: wants.tcp && name !== "nginx" ? ports.tcp : null,
      },
      proxies: [{ side: "proxy", command: make(ports, http2!) }],
      ...(name === "haproxy" ? { mostConnections: 9500 } : {}),
      ...(note === undefined ? {} : { note }),
    });
  };
  const file = (name: string, ports: FrontPorts): string => write(dir, `${name}-front`, frontBootstrap(ports, certs, wants));
  await front("weft", "this tree", (ports) => weftProxy(file("weft", ports)));
  const { envoy: envoyTool, haproxy, nginx } = tools;
  if (envoyTool.path !== null) await front("envoy", envoyTool.version, (ports) => envoy(envoyTool.path, file("envoy", ports)));
  if (haproxy.path !== null) await front("haproxy", haproxy.version, (ports) => haproxyFront(haproxy.path, dir, ports, certs, wants));
  if (nginx.path !== null && !wants.tcp)
    await front("nginx", nginx.version, (ports, http2) => nginxFront(nginx.path, dir, ports, http2, certs, wants), NGINX_NOTE);
  return subjects;
}
