// Owns: the running mesh of the quiet cases: `weft up` on a folder of its own and a sidecar that gets its configuration from it.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Cores, freePorts } from "../machine.ts";
import { rssAnonMb, type Started, type Workshop } from "../proc.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const WEFT = join(ROOT, "bin/weft");

export interface SidecarMemory {
  readonly sidecarMb: number;
  /** `weft run`, which stays beside the application. */
  readonly supervisorMb: number;
}

/** Private memory of an idle sidecar that `weft run` started beside an application, `settleMs` after it was ready. */
export async function meshSidecar(shop: Workshop, cores: Cores, settleMs: number): Promise<SidecarMemory> {
  const plane = await controlPlane(shop, cores, join(shop.dir, "mesh-idle"));
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
export async function answeringControlPlane(shop: Workshop, cores: Cores, starts: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i <= starts; i++) {
    const plane = await controlPlane(shop, cores, join(shop.dir, "mesh-start"));
    if (i > 0) times.push(plane.readyMs); // the first start makes keys and database
    await plane.started.stop(5000);
  }
  return times;
}

/** exec of `weft proxy` with a running control plane -> its listener answers. */
export async function sidecarStarts(_shop: Workshop, _cores: Cores, _starts: number): Promise<number[]> {
  throw new Error("starting a sidecar by itself needs `weft proxy` with a control plane, which this tree does not have yet");
}

export interface ControlPlane {
  readonly started: Started;
  readonly dataDir: string;
  readonly apiPort: number;
  readonly readyMs: number;
  readonly env: Readonly<Record<string, string>>;
}

/** Runs `weft up` until /readyz answers 200. */
export async function controlPlane(shop: Workshop, cores: Cores, dataDir: string): Promise<ControlPlane> {
  const [apiPort, xdsPort, dashboardPort] = await freePorts(3);
  const ports = ["--api-port", String(apiPort), "--xds-port", String(xdsPort), "--dashboard-port", String(dashboardPort)];
  const since = performance.now();
  const started = shop.start("weft-up", [WEFT, "up", "--data", dataDir, ...ports], String(cores.subject));
  await until("/readyz of weft up", started, async () => {
    // The certificate is under the mesh's own CA; whether it is right is not what is timed here.
    const answer = await fetch(`https://127.0.0.1:${apiPort}/readyz`, { tls: { rejectUnauthorized: false } }).catch(() => null);
    return answer?.ok === true ? true : null;
  });
  return { started, dataDir, apiPort: apiPort!, readyMs: performance.now() - since, env: { WEFT_DATA: dataDir } };
}

async function until<T>(what: string, started: Started, look: () => Promise<T | null>): Promise<T> {
  const giveUpAt = performance.now() + 20_000;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (!started.alive()) throw new Error(`${started.name} ended before there was ${what}:\n${started.output()}`);
    if (performance.now() > giveUpAt) throw new Error(`${what} did not come within 20 s:\n${started.output()}`);
    await Bun.sleep(1);
  }
}

async function healthy(plane: ControlPlane): Promise<boolean> {
  const token = readFileSync(join(plane.dataDir, "admin.token"), "utf8").trim();
  const answer = await fetch(`https://127.0.0.1:${plane.apiPort}/apis/networking.istio.io/v1/workloadentries`, {
    headers: { authorization: `Bearer ${token}` },
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
