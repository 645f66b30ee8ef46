// Owns: etcd servers for tests: one, or a cluster of several, on loopback ports, in folders of their own, with what a test wants of them (TLS, quota).
// Ends what it started.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../demo/cast.ts";
import { findPeer } from "./peers.ts";

export interface EtcdOptions {
  readonly members?: number;
  /** More words for every member. */
  readonly flags?: readonly string[];
  /** `https` with these flags in place (`--cert-file` and so on). */
  readonly tls?: boolean;
  /** Port by which the other members reach member N, when something stands between them. */
  readonly peerPortSeen?: (member: number, port: number) => number;
}

export class EtcdMember {
  readonly clientPort: number;
  readonly peerPort: number;
  readonly #command: readonly string[];
  #child: Bun.Subprocess<"ignore", "ignore", "pipe"> | undefined;
  #words = "";

  constructor(clientPort: number, peerPort: number, command: readonly string[]) {
    this.clientPort = clientPort;
    this.peerPort = peerPort;
    this.#command = command;
  }

  get address(): string {
    return `127.0.0.1:${this.clientPort}`;
  }

  start(): void {
    const child = Bun.spawn({
      cmd: [...this.#command],
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
      env: { PATH: process.env.PATH ?? "" },
    });
    this.#child = child;
    void (async () => {
      const decoder = new TextDecoder();
      for await (const chunk of child.stderr) this.#words = (this.#words + decoder.decode(chunk)).slice(-20_000);
    })();
  }

  /** What it said last. */
  get words(): string {
    return this.#words;
  }

  signal(name: "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGTERM"): void {
    this.#child?.kill(name);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    child?.kill("SIGKILL");
    await child?.exited;
  }
}

export class EtcdServers {
  readonly members: readonly EtcdMember[];
  readonly dir: string;
  readonly #scheme: "http" | "https";

  private constructor(dir: string, members: readonly EtcdMember[], scheme: "http" | "https") {
    this.dir = dir;
    this.members = members;
    this.#scheme = scheme;
  }

  static async start(options: EtcdOptions = {}): Promise<EtcdServers> {
    const program = findPeer("etcd");
    if (program === undefined) throw new Error("etcd is not installed");
    const dir = mkdtempSync(join(tmpdir(), "weft-etcd-"));
    const count = options.members ?? 1;
    const scheme = options.tls === true ? "https" : "http";
    const ports = await Promise.all(Array.from({ length: count }, async () => ({ client: await freePort(), peer: await freePort() })));
    const seen = (at: number) => options.peerPortSeen?.(at, ports[at]?.peer as number) ?? (ports[at]?.peer as number);
    const cluster = ports.map((_, at) => `m${at}=http://127.0.0.1:${seen(at)}`).join(",");
    const members = ports.map(({ client, peer }, at) => {
      const command = [
        program,
        ...["--name", `m${at}`, "--data-dir", join(dir, `m${at}`), "--log-level", "warn", "--logger", "zap"],
        ...["--listen-client-urls", `${scheme}://127.0.0.1:${client}`, "--advertise-client-urls", `${scheme}://127.0.0.1:${client}`],
        ...["--listen-peer-urls", `http://127.0.0.1:${peer}`, "--initial-advertise-peer-urls", `http://127.0.0.1:${seen(at)}`],
        ...["--initial-cluster", cluster, "--initial-cluster-state", "new"],
        // An election takes about a second on a busy machine; the default would be as quick on an idle one.
        ...(count > 1 ? ["--heartbeat-interval", "100", "--election-timeout", "1000"] : []),
        ...(options.flags ?? []),
      ];
      return new EtcdMember(client, peer, command);
    });
    for (const member of members) member.start();
    const servers = new EtcdServers(dir, members, scheme);
    if (options.tls !== true) await servers.ready();
    return servers;
  }

  /** `host:port,host:port` */
  get addresses(): string {
    return this.members.map((member) => member.address).join(",");
  }

  /** Until each of them answers (all of those asked for). */
  async ready(members: readonly EtcdMember[] = this.members): Promise<void> {
    for (const member of members) {
      const end = performance.now() + 15_000;
      for (;;) {
        try {
          const answer = await fetch(`${this.#scheme}://${member.address}/health`, { signal: AbortSignal.timeout(1_000), proxy: "" });
          if (((await answer.json()) as { health: unknown }).health === "true") break;
        } catch {
          // Not yet.
        }
        if (performance.now() > end) throw new Error(`etcd at ${member.address} does not get ready:\n${member.words}`);
        await Bun.sleep(50);
      }
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()));
    rmSync(this.dir, { recursive: true, force: true });
  }
}
