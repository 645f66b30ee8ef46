// Owns: the page's few icons. All are decoration beside words or an aria-label, so all are hidden from screen readers.

import type { ReactNode } from "react";
import type { Health } from "../model/health.ts";

function Icon({ children, className = "" }: { children: ReactNode; className?: string }): ReactNode {
  return (
    <svg className={`icon ${className}`} viewBox="0 0 16 16" width="1em" height="1em" aria-hidden="true" focusable="false">
      {children}
    </svg>
  );
}

/** Closed and filled for mutual TLS; open, hollow and struck in warning colour for plain text; its place alone where nothing travelled. */
export function LockIcon({ closed }: { closed: boolean | null }): ReactNode {
  if (closed === null) return <Icon className="lock">{null}</Icon>;
  return closed ? (
    <Icon className="lock closed">
      <path d="M5 7V5a3 3 0 0 1 6 0v2" fill="none" stroke="currentColor" strokeWidth="1.6" />
      <rect x="3" y="7" width="10" height="7" rx="1.5" fill="currentColor" />
    </Icon>
  ) : (
    <Icon className="lock open">
      <path d="M5 7V4.5a3 3 0 0 1 5.8-1" fill="none" stroke="currentColor" strokeWidth="1.6" strokeLinecap="round" />
      <rect x="3.7" y="7.7" width="8.6" height="5.9" rx="1.2" fill="none" stroke="currentColor" strokeWidth="1.4" />
    </Icon>
  );
}

/** A different shape for each health, so that colour is never the only sign: disc, diamond, triangle, ring. */
export function HealthIcon({ health }: { health: Health }): ReactNode {
  const shapes: Record<Health, ReactNode> = {
    good: <circle cx="8" cy="8" r="4.2" fill="currentColor" />,
    warn: <path d="M8 1.8 14.2 8 8 14.2 1.8 8Z" fill="currentColor" />,
    bad: <path d="M8 1.6 15 14H1Z" fill="currentColor" />,
    idle: <circle cx="8" cy="8" r="4" fill="none" stroke="currentColor" strokeWidth="1.6" strokeDasharray="2.2 2" />,
  };
  return <Icon className={`health ${health}`}>{shapes[health]}</Icon>;
}

const strokes = {
  close: "M4 4l8 8M12 4l-8 8",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  arrow: "M2.5 8h10.5M9 4l4 4-4 4",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  check: "M3 8.5l3.5 3.5L13 4.5",
  search: "M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9ZM10.4 10.4 14 14",
  graph: "M2 6h4v4H2zM10 1.8h4v4h-4zM10 10.2h4v4h-4zM6 8h2V3.8h2M8 8v4.2h2",
  list: "M2.5 4h11M2.5 8h11M2.5 12h11",
  sun: "M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6ZM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1.1 1.1M11.9 11.9 13 13M13 3l-1.1 1.1M4.1 11.9 3 13",
  moon: "M13.3 9.6A5.8 5.8 0 0 1 6.4 2.7a5.8 5.8 0 1 0 6.9 6.9Z",
  auto: "M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM8 2v12M8 5.5h5.4M8 8h6M8 10.5h5.4",
} as const;

export function StrokeIcon({ name }: { name: keyof typeof strokes }): ReactNode {
  return (
    <Icon>
      <path d={strokes[name]} fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" strokeLinejoin="round" />
    </Icon>
  );
}
