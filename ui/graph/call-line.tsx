// Owns: how one call looks in the graph: a line along ELK's points and a label that is a button. Failing calls differ in colour, dashes, weight and words.

import { BaseEdge, type Edge, EdgeLabelRenderer, type EdgeProps } from "@xyflow/react";
import { memo, type ReactNode } from "react";
import { HealthIcon, LockIcon } from "../chrome/icons.tsx";
import { byteRate, durationNumber, failing, rate, success } from "../model/format.ts";
import { edgeHealth } from "../model/health.ts";
import type { CallEdge } from "../model/picture.ts";
import { describeCall } from "../model/words.ts";
import { callLabelSize, type PlacedCall, roundedPath } from "./layout.ts";

export type CallLineEdge = Edge<
  { edge: CallEdge; place: PlacedCall; selected: boolean; related: boolean; dimmed: boolean; onSelect: (id: string) => void },
  "call"
>;

/** Line weight in px from requests per second: 1.3 for a trickle to 3.6 for thousands, so that busy paths stand out without shouting. */
function weight(edge: CallEdge): number {
  const volume = edge.stats.protocol === "tcp" ? edge.stats.bytesPerSecond / 1_000 : edge.stats.requestsPerSecond;
  return Math.round((1.3 + Math.min(2.3, Math.log10(1 + volume) * 0.7)) * 10) / 10;
}

export const CallLine = memo(function CallLine({ data }: EdgeProps<CallLineEdge>): ReactNode {
  if (data === undefined) return null;
  const { edge, place, selected, dimmed, related } = data;
  const { stats } = edge;
  const health = edgeHealth(stats);
  const state = `${health} ${stats.protocol}${selected ? " selected" : ""}${dimmed ? " dimmed" : ""}${related ? " related" : ""}`;
  const flawed = health === "warn" || health === "bad";
  return (
    <>
      <BaseEdge path={roundedPath(place.points)} className={`line ${state}`} style={{ strokeWidth: weight(edge) }} interactionWidth={18} />
      <path className={`head ${state}`} d={arrowHead(place)} />
      <EdgeLabelRenderer>
        <button
          type="button"
          className={`call nopan ${state}`}
          style={{ transform: `translate(-50%, -50%) translate(${place.label.x}px, ${place.label.y}px)`, ...callLabelSize }}
          data-item={`call ${edge.id}`}
          aria-label={describeCall(edge)}
          aria-pressed={selected}
          tabIndex={dimmed ? -1 : 0}
          onClick={() => data.onSelect(edge.id)}
        >
          <span>
            {stats.mutualTls === null ? null : <LockIcon closed={stats.mutualTls} />}
            {stats.protocol === "tcp" ? (
              <>
                <b>{byteRate(stats.bytesPerSecond)}</b>
                <em>tcp</em>
              </>
            ) : (
              <>
                <b>{rate(stats.requestsPerSecond)}/s</b>
                {flawed ? null : <em>{health === "idle" ? "idle" : success(stats.successRatio)}</em>}
              </>
            )}
          </span>
          {flawed ? (
            <span className={`ratio ${health}`}>
              <HealthIcon health={health} />
              {failing(stats.successRatio)}
            </span>
          ) : stats.protocol === "tcp" ? (
            <span className="soft">{stats.openConnections} open</span>
          ) : (
            <span className="soft">
              {durationNumber(stats.p50Ms)} · {durationNumber(stats.p99Ms)} ms
            </span>
          )}
        </button>
      </EdgeLabelRenderer>
    </>
  );
});

/** A small filled triangle at the last point, along the last piece of the line; its size does not follow the line's weight. */
function arrowHead(place: PlacedCall): string {
  const tip = place.points.at(-1);
  const before = place.points.at(-2);
  if (tip === undefined || before === undefined) return "";
  const length = Math.hypot(tip.x - before.x, tip.y - before.y) || 1;
  const ux = (tip.x - before.x) / length;
  const uy = (tip.y - before.y) / length;
  const back = { x: tip.x - ux * 9, y: tip.y - uy * 9 };
  return `M${tip.x},${tip.y}L${back.x - uy * 4.5},${back.y + ux * 4.5}L${back.x + uy * 4.5},${back.y - ux * 4.5}Z`;
}
