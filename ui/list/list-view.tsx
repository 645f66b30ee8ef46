// Owns: the same picture as two tables, for small screens, screen readers and whoever prefers rows. Rows are reached with Tab once, then with the arrow keys.

import { type KeyboardEvent, type ReactNode, useEffect, useState } from "react";
import { HealthIcon, LockIcon, StrokeIcon } from "../chrome/icons.tsx";
import { circuitWords } from "../model/circuits.ts";
import { byteRate, duration, rate } from "../model/format.ts";
import { edgeHealth, healthWords, serviceHealth } from "../model/health.ts";
import type { Selection } from "../model/location.ts";
import { type CallEdge, isOutside, type Picture, type ServiceNode, type Traffic } from "../model/picture.ts";
import { callTitle, instancesReady, lockWords, nameOf, outcome, serviceState } from "../model/words.ts";

export interface ListViewProps {
  readonly picture: Picture;
  readonly found: { services: ReadonlySet<string>; calls: ReadonlySet<string> } | null;
  readonly selection: Selection | null;
  readonly onSelect: (selection: Selection) => void;
}

type Sort = "name" | "rate" | "success" | "p99";

interface Row {
  readonly id: string;
  readonly name: string;
  readonly rate: number;
  readonly success: number | null;
  readonly p99: number | null;
}

/** By name the order never changes by itself; any other order puts what needs a look first. */
function inOrder<T extends Row>(rows: readonly T[], sort: Sort): T[] {
  const value = (row: T): number => (sort === "rate" ? -row.rate : sort === "success" ? (row.success ?? 2) : -(row.p99 ?? -1));
  return [...rows].sort((a, b) => (sort === "name" ? 0 : value(a) - value(b)) || (a.name < b.name ? -1 : 1));
}

export function ListView({ picture, found, selection, onSelect }: ListViewProps): ReactNode {
  const [sort, setSort] = useState<Sort>("name");
  const calls = [...picture.calls.values()].filter((edge) => found === null || found.calls.has(edge.id));
  const services = [...picture.services.values()].filter((node) => found === null || found.services.has(node.id));
  const callRows = inOrder(
    calls.map((edge) => ({
      id: edge.id,
      name: callTitle(edge),
      rate: edge.stats.requestsPerSecond,
      success: edge.stats.successRatio,
      p99: edge.stats.p99Ms,
      edge,
    })),
    sort,
  );
  const serviceRows = inOrder(
    services.map((node) => ({
      id: node.id,
      name: `${node.name} ${node.namespace}`,
      rate: node.requestsPerSecond,
      success: node.successRatio,
      p99: node.p99Ms,
      node,
    })),
    sort,
  );
  const heads = { sort, onSort: setSort };
  const selectedItem = selection === null ? "" : `${selection.kind} ${selection.id}`;
  useEffect(() => {
    // On a small screen the panel covers most of the list: the stylesheet's scroll padding keeps the row above it.
    document.querySelector(`[data-item="${CSS.escape(selectedItem)}"]`)?.scrollIntoView({ block: "nearest" });
  }, [selectedItem]);
  return (
    <div className="lists">
      <Table caption="Calls" count={callRows.length} empty="No calls were seen in this window." columns={callColumns} {...heads}>
        {callRows.map(({ id, edge }, index) => (
          <CallRow
            key={id}
            edge={edge}
            first={index === 0}
            selected={selection?.kind === "call" && selection.id === id}
            onSelect={() => onSelect({ kind: "call", id })}
          />
        ))}
      </Table>
      <Table caption="Services" count={serviceRows.length} empty="No service matches." columns={serviceColumns} {...heads}>
        {serviceRows.map(({ id, node }, index) => (
          <ServiceRow
            key={id}
            node={node}
            traffic={picture.traffic.get(id)}
            broken={circuitWords(picture.circuits.filter((one) => one.service === id))}
            first={index === 0}
            selected={selection?.kind === "service" && selection.id === id}
            onSelect={() => onSelect({ kind: "service", id })}
          />
        ))}
      </Table>
    </div>
  );
}

interface ColumnHead {
  readonly name: string;
  readonly sort?: Sort;
  readonly number?: boolean;
}

const callColumns: readonly ColumnHead[] = [
  { name: "Call", sort: "name" },
  { name: "Protocol" },
  { name: "Rate", sort: "rate", number: true },
  { name: "Success", sort: "success", number: true },
  { name: "p50", number: true },
  { name: "p99", sort: "p99", number: true },
  { name: "Security" },
];

const serviceColumns: readonly ColumnHead[] = [
  { name: "Service", sort: "name" },
  { name: "Versions" },
  { name: "Rate", sort: "rate", number: true },
  { name: "Success", sort: "success", number: true },
  { name: "p50", number: true },
  { name: "p99", sort: "p99", number: true },
  { name: "Ready", number: true },
];

interface TableProps {
  readonly caption: string;
  readonly count: number;
  readonly empty: string;
  readonly columns: readonly ColumnHead[];
  readonly sort: Sort;
  readonly onSort: (sort: Sort) => void;
  readonly children: ReactNode;
}

