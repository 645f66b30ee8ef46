// Owns: the running mesh of the quiet cases: `weft up` on a folder of its own and a sidecar that gets its configuration from it.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bootstrapFor } from "../../src/cli/run/bootstrap.ts";
import { annotations, tlsModeLabel, tlsModeMutual } from "../../src/wire/names.ts";
import { type Cores, freePorts } from "../machine.ts";
import { untilAnswering } from "../probe.ts";
import { groupRunTime, rssAnonMb, type Started, type Workshop } from "../proc.ts";
import { HOST, LOAD_PATH } from "../subjects/subject.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const WEFT = join(ROOT, "bin/weft");

export interface SidecarMemory {
  readonly sidecarMb: number;
  /** `weft run`, which stays beside the application. */
  readonly supervisorMb: number;
}

/** One start: wall time, and of it (over all threads) the time on a core and the time spent waiting for one. */
export interface StartTime {
  readonly readyMs: number;
  readonly ranMs: number;
  readonly waitedMs: number;
}

/** Private memory of an idle sidecar that `weft run` started beside an application, `settleMs` after it was ready. */
export async function meshSidecar(shop: Workshop, cores: Cores, settleMs: number): Promise<SidecarMemory> {
  const plane = await controlPlane(shop, cores.others, join(shop.dir, "mesh-idle"));
  const [port] = await freePorts(1);
  const application = [process.execPath, join(ROOT, "bench/load/origin.ts"), String(port)];
  const run = shop.start(
    "weft-run",
    [WEFT, "run", "--service", "idle", "--port", String(port), "--", ...application],
    String(cores.subject),
    plane.env,
  );
  try {
    const sidecar = await until(`a healthy instance of the service "idle"`, run, async () => {
      const pid = descendants(run.pid).find((candidate) => /\0proxy\0.*--bootstrap/s.test(commandLine(candidate)));
      return pid !== undefined && (await healthy(plane)) ? pid : null;
    });
    await Bun.sleep(settleMs);
    return { sidecarMb: rssAnonMb(sidecar), supervisorMb: rssAnonMb(run.pid) };
  } finally {
    await run.stop(5000);
    await plane.started.stop(5000);
  }
}

/** exec of `weft up` on a folder it has run on before -> the API server answers /readyz. */
export async function answeringControlPlane(shop: Workshop, cores: Cores, starts: number): Promise<StartTime[]> {
  const times: StartTime[] = [];
  for (let i = 0; i <= starts; i++) {
    const plane = await controlPlane(shop, String(cores.subject), join(shop.dir, "mesh-start"));
    if (i > 0) times.push({ readyMs: plane.readyMs, ...groupRunTime(plane.started.pid) }); // the first start makes keys and database
    await plane.started.stop(5000);
  }
  return times;
}

/**
 * exec of `weft proxy` with a running control plane -> its line that says ready (every listener has come and is bound). After each start a request
 * goes through the forward proxy, over mutual TLS to the sidecar itself, to the application: ready must mean serving.
 */
export async function sidecarStarts(shop: Workshop, cores: Cores, starts: number): Promise<StartTime[]> {
  const plane = await controlPlane(shop, cores.others, join(shop.dir, "mesh-sidecar"));
  const [application, inbound, httpProxy, admin] = (await freePorts(4)) as [number, number, number, number];
  const behind = shop.start("origin", [process.execPath, join(ROOT, "bench/load/origin.ts"), String(application)], cores.others);
  await untilAnswering(behind, { port: application, host: HOST, path: LOAD_PATH }, performance.now());
  const files = await registerWorkload(shop, plane, { application, inbound, httpProxy, admin });
  const times: StartTime[] = [];
  try {
    for (let i = 0; i < starts; i++) {
      const since = performance.now();
      const command = [WEFT, "proxy", "--bootstrap", files.bootstrap, "--token-file", files.token];
      const sidecar = shop.start("weft-sidecar", command, `${cores.subject},${cores.others}`);
      if (!(await sidecar.untilSays('"msg":"ready"'))) throw new Error(`the sidecar did not say that it is ready:\n${sidecar.output()}`);
      times.push({ readyMs: performance.now() - since, ...groupRunTime(sidecar.pid) });
      await untilAnswering(sidecar, { port: httpProxy, host: "start.bench", path: LOAD_PATH }, performance.now(), 2000);
      await sidecar.stop(5000);
    }
  } finally {
    await plane.started.stop(5000);
    await behind.stop();
  }
  return times;
}

