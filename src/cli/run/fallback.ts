// Owns: the explicit upstreams while the sidecar is down: `weft run` opens their ports and leads connections straight to the instances that the sidecar knew last,
// where its table says that policy allows plain text, and gives the ports to the next sidecar when it serves. What policy forbids stays closed. All of it is told.
// Costs nothing until a sidecar ends: what carries and hands over is loaded then. Never leads datagrams, nor what goes through HTTP_PROXY.

import { readFileSync } from "node:fs";
import type { Server } from "node:net";
import type { Clock } from "../../base/clock.ts";
import { type DirectTable, type DirectUpstream, directFormat } from "../../wire/direct.ts";
import type { Carrier } from "./carry.ts";
import type { Handback, HandedCounter } from "./handback.ts";
import type { Say } from "./say.ts";

export interface FallbackSettings {
  /** What the sidecar leaves (`--direct-table`). */
  readonly table: string;
  /** Where the next sidecar asks for the ports (`--handover`). */
  readonly handover: string;
  /** Ports of the explicit upstreams over TCP. */
  readonly ports: readonly number[];
}

interface Led {
  readonly upstream: DirectUpstream & { readonly kind: "plain" };
  readonly server: Server;
}

interface Count {
  led: number;
  lost: number;
}

/** A port that a process still has which is just ending (a worker of the sidecar). */
const takeTries = 25;
const takeAgainMs = 20;

export class Fallback {
  readonly #settings: FallbackSettings;
  readonly #clock: Clock;
  readonly #say: Say;
  #standing = false;
  /** Some port was led past the sidecar in this outage. */
  #opened = false;
  /** Counts outages: what is opened for one that is over is closed at once. */
  #outage = 0;
  #led: Led[] = [];
  #handback: Handback | undefined;
  #carrier: Carrier | undefined;
  /** By service, since the start of the run. */
  readonly #counts = new Map<string, Count>();
  #notes: readonly string[] = [];

  constructor(settings: FallbackSettings, clock: Clock, say: Say) {
    this.#settings = settings;
    this.#clock = clock;
    this.#say = say;
  }

  /** In half a sentence what stands at the moment; empty: nothing does. */
  get note(): string {
    return this.#notes.join("; ");
  }

