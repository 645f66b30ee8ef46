// Owns: the demo's processes: the control plane and one `weft run` per instance. Starts them, gathers their words, ends them by pid.
// Uses the command line alone, as a user would; imports nothing of Weft.

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "..");
export const weftBin = join(root, "bin", "weft");
const bun = process.execPath;

export interface Workload {
  readonly name: string;
  readonly service: string;
  readonly child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  /** The last words on stderr, for when something goes wrong. */
  readonly words: string[];
}

export interface Instance {
  readonly service: string;
  readonly name: string;
  readonly version?: string;
  readonly port: number;
  readonly protocol?: "tcp" | "udp" | "grpc" | "http2";
  readonly upstreams?: readonly string[];
  /** More flags of `weft run`. */
  readonly flags?: readonly string[];
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** One demo: a folder for its data, and the processes it has started. */
export class Processes {
  readonly dataDir: string;
  readonly #env: Record<string, string>;
  readonly #started: Bun.Subprocess[] = [];
  controlPlane: Bun.Subprocess | undefined;
  dashboardUrl = "";

  constructor(dataDir: string) {
    this.dataDir = dataDir;
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    this.#env = { ...(process.env as Record<string, string>), WEFT_DATA: dataDir, XDG_STATE_HOME: join(dataDir, "state"), NO_COLOR: "1" };
  }

  /** Starts `weft up` and waits until it says where its dashboard is. Ports are free ones the first time, the same ones afterwards. */
  async startControlPlane(ports: readonly string[]): Promise<void> {
    const child = Bun.spawn([weftBin, "up", "--data", this.dataDir, ...ports], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: this.#env,
      cwd: root,
    });
    this.#started.push(child);
    this.controlPlane = child;
    const words: string[] = [];
    void eachLine(child.stderr, (line) => remember(words, line));
    const ready = Promise.withResolvers<void>();
    void eachLine(child.stdout, (line) => {
      remember(words, line);
      const url = /https?:\/\/\S+/.exec(line)?.[0];
      if (line.toLowerCase().includes("dashboard") && url !== undefined) {
        this.dashboardUrl = url;
        ready.resolve();
      }
    });
    void child.exited.then((code) => ready.reject(new Error(`weft up ended with status ${code}:\n${words.join("\n")}`)));
    ready.promise.catch(() => {});
    await ready.promise;
    await this.waitFor("the API answers", 10_000, async () => (await this.weft(["get", "namespaces", "-o", "name"])).code === 0);
  }

  startInstance(instance: Instance): Workload {
    const flags = ["run", "--service", instance.service, "--namespace", "shop", "--port", String(instance.port)];
    if (instance.version !== undefined) flags.push("--version", instance.version);
    if (instance.protocol !== undefined) flags.push("--protocol", instance.protocol);
    for (const upstream of instance.upstreams ?? []) flags.push("--upstream", upstream);
    flags.push(...(instance.flags ?? []));
    const env = { ...this.#env, PORT: String(instance.port), INSTANCE: instance.name, ...instance.env };
    const child = Bun.spawn([weftBin, ...flags, "--", ...instance.command], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      env,
      cwd: root,
    });
    this.#started.push(child);
    const workload: Workload = { name: instance.name, service: instance.service, child, words: [] };
    void eachLine(child.stderr, (line) => remember(workload.words, line));
    return workload;
  }

  /** Starts a `weft` command that lasts, such as `weft gateway`; its end is the caller's business, or that of `stopAll`. */
  startWeft(args: readonly string[], words: string[] = []): Bun.Subprocess<"ignore", "ignore", "pipe"> {
    const child = Bun.spawn([weftBin, ...args], { stdin: "ignore", stdout: "ignore", stderr: "pipe", env: this.#env, cwd: root });
    this.#started.push(child);
    void eachLine(child.stderr, (line) => remember(words, line));
    return child;
  }

  /** Runs a `weft` command to its end. */
  async weft(args: readonly string[], stdin?: string): Promise<{ code: number; out: string; err: string }> {
    const child = Bun.spawn([weftBin, ...args], {
      stdin: stdin === undefined ? "ignore" : new TextEncoder().encode(stdin),
      stdout: "pipe",
      stderr: "pipe",
      env: this.#env,
      cwd: root,
    });
    const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
    return { code, out, err };
  }

  /** Runs a `weft` command that must succeed and print JSON. */
  async weftJson<T>(args: readonly string[]): Promise<T> {
    const { code, out, err } = await this.weft([...args, "-o", "json"]);
    if (code !== 0) throw new Error(`weft ${args.join(" ")} ended with status ${code}: ${err.trim() || out.trim()}`);
    return JSON.parse(out) as T;
  }

  async waitFor(what: string, limitMs: number, test: () => Promise<boolean> | boolean): Promise<void> {
    const end = performance.now() + limitMs;
    while (!(await test())) {
      if (performance.now() > end) throw new Error(`waited ${limitMs / 1000} s in vain: ${what}`);
      await Bun.sleep(50);
    }
  }

  /** Ends everything that was started: politely, then not. */
  async stopAll(): Promise<void> {
    const running = this.#started.filter((child) => child.exitCode === null && child.signalCode === null);
    const control = this.controlPlane;
    for (const child of running) if (child !== control) child.kill("SIGTERM");
    await Promise.race([Promise.all(running.filter((child) => child !== control).map((child) => child.exited)), Bun.sleep(6000)]);
    for (const child of running) for (const pid of tree(child.pid)) if (child !== control) kill(pid);
    control?.kill("SIGTERM");
    if (control !== undefined) await Promise.race([control.exited, Bun.sleep(3000)]);
    if (control !== undefined) for (const pid of tree(control.pid)) kill(pid);
  }
}

/** SIGKILLs a process and everything below it, at once, as a machine that loses power would. */
export function killTree(pid: number): number {
  const pids = tree(pid);
  for (const each of pids) kill(each);
  return pids.length;
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Already gone.
  }
}

/** A process and its descendants, from /proc. */
function tree(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    return [pid, ...(children === "" ? [] : children.split(" ").flatMap((child) => tree(Number(child))))];
  } catch {
    return [];
  }
}

function remember(words: string[], line: string): void {
  words.push(line);
  if (words.length > 40) words.shift();
}

export async function eachLine(stream: ReadableStream<Uint8Array>, run: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  let pending = "";
  for await (const chunk of stream) {
    const lines = (pending + decoder.decode(chunk, { stream: true })).split("\n");
    pending = lines.pop() ?? "";
    for (const line of lines) run(line);
  }
}

/** The Bun that runs the demo also runs the shop, so that nothing has to be installed for it. */
export const bunCommand = bun;