// The roles are written out because small screens turn rows into blocks by CSS, and browsers then drop the roles that the tags imply.
/* biome-ignore-start lint/a11y/noRedundantRoles: see above. */
function Table({ caption, count, empty, columns, sort, onSort, children }: TableProps): ReactNode {
  return (
    <section className="list" aria-label={caption}>
      <h2>
        {caption} <small>{count}</small>
      </h2>
      {count === 0 ? (
        <p className="quiet">{empty}</p>
      ) : (
        <table role="table" aria-label={caption}>
          <thead role="rowgroup">
            <tr role="row">
              {columns.map((column) => (
                <th
                  key={column.name}
                  role="columnheader"
                  scope="col"
                  className={column.number ? "number" : undefined}
                  aria-sort={column.sort === sort ? (sort === "name" || sort === "success" ? "ascending" : "descending") : undefined}
                >
                  {column.sort === undefined ? (
                    column.name
                  ) : (
                    <button type="button" onClick={() => onSort(column.sort!)}>
                      {column.name}
                      <span aria-hidden="true">{column.sort === sort ? (sort === "name" || sort === "success" ? " ↑" : " ↓") : ""}</span>
                    </button>
                  )}
                </th>
              ))}
            </tr>
          </thead>
          <tbody role="rowgroup" onKeyDown={moveInRows}>
            {children}
          </tbody>
        </table>
      )}
    </section>
  );
}

interface RowProps {
  readonly first: boolean;
  readonly selected: boolean;
  readonly onSelect: () => void;
}

function CallRow({ edge, first, selected, onSelect }: RowProps & { edge: CallEdge }): ReactNode {
  const { stats } = edge;
  const health = edgeHealth(stats);
  const tcp = stats.protocol === "tcp";
  return (
    <tr role="row" className={`${health}${selected ? " selected" : ""}`} onClick={onSelect}>
      <th role="rowheader" scope="row">
        <HealthIcon health={health} />
        <button
          type="button"
          className="row"
          data-item={`call ${edge.id}`}
          tabIndex={first || selected ? 0 : -1}
          aria-pressed={selected}
          onClick={(e) => choose(e, onSelect)}
        >
          <span>{nameOf(edge.from, edge.to)}</span> <span className="to">→ {nameOf(edge.to, edge.from)}</span>
        </button>
      </th>
      <td role="cell" className="protocol">
        {tcp ? `tcp, ${stats.openConnections} open` : stats.protocol}
      </td>
      <td role="cell" className="number">
        {tcp ? byteRate(stats.bytesPerSecond) : `${rate(stats.requestsPerSecond)}/s`}
      </td>
      <td role="cell" className={`number ratio ${health}`} title={healthWords[health]}>
        {outcome(stats.successRatio)}
      </td>
      <td role="cell" className="number" data-label="p50">
        {duration(stats.p50Ms)}
      </td>
      <td role="cell" className="number" data-label="p99">
        {duration(stats.p99Ms)}
      </td>
      <td role="cell" className="security">
        <LockIcon closed={stats.mutualTls} />
        <span>{lockWords(stats.mutualTls)}</span>
      </td>
    </tr>
  );
}

function ServiceRow({
  node,
  traffic,
  broken,
  first,
  selected,
  onSelect,
}: RowProps & { node: ServiceNode; traffic: Traffic | undefined; broken: string }): ReactNode {
  const health = serviceHealth(node, traffic);
  const { ready, instances } = instancesReady(node);
  return (
    <tr role="row" className={`${health}${selected ? " selected" : ""}`} onClick={onSelect}>
      <th role="rowheader" scope="row">
        {traffic?.kind === "caller" ? <StrokeIcon name="arrow" /> : <HealthIcon health={health} />}
        <button
          type="button"
          className="row"
          data-item={`service ${node.id}`}
          tabIndex={first || selected ? 0 : -1}
          aria-pressed={selected}
          onClick={(e) => choose(e, onSelect)}
        >
          <span>{node.name}</span> <small>{node.namespace}</small>
        </button>
      </th>
      <td role="cell" className="versions">
        {node.versions.map((v) => (
          <span key={v.version} className={v.ready < v.instances ? "chip short" : "chip"}>
            {v.version || "unversioned"} <i>×{v.instances}</i>
          </span>
        ))}
        {broken !== "" && <span className="chip short">{broken}</span>}
        {node.versions.length === 0 && <span className="quiet">{isOutside(node) ? "outside the mesh" : "no instance"}</span>}
      </td>
      <td role="cell" className="number">
        {serviceRate(node, traffic)}
      </td>
      <td role="cell" className={`number ratio ${health}`} title={serviceState(node, traffic)}>
        {outcome(node.successRatio)}
      </td>
      <td role="cell" className="number" data-label="p50">
        {duration(node.p50Ms)}
      </td>
      <td role="cell" className="number" data-label="p99">
        {duration(node.p99Ms)}
      </td>
      <td role="cell" className={ready < instances ? "number short" : "number"} data-cell="ready">
        {instances === 0 ? "–" : `${ready} of ${instances}`}
      </td>
    </tr>
  );
}
/* biome-ignore-end lint/a11y/noRedundantRoles: see above. */

function serviceRate(node: ServiceNode, traffic: Traffic | undefined): string {
  if (traffic?.kind === "bytes") return byteRate(traffic.bytesPerSecond);
  return traffic?.kind === "caller" ? "–" : `${rate(node.requestsPerSecond)}/s`;
}

function choose(event: { stopPropagation: () => void }, onSelect: () => void): void {
  event.stopPropagation();
  onSelect();
}

/** Up, Down, Home and End move between the rows of one table; Enter (the button's own) selects. */
function moveInRows(event: KeyboardEvent<HTMLElement>): void {
  const rows = [...event.currentTarget.querySelectorAll<HTMLElement>("button.row")];
  const at = rows.indexOf(document.activeElement as HTMLElement);
  if (at < 0) return;
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  rows[next]?.focus();
}
