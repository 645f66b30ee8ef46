// Owns: what is done to a fleet and what is read off while it is done. Each case gives figures and judges nothing (./budgets.ts does).
import { join } from "node:path";
import type { XdsType } from "../../src/wire/xds-types.ts";
import type { Workshop } from "../proc.ts";
import { percentile } from "../stats.ts";
import { type Fleet, SimulatedProxy } from "./client.ts";
import {
  account,
  callers,
  fleet,
  instance,
  namespace,
  proxyName,
  rareCallers,
  rareService,
  registry,
  route,
  type Shape,
  serviceName,
} from "./mesh.ts";
import { fill, type Plane, up, waitedMs } from "./plane.ts";

/** By name as ./budgets.ts has them. */
export type Figures = Map<string, number>;
export type Say = (line: string) => void;

/** Long beside every budget: a fleet that has not got there by then is broken, not slow. */
const patienceMs = 180_000;

async function until(what: string, holds: () => boolean, withinMs = patienceMs): Promise<void> {
  const end = performance.now() + withinMs;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await Bun.sleep(2);
  }
}

/** Every simulated proxy, and who waits for what. */
class Crowd {
  readonly proxies: readonly SimulatedProxy[];
  #waiting: { readonly type: XdsType; readonly name: string; readonly open: Set<SimulatedProxy>; readonly atMs: number[] } | undefined;

  constructor(shape: Shape, connection: Omit<Fleet, "onAccepted">) {
    const onAccepted: Fleet["onAccepted"] = (proxy, type, name, atMs) => {
      const waiting = this.#waiting;
      if (waiting === undefined || waiting.type !== type || waiting.name !== name || !waiting.open.delete(proxy)) return;
      waiting.atMs.push(atMs);
    };
    this.proxies = Array.from(
      { length: shape.proxies },
      (_, at) => new SimulatedProxy(at, proxyName(at), shape.uses + (at < rareCallers ? 1 : 0), { ...connection, onAccepted }),
    );
  }

  get configured(): number {
    return this.proxies.reduce((sum, proxy) => sum + (proxy.configured ? 1 : 0), 0);
  }

  /** Streams that have ended so far. */
  get ended(): number {
    return this.proxies.reduce((sum, proxy) => sum + proxy.ended, 0);
  }

  async allConfigured(): Promise<void> {
    const end = performance.now() + patienceMs;
    for (;;) {
      // The whole count is taken rarely: the crowd needs its core for answering.
      if (this.configured === this.proxies.length) return;
      if (performance.now() > end) {
        const late = this.proxies.find((proxy) => !proxy.configured);
        const held = Object.entries(late?.held ?? {}).map(([type, map]) => `${map.size} ${type}s`);
        throw new Error(
          `${this.configured} of ${this.proxies.length} proxies are configured; ${late?.name} holds ${held.join(", ")}; ${late?.lastEnd}`,
        );
      }
      await Bun.sleep(20);
    }
  }

  /** Runs `change` and waits until these proxies have accepted what it made of one resource. Milliseconds from its start, one a proxy. */
  async follows(proxies: readonly number[], type: XdsType, name: string, change: () => Promise<void>): Promise<number[]> {
    const waiting = { type, name, open: new Set(proxies.map((at) => this.proxies[at]!)), atMs: [] as number[] };
    this.#waiting = waiting;
    const begun = performance.now();
    await change();
    await until(`${waiting.open.size} proxies accept ${type} ${name}`, () => waiting.open.size === 0, 30_000);
    this.#waiting = undefined;
    return waiting.atMs.map((atMs) => atMs - begun);
  }

  stop(): void {
    for (const proxy of this.proxies) proxy.stop();
  }
}

async function must(answer: Promise<Response>): Promise<Response> {
  const response = await answer;
  if (!response.ok) throw new Error(`the API answered ${response.status}: ${(await response.text()).slice(0, 300)}`);
  return response;
}

async function write(plane: Plane, method: string, path: string, body: unknown): Promise<void> {
  await (await must(plane.call(method, path, body))).arrayBuffer();
}

const api = {
  entries: `/apis/networking.istio.io/v1/namespaces/${namespace}/workloadentries`,
  routes: `/apis/gateway.networking.k8s.io/v1/namespaces/${namespace}/httproutes`,
  services: `/api/v1/namespaces/${namespace}/services`,
};

const cluster = (service: string) => `outbound|80||${service}.${namespace}.svc.cluster.local`;
const table = (service: string) => `upstream|80||${service}.${namespace}.svc.cluster.local`;

