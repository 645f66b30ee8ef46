// Owns: the sidecar's process: start, readiness, its words, restart with back-off, replacement by a new version, drain. Never touches the application.

import type { Clock } from "../../base/clock.ts";
import { CliFailure } from "../failure.ts";
import type { Say } from "./say.ts";

export interface SidecarSettings {
  /** Argument vector of `weft proxy …`. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly adminPort: number;
  readonly verbose: boolean;
  /** What it is to the user: its words begin with it. */
  readonly called: "sidecar" | "gateway";
  /** Called before each restart: writes a fresh token. Must not throw. */
  readonly refresh: () => Promise<void>;
  /** False once the whole is ending: a service manager may tell all processes at once, and then the sidecar's end is in order. */
  readonly wanted: () => boolean;
  /** A process has become the sidecar. */
  readonly onProcess: (pid: number) => void;
  /** The sidecar has ended and is to be started again, or serves again: at once, however short it was. Must not throw. */
  readonly onServing: (serves: boolean) => void;
  /** The sidecar is down for longer than a restart takes, or is back. */
  readonly onHealth: (up: boolean) => void;
}

const keptLines = 30;
const readyLimitMs = 15_000;
/** A restart that is this quick is not worth telling peers: their retries bridge it. */
const downAfterMs = 2000;
const leastDelayMs = 100;
const mostDelayMs = 5000;
/** A sidecar that lived this long is restarted at once again. */
const goodLifeMs = 30_000;
/** What a restart waits for a fresh token; the sidecar reads the file anew each time it needs one. */
const refreshLimitMs = 250;

type Child = Bun.Subprocess<"ignore", "pipe", "pipe">;

export class Sidecar {
  readonly #settings: SidecarSettings;
  readonly #clock: Clock;
  readonly #say: Say;
  #child: Child | undefined;
  /** Of the child that is to take the place of `#child`. Resolves to whether it did. */
  #replacing: Promise<boolean> | undefined;
  /** Those whose place was taken: they end when their last request does. */
  readonly #leaving = new Set<Child>();
  /** Those that said that they are ready. */
  readonly #saidReady = new WeakSet<Child>();
  #lines: string[] = [];
  #stopping = false;
  /** Called when the sidecar says that it is ready: no need to wait for the next look. */
  #wake: () => void = () => {};

  constructor(settings: SidecarSettings, clock: Clock, say: Say) {
    this.#settings = settings;
    this.#clock = clock;
    this.#say = say;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Starts it and waits until it serves. Throws CliFailure with its last words. Answers the milliseconds it took. */
  async start(): Promise<number> {
    const began = this.#clock.mono();
    const child = this.#begin();
    try {
      await this.#ready(child, readyLimitMs);
    } catch (error) {
      this.#stopping = true;
      child.kill("SIGKILL");
      throw error;
    }
    void this.#keep(child);
    return this.#clock.mono() - began;
  }

  /** SIGTERM, up to `graceMs` for what is in flight, then SIGKILL. Idempotent. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    for (const child of this.#leaving) child.kill("SIGTERM");
    await this.#replacing;
    const child = this.#child;
    if (child === undefined || ended(child)) return;
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), graceMs + 500);
    await child.exited;
    clearTimeout(timer);
  }

  /**
   * Starts another sidecar, from the program as it is installed now, which takes the place of this one: no request fails. Answers in a sentence
   * what came of it; when the new one cannot serve, the old one serves on.
   */
  async replace(): Promise<string> {
    const before = this.#child;
    if (this.#stopping || before === undefined || ended(before)) return "the sidecar does not run; there is nothing to replace";
    if (this.#replacing !== undefined) return "the sidecar is being replaced already";
    const done = Promise.withResolvers<boolean>();
    this.#replacing = done.promise;
    const began = this.#clock.mono();
    let next: Child | undefined;
    try {
      await this.#settings.refresh();
      next = this.#spawn();
      await this.#untilSaid(next, readyLimitMs);
      this.#take(next);
      this.#leaving.add(before);
      void before.exited.then(() => this.#leaving.delete(before));
      done.resolve(true);
      return `the sidecar was replaced (process ${before.pid} by ${next.pid}) after ${Math.round(this.#clock.mono() - began)} ms`;
    } catch (error) {
      next?.kill("SIGKILL");
      done.resolve(false);
      return `the sidecar was not replaced, the old one serves on: ${error instanceof Error ? error.message : String(error)}`;
    } finally {
      this.#replacing = undefined;
    }
  }

  #take(child: Child): void {
    this.#child = child;
    this.#settings.onProcess(child.pid);
  }

  #begin(): Child {
    const child = this.#spawn();
    this.#take(child);
    return child;
  }

  #spawn(): Child {
    this.#lines = [];
    const child = Bun.spawn(this.#settings.command as string[], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: this.#settings.env,
      // Its own session: Ctrl-C on the terminal is for the application, and the sidecar has to outlive it.
      detached: true,
    });
    void this.#listen(child.stderr, child);
    void this.#listen(child.stdout, child);
    return child;
  }

