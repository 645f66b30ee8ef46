// Owns: asking the application of `weft run` how it is: by HTTP, gRPC, a TCP connection or a command, at intervals, with thresholds. What it finds is told;
// registration is the caller's. Never asks two questions at once.

import type { Clock, Timer } from "../../base/clock.ts";
import { UsageFailure } from "../failure.ts";
import type { Parsed } from "../parse.ts";
import { answers } from "./command.ts";

export interface AppCheck {
  readonly kind:
    | {
        readonly type: "http";
        readonly path: string;
        readonly port?: number;
        readonly headers?: readonly (readonly [name: string, value: string])[];
        /** Whatever its certificate. */
        readonly tls?: true;
      }
    | { readonly type: "grpc"; readonly service: string; readonly port?: number }
    | { readonly type: "tcp"; readonly port?: number }
    | { readonly type: "command"; readonly words: string }
    /** No shell. */
    | { readonly type: "exec"; readonly command: readonly string[] };
  /** Before the first question. */
  readonly delayMs?: number;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** In a row, until it counts as unwell. */
  readonly failures: number;
  /** In a row, until it counts as well again; at the start one is enough. */
  readonly successes: number;
}

const kinds = ["health-http", "health-grpc", "health-tcp", "health-command"] as const;

/** undefined = none is asked for: the application is well while its port answers at the start and it runs. */
export function checkFrom(args: Parsed, hasPort: boolean): AppCheck | undefined {
  const given = kinds.filter((name) => (name === "health-tcp" ? args.on(name) : args.text(name) !== undefined));
  const [first, second] = given;
  if (second !== undefined) throw new UsageFailure(`--${first} and --${second}: one way to ask the application is enough; leave one out`);
  if (first === undefined) {
    for (const name of ["health-interval", "health-timeout", "health-failures", "health-successes"])
      if (args.text(name) !== undefined) throw new UsageFailure(`--${name} needs one of ${kinds.map((each) => `--${each}`).join(", ")}`);
    return undefined;
  }
  if (!hasPort && first !== "health-command")
    throw new UsageFailure(`--${first} needs --port PORT; a COMMAND that only calls others can be asked by --health-command`);
  const path = args.text("health-http");
  if (path !== undefined && !/^\/[\x21-\x7e]*$/.test(path))
    throw new UsageFailure(`--health-http takes a path such as /healthz, not "${path}"`);
  return {
    kind:
      first === "health-http"
        ? { type: "http", path: path ?? "/" }
        : first === "health-grpc"
          ? { type: "grpc", service: (args.text("health-grpc") ?? "").replace(/^-$/, "") }
          : first === "health-command"
            ? { type: "command", words: args.text("health-command") ?? "" }
            : { type: "tcp" },
    intervalMs: args.durationMs("health-interval") ?? 5_000,
    timeoutMs: args.durationMs("health-timeout") ?? 1_000,
    failures: args.integer("health-failures", 1, 100) ?? 3,
    successes: args.integer("health-successes", 1, 100) ?? 1,
  };
}

