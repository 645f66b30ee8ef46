// Owns: `weft check`: what is wrong with an installation, each with the way to put it right. Reads only; the judgement of objects is in
// ../check-objects.ts.

import { X509Certificate } from "node:crypto";
import { existsSync, statfsSync, statSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { connect as connectTls } from "node:tls";
import type { MeshObject, ProxyObject } from "../../api/live.ts";
import type { KubeObject } from "../../api/meta.ts";
import { bunCommand } from "../../base/built.ts";
import { packageRoot } from "../../base/root.ts";
import { type AuthorityFacts, authorityFindings, type Finding, type Mesh, objectFindings, proxyFindings } from "../check-objects.ts";
import { ApiFailure, type Client, Unreachable } from "../client.ts";
import { pathOf } from "../discovery.ts";
import { CliFailure, reasonOf } from "../failure.ts";
import { bytes, printed } from "../output.ts";
import { openSession } from "../session.ts";
import { paint } from "../terminal.ts";
import type { Invocation } from "../verb.ts";

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const { found, looked } = await findings(invocation);
  const errors = found.filter(({ level }) => level === "error").length;
  const warnings = found.length - errors;
  const status = errors > 0 ? 1 : 0;
  if (await printed(terminal, args.text("output"), { errors, warnings, findings: found, looked })) return status;
  for (const { level, about, message, fix } of found) {
    const head = paint(terminal.colour, level === "error" ? "red" : "yellow", level === "error" ? "ERROR  " : "WARNING");
    terminal.out(`${head} ${about}: ${message}\n        fix: ${fix}\n`);
  }
  const line =
    found.length === 0 ? "nothing is wrong" : `${errors} error${errors === 1 ? "" : "s"}, ${warnings} warning${warnings === 1 ? "" : "s"}`;
  terminal.out(`${paint(terminal.colour, errors > 0 ? "red" : warnings > 0 ? "yellow" : "green", line)} (${looked.join(", ")})\n`);
  return status;
}

const dayMs = 86_400_000;
/** The authority lives ten years and its successor takes planning; a server's certificate is renewed at a third of its life, a year, left. */
const authorityNearMs = 90 * dayMs;
const serverNearMs = 30 * dayMs;
/** Certificates begin a little before now; beyond a minute of difference new ones may not be good yet. */
const skewWarnMs = 5_000;
const skewErrorMs = 60_000;
const leastFreeBytes = 256 * 1024 * 1024;

