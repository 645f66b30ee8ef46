// Owns: a real mesh for tests: `weft up` and `weft run` as processes, in a folder of its own, on free ports. Ends what it started.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../demo/cast.ts";
import { bunCommand, type Instance, Processes, type Workload } from "../../demo/processes.ts";
import type { KubeObject } from "../../src/api/meta.ts";
import { annotations } from "../../src/wire/names.ts";

const freePorts = ["--api-port", "0", "--xds-port", "0", "--dashboard-port", "0"];

/** An application from `test/support/apps`. */
export const app = (file: string): readonly string[] => [bunCommand, join(import.meta.dir, "apps", file)];

export interface Running {
  readonly workload: Workload;
  readonly entry: KubeObject & { spec: { address: string; ports: Record<string, number> } };
  readonly appPort: number;
  /** `http://127.0.0.1:PORT` of the sidecar's forward proxy. */
  readonly httpProxy: string;
  /** The sidecar's. */
  readonly adminPort: number;
}

/** Sum of the series of a family that have all of `labels`, as a sidecar's metrics page shows it now. */
export async function metricSum(of: Running, family: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
  const page = await (await fetch(`http://127.0.0.1:${of.adminPort}/stats/prometheus`)).text();
  const wanted = Object.entries(labels).map(([name, value]) => `${name}="${value}"`);
  let sum = 0;
  for (const line of page.split("\n"))
    if (line.startsWith(`${family}{`) && wanted.every((each) => line.includes(each))) sum += Number(line.slice(line.lastIndexOf(" ") + 1));
  return sum;
}

export class TestMesh {
  readonly processes: Processes;
  readonly dataDir: string;

  private constructor(dataDir: string) {
    this.dataDir = dataDir;
    this.processes = new Processes(dataDir);
  }

  static async start(): Promise<TestMesh> {
    const mesh = new TestMesh(mkdtempSync(join(tmpdir(), "weft-test-")));
    try {
      await mesh.processes.startControlPlane(freePorts);
    } catch (error) {
      await mesh.stop();
      throw error;
    }
    return mesh;
  }

  /** Starts an instance and waits until it is registered as healthy. */
  async run(instance: Omit<Instance, "port" | "command"> & { command: readonly string[]; port?: number }): Promise<Running> {
    const appPort = instance.port ?? (await freePort());
    const before = new Set((await this.entries()).map((entry) => entry.metadata.name));
    const workload = this.processes.startInstance({ ...instance, port: appPort });
    let entry: KubeObject | undefined;
    await this.processes.waitFor(`${instance.name} is registered`, 15_000, async () => {
      if (workload.child.exitCode !== null)
        throw new Error(`${instance.name} ended with status ${workload.child.exitCode}:\n${workload.words.join("\n")}`);
      entry = (await this.entries()).find(
        (each) => !before.has(each.metadata.name) && each.metadata.labels?.app === instance.service && isHealthy(each),
      );
      return entry !== undefined;
    });
    const found = entry as Running["entry"];
    const noted = found.metadata.annotations ?? {};
    const httpProxy = `http://127.0.0.1:${noted[annotations.httpProxyPort]}`;
    return { workload, entry: found, appPort, httpProxy, adminPort: Number(noted["prometheus.io/port"]) };
  }

  async entries(): Promise<readonly KubeObject[]> {
    return (await this.processes.weftJson<{ items: KubeObject[] }>(["get", "workloadentries", "-A"])).items;
  }

  /** Applies a manifest that must be accepted. */
  async apply(manifest: string): Promise<void> {
    const { code, out, err } = await this.processes.weft(["apply", "-f", "-"], manifest);
    if (code !== 0) throw new Error(`weft apply ended with status ${code}: ${err}${out}`);
  }

  async stop(): Promise<void> {
    await this.processes.stopAll();
    rmSync(this.dataDir, { recursive: true, force: true });
  }
}

function isHealthy(entry: KubeObject): boolean {
  const conditions = (entry.status as { conditions?: { type: string; status: string }[] } | undefined)?.conditions ?? [];
  return conditions.some((condition) => condition.type === "Healthy" && condition.status === "True");
}

/** Tries until `test` holds or the limit passes; the last answer is returned either way, for the assertion to show. */
export async function eventually<T>(limitMs: number, read: () => Promise<T>, holds: (value: T) => boolean): Promise<T> {
  const end = performance.now() + limitMs;
  for (;;) {
    const value = await read();
    if (holds(value) || performance.now() > end) return value;
    await Bun.sleep(20);
  }
}
