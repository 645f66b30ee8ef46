// Owns: how values look on a terminal or in a pipe: tables, YAML, ages, numbers. Pure but for loading the yaml library when YAML is asked for.

import { paint, type Terminal, type Tone } from "./terminal.ts";

export interface Cell {
  readonly text: string;
  readonly tone?: Tone;
  readonly right?: boolean;
}

export type CellLike = string | Cell;

function cellOf(value: CellLike): Cell {
  return typeof value === "string" ? { text: value } : value;
}

/** Columns as in a terminal: wide characters (CJK, emoji) take two. */
export function widthOf(text: string): number {
  return Bun.stringWidth(text);
}

/** How a table is made to fit a terminal. */
export interface Fit {
  readonly columns: number;
  /** Titles of columns that may be left out, the first to go first. */
  readonly drop: readonly string[];
}

const gap = 3;

/**
 * Columns padded to their widest cell, three blanks between them (kubectl's look), no blanks at the end of a line. With `fit`, columns
 * are left out, and then the widest are cut with `…`, until a line fits; without it nothing is ever cut (pipes).
 */
export function table(header: readonly string[], rows: readonly (readonly CellLike[])[], colour: boolean, fit?: Fit): string {
  const cells = rows.map((row) => row.map(cellOf));
  const widths = header.map((title, i) => Math.max(widthOf(title), ...cells.map((row) => widthOf(row[i]?.text ?? ""))));
  let shown = header.map((_, i) => i);
  const total = () => shown.reduce((sum, i) => sum + (widths[i] as number), gap * (shown.length - 1));
  if (fit !== undefined) {
    for (const title of fit.drop) if (total() > fit.columns) shown = shown.filter((i) => header[i] !== title);
    narrow(header, widths, shown, total() - fit.columns);
  }
  const line = (row: readonly Cell[]): string => {
    const parts = shown.map((i, at) => {
      const cell = row[i] ?? { text: "" };
      const text = cut(cell.text, widths[i] as number);
      const pad = " ".repeat(Math.max(0, (widths[i] as number) - widthOf(text)));
      const painted = cell.tone === undefined ? text : paint(colour, cell.tone, text);
      if (cell.right === true) return pad + painted;
      return painted + (at === shown.length - 1 ? "" : pad);
    });
    return `${parts.join(" ".repeat(gap)).trimEnd()}\n`;
  };
  const right = header.map((_, i) => cells.length > 0 && cells.every((row) => row[i]?.right === true));
  return line(header.map((text, i) => ({ text, tone: "bold" as const, right: right[i] === true }))) + cells.map(line).join("");
}

/** Takes `excess` columns away, always from the widest one; a title and eight columns stay readable. */
function narrow(header: readonly string[], widths: number[], shown: readonly number[], excess: number): void {
  for (let left = excess; left > 0; left--) {
    const can = shown.filter((i) => (widths[i] as number) > Math.max(8, widthOf(header[i] as string)));
    if (can.length === 0) return;
    const widest = can.reduce((a, b) => ((widths[b] as number) > (widths[a] as number) ? b : a));
    widths[widest] = (widths[widest] as number) - 1;
  }
}

function cut(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  let shown = "";
  for (const letter of text) {
    if (widthOf(shown + letter) > width - 1) break;
    shown += letter;
  }
  return `${shown}…`;
}

/** `5s`, `3m12s`, `4h10m`, `2d4h`, `12d`: an age as kubectl writes it. */
export function age(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 120) return `${s}s`;
  const m = Math.floor(s / 60);
  if (m < 10) return s % 60 === 0 ? `${m}m` : `${m}m${s % 60}s`;
  if (m < 180) return `${m}m`;
  const h = Math.floor(m / 60);
  if (h < 8) return m % 60 === 0 ? `${h}h` : `${h}h${m % 60}m`;
  if (h < 48) return `${h}h`;
  const d = Math.floor(h / 24);
  return d < 8 && h % 24 !== 0 ? `${d}d${h % 24}h` : `${d}d`;
}

/** Age of an ISO time, or `<unknown>`. */
export function ageOf(iso: string | undefined, nowMs: number): string {
  const at = iso === undefined ? Number.NaN : Date.parse(iso);
  return Number.isNaN(at) ? "<unknown>" : age(nowMs - at);
}

/** Three significant digits at most: `0.42`, `7.3`, `128`, `12.4k`. */
export function short(value: number): string {
  if (value === 0) return "0";
  if (value < 0.1) return value.toFixed(2);
  if (value < 10) return value.toFixed(1);
  if (value < 10_000) return Math.round(value).toString();
  return value < 1e6 ? `${(value / 1e3).toFixed(1)}k` : `${(value / 1e6).toFixed(1)}M`;
}

/** Milliseconds: `0.84 ms`, `12 ms`, `1.20 s`; `-` for null. */
export function milliseconds(value: number | null): string {
  if (value === null) return "-";
  if (value < 10) return `${value.toFixed(value < 1 ? 2 : 1)} ms`;
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(2)} s`;
}

/** 0 to 1 as percent, never rounded up to 100 or down to 0: `99.98%`. `-` for null. */
export function percent(ratio: number | null): string {
  if (ratio === null) return "-";
  if (ratio === 1 || ratio === 0) return `${ratio * 100}%`;
  const value = Math.min(99.99, Math.max(0.01, ratio * 100));
  return `${value >= 99 ? value.toFixed(2) : value.toFixed(1)}%`;
}

export function bytes(value: number): string {
  if (value < 1000) return `${Math.round(value)} B`;
  if (value < 1e6) return `${(value / 1e3).toFixed(1)} kB`;
  return value < 1e9 ? `${(value / 1e6).toFixed(1)} MB` : `${(value / 1e9).toFixed(1)} GB`;
}

/** YAML as people write it (block strings for PEM, no folding). Loads the yaml library on first use. */
export async function toYaml(value: unknown): Promise<string> {
  const { stringify } = await import("yaml");
  return stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });
}

export function toJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** Prints for programs when `-o` says so; answers whether it did. */
export async function printed(terminal: Terminal, format: string | undefined, value: unknown): Promise<boolean> {
  if (format === "json") terminal.out(toJson(value));
  else if (format === "yaml") terminal.out(await toYaml(value));
  else return false;
  return true;
}