/** Everything that is wrong, errors first, and what was looked at. A control plane that does not answer is one of them. */
export async function findings(invocation: Pick<Invocation, "args" | "env" | "stop">): Promise<{ found: Finding[]; looked: string[] }> {
  const session = openSession(invocation);
  const { client } = session;
  const found: Finding[] = [];
  const looked: string[] = [];
  const look = () => {
    const data = invocation.args.text("data") ?? dirname(client.access.file);
    if (meshFiles.some((name) => existsSync(join(data, name)))) {
      found.push(...folderFindings(data));
      looked.push("data folder");
    } else if (invocation.args.on("data")) throw new CliFailure(`${data} holds no mesh (there is no ${meshFiles.join(" and no ")} in it)`);
  };
  const askedAt = Date.now();
  let ready: Response;
  try {
    ready = await client.raw("/readyz", { alsoGood: [503], timeoutMs: 15_000 });
  } catch (error) {
    // Nothing else can be asked, but what keeps it from starting may lie in its folder.
    if (!(error instanceof Unreachable)) throw error;
    look();
    const stored = await storeFindings(invocation.args.text("data") ?? dirname(client.access.file));
    if (stored !== undefined) {
      found.push(...stored);
      looked.push("store");
    }
    found.unshift({
      level: "error",
      about: "control plane",
      message: error.message,
      fix: error.retryable
        ? "start it (weft up, which says what is in its way), or name another with --kubeconfig"
        : "take the kubeconfig of the control plane that is meant",
    });
    return { found: found.sort(gravest), looked: ["control plane", ...looked] };
  }
  const words = (await ready.text()).trim();
  if (ready.status !== 200)
    found.push({
      level: "error",
      about: "control plane",
      message: words,
      fix: "see its log; it gets ready by itself when what it names is there",
    });
  looked.push("control plane");
  const skewMs = Date.parse(ready.headers.get("date") ?? "") - (askedAt + Date.now()) / 2;
  // The header has whole seconds.
  if (Math.abs(skewMs) > skewWarnMs)
    found.push({
      level: Math.abs(skewMs) > skewErrorMs ? "error" : "warning",
      about: "clocks",
      message: `this machine and the control plane differ by ${Math.round(Math.abs(skewMs) / 1000)} s`,
      fix: "run a time service (NTP) on both: certificates and tokens are judged by the clock",
    });
  looked.push("clocks");
  found.push(...(await certificateFindings(client)));
  looked.push("certificates");
  look();

  /** What could not be looked at, by the reason: a store that is away, or a credential that may not, is told once. */
  const unseen = new Map<string, string[]>();
  const unseenAt = (error: unknown, place: string) => {
    // Each place of which the same is said: the sentence names it.
    const reason = error instanceof ApiFailure && error.code === 403 ? "this credential may not list them" : reasonOf(error);
    unseen.set(reason, [...(unseen.get(reason) ?? []), place]);
  };
  const list = async <T = KubeObject>(path: string): Promise<readonly T[]> => {
    try {
      return (await client.json<{ items: T[] }>(path)).items;
    } catch (error) {
      unseenAt(error, path.slice(path.lastIndexOf("/") + 1));
      return [];
    }
  };
  const version = (await client.json<{ weftVersion?: string }>("/version")).weftVersion ?? "";
  const configured: KubeObject[] = [];
  for (const resource of await session.resources())
    if (judged.has(resource.group) && !unjudged.has(resource.plural)) {
      const items = await list(pathOf(resource, undefined));
      configured.push(...items.map((each) => ({ ...each, kind: resource.kind })));
    }
  const mesh: Mesh = {
    services: await list("/api/v1/services"),
    entries: await list("/apis/networking.istio.io/v1/workloadentries"),
    slices: await list("/apis/discovery.k8s.io/v1/endpointslices"),
    routes: configured.filter(({ kind }) => kind.endsWith("Route") || kind === "VirtualService"),
    policies: configured.filter(({ kind }) => !kind.endsWith("Route") && kind !== "VirtualService"),
    roles: await list("/apis/rbac.authorization.k8s.io/v1/roles"),
    clusterRoles: await list("/apis/rbac.authorization.k8s.io/v1/clusterroles"),
    bindings: [
      ...(await list("/apis/rbac.authorization.k8s.io/v1/rolebindings")),
      ...(await list("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings")),
    ],
  };
  const proxies = await list<ProxyObject>("/apis/weft.dev/v1alpha1/proxies");
  const own = (await list<MeshObject>("/apis/weft.dev/v1alpha1/meshes"))[0];
  if (own !== undefined) {
    const why = await unreachable(own.status.xdsAddress);
    if (why !== undefined)
      found.push({
        level: "warning",
        about: "ports",
        message: `${own.status.xdsAddress}, where proxies connect, does not answer from here (${why})`,
        fix: "let this machine through to it, if sidecars are to run here; weft up --listen ADDRESS makes it listen elsewhere",
      });
    looked.push("ports");
  }
  const nowMs = Date.now() + (Math.abs(skewMs) > skewWarnMs ? skewMs : 0);
  found.push(...proxyFindings(proxies, mesh.entries, version, nowMs));
  try {
    found.push(...authorityFindings(await client.json<AuthorityFacts>("/weft/v1alpha1/ca"), nowMs));
  } catch (error) {
    unseenAt(error, "certificate authority");
  }
  looked.push(`${proxies.length} proxies`);
  const { version: ours } = await import("./version.ts");
  if (version !== "" && version !== ours)
    found.push({
      level: "warning",
      about: "versions",
      message: `this weft is ${ours}, the control plane ${version}`,
      fix: "use the same version for both",
    });
  found.push(...objectFindings(mesh, nowMs));
  for (const [reason, places] of unseen)
    found.push({
      level: "warning",
      about: places.length > 3 ? `${places.length} kinds` : places.join(", "),
      message: `could not be looked at: ${reason}${places.length > 3 ? ` (${places.join(", ")})` : ""}`,
      fix: reason.startsWith("this credential") ? "use a credential that may list them" : "mend that, and check again: there may be more",
    });
  looked.push(`${mesh.services.length} services`, `${mesh.routes.length + mesh.policies.length} routes and policies`);
  return { found: found.sort(gravest), looked };
}

const gravest = (a: Finding, b: Finding): number => Number(b.level === "error") - Number(a.level === "error");

