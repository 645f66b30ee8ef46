// Owns: when the table of direct connections is written for `weft run`: a tenth of a second after a change, at most once a second, and not when nothing in it has
// changed. Never decides what stands in it.

import { rename, writeFile } from "node:fs/promises";
import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { ProxyConfig } from "../config.ts";
import { directTable } from "./table.ts";

const settleMs = 100;
const leastMs = 1_000;

export class DirectKeeper {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #path: string;
  #config: ProxyConfig | undefined;
  #timer: Timer | undefined;
  #notBeforeMs = 0;
  #written = "";
  #complained = false;
  #stopped = false;

  constructor(clock: Clock, log: Logger, path: string) {
    this.#clock = clock;
    this.#log = log;
    this.#path = path;
  }

  /** A configuration is in force. Cheap. */
  changed(config: ProxyConfig): void {
    this.#config = config;
    if (this.#timer !== undefined || this.#stopped) return;
    this.#timer = this.#clock.after(Math.max(settleMs, this.#notBeforeMs - this.#clock.mono()), () => void this.#write());
  }

  /** What is there stays: whoever reads it does so when this process is gone. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  async #write(): Promise<void> {
    this.#timer = undefined;
    this.#notBeforeMs = this.#clock.mono() + leastMs;
    const text = JSON.stringify(directTable(this.#config as ProxyConfig));
    if (text === this.#written) return;
    try {
      await writeFile(`${this.#path}.new`, text, { mode: 0o600 });
      await rename(`${this.#path}.new`, this.#path);
      this.#written = text;
      this.#complained = false;
    } catch (error) {
      if (!this.#complained) this.#log.warn({ error, path: this.#path }, "The table of direct connections could not be written.");
      this.#complained = true;
    }
  }
}
