// Owns: how one service looks in the graph. Fixed size; the numbers inside never change it.

import { Handle, type Node, type NodeProps, Position } from "@xyflow/react";
import { memo, type ReactNode } from "react";
import { HealthIcon } from "../chrome/icons.tsx";
import { durationNumber, failing, rate, success } from "../model/format.ts";
import { healthOf } from "../model/health.ts";
import { isOutside, type ServiceNode } from "../model/picture.ts";
import { describeService } from "../model/words.ts";
import { serviceSize } from "./layout.ts";

export type ServiceCardNode = Node<
  { node: ServiceNode; selected: boolean; related: boolean; dimmed: boolean; vertical: boolean; onSelect: (id: string) => void },
  "service"
>;

/** Chips beyond this many become "+N": the card does not grow. */
const chipsShown = 3;

export const ServiceCard = memo(function ServiceCard({ data }: NodeProps<ServiceCardNode>): ReactNode {
  const { node, selected, dimmed, vertical } = data;
  const health = healthOf(node.successRatio);
  const chips = node.versions.slice(0, node.versions.length > chipsShown ? chipsShown - 1 : chipsShown);
  const more = node.versions.length - chips.length;
  return (
    <>
      <Handle type="target" position={vertical ? Position.Top : Position.Left} isConnectable={false} />
      <button
        type="button"
        className={`card ${health}${selected ? " selected" : ""}${dimmed ? " dimmed" : ""}${isOutside(node) ? " outside" : ""}`}
        style={serviceSize}
        data-item={`service ${node.id}`}
        aria-label={describeService(node)}
        aria-pressed={selected}
        tabIndex={dimmed ? -1 : 0}
        onClick={() => data.onSelect(node.id)}
      >
        <span className="card-name">
          <HealthIcon health={health} />
          <b>{node.name}</b>
          <small>{node.namespace}</small>
        </span>
        <span className="card-chips">
          {chips.map((v) => (
            <span key={v.version} className={v.ready < v.instances ? "chip short" : "chip"}>
              {v.version === "" ? "" : `${v.version} `}
              <i>{v.ready < v.instances ? `${v.ready}/${v.instances} ready` : `×${v.instances}`}</i>
            </span>
          ))}
          {more > 0 && <span className="chip">+{more}</span>}
          {node.versions.length === 0 && <span className="chip none">{isOutside(node) ? "outside the mesh" : "no instance"}</span>}
        </span>
        <span className="card-numbers">
          {node.successRatio === null && node.requestsPerSecond === 0 ? (
            <span className="quiet">no requests</span>
          ) : (
            <>
              <span>{rate(node.requestsPerSecond)}/s</span>
              <span className={`ratio ${health}`}>
                {health === "good" || health === "idle" ? success(node.successRatio) : failing(node.successRatio)}
              </span>
              {node.p99Ms !== null && <span>p99 {durationNumber(node.p99Ms)}</span>}
            </>
          )}
        </span>
      </button>
      <Handle type="source" position={vertical ? Position.Bottom : Position.Right} isConnectable={false} />
    </>
  );
});
