// Owns: a mesh for the judges of xDS: a control plane in this process, agents and foreign programs beside it. Started here, ended here, by pid.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ProxyObject } from "../../src/api/live.ts";
import { packageRoot } from "../../src/base/root.ts";
import { type ControlPlane, startControlPlane } from "../../src/control/plane.ts";
import { findPeer } from "../support/peers.ts";

export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  withinMs = 15_000,
): Promise<T> {
  const end = performance.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await Bun.sleep(20);
  }
}

export function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

const weft = [process.execPath, "--no-env-file", "--config=/dev/null", "--no-install", join(packageRoot(), "src/main.ts")];

export interface Lines {
  readonly child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  /** All lines so far. */
  readonly lines: unknown[];
  /** The first line from `at` on for which it holds. */
  next(what: string, holds?: (line: unknown) => boolean, at?: number): Promise<unknown>;
  say(line: string): void;
  err(): string;
}

export class Mesh {
  readonly dir = mkdtempSync(join(tmpdir(), "weft-xds-"));
  plane!: ControlPlane;
  #cleanups: (() => unknown)[] = [];
  #ca = "";
  #bearer = "";

  static async start(): Promise<Mesh> {
    const mesh = new Mesh();
    await mesh.open();
    return mesh;
  }

  async open(): Promise<void> {
    this.plane = await startControlPlane({ dataDir: join(this.dir, "mesh"), apiPort: 0, xdsPort: 0, dashboardPort: 0 });
    this.#ca = readFileSync(join(this.dir, "mesh", "ca.crt"), "utf8");
    this.#bearer = readFileSync(join(this.dir, "mesh", "admin.token"), "utf8").trim();
  }

  get roots(): string {
    return this.#ca;
  }

  get admin(): string {
    return this.#bearer;
  }

  atEnd(run: () => unknown): void {
    this.#cleanups.push(run);
  }

