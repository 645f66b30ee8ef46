// Owns: one proxy process for a test, Weft or (as the yardstick of a judge) Envoy, run from a bootstrap file. Ends by pid what it started.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eachLine, weftBin } from "../../demo/processes.ts";
import { findPeer } from "./peers.ts";

export type Subject = "weft" | "envoy";

/** Whom the judges judge. `WEFT_JUDGE=envoy` puts Envoy in Weft's place, by hand: a judge that Envoy fails is under suspicion itself. */
export const judged: Subject = process.env.WEFT_JUDGE === "envoy" ? "envoy" : "weft";

/** `WEFT_JUDGE_BIN` names another build of Weft, by hand. */
const weftProgram = process.env.WEFT_JUDGE_BIN ?? weftBin;

export interface StartOptions {
  /** Weft's `--drain-seconds`, Envoy's `--drain-time-s`. Default 5. */
  readonly drainSeconds?: number;
}

/** A proxy that is ready. */
export class ProxyProcess {
  readonly subject: Subject;
  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  /** What it has said, line by line; the last 2 000. */
  readonly lines: string[];
  readonly adminUrl: string;
  readonly #ports: ReadonlyMap<string, number>;
  readonly #dir: string;

  private constructor(started: Started, adminUrl: string, ports: ReadonlyMap<string, number>) {
    this.subject = started.subject;
    this.child = started.child;
    this.lines = started.lines;
    this.adminUrl = adminUrl;
    this.#dir = started.dir;
    this.#ports = ports;
  }

  /** Starts a proxy on this bootstrap and waits until it takes requests; throws with its words when it does not. */
  static async start(subject: Subject, bootstrap: string, options: StartOptions = {}): Promise<ProxyProcess> {
    const started = spawnProxy(subject, bootstrap, options);
    try {
      const { adminUrl, ports } = await (subject === "weft" ? weftReady(started) : envoyReady(started));
      return new ProxyProcess(started, adminUrl, ports);
    } catch (error) {
      started.child.kill("SIGKILL");
      await started.child.exited;
      rmSync(started.dir, { recursive: true, force: true });
      throw error;
    }
  }

  port(listener: string): number {
    const port = this.#ports.get(listener);
    if (port === undefined) throw new Error(`no listener ${listener} among ${[...this.#ports.keys()].join(", ")}`);
    return port;
  }

  /** Private memory in KiB. */
  privateKiB(): number {
    return Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${this.child.pid}/status`, "utf8"))?.[1]);
  }

  /** The metrics page. */
  async metrics(): Promise<string> {
    return await (await fetch(`${this.adminUrl}/stats/prometheus`)).text();
  }

  /** Polite first; killed after `limitMs`. Resolves to the exit status, null when it had to be killed. */
  async stop(limitMs = 3_000): Promise<number | null> {
    // Envoy as a yardstick need not be polite.
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(this.subject === "weft" ? "SIGTERM" : "SIGKILL");
    const status = await Promise.race([this.child.exited, Bun.sleep(limitMs).then(() => null)]);
    if (status === null) {
      this.child.kill("SIGKILL");
      await this.child.exited;
    }
    rmSync(this.#dir, { recursive: true, force: true });
    return status;
  }
}

interface Started {
  readonly subject: Subject;
  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly lines: string[];
  readonly dir: string;
  /** Rejects when the process ends; otherwise never settles. */
  readonly ended: Promise<never>;
  /** Resolves to the first line that `match` takes. */
  line(match: (line: string) => boolean): Promise<string>;
}

function spawnProxy(subject: Subject, bootstrap: string, options: StartOptions): Started {
  const dir = mkdtempSync(join(tmpdir(), "weft-proxy-"));
  const file = join(dir, "bootstrap.json");
  writeFileSync(file, bootstrap, { mode: 0o600 });
  const drain = String(options.drainSeconds ?? 5);
  const argv =
    subject === "weft"
      ? [weftProgram, "proxy", "--bootstrap", file, "--drain-seconds", drain]
      : [findPeer("envoy") as string, "-c", file, "--concurrency", "1", "--disable-hot-restart", "--drain-time-s", drain];
  const child = Bun.spawn([...argv, ...(subject === "weft" ? [] : ["--admin-address-path", join(dir, "admin"), "-l", "info"])], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const lines: string[] = [];
  const waiting = new Map<(line: string) => boolean, (line: string) => void>();
  const remember = (line: string): void => {
    lines.push(line);
    if (lines.length > 2_000) lines.shift();
    for (const [match, resolve] of waiting) if (match(line)) resolve(line);
  };
  void eachLine(child.stderr, remember);
  void eachLine(child.stdout, remember);
  const ended = child.exited.then((code) => {
    throw new Error(`${subject} ended with status ${code}:\n${lines.slice(-30).join("\n")}`);
  });
  ended.catch(() => {});
  const line = (match: (text: string) => boolean): Promise<string> => {
    const { promise, resolve } = Promise.withResolvers<string>();
    waiting.set(match, (text) => {
      waiting.delete(match);
      resolve(text);
    });
    return promise;
  };
  return { subject, child, lines, dir, ended, line };
}

interface Ready {
  readonly adminUrl: string;
  readonly ports: ReadonlyMap<string, number>;
}

async function within<T>(started: Started, what: Promise<T>): Promise<T> {
  const limitMs = 15_000;
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    reject(new Error(`${started.subject} was not ready within ${limitMs} ms:\n${started.lines.slice(-30).join("\n")}`));
  }, limitMs);
  try {
    return await Promise.race([what, started.ended, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function weftReady(started: Started): Promise<Ready> {
  const line = await within(
    started,
    started.line((text) => text.includes('"msg":"ready"')),
  );
  const ready = JSON.parse(line) as { admin: string; listeners: { name: string; address: string }[] };
  const ports = new Map(ready.listeners.map((one) => [one.name, Number(one.address.slice(one.address.lastIndexOf(":") + 1))]));
  return { adminUrl: `http://${ready.admin}`, ports };
}

async function envoyReady(started: Started): Promise<Ready> {
  await within(
    started,
    started.line((text) => text.includes("all dependencies initialized. starting workers")),
  );
  const adminUrl = `http://${readFileSync(join(started.dir, "admin"), "utf8").trim()}`;
  type Listeners = { listener_statuses: { name: string; local_address: { socket_address: { port_value: number } } }[] };
  const listed = (await (await fetch(`${adminUrl}/listeners?format=json`)).json()) as Listeners;
  return { adminUrl, ports: new Map(listed.listener_statuses.map((one) => [one.name, one.local_address.socket_address.port_value])) };
}
