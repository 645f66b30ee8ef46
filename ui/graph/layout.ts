// Owns: where services and calls stand. Asks ELK (in a worker, so that the page never stutters) only for a topology it has not placed yet;
// numbers that change never move anything, and neither does something that merely went away.

import ELK, { type ElkExtendedEdge, type ElkNode } from "elkjs/lib/elk-api.js";

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface PlacedCall {
  readonly points: readonly Point[];
  /** Centre of the label. */
  readonly label: Point;
}

export interface Placed {
  readonly direction: Direction;
  readonly services: ReadonlyMap<string, Point>;
  readonly calls: ReadonlyMap<string, PlacedCall>;
}

export type Direction = "RIGHT" | "DOWN";

export interface Topology {
  readonly services: readonly string[];
  readonly calls: readonly { readonly id: string; readonly from: string; readonly to: string }[];
}

/** Sizes in px at zoom 1. Fixed, whatever the numbers in them, so that a changing number moves nothing. */
export const serviceSize = { width: 220, height: 80 } as const;
export const callLabelSize = { width: 124, height: 36 } as const;

/** Nothing to do when everything in the topology has its place: what went away leaves a gap until something new comes. */
export function isPlaced(placed: Placed | null, topology: Topology, direction: Direction): boolean {
  return (
    placed !== null &&
    placed.direction === direction &&
    topology.services.every((id) => placed.services.has(id)) &&
    topology.calls.every((call) => placed.calls.has(call.id))
  );
}

const options = {
  "elk.algorithm": "layered",
  "elk.edgeRouting": "ORTHOGONAL",
  "elk.spacing.nodeNode": "28",
  "elk.spacing.edgeEdge": "14",
  "elk.spacing.edgeNode": "18",
  "elk.spacing.edgeLabel": "0",
  "elk.spacing.componentComponent": "36",
  "elk.spacing.labelLabel": "8",
  "elk.layered.spacing.nodeNodeBetweenLayers": "24",
  "elk.layered.spacing.edgeNodeBetweenLayers": "16",
  "elk.layered.spacing.edgeEdgeBetweenLayers": "12",
  // The order of the input (sorted by id) breaks ties, so that one more service does not shuffle the rest.
  "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
  "elk.layered.nodePlacement.strategy": "NETWORK_SIMPLEX",
  "elk.layered.nodePlacement.favorStraightEdges": "true",
  "elk.layered.cycleBreaking.strategy": "GREEDY_MODEL_ORDER",
} as const;

export type Layout = (topology: Topology, direction: Direction) => Promise<Placed>;

/** A layout that runs in its own worker, loaded from `workerUrl`. */
export function createLayout(workerUrl: string): Layout {
  const elk = new ELK({ workerFactory: () => new Worker(workerUrl) });
  return async (topology, direction) => {
    const known = new Set(topology.services);
    const inCalls = new Set(topology.calls.flatMap((call) => [call.from, call.to]));
    const graph: ElkNode = {
      id: "mesh",
      layoutOptions: { ...options, "elk.direction": direction },
      children: topology.services.filter((id) => inCalls.has(id)).map((id) => ({ id: `s ${id}`, ...serviceSize })),
      edges: topology.calls
        .filter((call) => known.has(call.from) && known.has(call.to))
        .map((call) => ({
          id: `c ${call.id}`,
          sources: [`s ${call.from}`],
          targets: [`s ${call.to}`],
          labels: [{ id: `l ${call.id}`, text: " ", ...callLabelSize, layoutOptions: { "elk.edgeLabels.inline": "true" } }],
        })),
    };
    const result = await elk.layout(graph);
    return {
      direction,
      services: new Map([
        ...(result.children ?? []).map((child): [string, Point] => [child.id.slice(2), { x: child.x ?? 0, y: child.y ?? 0 }]),
        ...inRows(
          topology.services.filter((id) => !inCalls.has(id)),
          result.width ?? 0,
          inCalls.size > 0 ? (result.height ?? 0) : 0,
        ),
      ]),
      calls: new Map((result.edges ?? []).map((edge) => [edge.id.slice(2), placeCall(edge)])),
    };
  };
}

/** Services without any call stand in rows below the rest: ELK would give each a component of its own and spread them. */
function inRows(ids: readonly string[], widthPx: number, fromY: number): [string, Point][] {
  const gap = 28;
  const perRow = Math.max(3, Math.floor((widthPx + gap) / (serviceSize.width + gap)));
  return ids.map((id, index) => [
    id,
    {
      x: 12 + (index % perRow) * (serviceSize.width + gap),
      y: fromY + 12 + Math.floor(index / perRow) * (serviceSize.height + gap),
    },
  ]);
}

function placeCall(edge: ElkExtendedEdge): PlacedCall {
  const section = edge.sections?.[0];
  const points = section ? [section.startPoint, ...(section.bendPoints ?? []), section.endPoint] : [];
  const label = edge.labels?.[0];
  const middle = points[Math.floor(points.length / 2)] ?? { x: 0, y: 0 };
  return {
    points,
    label: label ? { x: (label.x ?? 0) + callLabelSize.width / 2, y: (label.y ?? 0) + callLabelSize.height / 2 } : middle,
  };
}

/** SVG path through the points with corners rounded by `radius`. */
export function roundedPath(points: readonly Point[], radius = 8): string {
  const [first, ...rest] = points;
  if (first === undefined) return "";
  let path = `M${first.x},${first.y}`;
  for (let i = 1; i < points.length - 1; i++) {
    const [a, b, c] = [points[i - 1]!, points[i]!, points[i + 1]!];
    const before = towards(b, a, radius);
    const after = towards(b, c, radius);
    path += `L${before.x},${before.y}Q${b.x},${b.y} ${after.x},${after.y}`;
  }
  const last = rest.at(-1);
  return last ? `${path}L${last.x},${last.y}` : path;
}

function towards(from: Point, to: Point, most: number): Point {
  const length = Math.hypot(to.x - from.x, to.y - from.y);
  if (length === 0) return from;
  const share = Math.min(most, length / 2) / length;
  return { x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share };
}
