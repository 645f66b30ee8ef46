// Owns: where text goes and whether it may be coloured. The one place in the command line that touches process.stdout and process.stderr.

export interface Terminal {
  out(text: string): void;
  err(text: string): void;
  /** stdout is a terminal. */
  readonly interactive: boolean;
  /** Colours allowed on stdout and on stderr. */
  readonly colour: boolean;
  readonly errColour: boolean;
  readonly columns: number;
  readonly rows: number;
}

/** https://no-color.org: any non-empty NO_COLOR switches colours off; CLICOLOR_FORCE switches them on without a terminal. */
export function mayColour(isTerminal: boolean, env: Readonly<Record<string, string | undefined>>): boolean {
  if (env.NO_COLOR) return false;
  if (env.CLICOLOR_FORCE && env.CLICOLOR_FORCE !== "0") return true;
  return isTerminal && env.TERM !== "dumb";
}

export function processTerminal(): Terminal {
  const { stdout, stderr, env } = process;
  // A reader that has seen enough (`| head`) is no fault of ours: stop writing, and end as other tools do.
  const onBroken = (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
  };
  stdout.on("error", onBroken);
  return {
    out: (text) => void stdout.write(text),
    err: (text) => void stderr.write(text),
    interactive: stdout.isTTY === true,
    colour: mayColour(stdout.isTTY === true, env),
    errColour: mayColour(stderr.isTTY === true, env),
    get columns() {
      return stdout.columns || 80;
    },
    get rows() {
      return stdout.rows || 24;
    },
  };
}

export type Tone = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";
const codes: Readonly<Record<Tone, string>> = { bold: "1", dim: "2", red: "31", green: "32", yellow: "33", cyan: "36" };

/** Wraps text in a tone if `on`. */
export function paint(on: boolean, tone: Tone, text: string): string {
  return on && text !== "" ? `\u001b[${codes[tone]}m${text}\u001b[0m` : text;
}
