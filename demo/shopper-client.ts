// Owns: what the story knows of the load generator: its own counts, its own failures, and single probes through its sidecar.

import type { Workload } from "./processes.ts";
import { eachLine } from "./processes.ts";

export interface Failure {
  readonly at: number;
  readonly startedAt: number;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly detail: string;
}

export interface Counts {
  readonly at: number;
  readonly sent: number;
  readonly ok: number;
  readonly failed: number;
  readonly inFlight: number;
  readonly byVersion: Readonly<Record<string, number>>;
  readonly byRater: Readonly<Record<string, number>>;
  readonly p50: number;
  readonly p99: number;
}

export interface ProbeAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export class Shopper {
  readonly #workload: Workload;
  readonly #probes = new Map<number, (answer: ProbeAnswer) => void>();
  /** Every failure the client has seen, oldest first. */
  readonly failures: Failure[] = [];
  #latest: Counts | undefined;
  #nextProbe = 1;

  constructor(workload: Workload) {
    this.#workload = workload;
    void eachLine(workload.child.stdout, (line) => this.#take(line));
  }

  get counts(): Counts {
    return this.#latest ?? { at: 0, sent: 0, ok: 0, failed: 0, inFlight: 0, byVersion: {}, byRater: {}, p50: 0, p99: 0 };
  }

  /** The client's next report, at most 200 ms away. */
  async fresh(): Promise<Counts> {
    const seen = this.counts.at;
    const end = performance.now() + 5000;
    while (this.counts.at === seen) {
      if (performance.now() > end)
        throw new Error(`the load generator has been silent for 5 s; its last words: ${this.#workload.words.slice(-5).join(" | ")}`);
      await Bun.sleep(20);
    }
    return this.counts;
  }

  /** One request from the load generator's place in the mesh. */
  async probe(method: string, url: string): Promise<ProbeAnswer> {
    const id = this.#nextProbe++;
    const answer = new Promise<ProbeAnswer>((resolve) => this.#probes.set(id, resolve));
    this.#workload.child.stdin.write(`${JSON.stringify({ id, method, url })}\n`);
    await this.#workload.child.stdin.flush();
    return Promise.race([
      answer,
      Bun.sleep(12_000).then(() => {
        throw new Error(`no answer to the probe ${method} ${url} within 12 s`);
      }),
    ]);
  }

  #take(line: string): void {
    if (!line.startsWith("{")) return;
    const report = JSON.parse(line) as { type: string } & Record<string, unknown>;
    if (report.type === "counts") {
      const { failures, ...counts } = report as unknown as Counts & { failures: Failure[] };
      this.failures.push(...failures);
      this.#latest = counts;
    } else if (report.type === "probe") {
      const { id, ...answer } = report as unknown as ProbeAnswer & { id: number };
      this.#probes.get(id)?.(answer);
      this.#probes.delete(id);
    }
  }
}
