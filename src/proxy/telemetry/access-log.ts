// Owns: JSON access logs to a file or to standard output. A line that cannot be written in time is dropped and counted: a slow disk or reader never
// holds up traffic.

import { openSync } from "node:fs";
import type { Clock } from "../../base/clock.ts";
import type { Series } from "../../base/metric.ts";
import type { AccessLogConfig } from "../config.ts";
import { compileFormat, type Piece } from "./access-log-format.ts";
import type { AccessRecord, AccessSink } from "./record.ts";

type FileSinkConfig = Extract<AccessLogConfig["sink"], { kind: "file" }>;

/** What a file takes: a chunk, answered with true when there is room for more at once, or a promise of it. */
export interface LineOutput {
  write(chunk: string): undefined | Promise<unknown>;
}

export interface FileLogs {
  /** The sink of a format and a path; sinks of one path share its output. Throws if the path cannot be opened. */
  sink(config: FileSinkConfig): AccessSink;
  /** Hands over what is queued; resolves when the outputs took it. */
  flush(): Promise<void>;
}

/** Lines wait at most this long, so that one write carries many. */
const flushAfterMs = 100;
/** Beyond this many characters waiting on one output, lines are dropped. */
const maxQueued = 1024 * 1024;

export interface FileLogDeps {
  readonly clock: Clock;
  /** Counts dropped lines. */
  readonly dropped: Series;
  readonly open?: (path: string) => LineOutput;
}

export function createFileLogs(deps: FileLogDeps): FileLogs {
  const queues = new Map<string, LineQueue>();
  const open = deps.open ?? openOutput;
  return {
    sink(config) {
      let queue = queues.get(config.path);
      if (queue === undefined) {
        queue = new LineQueue(deps.clock, deps.dropped, open(config.path));
        queues.set(config.path, queue);
      }
      const line = compileLine(config.format);
      const to = queue;
      return { write: (record) => to.add(line(record)) };
    },
    async flush() {
      await Promise.all([...queues.values()].map((queue) => queue.flush()));
    },
  };
}

/** One function a format: record in, JSON line (with its newline) out. Keys in the order of the configuration. */
export function compileLine(format: Readonly<Record<string, string>>): (record: AccessRecord) => string {
  // Unsupported operators were refused when the configuration was decoded.
  const fields = Object.entries(format).map(([key, text]) => ({ lead: `${JSON.stringify(key)}:`, pieces: compileFormat(text, () => {}) }));
  return (record) => {
    let out = "{";
    for (let n = 0; n < fields.length; n++) {
      const field = fields[n] as (typeof fields)[number];
      out += `${n === 0 ? "" : ","}${field.lead}${fieldText(field.pieces, record)}`;
    }
    return `${out}}\n`;
  };
}

/** A lone operator keeps its type (a number stays one); mixed text becomes a string with "-" for what is missing, as in Envoy. */
function fieldText(pieces: readonly Piece[], record: AccessRecord): string {
  if (pieces.length === 1) {
    const only = pieces[0] as Piece;
    return JSON.stringify(typeof only === "string" ? only : only(record));
  }
  let text = "";
  for (const piece of pieces) text += typeof piece === "string" ? piece : (piece(record) ?? "-");
  return JSON.stringify(text);
}

class LineQueue {
  readonly #clock: Clock;
  readonly #dropped: Series;
  readonly #output: LineOutput;
  #lines: string[] = [];
  #queued = 0;
  #armed = false;
  #writing: Promise<void> | undefined;

  constructor(clock: Clock, dropped: Series, output: LineOutput) {
    this.#clock = clock;
    this.#dropped = dropped;
    this.#output = output;
  }

  add(line: string): void {
    if (this.#queued + line.length > maxQueued) {
      this.#dropped.value++;
      return;
    }
    this.#lines.push(line);
    this.#queued += line.length;
    this.#arm();
  }

  flush(): Promise<void> {
    if (this.#writing !== undefined) return this.#writing.then(() => this.flush());
    if (this.#lines.length === 0) return Promise.resolve();
    const chunk = this.#lines.join("");
    this.#lines = [];
    const done = (): void => {
      this.#queued -= chunk.length;
      this.#writing = undefined;
      if (this.#lines.length > 0) this.#arm();
    };
    try {
      const pending = this.#output.write(chunk);
      if (pending === undefined) {
        done();
        return Promise.resolve();
      }
      this.#writing = pending.then(done, done);
      return this.#writing;
    } catch {
      // A broken pipe, a full disk: the lines are lost, traffic is not.
      this.#dropped.value++;
      done();
      return Promise.resolve();
    }
  }

  #arm(): void {
    if (this.#armed || this.#writing !== undefined) return;
    this.#armed = true;
    this.#clock.after(flushAfterMs, () => {
      this.#armed = false;
      void this.flush();
    });
  }
}

/** Opens a file for appending, or standard output or error. Throws when it cannot be opened. */
export function openOutput(path: string): LineOutput {
  const target = path === "/dev/stdout" ? Bun.stdout : path === "/dev/stderr" ? Bun.stderr : Bun.file(openSync(path, "a", 0o640));
  const writer = target.writer();
  return {
    async write(chunk) {
      writer.write(chunk);
      await writer.flush();
    },
  };
}
