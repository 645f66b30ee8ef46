// Owns: the two cases that are measured on the demo's own mesh: how long a route change takes to be in force at every sidecar, and how long a fresh
// clone takes from `npm ci` to first traffic. Uses the demo's cast and the command line, as a user would.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cast, manifest } from "../../demo/cast.ts";
import { eachLine, Processes } from "../../demo/processes.ts";
import { annotations } from "../../src/wire/names.ts";
import { spread } from "../stats.ts";
import type { QuietCase, QuietFigures, QuietResult } from "./collect.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const CHANGES = 20;
/** Far above any budget: a change that never comes ends the case instead of hanging it. */
const GIVE_UP_MS = 5000;

const route = (version: string): string => `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: reviews, port: 80}]
  rules: [{backendRefs: [{name: reviews-${version}, port: 80}]}]
`;

/** `weft apply` returns -> the slowest of all sidecars of the demo sends a new request the new way. */
export async function change(input: QuietCase): Promise<QuietResult> {
  return measured(input, "route-change", async () => {
    const dataDir = mkdtempSync(join(tmpdir(), "weft-bench-demo-"));
    const processes = new Processes(dataDir);
    try {
      await processes.startControlPlane(["--api-port", "0", "--xds-port", "0", "--dashboard-port", "0"]);
      await apply(processes, ["-f", manifest]);
      const instances = await cast(dataDir);
      for (const instance of instances) processes.startInstance(instance);
      let proxies: string[] = [];
      await processes.waitFor("every instance of the demo serves", 30_000, async () => {
        proxies = await healthyProxies(processes);
        return proxies.length === instances.length;
      });
      const took: number[] = [];
      for (let turn = 0; turn <= CHANGES; turn++) {
        const version = turn % 2 === 0 ? "v2" : "v1";
        await apply(processes, ["-f", "-"], route(version));
        const since = performance.now();
        const times = await Promise.all(proxies.map((proxy) => untilAnswered(proxy, version, since)));
        // The first change also opens the connections that the others find open.
        if (turn > 0) took.push(Math.max(...times));
      }
      return { tookMs: spread(took), note: `${proxies.length} sidecars, ${CHANGES} changes; the slowest sidecar counts` };
    } finally {
      await processes.stopAll();
      rmSync(dataDir, { recursive: true, force: true });
    }
  });
}

/** A fresh clone: `npm ci` with whatever is in npm's cache, then the demo until its first good answer. */
export async function firstTraffic(input: QuietCase): Promise<QuietResult> {
  return measured(input, "first-traffic", async () => {
    const clone = join(input.shop.dir, "clone");
    await run(["git", "clone", "--quiet", ROOT, clone], ROOT);
    const since = performance.now();
    await run(["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"], clone);
    const installedMs = performance.now() - since;
    const demo = Bun.spawn(["npm", "run", "--silent", "demo", "--", "--check"], {
      cwd: clone,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    let firstMs = 0;
    await eachLine(demo.stdout, (line) => {
      if (!line.startsWith("first traffic") || firstMs > 0) return;
      firstMs = performance.now() - since;
      demo.kill("SIGINT");
    });
    await demo.exited;
    if (firstMs === 0) throw new Error("the demo of the clone had no traffic");
    return { tookMs: spread([firstMs]), note: `npm ci took ${(installedMs / 1000).toFixed(1)} s of it; the cache was as it was` };
  });
}

async function measured(
  input: QuietCase,
  subject: string,
  act: () => Promise<Omit<QuietFigures, "subject" | "version">>,
): Promise<QuietResult> {
  if (input.subjects.length > 0 && !input.subjects.includes(subject)) return { figures: [], failed: [] };
  try {
    return { figures: [{ subject, version: "this tree", ...(await act()) }], failed: [] };
  } catch (error) {
    return {
      figures: [],
      failed: [{ subject, load: null, reason: error instanceof Error ? error.message : String(error), optional: false }],
    };
  }
}

async function apply(processes: Processes, args: readonly string[], stdin?: string): Promise<void> {
  const { code, out, err } = await processes.weft(["apply", ...args], stdin);
  if (code !== 0) throw new Error(`weft apply ended with status ${code}: ${err || out}`);
}

/** Forward proxies of the instances that are registered and healthy. */
async function healthyProxies(processes: Processes): Promise<string[]> {
  interface Entry {
    metadata: { annotations?: Record<string, string> };
    status?: { conditions?: { type: string; status: string }[] };
  }
  const { items } = await processes.weftJson<{ items: Entry[] }>(["get", "workloadentries", "-n", "shop"]);
  return items
    .filter((item) => item.status?.conditions?.some((each) => each.type === "Healthy" && each.status === "True"))
    .map((item) => `http://127.0.0.1:${item.metadata.annotations?.[annotations.httpProxyPort]}`);
}

async function untilAnswered(proxy: string, version: string, since: number): Promise<number> {
  for (;;) {
    const asked = performance.now();
    const answer = await fetch("http://reviews/reviews/1", { proxy });
    if (((await answer.json()) as { version?: string }).version === version) return asked - since;
    if (asked - since > GIVE_UP_MS) throw new Error(`a change was not in force at ${proxy} after ${GIVE_UP_MS} ms`);
    await Bun.sleep(1);
  }
}

async function run(argv: readonly string[], cwd: string): Promise<void> {
  const child = Bun.spawn([...argv], { cwd, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [err, code] = await Promise.all([new Response(child.stderr).text(), child.exited, new Response(child.stdout).text()]);
  if (code !== 0) throw new Error(`${argv.join(" ")} ended with status ${code}: ${err.slice(-2000)}`);
}
