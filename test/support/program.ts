// Owns: a helper program of a test that prints one line of JSON when it is ready and ends with its standard input. Ends it.

import { eachLine } from "../../demo/processes.ts";

export interface Program<T> {
  readonly ready: T;
  readonly pid: number;
  /** All it has printed, the first line too. */
  readonly lines: readonly string[];
  stop(): Promise<void>;
}

/** Starts it and waits for its line; throws with its words when it ends before. */
export async function startProgram<T>(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Program<T>> {
  const child = Bun.spawn([...argv], { stdin: "pipe", stdout: "pipe", stderr: "pipe", env: { ...process.env, ...env } });
  const lines: string[] = [];
  const words: string[] = [];
  const first = Promise.withResolvers<string>();
  void eachLine(child.stdout, (line) => {
    lines.push(line);
    first.resolve(line);
  });
  void eachLine(child.stderr, (line) => void words.push(line));
  void child.exited.then((code) => first.reject(new Error(`${argv.join(" ")} ended with status ${code}:\n${words.join("\n")}`)));
  const ready = JSON.parse(await first.promise) as T;
  return {
    ready,
    pid: child.pid,
    lines,
    async stop() {
      await child.stdin.end();
      if ((await Promise.race([child.exited, Bun.sleep(2_000).then(() => null)])) === null) child.kill("SIGKILL");
      await child.exited;
    },
  };
}

/** The application of `test/peers/origin-program.mjs`, under Node. */
export function startOrigin(node: string): Promise<Program<{ http1: number; http2: number }>> {
  return startProgram([node, "--no-warnings", "--max-http-header-size=65536", `${import.meta.dir}/../peers/origin-program.mjs`]);
}
