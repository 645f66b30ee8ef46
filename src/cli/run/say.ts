// Owns: the words of `weft run` itself: on stderr, each line with `weft:` before it. Writes to the descriptor directly:
// process.stderr would bring Node's streams into a process that stays for as long as the application runs.

import { writeSync } from "node:fs";
import { isatty } from "node:tty";
import { mayColour, paint } from "../terminal.ts";

export interface Say {
  /** Progress; silent with --quiet. */
  info(text: string): void;
  /** Something the user should look at, though the application goes on. */
  warn(text: string): void;
  error(text: string): void;
}

export function stderrSay(quiet: boolean, env: Readonly<Record<string, string | undefined>>): Say {
  const colour = mayColour(isatty(2), env);
  const write = (prefix: string, text: string) => {
    const lines = text.split("\n").map((line) => `${prefix}${line}\n`);
    try {
      writeSync(2, lines.join(""));
    } catch {
      // A terminal that was closed takes no words; the application must not suffer for it.
    }
  };
  return {
    info: (text) => {
      if (!quiet) write(paint(colour, "dim", "weft: "), text);
    },
    warn: (text) => write(`${paint(colour, "dim", "weft: ")}${paint(colour, "yellow", "warning: ")}`, text),
    error: (text) => write(`${paint(colour, "dim", "weft: ")}${paint(colour, "red", "error: ")}`, text),
  };
}
