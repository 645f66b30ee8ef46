// Owns: the control plane under measurement: a folder filled before the start, `weft up` on it in a process of its own, pinned, and its API.
// Must never share a process with the simulated proxies.
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { openSqliteStore } from "../../src/control/store/sqlite.ts";
import { groupCpu, type Started, type Workshop } from "../proc.ts";
import type { Stored } from "./mesh.ts";

/** Objects in one transaction; more hold the writer for long, fewer sync the disk more often. */
const batch = 2000;

/** Makes a folder with a store that holds these objects. Nothing is measured here. */
export async function fill(dir: string, objects: readonly Stored[]): Promise<void> {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const store = openSqliteStore(join(dir, "weft.db"));
  for (let from = 0; from < objects.length; from += batch) {
    const writes = objects.slice(from, from + batch).map(({ resource, object }) => ({
      verb: "create" as const,
      key: { resource, namespace: object.metadata.namespace, name: object.metadata.name },
      object,
    }));
    const result = await store.transact(writes, "bench");
    if (!result.ok) throw new Error(`the store does not take ${result.key.resource} ${result.key.name}: ${result.reason}`);
  }
  await store.close();
}

export interface Plane {
  readonly started: Started;
  readonly xdsAddress: string;
  readonly caPem: string;
  /** From the start of the process until it said that it is ready. */
  readonly readyMs: number;
  call(method: string, path: string, body?: unknown): Promise<Response>;
  /** CPU time of its process so far, in ms. */
  cpuMs(): number;
  /** Time so far that its main thread was ready to run while others had its core, in ms. */
  waitedMs(): number;
  /** Most resident memory so far, in MB of 1024 x 1024 bytes. */
  peakMb(): number;
}

/** Starts it and waits until it is ready. Throws with its words when it does not get there within `withinMs`. */
export async function up(shop: Workshop, dir: string, core: number, withinMs = 120_000): Promise<Plane> {
  const begun = performance.now();
  const tree = process.env.WEFT_BENCH_TREE ?? join(import.meta.dir, "../..");
  const command = [
    process.execPath,
    join(tree, "src/main.ts"),
    "up",
    "--data",
    dir,
    "--api-port",
    "0",
    "--xds-port",
    "0",
    "--dashboard-port",
    "0",
  ];
  const started = shop.start("control-plane", [...command, "--api-rate", "0", "--log-level", "warn", "--log-format", "text"], String(core));
  const kubeconfig = join(dir, "admin.kubeconfig");
  const end = begun + withinMs;
  let plane: Plane | undefined;
  while (plane === undefined) {
    if (!started.alive()) throw new Error(`the control plane ended: ${started.output()}`);
    if (performance.now() > end) throw new Error(`the control plane was not ready within ${withinMs} ms: ${started.output()}`);
    plane = await reach(kubeconfig, dir, started, begun);
    if (plane === undefined) await Bun.sleep(5);
  }
  return plane;
}

/** Of a process's main thread, which does its work; helpers (compiler, collector) wait beside it. */
export function waitedMs(pid: number | "self"): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[1] ?? 0) / 1e6;
}

/** The API is the last to open: where it answers, the rest is there. */
async function reach(kubeconfig: string, dir: string, started: Started, begun: number): Promise<Plane | undefined> {
  let config: { clusters: { cluster: { server: string } }[]; users: { user: { token: string } }[] };
  let caPem: string;
  try {
    config = Bun.YAML.parse(readFileSync(kubeconfig, "utf8")) as typeof config;
    caPem = readFileSync(join(dir, "ca.crt"), "utf8");
  } catch {
    return undefined;
  }
  const { server } = config.clusters[0]!.cluster;
  const { token } = config.users[0]!.user;
  const call = (method: string, path: string, body?: unknown) =>
    fetch(server + path, {
      method,
      tls: { ca: caPem },
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { "content-type": method === "PATCH" ? "application/merge-patch+json" : "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  try {
    const answer = await call("GET", "/apis/weft.dev/v1alpha1/meshes");
    if (!answer.ok) return undefined;
    const { items } = (await answer.json()) as { items: { status: { xdsAddress: string } }[] };
    const xdsAddress = items[0]!.status.xdsAddress;
    return {
      started,
      xdsAddress,
      caPem,
      readyMs: performance.now() - begun,
      call,
      // By ticks of 10 ms: the exact times of /proc/PID/task lose the threads that have ended.
      cpuMs: () => {
        const { userMs, kernelMs } = groupCpu([started.pid]);
        return userMs + kernelMs;
      },
      waitedMs: () => waitedMs(started.pid),
      peakMb: () => Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${started.pid}/status`, "utf8"))?.[1] ?? 0) / 1024,
    };
  } catch {
    // Not there yet; the process's end or the time limit ends the waiting.
    return undefined;
  }
}
