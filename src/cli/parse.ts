// Owns: argv against a verb's record. Pure; refuses with a UsageFailure that names the word and the way out.
// Ours rather than a library's: the records are needed for completion and the reference page anyway, and commander would cost every
// call 13 ms and each supervising `weft run` 1.7 MB for its whole life (docs/decisions/0007-command-line-parser.md).

import { UsageFailure } from "./failure.ts";
import { allFlags, type FlagSpec, type VerbSpec } from "./spec.ts";
import { didYouMean } from "./suggest.ts";

export class Parsed {
  readonly operands: readonly string[];
  /** What follows `--`; undefined when there is no `--`. */
  readonly command: readonly string[] | undefined;
  readonly #values: ReadonlyMap<string, readonly string[]>;

  constructor(operands: readonly string[], command: readonly string[] | undefined, values: ReadonlyMap<string, readonly string[]>) {
    this.operands = operands;
    this.command = command;
    this.#values = values;
  }

  on(name: string): boolean {
    return this.#values.has(name);
  }

  /** The last value given, or undefined. */
  text(name: string): string | undefined {
    return this.#values.get(name)?.at(-1);
  }

  list(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  /** A whole number within bounds. */
  integer(name: string, least: number, most: number): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!/^[0-9]+$/.test(text) || value < least || value > most) {
      throw new UsageFailure(`--${name} takes a whole number from ${least} to ${most}, not "${text}"`);
    }
    return value;
  }

  /** Seconds as a decimal number, or with a unit: `30`, `1.5`, `500ms`, `2m`, `1h`. Answers milliseconds. */
  durationMs(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const ms = parseDurationMs(text);
    if (ms === undefined)
      throw new UsageFailure(`--${name} takes a time such as 30, 500ms, 2m or 1h (a bare number is seconds), not "${text}"`);
    return ms;
  }
}

const unitMs: Readonly<Record<string, number>> = { ms: 1, "": 1000, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

export function parseDurationMs(text: string): number | undefined {
  const match = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)?$/.exec(text);
  if (match === null) return undefined;
  return Math.round(Number(match[1]) * (unitMs[match[2] ?? ""] as number));
}

/** Flags may stand anywhere before `--`. `--help` wins over every other fault. */
export function parse(spec: VerbSpec, argv: readonly string[]): Parsed {
  const flags = allFlags(spec);
  const values = new Map<string, string[]>();
  const operands: string[] = [];
  let command: readonly string[] | undefined;
  const end = argv.indexOf("--");
  const own = end < 0 ? argv : argv.slice(0, end);
  if (end >= 0) {
    if (spec.takesCommand === true) command = argv.slice(end + 1);
    else operands.push(...argv.slice(end + 1));
  }
  const words = [...own];
  const wantsHelp = words.some((w) => w === "--help" || w === "-h");

  const put = (flag: FlagSpec, value: string) => {
    if (flag.choices !== undefined && !flag.choices.includes(value)) {
      throw new UsageFailure(`--${flag.name} takes ${flag.choices.join(", ")}, not "${value}"${didYouMean(value, flag.choices)}`);
    }
    const list = values.get(flag.name);
    if (list === undefined) values.set(flag.name, [value]);
    else if (flag.repeat === true || flag.value === undefined) list.push(value);
    else throw new UsageFailure(`--${flag.name} is given twice ("${list[0]}" and "${value}"); it takes one value`);
  };
  const takeValue = (flag: FlagSpec, shown: string): string => {
    const next = words.shift();
    if (next === undefined || (next.startsWith("-") && next !== "-" && !/^-[0-9]/.test(next))) {
      throw new UsageFailure(`${shown} needs a value: ${shown} ${flag.value}`);
    }
    return next;
  };

  try {
    for (let word = words.shift(); word !== undefined; word = words.shift()) {
      if (word.startsWith("--")) {
        const at = word.indexOf("=");
        const name = at < 0 ? word.slice(2) : word.slice(2, at);
        const flag = flags.find((f) => f.name === name);
        if (flag === undefined) {
          throw new UsageFailure(
            `weft ${spec.name} has no flag --${name}${didYouMean(
              name,
              flags.map((f) => f.name),
              "--",
            )}`,
          );
        }
        if (flag.value === undefined) {
          if (at >= 0) throw new UsageFailure(`--${name} takes no value`);
          put(flag, "true");
        } else put(flag, at < 0 ? takeValue(flag, `--${name}`) : word.slice(at + 1));
      } else if (word.startsWith("-") && word !== "-") {
        shortFlags(spec, flags, word, put, takeValue);
      } else operands.push(word);
    }
    checkOperands(spec, operands, command);
  } catch (error) {
    if (wantsHelp) return new Parsed([], undefined, new Map([["help", ["true"]]]));
    throw error;
  }
  return new Parsed(operands, command, values);
}

/** `-A`, `-Aw` (switches together), `-n shop`, `-nshop`, `-n=shop`. */
function shortFlags(
  spec: VerbSpec,
  flags: readonly FlagSpec[],
  word: string,
  put: (flag: FlagSpec, value: string) => void,
  takeValue: (flag: FlagSpec, shown: string) => string,
): void {
  for (let i = 1; i < word.length; i++) {
    const letter = word[i] as string;
    const flag = flags.find((f) => f.short === letter);
    if (flag === undefined) {
      const long = flags.find((f) => f.name === word.slice(1));
      throw new UsageFailure(`weft ${spec.name} has no flag -${letter}${long === undefined ? "" : `; did you mean --${long.name}?`}`);
    }
    if (flag.value === undefined) {
      put(flag, "true");
      continue;
    }
    const rest = word.slice(i + 1).replace(/^=/, "");
    put(flag, rest === "" ? takeValue(flag, `-${letter}`) : rest);
    return;
  }
}

function checkOperands(spec: VerbSpec, operands: readonly string[], command: readonly string[] | undefined): void {
  const most = spec.operands.some((o) => o.repeat === true) ? Number.POSITIVE_INFINITY : spec.operands.length;
  if (spec.takesCommand === true) {
    if (operands.length > most) throw new UsageFailure(`put -- before the command: weft ${spec.name} [flags] -- ${operands.join(" ")}`);
    if (command === undefined || command.length === 0) throw new UsageFailure(`weft ${spec.name} needs a command to start, after --`);
  }
  const missing = spec.operands.find((o, i) => o.required && operands[i] === undefined);
  if (missing !== undefined) throw new UsageFailure(`weft ${spec.name} needs ${missing.name}`);
  if (operands.length > most) throw new UsageFailure(`weft ${spec.name} does not know what to do with "${operands[most]}"`);
}
