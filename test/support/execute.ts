// Owns: running one foreign command to its end, within a bound. Never leaves it behind.

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  /** stdout as it came, for bodies that are no text. */
  readonly bytes: Uint8Array;
}

export interface ExecuteOptions {
  readonly stdin?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Default 15 000, well below the limit of a test (bun ends all children of a test that runs out of time, the proxies too): then the command is killed and reported with status 124, as timeout(1) does. */
  readonly limitMs?: number;
}

/** Runs a command to its end. */
export async function execute(argv: readonly string[], options: ExecuteOptions = {}): Promise<Ran> {
  const { stdin } = options;
  const child = Bun.spawn([...argv], {
    stdin: stdin === undefined ? "ignore" : typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin,
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, options.limitMs ?? 15_000);
  const [bytes, err, code] = await Promise.all([new Response(child.stdout).bytes(), new Response(child.stderr).text(), child.exited]);
  clearTimeout(timer);
  return { code: late ? 124 : code, out: new TextDecoder().decode(bytes), err, bytes };
}