  async #listen(stream: ReadableStream<Uint8Array>, from: Child): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    try {
      for await (const chunk of stream) {
        const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = parts.pop() as string;
        for (const line of parts) this.#word(line, from);
      }
    } catch {
      // The pipe broke with the process; its end is seen elsewhere.
    }
    if (rest !== "") this.#word(rest, from);
  }

  #word(line: string, from: Child): void {
    if (line.trim() === "") return;
    this.#lines.push(line);
    if (this.#lines.length > keptLines) this.#lines.shift();
    const entry = parseLogLine(line);
    if (line.includes('"msg":"ready"')) {
      this.#saidReady.add(from);
      this.#wake();
    }
    const { called } = this.#settings;
    if (this.#settings.verbose || entry === undefined) this.#say.info(`${called}: ${line}`);
    else if (entry.level === "error") this.#say.warn(`${called}: ${entry.text}`);
    else if (entry.level === "warn") this.#say.info(`${called}: ${entry.text}`);
  }

  /** Its last words, for a message. */
  #last(): string {
    const told = this.#lines.map((line) => parseLogLine(line)?.text ?? line).slice(-8);
    return told.length === 0 ? "It said nothing." : `Its last words:\n${told.map((l) => `  ${l}`).join("\n")}`;
  }

  async #ready(child: Child, limitMs: number): Promise<void> {
    const end = this.#clock.mono() + limitMs;
    const url = `http://127.0.0.1:${this.#settings.adminPort}/ready`;
    let lastAnswer = "nothing answers on its admin port";
    for (let delayMs = 20; this.#clock.mono() < end; delayMs = Math.min(100, delayMs * 1.1)) {
      if (ended(child)) {
        await Bun.sleep(20); // its pipes may hold a last line
        throw new CliFailure(`the sidecar ended ${endOf(child)} before it was ready. ${this.#last()}`);
      }
      try {
        const response = await fetch(url, { signal: AbortSignal.timeout(1000) });
        const text = (await response.text()).trim();
        if (response.status === 200) return;
        lastAnswer = `/ready says ${response.status} ${text.slice(0, 200)}`;
      } catch {
        // Not listening yet.
      }
      const woken = Promise.withResolvers<void>();
      this.#wake = woken.resolve;
      await Promise.race([woken.promise, child.exited, Bun.sleep(delayMs)]);
    }
    throw new CliFailure(`the sidecar was not ready after ${limitMs / 1000} s (${lastAnswer}). ${this.#last()}`);
  }

  /** Its own word: the admin port is answered by the one it is to replace. */
  async #untilSaid(child: Child, limitMs: number): Promise<void> {
    const end = this.#clock.mono() + limitMs;
    while (!this.#saidReady.has(child)) {
      if (ended(child)) {
        await Bun.sleep(20); // its pipes may hold a last line
        throw new CliFailure(`the new one ended ${endOf(child)}. ${this.#last()}`);
      }
      if (this.#stopping) throw new CliFailure("weft run ends");
      if (this.#clock.mono() > end) throw new CliFailure(`the new one was not ready after ${limitMs / 1000} s. ${this.#last()}`);
      await Promise.race([child.exited, Bun.sleep(20)]);
    }
  }

  /** Restarts it for as long as it is wanted. */
  async #keep(first: Child): Promise<void> {
    let child = first;
    let delayMs = leastDelayMs;
    let bornAt = this.#clock.mono();
    let down: ReturnType<typeof setTimeout> | undefined;
    let told = false;
    for (;;) {
      await child.exited;
      if ((await this.#replacing) === true || this.#child !== child) {
        child = this.#child as Child;
        bornAt = this.#clock.mono();
        continue;
      }
      if (this.#stopping || !this.#settings.wanted()) break;
      this.#settings.onServing(false);
      if (this.#clock.mono() - bornAt > goodLifeMs) delayMs = leastDelayMs;
      await Bun.sleep(20);
      this.#say.warn(
        `the sidecar ended ${endOf(child)}; starting it again${delayMs > leastDelayMs ? ` in ${(delayMs / 1000).toFixed(1)} s` : ""}. ${this.#last()}`,
      );
      down ??= setTimeout(() => {
        told = true;
        this.#settings.onHealth(false);
      }, downAfterMs);
      await Bun.sleep(delayMs);
      delayMs = Math.min(mostDelayMs, delayMs * 2);
      // With a snapshot it has its certificate, and the token can come later: nobody waits for a control plane that is away.
      await Promise.race([this.#settings.refresh(), Bun.sleep(refreshLimitMs)]);
      if (this.#stopping) break;
      bornAt = this.#clock.mono();
      try {
        child = this.#begin();
        await this.#ready(child, readyLimitMs);
      } catch (error) {
        if (this.#stopping) break;
        if (!ended(child)) {
          this.#say.warn(error instanceof Error ? error.message : String(error));
          child.kill("SIGKILL");
        }
        continue;
      }
      clearTimeout(down);
      down = undefined;
      this.#settings.onServing(true);
      this.#say.info(`the sidecar serves again after ${Math.round(this.#clock.mono() - bornAt)} ms`);
      if (told) this.#settings.onHealth(true);
      told = false;
    }
    clearTimeout(down);
  }
}

function ended(child: Child): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function endOf(child: Child): string {
  return child.signalCode !== null ? `by ${child.signalCode}` : `with status ${child.exitCode}`;
}

/** A line of base/log.ts's jsonLogger as one readable sentence; undefined for anything else. Exported for its test. */
export function parseLogLine(line: string): { level: string; text: string } | undefined {
  if (!line.startsWith('{"time"')) return undefined;
  try {
    const { time: _time, level, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
    if (typeof level !== "string" || typeof msg !== "string") return undefined;
    const shown = Object.entries(fields).map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
    return { level, text: shown.length === 0 ? msg : `${msg} (${shown.join(", ")})` };
  } catch {
    return undefined;
  }
}
