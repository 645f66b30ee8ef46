// Owns: the drawn graph: places from the layout, cards and lines on @xyflow/react, zoom buttons, keys. Moves the picture only when there is something new to place.

import { Panel, ReactFlow, ReactFlowProvider, useReactFlow, useStoreApi } from "@xyflow/react";
import { type KeyboardEvent, type ReactNode, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { StrokeIcon } from "../chrome/icons.tsx";
import type { Selection } from "../model/location.ts";
import type { Picture } from "../model/picture.ts";
import { isArrow, nearest } from "./arrows.ts";
import { CallLine, type CallLineEdge } from "./call-line.tsx";
import { createLayout, type Direction, isPlaced, type Layout, type Placed, serviceSize, type Topology } from "./layout.ts";
import { ServiceCard, type ServiceCardNode } from "./service-card.tsx";

declare const weftLayoutWorkerUrl: string;

const nodeTypes = { service: ServiceCard };
const edgeTypes = { call: CallLine };
/** Above this many services only what is in view is drawn; below, everything, so that Tab reaches all of it. */
const drawAllUpTo = 150;
const fit = { padding: 0.05, maxZoom: 1.1 } as const;
/** Below this zoom the numbers are too small to read: then the page shows the part that matters instead of the whole. */
const readableZoom = 0.62;

/** Made when this file is loaded: the worker reads its 1.6 MB while the first answer is still on its way. */
const layout: Layout = createLayout(weftLayoutWorkerUrl);

export interface GraphViewProps {
  readonly picture: Picture;
  readonly found: { services: ReadonlySet<string>; calls: ReadonlySet<string> } | null;
  readonly selection: Selection | null;
  readonly onSelect: (selection: Selection) => void;
}

export function GraphView(props: GraphViewProps): ReactNode {
  return (
    <ReactFlowProvider>
      <Drawing {...props} />
    </ReactFlowProvider>
  );
}

function Drawing({ picture, found, selection, onSelect }: GraphViewProps): ReactNode {
  const direction = useDirection();
  const { placed, failure, tidy } = usePlaces(picture, direction);
  const flow = useReactFlow();
  const store = useStoreApi();
  const frame = useRef<HTMLDivElement>(null);
  // Until the reader moves the picture by hand it is kept whole in view; afterwards only the button does that.
  const touched = useRef(false);

  const showWhole = useCallback(
    (smooth: boolean) => {
      touched.current = false;
      void flow.fitView({ ...fit, minZoom: 0.15, duration: durationOf(smooth) });
    },
    [flow],
  );
  const latest = useRef({ picture, selection });
  latest.current = { picture, selection };
  /** The whole where it can be read, else the selection with its neighbours, else the busiest service with its own. */
  const showBest = useCallback(
    (smooth: boolean) => {
      const { width, height } = store.getState();
      const bounds = flow.getNodesBounds(flow.getNodes());
      const room = 1 - 2 * fit.padding;
      const whole = Math.min((width * room) / bounds.width, (height * room) / bounds.height);
      if (whole >= readableZoom) return showWhole(smooth);
      const nodes = neighbourhood(latest.current.picture, latest.current.selection).map((id) => ({ id }));
      void flow.fitView({ ...fit, nodes, minZoom: readableZoom, maxZoom: 1, duration: durationOf(smooth) });
    },
    [flow, store, showWhole],
  );

  useEffect(() => {
    if (placed === null) return;
    const id = window.requestAnimationFrame(() => showBest(false));
    return () => window.cancelAnimationFrame(id);
  }, [placed, showBest]);

  useEffect(() => {
    const element = frame.current;
    if (element === null) return;
    let first = true;
    const observer = new ResizeObserver(() => {
      if (!first && !touched.current) window.requestAnimationFrame(() => showBest(true));
      first = false;
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [showBest]);

  // What is selected elsewhere (a link in the panel, the address) is brought into view, whoever moved the picture last.
  const selectedItem = selection === null ? "" : `${selection.kind} ${selection.id}`;
  useEffect(() => {
    if (selectedItem === "") return;
    const id = window.setTimeout(() => {
      const item = frame.current?.querySelector(`[data-item="${CSS.escape(selectedItem)}"]`);
      if (item && frame.current && !isInside(item, frame.current)) showBest(true);
    }, 300);
    return () => window.clearTimeout(id);
  }, [selectedItem, showBest]);

  const selectService = useCallback((id: string) => onSelect({ kind: "service", id }), [onSelect]);
  const selectCall = useCallback((id: string) => onSelect({ kind: "call", id }), [onSelect]);

  const nodes = useMemo(() => {
    const drawn: ServiceCardNode[] = [];
    for (const [id, node] of picture.services) {
      const position = placed?.services.get(id);
      if (position === undefined) continue;
      const selected = selection?.kind === "service" && selection.id === id;
      const dimmed = found !== null && !found.services.has(id);
      drawn.push({
        id,
        type: "service",
        position,
        ...serviceSize,
        // Given and not measured: without this the library hides every card for a frame at each refresh.
        measured: serviceSize,
        data: {
          node,
          traffic: picture.traffic.get(id),
          circuits: picture.circuits.filter((one) => one.service === id),
          selected,
          dimmed,
          vertical: direction === "DOWN",
          onSelect: selectService,
        },
      });
    }
    return drawn;
  }, [picture, placed, selection, found, direction, selectService]);

  const edges = useMemo(() => {
    const drawn: CallLineEdge[] = [];
    for (const [id, edge] of picture.calls) {
      const place = placed?.calls.get(id);
      if (place === undefined) continue;
      const selected = selection?.kind === "call" && selection.id === id;
      const related = selection?.kind === "service" && (selection.id === edge.from || selection.id === edge.to);
      const dimmed = found !== null && !found.calls.has(id);
      drawn.push({
        id,
        type: "call",
        source: edge.from,
        target: edge.to,
        // The label is a button that says the call in words; the library's own "Edge from … to …" would only repeat it.
        domAttributes: { "aria-hidden": true },
        data: { edge, place, selected, related, dimmed, onSelect: selectCall },
      });
    }
    return drawn;
  }, [picture, placed, selection, found, selectCall]);

  const onKeyDown = (event: KeyboardEvent<HTMLDivElement>): void => {
    if (!isArrow(event.key) || event.altKey || event.ctrlKey || event.metaKey || frame.current === null) return;
    const items = [...frame.current.querySelectorAll<HTMLElement>("[data-item]:not(.dimmed)")];
    const at = items.indexOf(document.activeElement as HTMLElement);
    if (at < 0) return;
    event.preventDefault();
    const centres = items.map(centreOf);
    const next = nearest(event.key, centres[at]!, centres);
    items[next]?.focus({ preventScroll: true });
  };

  // The browser would scroll the clipped frame to show a focused item; the picture moves instead.
  const onFocus = (): void => {
    const element = frame.current;
    const item = document.activeElement;
    if (element === null || !(item instanceof HTMLElement) || !item.matches("[data-item]")) return;
    for (const part of [element, ...element.querySelectorAll(".react-flow, .react-flow__renderer, .react-flow__viewport")]) {
      part.scrollTop = 0;
      part.scrollLeft = 0;
    }
    if (isInside(item, element)) return;
    const centre = flow.screenToFlowPosition(centreOf(item));
    touched.current = true;
    void flow.setCenter(centre.x, centre.y, { zoom: store.getState().transform[2], duration: durationOf(true) });
  };

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the keys belong to the buttons inside; the frame only hears them bubble.
    <div className="graph" ref={frame} onKeyDown={onKeyDown} onFocus={onFocus} data-ready={placed !== null}>
      <ReactFlow<ServiceCardNode, CallLineEdge>
        nodes={nodes}
        edges={edges}
        nodeTypes={nodeTypes}
        edgeTypes={edgeTypes}
        nodesDraggable={false}
        nodesConnectable={false}
        nodesFocusable={false}
        edgesFocusable={false}
        elementsSelectable={false}
        disableKeyboardA11y
        zoomOnDoubleClick={false}
        minZoom={0.15}
        maxZoom={2}
        onlyRenderVisibleElements={nodes.length > drawAllUpTo}
        onMove={(event) => {
          // Not onMoveStart: a mere click counts as the start of a move there.
          if (event !== null) touched.current = true;
        }}
        onEdgeClick={(_event, edge) => selectCall(edge.id)}
        aria-label="Graph of services and their calls"
      >
        <Panel position="bottom-left" className="zoom">
          <button type="button" aria-label="Zoom in" title="Zoom in" onClick={() => void flow.zoomIn()}>
            <StrokeIcon name="plus" />
          </button>
          <button type="button" aria-label="Zoom out" title="Zoom out" onClick={() => void flow.zoomOut()}>
            <StrokeIcon name="minus" />
          </button>
          <button
            type="button"
            aria-label="Show the whole graph"
            title="Show the whole graph"
            onClick={() => {
              tidy();
              showWhole(true);
            }}
          >
            <StrokeIcon name="fit" />
          </button>
        </Panel>
      </ReactFlow>
      {placed === null && (
        <p className="overlay" role={failure === null ? "status" : "alert"}>
          {failure ?? "Laying out the graph…"}
        </p>
      )}
    </div>
  );
}

/** The last places; asks for new ones when the picture holds something without a place or the screen turned. */
function usePlaces(picture: Picture, direction: Direction): { placed: Placed | null; failure: string | null; tidy: () => void } {
  const [placed, setPlaced] = useState<Placed | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const wanted = useRef(0);
  const topology = useMemo(
    (): Topology => ({
      services: [...picture.services.keys()],
      calls: [...picture.calls.values()].map(({ id, from, to }) => ({ id, from, to })),
    }),
    [picture],
  );
  const [tidied, setTidied] = useState<Placed | null>(null);
  const wantsTidy = placed !== null && tidied === placed;
  const key = wantsTidy || !isPlaced(placed, topology, direction) ? JSON.stringify([direction, topology]) : "";
  useEffect(() => {
    if (key === "") return;
    const mine = ++wanted.current;
    const [askedDirection, asked] = JSON.parse(key) as [Direction, Topology];
    layout(asked, askedDirection).then(
      (next) => {
        if (mine !== wanted.current) return;
        setPlaced(next);
        setFailure(null);
      },
      (error: unknown) => {
        if (mine === wanted.current) setFailure(`The graph could not be laid out (${String(error)}). The list shows the same calls.`);
      },
    );
  }, [key]);
  /** Places everything anew when what went away has left gaps. */
  const tidy = useCallback(() => {
    const gaps = placed !== null && placed.services.size + placed.calls.size > topology.services.length + topology.calls.length;
    if (gaps) setTidied(placed);
  }, [placed, topology]);
  return { placed, failure, tidy };
}

/** Left to right on a wide window, top to bottom on a tall one. From the window and not the frame: opening the panel must not turn the graph. */
function useDirection(): Direction {
  const query = "(min-aspect-ratio: 1/1)";
  const [wide, setWide] = useState(() => window.matchMedia(query).matches);
  useEffect(() => {
    const media = window.matchMedia(query);
    const onChange = (): void => setWide(media.matches);
    media.addEventListener("change", onChange);
    return () => media.removeEventListener("change", onChange);
  }, []);
  return wide ? "RIGHT" : "DOWN";
}

function centreOf(element: Element): { x: number; y: number } {
  const box = element.getBoundingClientRect();
  return { x: box.left + box.width / 2, y: box.top + box.height / 2 };
}

function isInside(item: Element, frame: Element): boolean {
  const box = item.getBoundingClientRect();
  const view = frame.getBoundingClientRect();
  return box.left >= view.left && box.right <= view.right && box.top >= view.top && box.bottom <= view.bottom;
}

/** The selected service or both ends of the selected call, else the busiest service; and whom they call or are called by. */
function neighbourhood(picture: Picture, selection: Selection | null): string[] {
  const call = selection?.kind === "call" ? picture.calls.get(selection.id) : undefined;
  if (call) return [call.from, call.to];
  const busiest = [...picture.services.values()].reduce((a, b) => (b.requestsPerSecond > a.requestsPerSecond ? b : a)).id;
  const centre = selection?.kind === "service" && picture.services.has(selection.id) ? selection.id : busiest;
  const around = [...picture.calls.values()].flatMap((edge) => (edge.from === centre ? [edge.to] : edge.to === centre ? [edge.from] : []));
  return [centre, ...around];
}

function durationOf(smooth: boolean): number {
  return smooth && !window.matchMedia("(prefers-reduced-motion: reduce)").matches ? 220 : 0;
}
