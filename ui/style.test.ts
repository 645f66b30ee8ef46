// Contrast of the stylesheet's own colours, by WCAG 2's formula: text 4.5:1 on every surface it stands on, shapes and lines 3:1.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const css = readFileSync(join(import.meta.dir, "style.css"), "utf8");
const colors = new Map(
  [...css.matchAll(/--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)/g)].map((m) => [m[1]!, { light: m[2]!, dark: m[3]! }]),
);

function luminance(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const c = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
}

function contrast(a: string, b: string): number {
  const [x, y] = [luminance(a), luminance(b)];
  return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
}

const surfaces = ["page", "surface", "sunken", "accent-soft", "warn-soft", "bad-soft"];
const pairs: readonly (readonly [front: string, backs: readonly string[], least: number])[] = [
  ["ink", surfaces, 7],
  ["muted", ["page", "surface", "sunken", "accent-soft", "warn-soft", "bad-soft"], 4.5],
  ["accent", ["page", "surface", "sunken", "accent-soft"], 4.5],
  ["good", ["page", "surface"], 4.5],
  ["warn", ["page", "surface", "sunken", "warn-soft", "accent-soft"], 4.5],
  ["bad", ["page", "surface", "sunken", "bad-soft", "accent-soft"], 4.5],
  ["on-fill", ["accent", "second", "good", "muted"], 4.5],
  ["second", ["page", "surface"], 3],
  ["line", ["page"], 2.8],
];

test.each(pairs.flatMap(([front, backs, least]) => backs.map((back) => [front, back, least] as const)))(
  "--%s on --%s has at least %d:1",
  (front, back, least) => {
    const [f, b] = [colors.get(front), colors.get(back)];
    if (f === undefined || b === undefined) throw new Error(`style.css defines no --${f === undefined ? front : back}`);
    expect(contrast(f.light, b.light)).toBeGreaterThanOrEqual(least);
    expect(contrast(f.dark, b.dark)).toBeGreaterThanOrEqual(least);
  },
);
