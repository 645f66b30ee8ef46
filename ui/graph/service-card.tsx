// Owns: how one service looks in the graph. Fixed size; the numbers inside never change it.

import { Handle, type Node, type NodeProps, Position } from "@xyflow/react";
import { memo, type ReactNode } from "react";
import { HealthIcon, StrokeIcon } from "../chrome/icons.tsx";
import { type Circuit, circuitChip, circuitWords } from "../model/circuits.ts";
import { byteRate, duration, rate } from "../model/format.ts";
import { type Health, serviceHealth } from "../model/health.ts";
import { isOutside, type ServiceNode, type Traffic } from "../model/picture.ts";
import { describeService, outcome } from "../model/words.ts";
import { serviceSize } from "./layout.ts";

export type ServiceCardNode = Node<
  {
    node: ServiceNode;
    traffic: Traffic | undefined;
    /** About this service. */
    circuits: readonly Circuit[];
    selected: boolean;
    dimmed: boolean;
    vertical: boolean;
    onSelect: (id: string) => void;
  },
  "service"
>;

/** Chips beyond this many become "+N": the card does not grow. */
const chipsShown = 3;

export const ServiceCard = memo(function ServiceCard({ data }: NodeProps<ServiceCardNode>): ReactNode {
  const { node, traffic, circuits, selected, dimmed, vertical } = data;
  const broken = circuitWords(circuits);
  const room = broken === "" ? chipsShown : chipsShown - 1;
  const health = serviceHealth(node, traffic);
  const caller = traffic?.kind === "caller";
  const chips = node.versions.slice(0, node.versions.length > room ? Math.max(1, room - 1) : room);
  const more = node.versions.length - chips.length;
  return (
    <>
      <Handle type="target" position={vertical ? Position.Top : Position.Left} isConnectable={false} />
      <button
        type="button"
        className={`card ${caller ? "caller" : health}${selected ? " selected" : ""}${dimmed ? " dimmed" : ""}${isOutside(node) ? " outside" : ""}`}
        style={serviceSize}
        data-item={`service ${node.id}`}
        aria-label={describeService(node, traffic, circuits)}
        aria-pressed={selected}
        tabIndex={dimmed ? -1 : 0}
        onClick={() => data.onSelect(node.id)}
      >
        <span className="card-name">
          {caller ? <StrokeIcon name="arrow" /> : <HealthIcon health={health} />}
          <b>{node.name}</b>
          {!isOutside(node) && <small>{node.namespace}</small>}
        </span>
        <span className="card-chips">
          {chips.map((v) => (
            <span key={v.version} className={v.ready < v.instances ? "chip short" : "chip"}>
              {v.version === "" ? "" : `${v.version} `}
              <i>{v.ready < v.instances ? `${v.ready}/${v.instances} ready` : `×${v.instances}`}</i>
            </span>
          ))}
          {broken !== "" && (
            <span className="chip short" title={`Circuit breaking: ${broken}`}>
              {circuitChip(circuits)}
            </span>
          )}
          {more > 0 && <span className="chip">+{more}</span>}
          {node.versions.length === 0 && <span className="chip none">{isOutside(node) ? "outside the mesh" : "no instance"}</span>}
        </span>
        <span className="card-numbers">
          <Numbers node={node} traffic={traffic} health={health} />
        </span>
      </button>
      <Handle type="source" position={vertical ? Position.Bottom : Position.Right} isConnectable={false} />
    </>
  );
});

function Numbers({ node, traffic, health }: { node: ServiceNode; traffic: Traffic | undefined; health: Health }): ReactNode {
  if (traffic?.kind === "bytes") {
    return (
      <>
        <span>{byteRate(traffic.bytesPerSecond)}</span>
        <span>{traffic.openConnections} open</span>
        <span>tcp</span>
      </>
    );
  }
  if (node.successRatio === null && node.requestsPerSecond === 0) {
    return <span className="quiet">{traffic?.kind === "caller" ? "only calls others" : "no requests"}</span>;
  }
  return (
    <>
      <span>{rate(node.requestsPerSecond)}/s</span>
      <span className={`ratio ${health}`}>{outcome(node.successRatio)}</span>
      <span>{node.p99Ms !== null && `p99 ${duration(node.p99Ms)}`}</span>
    </>
  );
}