async function certificateFindings(client: Client): Promise<Finding[]> {
  const { ca, server } = client.access;
  const out: Finding[] = [];
  const judge = (what: string, notAfter: Date, nearMs: number, fix: string) => {
    const left = notAfter.getTime() - Date.now();
    if (left >= nearMs) return;
    const message =
      left <= 0 ? `expired at ${notAfter.toISOString()}` : `ends in ${Math.ceil(left / dayMs)} days (${notAfter.toISOString()})`;
    out.push({ level: left <= 0 ? "error" : "warning", about: what, message, fix });
  };
  if (ca !== undefined)
    judge(
      "certificate authority",
      new X509Certificate(ca).validToDate,
      authorityNearMs,
      "replace it under traffic: weft ca rotate (a given one: docs/certificates.md)",
    );
  const { hostname, port } = new URL(server);
  const host = hostname.replace(/^\[|\]$/g, "");
  const notAfter = await new Promise<Date | undefined>((resolve) => {
    // Only the dates are looked at here; whoever is not the mesh's server has been found out by the request before.
    const socket = connectTls({ host, port: Number(port || 443), rejectUnauthorized: false, servername: "weft" }, () => {
      const text = socket.getPeerCertificate().valid_to;
      socket.destroy();
      resolve(text === undefined ? undefined : new Date(text));
    });
    socket.setTimeout(5_000, () => socket.destroy());
    socket.on("error", () => resolve(undefined));
    socket.on("close", () => resolve(undefined));
  });
  if (notAfter !== undefined)
    judge("the API's certificate", notAfter, serverNearMs, "restart weft up: it renews its certificate when a third of its life is left");
  return out;
}

/** Groups in whose objects the control plane says what it makes of them. */
const judged = new Set(["gateway.networking.k8s.io", "networking.istio.io", "security.istio.io", "telemetry.istio.io", "weft.dev"]);
/** Live state, and what is looked at by itself. */
const unjudged = new Set(["workloadentries", "proxies", "edges", "meshes", "jointokens", "users", "revocations"]);

/** What a folder of weft up has: with a store of its own, and with one in etcd. */
const meshFiles = ["weft.db", "admin.kubeconfig"];
const privateFiles = ["weft.db", "ca.key", "ca.rotation", "signing.key", "server.key", "admin.token", "admin.kubeconfig", "audit.log"];

function folderFindings(data: string): Finding[] {
  const out: Finding[] = [];
  const add = (level: Finding["level"], message: string, fix: string) => out.push({ level, about: `data folder ${data}`, message, fix });
  for (const name of privateFiles) {
    const path = join(data, name);
    if (!existsSync(path)) continue;
    const mode = statSync(path).mode & 0o777;
    if ((mode & 0o077) !== 0)
      add(
        "error",
        `${name} can be read by others (mode ${mode.toString(8).padStart(4, "0")})`,
        `chmod 600 ${path}; whoever read it may act in its place`,
      );
  }
  const folder = statSync(data).mode & 0o777;
  if ((folder & 0o022) !== 0) add("error", `others may write in it (mode ${folder.toString(8)})`, `chmod 700 ${data}`);
  const { bavail, bsize, files, ffree } = statfsSync(data);
  const free = bavail * bsize;
  if (free < leastFreeBytes)
    add(
      free < leastFreeBytes / 8 ? "error" : "warning",
      `${bytes(free)} are free on its disk`,
      "make room: without it no change can be stored",
    );
  if (files > 0 && ffree < 100) add("error", `its file system has room for ${ffree} more files`, "remove files there");
  return out;
}

/** What is wrong with the store of a control plane that is stopped; undefined: there is none, or somebody uses it. The store's own code says it, in a process of its own. */
async function storeFindings(data: string): Promise<Finding[] | undefined> {
  if (!existsSync(join(data, "weft.db"))) return undefined;
  const child = Bun.spawn({
    cmd: [...bunCommand(join(packageRoot(), "src/main.ts")), "store", "check", "--data", data, "--output", "json"],
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
  });
  const text = await child.stdout.text();
  await child.exited;
  try {
    return (JSON.parse(text) as { findings: Finding[] }).findings;
  } catch {
    return undefined;
  }
}

/** Why a TCP connection cannot be made; undefined = it can. */
function unreachable(address: string): Promise<string | undefined> {
  const at = address.lastIndexOf(":");
  const host = address.slice(0, at).replace(/^\[|\]$/g, "");
  return new Promise((resolve) => {
    const socket = connect({ host: host === "0.0.0.0" ? "127.0.0.1" : host, port: Number(address.slice(at + 1)) }, () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.setTimeout(3_000, () => {
      socket.destroy();
      resolve("no answer within 3 s");
    });
    socket.on("error", (error) => resolve((error as NodeJS.ErrnoException).code ?? error.message));
  });
}
