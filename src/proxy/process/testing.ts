// Owns: what tests of several processes share: starting a proxy as its users do, and clients that open connections in a tight loop and remember every
// failure. Never loaded by the proxy.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";

const mainPath = new URL("../../main.ts", import.meta.url).pathname;

/** Polls until `check` gives something; starting several processes on a busy machine takes its time. */
export async function until<T>(check: () => T | Promise<T>, what: string): Promise<NonNullable<T>> {
  const deadline = performance.now() + 8_000;
  for (;;) {
    const found = await check();
    if (found) return found as NonNullable<T>;
    if (performance.now() > deadline) throw new Error(`${what} did not come about`);
    await Bun.sleep(3);
  }
}

export interface Running {
  readonly process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  /** Lines on stderr so far. */
  readonly lines: string[];
}

export interface ReadyLine {
  readonly admin: string;
  readonly listeners: readonly { readonly name: string; readonly address: string }[];
  readonly workers?: number;
  readonly replaced?: number;
}

/** Starts proxies in a folder of their own; `close` ends what is left and removes it. */
export class ProxyRunner {
  readonly folder = mkdtempSync(join(tmpdir(), "weft-process-"));
  readonly #running: Running[] = [];

  start(...args: string[]): Running {
    const child = Bun.spawn([Bun.argv[0] as string, mainPath, "proxy", ...args], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      cwd: this.folder,
    });
    const lines: string[] = [];
    void (async () => {
      const decoder = new TextDecoder();
      let rest = "";
      for await (const chunk of child.stderr) {
        const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = parts.pop() as string;
        lines.push(...parts);
      }
    })();
    const one = { process: child, lines };
    this.#running.push(one);
    return one;
  }

  write(name: string, value: unknown): string {
    const path = join(this.folder, name);
    writeFileSync(path, typeof value === "string" ? value : JSON.stringify(value));
    return path;
  }

  async stopAll(): Promise<void> {
    for (const one of this.#running.splice(0)) {
      one.process.kill("SIGKILL");
      await one.process.exited;
    }
  }

  async close(): Promise<void> {
    await this.stopAll();
    rmSync(this.folder, { recursive: true });
  }
}

export async function ready(one: Running): Promise<ReadyLine> {
  const line = await until(() => one.lines.find((text) => text.includes('"msg":"ready"')), `readiness; said: ${one.lines.join("\n")}`);
  return JSON.parse(line) as ReadyLine;
}

/** The processes that a process started. */
export async function childrenOf(pid: number): Promise<number[]> {
  const text = await Bun.file(`/proc/${pid}/task/${pid}/children`).text();
  return text.trim() === "" ? [] : text.trim().split(" ").map(Number);
}

export interface Load {
  /** Answers with status 200, whole. */
  readonly done: () => number;
  /** What went wrong, one entry each. */
  readonly failures: readonly string[];
  stop(): Promise<void>;
}

/** `clients` loops of requests: each on a connection of its own, or on one that is kept until the server says goodbye. */
export function startLoad(port: number, clients: number, keep: boolean): Load {
  let stopping = false;
  let done = 0;
  const failures: string[] = [];
  const loop = async (): Promise<void> => {
    while (!stopping) {
      const problem = await converse(port, keep, () => {
        done++;
        return !stopping;
      });
      if (problem !== "") failures.push(problem);
      // A proxy that is gone must not make this a busy loop.
      if (problem !== "") await Bun.sleep(5);
    }
  };
  const loops = Array.from({ length: clients }, loop);
  return {
    done: () => done,
    failures,
    async stop() {
      stopping = true;
      await Promise.all(loops);
    },
  };
}

const kept = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const single = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/** One connection. `answered` is called for each answer and says whether to go on. Resolves to what went wrong, "" for nothing. */
function converse(port: number, keep: boolean, answered: () => boolean): Promise<string> {
  return new Promise((resolve) => {
    let got = "";
    let asked = false;
    let over = false;
    const end = (problem: string): void => {
      if (over) return;
      over = true;
      resolve(problem);
    };
    Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        open(socket) {
          asked = true;
          socket.write(keep ? kept : single);
        },
        data(socket, bytes) {
          got += bytes.toString("latin1");
          const head = got.indexOf("\r\n\r\n");
          if (head < 0) return;
          const length = Number(/\r\ncontent-length: (\d+)/i.exec(got.slice(0, head))?.[1] ?? 0);
          if (got.length < head + 4 + length) return;
          const first = got.slice(0, got.indexOf("\r\n"));
          const goodbye = /\r\nconnection: close/i.test(got.slice(0, head));
          got = got.slice(head + 4 + length);
          asked = false;
          if (!first.startsWith("HTTP/1.1 200")) end(`the answer ${first}`);
          else if (answered() && keep && !goodbye) {
            asked = true;
            socket.write(kept);
            return;
          }
          socket.end();
          end("");
        },
        close() {
          end(asked ? "the connection ended before the answer" : "");
        },
        error() {},
        connectError(_socket, error) {
          end(`no connection: ${error.message}`);
        },
      },
    }).catch((error: Error) => end(`no connection: ${error.message}`));
  });
}

/** `clients` loops of requests, each on one HTTP/2 connection (prior knowledge) until the server says goodbye. */
export function startHttp2Load(port: number, clients: number): Load {
  let stopping = false;
  let done = 0;
  const failures: string[] = [];
  const loop = async (): Promise<void> => {
    while (!stopping) {
      const session = connectHttp2(`http://127.0.0.1:${port}`);
      let leaving = false;
      session.on("goaway", () => {
        leaving = true;
      });
      session.on("error", (error: Error) => failures.push(`the connection: ${error.message}`));
      session.on("close", () => {
        leaving = true;
      });
      while (!stopping && !leaving && !session.closed) {
        const problem = await askHttp2(session);
        if (problem === "") done++;
        else {
          failures.push(problem);
          break;
        }
      }
      session.close();
    }
  };
  const loops = Array.from({ length: clients }, loop);
  return {
    done: () => done,
    failures,
    async stop() {
      stopping = true;
      await Promise.all(loops);
    },
  };
}

function askHttp2(session: ClientHttp2Session): Promise<string> {
  return new Promise((resolve) => {
    const stream = session.request({ ":path": "/" });
    let status = 0;
    stream.on("response", (headers) => {
      status = Number(headers[":status"]);
    });
    stream.on("error", (error: Error) => resolve(`a stream: ${error.message}`));
    stream.on("end", () => resolve(status === 200 ? "" : `the answer ${status}`));
    stream.resume();
    stream.end();
  });
}