/**
 * exec of `weft proxy --snapshot` with the control plane gone -> its line that says ready, from what the start before has kept. After each start a request
 * goes over mutual TLS to the sidecar itself, as in `sidecarStarts`.
 */
export async function snapshotStarts(shop: Workshop, cores: Cores, starts: number): Promise<StartTime[]> {
  const plane = await controlPlane(shop, cores.others, join(shop.dir, "mesh-snapshot"));
  const [application, inbound, httpProxy, admin] = (await freePorts(4)) as [number, number, number, number];
  const behind = shop.start("origin", [process.execPath, join(ROOT, "bench/load/origin.ts"), String(application)], cores.others);
  await untilAnswering(behind, { port: application, host: HOST, path: LOAD_PATH }, performance.now());
  const files = await registerWorkload(shop, plane, { application, inbound, httpProxy, admin });
  const command = [WEFT, "proxy", "--bootstrap", files.bootstrap, "--token-file", files.token, "--snapshot", join(shop.dir, "kept")];
  const times: StartTime[] = [];
  try {
    for (let i = 0; i <= starts; i++) {
      const since = performance.now();
      const sidecar = shop.start("weft-sidecar-snapshot", command, `${cores.subject},${cores.others}`);
      if (!(await sidecar.untilSays('"msg":"ready"'))) throw new Error(`the sidecar did not say that it is ready:\n${sidecar.output()}`);
      if (i > 0) times.push({ readyMs: performance.now() - since, ...groupRunTime(sidecar.pid) });
      if (i > 0 && !sidecar.output().includes('"from":"snapshot"'))
        throw new Error(`the sidecar did not start from its snapshot:\n${sidecar.output()}`);
      await untilAnswering(sidecar, { port: httpProxy, host: "start.bench", path: LOAD_PATH }, performance.now(), 2000);
      // The first start is with the control plane, and writes at its end what is not written yet.
      await sidecar.stop(5000);
      if (i === 0) await plane.started.stop(5000);
    }
  } finally {
    await plane.started.stop(5000);
    await behind.stop();
  }
  return times;
}

/** Writes what `weft run` writes: Service, WorkloadEntry, join token, bootstrap; without a process that supervises. */
async function registerWorkload(
  shop: Workshop,
  plane: ControlPlane,
  ports: { readonly application: number; readonly inbound: number; readonly httpProxy: number; readonly admin: number },
): Promise<{ bootstrap: string; token: string }> {
  const labels = { app: "start", [tlsModeLabel]: tlsModeMutual };
  await post(plane, "/api/v1/namespaces/bench/services", {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "start", namespace: "bench" },
    spec: { selector: { app: "start" }, ports: [{ name: "http", port: 80, protocol: "TCP", appProtocol: "http" }] },
  });
  await post(plane, "/apis/networking.istio.io/v1/namespaces/bench/workloadentries", {
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadEntry",
    metadata: {
      name: "start-1",
      namespace: "bench",
      labels,
      annotations: { [annotations.inbound]: `http=${ports.application}`, [annotations.httpProxyPort]: String(ports.httpProxy) },
    },
    spec: { address: "127.0.0.1", ports: { http: ports.inbound }, serviceAccount: "start" },
  });
  const answer = await post(plane, "/api/v1/namespaces/bench/serviceaccounts/start/token", {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: { expirationSeconds: 3600 },
  });
  const token = (answer as { status?: { token?: string } }).status?.token;
  if (token === undefined) throw new Error(`the control plane gave no join token: ${JSON.stringify(answer)}`);
  const files = { bootstrap: join(shop.dir, "start-bootstrap.json"), token: join(shop.dir, "start-token") };
  const bootstrap = bootstrapFor({
    namespace: "bench",
    entry: "start-1",
    service: "start",
    serviceAccount: "start",
    trustDomain: "cluster.local",
    labels,
    xdsAddress: `127.0.0.1:${plane.xdsPort}`,
    caBundle: readFileSync(join(plane.dataDir, "ca.crt"), "utf8"),
    adminPort: ports.admin,
  });
  writeFileSync(files.bootstrap, JSON.stringify(bootstrap));
  writeFileSync(files.token, token, { mode: 0o600 });
  return files;
}

