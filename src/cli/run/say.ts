// Owns: the words of `weft run` itself: on stderr, each line with `weft:` before it. Writes to the descriptor directly:
// process.stderr would bring Node's streams into a process that stays for as long as the application runs.

import { fstatSync, writeSync } from "node:fs";
import { mayColour, paint } from "../terminal.ts";

export interface Say {
  /** Progress; silent with --quiet. */
  info(text: string): void;
  /** Something the user should look at, though the application goes on. */
  warn(text: string): void;
  error(text: string): void;
}

export function stderrSay(quiet: boolean, env: Readonly<Record<string, string | undefined>>): Say {
  const colour = mayColour(isTerminal(2), env);
  const mark = paint(colour, "dim", "weft: ");
  const write = (kind: string, text: string) => {
    const [first, ...rest] = text.split("\n");
    try {
      writeSync(2, `${mark}${kind}${first}\n${rest.map((line) => `${mark}${line}\n`).join("")}`);
    } catch {
      // A terminal that was closed takes no words; the application must not suffer for it.
    }
  };
  return {
    info: (text) => {
      if (!quiet) write("", text);
    },
    warn: (text) => write(paint(colour, "yellow", "warning: "), text),
    error: (text) => write(paint(colour, "red", "error: "), text),
  };
}

/** A character device that is not /dev/null. node:tty would answer exactly, for 1.4 MB of private memory. */
export function isTerminal(fd: number): boolean {
  try {
    const stat = fstatSync(fd);
    const nothing = 0x103; // device 1:3, /dev/null on Linux
    return stat.isCharacterDevice() && stat.rdev !== nothing;
  } catch {
    return false;
  }
}