/** null = well, else what is wrong, for people. `appPort`: asked where the check has no port of its own. */
export async function askOnce({ kind, timeoutMs }: AppCheck, appPort: number): Promise<string | null> {
  const port = "port" in kind && kind.port !== undefined ? kind.port : appPort;
  switch (kind.type) {
    case "http": {
      try {
        const headers = new Headers({ "user-agent": "Weft/HC" });
        for (const [name, value] of kind.headers ?? []) headers.set(name, value);
        const answer = await fetch(`${kind.tls === true ? "https" : "http"}://127.0.0.1:${port}${kind.path}`, {
          redirect: "manual",
          signal: AbortSignal.timeout(timeoutMs),
          headers,
          ...(kind.tls === true ? { tls: { rejectUnauthorized: false } } : {}),
        });
        await answer.body?.cancel();
        // As Kubernetes judges probes.
        return answer.status >= 200 && answer.status < 400 ? null : `${kind.path} answers ${answer.status}`;
      } catch (error) {
        return `${kind.path}: ${(error as Error).name === "TimeoutError" ? `no answer within ${timeoutMs} ms` : (error as Error).message}`;
      }
    }
    case "tcp": {
      const late = Bun.sleep(timeoutMs).then(() => false);
      return (await Promise.race([answers("127.0.0.1", port), late])) ? null : `port ${port} does not answer`;
    }
    case "grpc":
      return await askGrpc(kind.service, port, timeoutMs);
    case "command":
    case "exec": {
      const words = kind.type === "exec" ? kind.command : ["/bin/sh", "-c", kind.words];
      let child: Bun.Subprocess;
      try {
        child = Bun.spawn([...words], { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
      } catch (error) {
        return `the health command cannot be started: ${(error as Error).message}`;
      }
      const late = Bun.sleep(timeoutMs).then(() => "late" as const);
      const status = await Promise.race([child.exited, late]);
      if (status === "late") child.kill("SIGKILL");
      return status === 0
        ? null
        : status === "late"
          ? `the health command takes longer than ${timeoutMs} ms`
          : `the health command ends with status ${status}`;
    }
  }
}

/** grpc.health.v1.Health/Check, in clear text. */
async function askGrpc(service: string, port: number, timeoutMs: number): Promise<string | null> {
  const { connect } = await import("node:http2");
  const session = connect(`http://127.0.0.1:${port}`);
  const { promise, resolve } = Promise.withResolvers<string | null>();
  const timer = setTimeout(() => resolve(`no answer within ${timeoutMs} ms`), timeoutMs);
  session.on("error", (error) => resolve(error.message));
  const name = Buffer.from(service, "utf8").subarray(0, 127);
  const message = name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, name.length]), name]);
  const stream = session.request({
    ":method": "POST",
    ":path": "/grpc.health.v1.Health/Check",
    "content-type": "application/grpc",
    te: "trailers",
  });
  let got = Buffer.alloc(0);
  let status = "";
  stream.on("response", (head) => {
    status = String(head["grpc-status"] ?? "");
  });
  stream.on("trailers", (tail) => {
    status = String(tail["grpc-status"] ?? status);
  });
  stream.on("data", (bytes: Buffer) => {
    if (got.length < 64) got = Buffer.concat([got, bytes]);
  });
  stream.on("error", (error) => resolve(error.message));
  stream.on("end", () =>
    resolve(
      status === "0" && got[5] === 0x08 && got[6] === 1
        ? null
        : status === "0"
          ? "it is not SERVING"
          : `gRPC status ${status || "missing"}`,
    ),
  );
  stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    session.destroy();
  }
}

export class AppHealth {
  readonly #check: AppCheck;
  readonly #clock: Clock;
  readonly #ask: () => Promise<string | null>;
  readonly #changed: (well: boolean, problem: string) => void;
  /** null = nothing is known yet. */
  #well: boolean | null = null;
  #good = 0;
  #bad = 0;
  #timer: Timer | undefined;
  #stopped = false;

  /** `changed` is called with the first success, and whenever thresholds are passed afterwards. */
  constructor(check: AppCheck, clock: Clock, ask: () => Promise<string | null>, changed: (well: boolean, problem: string) => void) {
    this.#check = check;
    this.#clock = clock;
    this.#ask = ask;
    this.#changed = changed;
  }

  start(): void {
    const { delayMs = 0 } = this.#check;
    if (delayMs === 0) void this.#round();
    else this.#timer = this.#clock.after(delayMs, () => void this.#round());
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  async #round(): Promise<void> {
    const problem = await this.#ask();
    if (this.#stopped) return;
    if (problem === null) {
      this.#bad = 0;
      this.#good++;
      if (this.#well !== true && (this.#well === null || this.#good >= this.#check.successes)) this.#say(true, "");
    } else {
      this.#good = 0;
      this.#bad++;
      if (this.#well === true && this.#bad >= this.#check.failures) this.#say(false, problem);
    }
    // Until it is well for the first time it is asked more often: everybody waits for it.
    const wait = this.#well === null ? Math.min(250, this.#check.intervalMs) : this.#check.intervalMs;
    this.#timer = this.#clock.after(wait, () => void this.#round());
  }

  #say(well: boolean, problem: string): void {
    this.#well = well;
    this.#changed(well, problem);
  }
}