async function joinToken(plane: Plane): Promise<string> {
  const answer = await must(
    plane.call("POST", `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: { expirationSeconds: 3600 },
    }),
  );
  return ((await answer.json()) as { status: { token: string } }).status.token;
}

/** CPU time of the control plane for `run`, less what it takes when nothing happens. */
async function cost(plane: Plane, idlePerMs: number, run: () => Promise<void>): Promise<number> {
  const [cpu, at] = [plane.cpuMs(), performance.now()];
  await run();
  // What a change leaves behind (statuses, the list of proxies) belongs to it.
  await Bun.sleep(300);
  return Math.max(0, plane.cpuMs() - cpu - idlePerMs * (performance.now() - at));
}

async function idleRate(plane: Plane, forMs: number): Promise<number> {
  await Bun.sleep(1000);
  const [cpu, at] = [plane.cpuMs(), performance.now()];
  await Bun.sleep(forMs);
  return (plane.cpuMs() - cpu) / (performance.now() - at);
}

const health = (good: boolean) => ({
  status: {
    conditions: [
      { type: "Healthy", status: good ? "True" : "False", reason: "Bench", message: "", lastTransitionTime: "2026-01-01T00:00:00Z" },
    ],
  },
});

/** Changes of each kind in one run: enough for a 99th percentile over proxies times changes. */
export interface Effort {
  readonly changes: number;
  readonly apiSeconds: number;
}

async function endpointChanges(plane: Plane, crowd: Crowd, shape: Shape, idle: number, effort: Effort, figures: Figures): Promise<void> {
  const took: number[] = [];
  const cpu = await cost(plane, idle, async () => {
    for (let at = 0; at < effort.changes; at++) {
      // An instance far from the others, ill and then well again.
      const service = (at >> 1) % shape.services;
      const path = `${api.entries}/${proxyName(service)}/status`;
      took.push(
        ...(await crowd.follows(callers(shape, service), "endpoint", cluster(serviceName(service)), () =>
          write(plane, "PATCH", path, health(at % 2 === 1)),
        )),
      );
    }
  });
  took.sort((a, b) => a - b);
  figures.set("endpoint-p99", percentile(took, 0.99));
  figures.set("endpoint-cpu", cpu / effort.changes);
  figures.set("endpoint-affected", took.length / effort.changes);
}

async function routeChanges(plane: Plane, crowd: Crowd, shape: Shape, idle: number, effort: Effort, figures: Figures): Promise<void> {
  const took: number[] = [];
  const cpu = await cost(plane, idle, async () => {
    for (let at = 0; at < effort.changes; at++) {
      const service = (at * 13) % shape.services;
      const name = serviceName(service);
      const { spec } = route(name, 2000 + at).object;
      took.push(
        ...(await crowd.follows(callers(shape, service), "route", table(name), () =>
          write(plane, "PATCH", `${api.routes}/${name}`, { spec }),
        )),
      );
    }
  });
  took.sort((a, b) => a - b);
  figures.set("route-p99", percentile(took, 0.99));
  figures.set("route-cpu", cpu / effort.changes);
}

/** CPU for a change that ten proxies hear of. */
async function narrowChange(plane: Plane, crowd: Crowd, idle: number, effort: Effort): Promise<number> {
  const affected = Array.from({ length: rareCallers }, (_, at) => at);
  const cpu = await cost(plane, idle, async () => {
    for (let at = 0; at < effort.changes; at++)
      await crowd.follows(affected, "endpoint", cluster(rareService), () =>
        write(plane, "PATCH", `${api.entries}/rare-1/status`, health(at % 2 === 1)),
      );
  });
  return cpu / effort.changes;
}

/** Calls a second of the clock, and calls for each second of the control plane's CPU. */
async function rates(
  plane: Plane,
  lanes: number,
  forMs: number,
  one: (at: number) => Promise<void>,
): Promise<{ wall: number; perCpu: number }> {
  // Connections are made before the clock runs.
  await Promise.all(Array.from({ length: lanes }, (_, at) => one(at)));
  let done = lanes;
  const [cpu, begun] = [plane.cpuMs(), performance.now()];
  const first = done;
  const lane = async () => {
    while (performance.now() - begun < forMs) await one(done++);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  const [cpuMs, wallMs] = [plane.cpuMs() - cpu, performance.now() - begun];
  return { wall: ((done - first) / wallMs) * 1000, perCpu: ((done - first) / cpuMs) * 1000 };
}

async function apiRates(plane: Plane, shape: Shape, effort: Effort, figures: Figures): Promise<void> {
  const reads = await rates(plane, 16, effort.apiSeconds * 1000, async (at) => {
    await (await must(plane.call("GET", `${api.services}/${serviceName(at % shape.services)}`))).arrayBuffer();
  });
  figures.set("api-reads", reads.perCpu);
  figures.set("api-reads-wall", reads.wall);
  const run = Date.now().toString(36);
  const writes = await rates(plane, 16, effort.apiSeconds * 1000, async (at) => {
    const { object } = instance(`w${run}-${at}`, "nobody", "10.251.0.1", []);
    object.metadata = { name: object.metadata.name, namespace };
    object.spec = { address: `10.251.${(at >> 8) & 255}.${at & 255}`, ports: { http: 1 + (at % 60_000) } };
    await write(plane, "POST", api.entries, object);
  });
  figures.set("api-writes", writes.perCpu);
  figures.set("api-writes-wall", writes.wall);
}

export interface FleetOptions {
  readonly shop: Workshop;
  readonly core: number;
  readonly effort: Effort;
  readonly say: Say;
}

/** The whole story of one fleet: it connects, things change, the control plane is killed and comes back, programs use the API. */
export async function wholeFleet(shape: Shape, { shop, core, effort, say }: FleetOptions, figures: Figures): Promise<void> {
  const dir = join(shop.dir, "fleet");
  await fill(dir, fleet(shape));
  let plane = await up(shop, dir, core);
  say(`${shape.services} services, ${shape.proxies} proxies: control plane ready after ${Math.round(plane.readyMs)} ms`);
  const crowd = new Crowd(shape, { address: plane.xdsAddress, caPem: plane.caPem, token: await joinToken(plane), namespace });
  try {
    let [cpu, begun] = [plane.cpuMs(), performance.now()];
    for (const proxy of crowd.proxies) proxy.connect();
    await crowd.allConfigured();
    figures.set("connect-wall", (performance.now() - begun) / 1000);
    figures.set("connect-cpu", (plane.cpuMs() - cpu) / 1000);
    say(`all connected and configured after ${figures.get("connect-wall")!.toFixed(1)} s, peak ${Math.round(plane.peakMb())} MB`);
    const idle = await idleRate(plane, 3000);
    figures.set("idle-cpu", idle * 100);
    await endpointChanges(plane, crowd, shape, idle, effort, figures);
    await routeChanges(plane, crowd, shape, idle, effort, figures);
    await narrowChange(plane, crowd, idle, { ...effort, changes: 10 });
    figures.set("narrow-cpu", await narrowChange(plane, crowd, idle, effort));
    say("changes measured");
    await apiRates(plane, shape, effort, figures);
    figures.set("peak-first", plane.peakMb());
    const ended = crowd.ended;
    process.kill(-plane.started.pid, "SIGKILL");
    await until("the control plane is gone", () => !plane.started.alive());
    begun = performance.now();
    const waited = waitedMs("self");
    plane = await up(shop, dir, core);
    await until("every stream has ended", () => crowd.ended >= ended + crowd.proxies.length);
    await crowd.allConfigured();
    const wallMs = performance.now() - begun;
    figures.set("reconnect-wall", wallMs / 1000);
    // Either side waits for the other; what both waited for the machine's other load is counted once.
    figures.set("reconnect", (wallMs - Math.max(plane.waitedMs(), waitedMs("self") - waited)) / 1000);
    cpu = plane.cpuMs();
    figures.set("reconnect-cpu", cpu / 1000);
    figures.set("peak", plane.peakMb());
    say(`killed and back: all configured after ${figures.get("reconnect-wall")!.toFixed(1)} s, peak ${Math.round(plane.peakMb())} MB`);
  } finally {
    crowd.stop();
    await plane.started.stop();
  }
}

/** Only the change that touches ten proxies, in a fleet of this shape. */
export async function narrowOnly(shape: Shape, { shop, core, effort, say }: FleetOptions): Promise<number> {
  const dir = join(shop.dir, "half");
  await fill(dir, fleet(shape));
  const plane = await up(shop, dir, core);
  const crowd = new Crowd(shape, { address: plane.xdsAddress, caPem: plane.caPem, token: await joinToken(plane), namespace });
  try {
    for (const proxy of crowd.proxies) proxy.connect();
    await crowd.allConfigured();
    const idle = await idleRate(plane, 2000);
    // The first changes warm what the later ones use.
    await narrowChange(plane, crowd, idle, { ...effort, changes: 10 });
    const cpu = await narrowChange(plane, crowd, idle, effort);
    say(`half the fleet: ${cpu.toFixed(1)} ms for a change that touches ten proxies`);
    return cpu;
  } finally {
    crowd.stop();
    await plane.started.stop();
  }
}

/** A large registry is read at a start. */
export async function load(services: number, endpoints: number, { shop, core, say }: FleetOptions): Promise<Figures> {
  const dir = join(shop.dir, "registry");
  await fill(dir, registry(services, endpoints));
  const plane = await up(shop, dir, core);
  try {
    say(`${services} services and ${endpoints} endpoints: ready after ${(plane.readyMs / 1000).toFixed(1)} s`);
    return new Map([
      ["load-wall", plane.readyMs / 1000],
      ["load-cpu", plane.cpuMs() / 1000],
      ["load-peak", plane.peakMb()],
    ]);
  } finally {
    await plane.started.stop();
  }
}