  async stop(): Promise<void> {
    for (const run of this.#cleanups.splice(0).reverse()) await run();
    await this.plane.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }

  async text(path: string, method = "GET", body?: unknown): Promise<string> {
    const response = await fetch(this.plane.apiUrl + path, {
      method,
      tls: { ca: this.#ca },
      headers: {
        authorization: `Bearer ${this.#bearer}`,
        "content-type": method === "PATCH" ? "application/merge-patch+json" : "application/json",
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text;
  }

  /** Creates an object in namespace shop. */
  async create(plural: string, apiVersion: string, kind: string, name: string, spec: object, metadata: object = {}): Promise<void> {
    const root = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    await this.text(`${root}/namespaces/shop/${plural}`, "POST", {
      apiVersion,
      kind,
      metadata: { name, namespace: "shop", ...metadata },
      spec,
    });
  }

  async service(name: string, port: number, portName: string, selected = true): Promise<void> {
    await this.create("services", "v1", "Service", name, {
      ...(selected ? { selector: { app: name } } : {}),
      ports: [{ name: portName, port, protocol: "TCP" }],
    });
  }

  async entry(
    name: string,
    app: string,
    serviceAccount: string,
    inbound: { readonly name: string; readonly port: number; readonly appPort: number } | undefined,
    annotations: Record<string, string> = {},
  ): Promise<void> {
    await this.create(
      "workloadentries",
      "networking.istio.io/v1",
      "WorkloadEntry",
      name,
      { serviceAccount, ...(inbound === undefined ? {} : { address: "127.0.0.1", ports: { [inbound.name]: inbound.port } }) },
      {
        labels: { app, ...(inbound === undefined ? {} : { "security.istio.io/tlsMode": "istio" }) },
        annotations: { ...(inbound === undefined ? {} : { "weft.dev/inbound": `${inbound.name}=${inbound.appPort}` }), ...annotations },
      },
    );
  }

  async shown(name: string): Promise<ProxyObject["status"] | undefined> {
    const path = `/apis/weft.dev/v1alpha1/namespaces/shop/proxies/${name}`;
    return (JSON.parse(await this.text(path).catch(() => "{}")) as { status?: ProxyObject["status"] }).status;
  }

  /** Starts `weft agent` and waits for its certificate. Answers its folder. */
  async agent(account: string): Promise<string> {
    const folder = join(this.dir, `a-${account}`);
    const child = Bun.spawn([...weft, "agent", "--dir", folder, "-n", "shop", "--service-account", account, "--log-level", "info"], {
      env: { ...process.env, WEFT_KUBECONFIG: this.plane.kubeconfigPath },
      stdout: Bun.file(`${folder}.log`),
      stderr: Bun.file(`${folder}.log`),
    });
    this.#cleanups.push(() => end(child));
    await until(`a certificate in ${folder}`, () => existsSync(join(folder, "roots.pem")) && existsSync(join(folder, "agent.sock"))).catch(
      (error: Error) => {
        throw new Error(`${error.message}\n${readFileSync(`${folder}.log`, "utf8")}`);
      },
    );
    return folder;
  }

  /** What `weft bootstrap` prints, in a file. */
  bootstrap(name: string, ...flags: string[]): string {
    const made = Bun.spawnSync([...weft, "bootstrap", "-n", "shop", "--name", name, ...flags]);
    if (made.exitCode !== 0) throw new Error(made.stderr.toString());
    const path = join(this.dir, `${name}-${this.#cleanups.length}.json`);
    writeFileSync(path, made.stdout);
    return path;
  }

  /** Not at once: the control plane is in this process. */
  async cli(...words: string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
    const child = Bun.spawn([...weft, ...words], {
      env: { ...process.env, WEFT_KUBECONFIG: this.plane.kubeconfigPath },
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
    return { code, out, err };
  }

  weft(args: readonly string[]): Bun.Subprocess {
    const log = Bun.file(join(this.dir, `weft-${this.#cleanups.length}.log`));
    const child = Bun.spawn([...weft, ...args], {
      env: { ...process.env, WEFT_KUBECONFIG: this.plane.kubeconfigPath },
      stdout: log,
      stderr: log,
    });
    this.#cleanups.push(() => end(child));
    return child;
  }

  /** A program that prints JSON lines. */
  program(command: readonly string[], env: Record<string, string> = {}): Lines {
    const child = Bun.spawn(command as string[], { env: { ...process.env, ...env }, stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    this.#cleanups.push(() => end(child));
    const lines: unknown[] = [];
    let err = "";
    void (async () => {
      let rest = "";
      for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
        const parts = (rest + chunk).split("\n");
        rest = parts.pop() as string;
        for (const part of parts) if (part.startsWith("{") || part.startsWith("[")) lines.push(JSON.parse(part));
      }
    })();
    void (async () => {
      for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) err = (err + chunk).slice(-8_000);
    })();
    return {
      child,
      lines,
      next: (what, holds = () => true, at = 0) =>
        until(what, () => {
          const found = lines.slice(at).find(holds);
          if (found === undefined && child.exitCode !== null)
            throw new Error(`${command[0]} ended with status ${child.exitCode} before: ${what}`);
          return found;
        }).catch((error: Error) => {
          throw new Error(`${error.message}\n${err}`);
        }),
      say(line) {
        child.stdin.write(`${line}\n`);
        child.stdin.flush();
      },
      err: () => err,
    };
  }

  #bases = 0;

  /** Envoy from a file. */
  envoy(path: string): { readonly child: Bun.Subprocess; readonly log: () => string } {
    const log = `${path}.log`;
    const base = String((process.pid % 5000) * 10 + ++this.#bases);
    const child = Bun.spawn(
      [findPeer("envoy") as string, "-c", path, "--base-id", base, "--concurrency", "1", "-l", "warning", "--drain-strategy", "immediate"],
      {
        stdout: Bun.file(log),
        stderr: Bun.file(log),
      },
    );
    this.#cleanups.push(() => end(child));
    return { child, log: () => readFileSync(log, "utf8") };
  }
}

async function end(child: Bun.Subprocess): Promise<void> {
  if (child.exitCode !== null) return;
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 2_000);
  await child.exited;
  clearTimeout(timer);
}

/** One call by a program of `call TARGET`. */
export async function ask(program: Lines, text: string): Promise<readonly [string, string]> {
  const at = program.lines.length;
  program.say(text);
  return (await program.next(`an outcome of ${text}`, undefined, at)) as [string, string];
}

const sources = join(import.meta.dir, "go-xds");

/** A program of the module in `go-xds`, built on first use, by its sources' hash. */
export async function goProgram(name: "client" | "control"): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for (const path of ["go.mod", "go.sum", `${name}/main.go`]) hash.update(path).update(readFileSync(join(sources, path)));
  const folder = join(tmpdir(), `weft-go-xds-${process.getuid?.() ?? 0}`);
  const program = join(folder, `${name}-${hash.digest("hex").slice(0, 20)}`);
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  for (const old of readdirSync(folder)) if (old.startsWith(`${name}-`)) rmSync(join(folder, old), { force: true });
  const making = `${program}.${process.pid}`;
  const child = Bun.spawn(
    [findPeer("go") as string, "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", making, `./${name}`],
    {
      cwd: sources,
      stdout: "pipe",
      stderr: "pipe",
    },
  );
  const err = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(err);
  renameSync(making, program);
  return program;
}
