// Owns: what the cases without a CPU figure hand back, and keeping a subject's failure from spoiling the others'.
import type { Failed, Plan } from "../measure.ts";
import type { Found, Tool } from "../peers.ts";
import type { Workshop } from "../proc.ts";
import type { Spread } from "../stats.ts";

export interface QuietCase {
  readonly shop: Workshop;
  readonly tools: Readonly<Record<Tool, Found>>;
  readonly plan: Plan;
  readonly subjects: readonly string[];
  /** Connections held in `idle-connections`, readers in `slow-readers`. */
  readonly held: number;
  readonly readers: number;
  readonly soakSeconds: number;
}

export interface QuietFigures {
  readonly subject: string;
  /** Which part of the case; absent for the only one. */
  readonly load?: string;
  readonly version: string;
  /** Private memory in MB, a few seconds after the first answer. */
  readonly rssAnonMb?: Spread;
  /** exec to ready in ms. */
  readonly readyMs?: Spread;
  /** Of the cases on the demo: what their budget is about, in ms. */
  readonly tookMs?: Spread;
  /** Of it, over all threads: on a core, and ready to run while others had the core. */
  readonly ranMs?: Spread;
  readonly waitedMs?: Spread;
  /** Private memory a held connection takes, in KB of 1024 bytes. */
  readonly eachKb?: Spread;
  /** Growth of private memory: at its peak, or over the whole time, in MB. */
  readonly grownMb?: Spread;
  readonly requestsPerSecond?: Spread;
  /** Its p99 over that of the best peer of the same round. */
  readonly timesBest?: Spread;
  /** Of requests that were answered with 200, in ms from when they fell due. */
  readonly p99Ms?: Spread;
  /** Requests that failed at the client. */
  readonly failed?: Spread;
  /** Percent: of requests that failed, or of a service's capacity that was not used. */
  readonly lostPercent?: Spread;
  /** Its p99 over that of the same without load. */
  readonly timesIdle?: Spread;
  readonly note?: string;
}

export interface QuietResult {
  readonly figures: readonly QuietFigures[];
  readonly failed: readonly Failed[];
}

export class Collector {
  #figures: QuietFigures[] = [];
  #failed: Failed[] = [];
  #input: Pick<QuietCase, "plan" | "subjects">;

  constructor(input: Pick<QuietCase, "plan" | "subjects">) {
    this.#input = input;
  }

  lost(subject: string): boolean {
    return this.#failed.some((one) => one.subject === subject) || !this.wanted(subject);
  }

  wanted(subject: string): boolean {
    const { subjects } = this.#input;
    return subjects.length === 0 || subjects.some((name) => subject === name || subject.startsWith(`${name}-`));
  }

  /** Runs `act`; a failure is kept with the subject's name and the others go on. */
  async guard(subject: string, act: () => Promise<void>, load: string | null = null, optional = false): Promise<void> {
    try {
      await act();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#failed.push({ subject, load, reason, optional });
      this.#input.plan.say(`  FAILED ${subject}: ${reason}`);
    }
  }

  add(figures: QuietFigures): void {
    this.#figures.push(figures);
  }

  async take(subject: string, version: string, act: () => Promise<Omit<QuietFigures, "subject" | "version">>): Promise<void> {
    if (!this.wanted(subject)) return;
    await this.guard(subject, async () => {
      this.#figures.push({ subject, version, ...(await act()) });
    });
  }

  result(): QuietResult {
    return { figures: this.#figures, failed: this.#failed };
  }
}