  /** The sidecar has ended. Idempotent until `up`. Never throws: the application goes on whatever becomes of its upstreams. */
  async down(): Promise<void> {
    if (this.#standing || this.#settings.ports.length === 0) return;
    this.#standing = true;
    this.#outage++;
    try {
      await this.#take();
    } catch (error) {
      this.#say.warn(`connections cannot be led past the sidecar: ${error instanceof Error ? error.message : String(error)}`);
      this.#close();
    }
  }

  /** A sidecar serves. It has taken the ports by itself; whatever is still open here is not, from now on. */
  up(): void {
    if (!this.#standing) return;
    const stood = this.#opened;
    this.#opened = false;
    const { led, lost } = this.#sum();
    this.#close();
    this.#standing = false;
    if (stood)
      this.#say.info(
        `the sidecar has the upstreams again; ${led} connection${led === 1 ? "" : "s"} went past it in plain text since the start${lost === 0 ? "" : `, and ${lost} could not be led anywhere`}`,
      );
  }

  /** The run ends. */
  stop(): void {
    this.#standing = true;
    this.#outage++;
    this.#close();
    this.#carrier?.stop();
  }

  async #take(): Promise<void> {
    const table = this.#read();
    const notes: string[] = [];
    const closed: string[] = [];
    for (const port of this.#settings.ports) {
      const upstream = table?.upstreams.find((one) => one.port === port);
      if (upstream === undefined) closed.push(`127.0.0.1:${port} is closed: the sidecar knew no service behind it`);
      else if (upstream.kind === "refused") closed.push(`127.0.0.1:${port} (${upstream.service}) is closed: ${upstream.reason}`);
      else {
        const problem = await this.#open(upstream);
        if (problem !== undefined) closed.push(`127.0.0.1:${port} (${upstream.service}) is closed: ${problem}`);
        else notes.push(sayWay(upstream));
      }
    }
    this.#notes = [...notes, ...closed];
    if (notes.length > 0) {
      const { Handback } = require("./handback.ts") as typeof import("./handback.ts");
      this.#handback = new Handback(
        this.#settings.handover,
        () => this.#led.map(({ upstream, server }) => ({ port: upstream.port, fd: fdOf(server) })),
        () => this.#counters(),
        () => this.#close(),
      );
      this.#say.warn(
        `while the sidecar is down, past it and without its identity, policies, retries and routes: ${notes.join("; ")}. --no-direct turns this off`,
      );
    }
    if (closed.length > 0) this.#say.warn(`while the sidecar is down: ${closed.join("; ")}`);
  }

  #read(): DirectTable | undefined {
    try {
      const table = JSON.parse(readFileSync(this.#settings.table, "utf8")) as DirectTable;
      return table.format === directFormat ? table : undefined;
    } catch {
      return undefined; // it never got its configuration
    }
  }

  /** Answers why it could not be opened. */
  async #open(upstream: DirectUpstream & { readonly kind: "plain" }): Promise<string | undefined> {
    const { createServer } = require("node:net") as typeof import("node:net");
    const { Carrier } = require("./carry.ts") as typeof import("./carry.ts");
    this.#carrier ??= new Carrier(this.#clock, Math.random);
    const carrier = this.#carrier;
    carrier.stay();
    let counts = this.#counts.get(upstream.service);
    if (counts === undefined) {
      counts = { led: 0, lost: 0 };
      this.#counts.set(upstream.service, counts);
    }
    const counted = counts;
    const outage = this.#outage;
    for (let attempt = 0; ; attempt++) {
      const server = createServer({ allowHalfOpen: true }, (client) => carrier.take(client, upstream.targets, counted));
      const done = Promise.withResolvers<Error | undefined>();
      server.once("error", done.resolve);
      server.listen({ host: "127.0.0.1", port: upstream.port }, () => done.resolve(undefined));
      const problem = await done.promise;
      if (problem === undefined) {
        server.on("error", () => {});
        if (!this.#standing || outage !== this.#outage) server.close();
        else {
          this.#led.push({ upstream, server });
          this.#opened = true;
        }
        return undefined;
      }
      if (attempt >= takeTries) return problem.message;
      await Bun.sleep(takeAgainMs);
    }
  }

  #close(): void {
    for (const { server } of this.#led.splice(0)) server.close();
    this.#handback?.close();
    this.#handback = undefined;
    this.#notes = [];
    this.#carrier?.leave();
  }

  #sum(): Count {
    const sum = { led: 0, lost: 0 };
    for (const { led, lost } of this.#counts.values()) {
      sum.led += led;
      sum.lost += lost;
    }
    return sum;
  }

  #counters(): readonly HandedCounter[] {
    const of = (name: string, help: string, value: (count: Count) => number): HandedCounter => ({
      name,
      help,
      labelNames: ["destination_service"],
      series: [...this.#counts].map(([service, count]) => ({ labels: [service], value: value(count) })),
    });
    return [
      of("weft_direct_connections_total", "Connections that weft run led past the sidecar in plain text, while it was down.", (c) => c.led),
      of("weft_direct_failures_total", "Connections that weft run could not lead anywhere while the sidecar was down.", (c) => c.lost),
    ];
  }
}

/** Node has no word for it, and Bun's listener has. */
function fdOf(server: Server): number {
  const { fd } = (server as unknown as { readonly _handle: { readonly fd: number } })._handle;
  if (!(fd >= 0)) throw new Error("a listening socket has no descriptor");
  return fd;
}

function sayWay({ port, service, targets, passedOver }: DirectUpstream & { readonly kind: "plain" }): string {
  const instances = targets.reduce((sum, { endpoints }) => sum + endpoints.length, 0);
  const routes = passedOver === 0 ? "" : `, ${passedOver} route${passedOver === 1 ? "" : "s"} with conditions passed over`;
  return `127.0.0.1:${port} leads straight to ${instances === 1 ? "the instance" : `${instances} instances`} of ${service} in plain text${routes}`;
}