async function post(plane: ControlPlane, path: string, body: object): Promise<unknown> {
  const answer = await fetch(`https://127.0.0.1:${plane.apiPort}${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${adminToken(plane)}`, "content-type": "application/json" },
    body: JSON.stringify(body),
    tls: { rejectUnauthorized: false },
  });
  if (!answer.ok) throw new Error(`POST ${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

function adminToken(plane: ControlPlane): string {
  return readFileSync(join(plane.dataDir, "admin.token"), "utf8").trim();
}

export interface ControlPlane {
  readonly started: Started;
  readonly dataDir: string;
  readonly apiPort: number;
  readonly xdsPort: number;
  readonly readyMs: number;
  readonly env: Readonly<Record<string, string>>;
}

/** Runs `weft up` until /readyz answers 200. */
export async function controlPlane(shop: Workshop, core: string, dataDir: string): Promise<ControlPlane> {
  const [apiPort, xdsPort, dashboardPort] = await freePorts(3);
  const ports = ["--api-port", String(apiPort), "--xds-port", String(xdsPort), "--dashboard-port", String(dashboardPort)];
  const since = performance.now();
  const started = shop.start("weft-up", [WEFT, "up", "--data", dataDir, ...ports], core);
  await until("/readyz of weft up", started, async () => {
    // The certificate is under the mesh's own CA; whether it is right is not what is timed here.
    const answer = await fetch(`https://127.0.0.1:${apiPort}/readyz`, { tls: { rejectUnauthorized: false } }).catch(() => null);
    return answer?.ok === true ? true : null;
  });
  const env = { WEFT_DATA: dataDir, XDG_STATE_HOME: join(dataDir, "state") };
  return { started, dataDir, apiPort: apiPort!, xdsPort: xdsPort!, readyMs: performance.now() - since, env };
}

async function until<T>(what: string, started: Started, look: () => Promise<T | null>): Promise<T> {
  const giveUpAt = performance.now() + 20_000;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (!started.alive()) throw new Error(`${started.name} ended before there was ${what}:\n${started.output()}`);
    if (performance.now() > giveUpAt) throw new Error(`${what} did not come within 20 s:\n${started.output()}`);
    await Bun.sleep(2);
  }
}

async function healthy(plane: ControlPlane): Promise<boolean> {
  const answer = await fetch(`https://127.0.0.1:${plane.apiPort}/apis/networking.istio.io/v1/workloadentries`, {
    headers: { authorization: `Bearer ${adminToken(plane)}` },
    tls: { rejectUnauthorized: false },
  });
  const list = (await answer.json()) as { items?: { status?: { conditions?: { type: string; status: string }[] } }[] };
  return (list.items ?? []).some(
    (entry) => entry.status?.conditions?.some((condition) => condition.type === "Healthy" && condition.status === "True") ?? false,
  );
}

function descendants(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    try {
      const text = readFileSync(`/proc/${pid}/stat`, "utf8");
      const parent = Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[1]);
      children.set(parent, [...(children.get(parent) ?? []), pid]);
    } catch {
      // It ended between the listing and the reading.
    }
  }
  const found: number[] = [];
  for (const queue = [root]; queue.length > 0; ) {
    const next = children.get(queue.pop()!) ?? [];
    found.push(...next);
    queue.push(...next);
  }
  return found;
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}
