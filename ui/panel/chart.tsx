// Owns: one small time chart (uPlot on a canvas) with its current or pointed-at values in words above it. The words are also what a screen reader gets.

import { type ReactNode, useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import { clockTime } from "../model/format.ts";

export interface ChartLine {
  readonly name: string;
  /** A CSS variable of the stylesheet, e.g. `--accent`. */
  readonly color: string;
  readonly values: readonly (number | null)[];
  readonly dashed?: boolean;
  readonly fill?: boolean;
}

export interface ChartProps {
  readonly title: string;
  readonly atSeconds: readonly number[];
  readonly lines: readonly ChartLine[];
  readonly format: (value: number | null) => string;
  /** The axis for the smallest and largest value shown. */
  readonly range: (min: number, max: number) => [number, number];
  readonly theme: string;
}

const heightPx = 92;

export function Chart({ title, atSeconds, lines, format, range, theme }: ChartProps): ReactNode {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  // Read when the chart is made, which is seldom; data goes in through setData.
  const latest = useRef({ lines, format, range, atSeconds });
  latest.current = { lines, format, range, atSeconds };
  const shape = `${theme} ${lines.map((l) => l.name).join(" ")}`;

  useEffect(() => {
    const element = host.current;
    if (element === null || shape === "") return;
    const made = new uPlot(
      optionsFor(element, latest.current, (index) => setPointed(index)),
      dataOf(latest.current),
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: heightPx }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);

  useEffect(() => {
    plot.current?.setData(dataOf({ lines, atSeconds }));
  }, [lines, atSeconds]);

  const shown = pointed !== null && pointed < atSeconds.length ? pointed : atSeconds.length - 1;
  const at = atSeconds[shown];
  return (
    <figure className="chart">
      <figcaption>
        <span>{title}</span>
        <span className="chart-values">
          {pointed !== null && at !== undefined && <time>{clockTime(at * 1000)}</time>}
          {lines.map((line) => (
            <span key={line.name}>
              {lines.length > 1 && <i className={line.dashed ? "key dashed" : "key"} style={{ borderColor: `var(${line.color})` }} />}
              {lines.length > 1 && `${line.name} `}
              <b>{format(line.values[shown] ?? null)}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <div ref={host} role="img" aria-label={`${title}: ${lines.map((line) => summary(line, format)).join("; ")}`} />
    </figure>
  );
}

function summary(line: ChartLine, format: (value: number | null) => string): string {
  const known = line.values.filter((value): value is number => value !== null);
  if (known.length === 0) return `${line.name} has no data`;
  return `${line.name} now ${format(line.values.at(-1) ?? null)}, lowest ${format(Math.min(...known))}, highest ${format(Math.max(...known))}`;
}

function dataOf({ lines, atSeconds }: Pick<ChartProps, "lines" | "atSeconds">): uPlot.AlignedData {
  return [[...atSeconds], ...lines.map((line) => [...line.values])];
}

function optionsFor(
  host: HTMLElement,
  given: Pick<ChartProps, "lines" | "format" | "range">,
  onPoint: (index: number | null) => void,
): uPlot.Options {
  const colors = paletteOf(host);
  const font = `11px ${getComputedStyle(host).fontFamily}`;
  const axis = { stroke: colors("--muted"), font, ticks: { show: false }, border: { show: false } } satisfies uPlot.Axis;
  const grid = { stroke: colors("--hair"), width: 1 };
  return {
    width: host.clientWidth,
    height: heightPx,
    legend: { show: false },
    padding: [6, 16, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: "weft" }, points: { size: 6 } },
    scales: {
      x: { time: true },
      y: { range: (_plot, min, max) => (min === null || max === null ? [0, 1] : given.range(min, max)) },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 20, space: 48, values: (_plot, at) => at.map((s) => clockTime(s * 1000).slice(0, 5)) },
      { ...axis, grid, size: 52, space: 26, values: (_plot, values) => values.map((v) => given.format(v).replace(/\.0\b/, "")) },
    ],
    series: [
      {},
      ...given.lines.map((line) => ({
        label: line.name,
        stroke: colors(line.color),
        width: 1.5,
        points: { show: false },
        ...(line.dashed ? { dash: [4, 3] } : {}),
        ...(line.fill ? { fill: withAlpha(colors(line.color)) } : {}),
      })),
    ],
    hooks: { setCursor: [(made) => onPoint(made.cursor.idx ?? null)] },
  };
}

/** Canvas knows no CSS variables: they are resolved through a probe element, which also settles light-dark(). */
function paletteOf(host: HTMLElement): (variable: string) => string {
  return (variable) => {
    const probe = document.createElement("span");
    probe.style.color = `var(${variable})`;
    host.append(probe);
    const color = getComputedStyle(probe).color;
    probe.remove();
    return color;
  };
}

function withAlpha(color: string): string {
  return color.replace(/^rgb\((.*)\)$/, "rgba($1, 0.12)");
}
