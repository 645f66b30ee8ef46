// Owns: the building blocks that the panels of services and calls share: tiles, version split, objects as YAML.

import { type ReactNode, useMemo, useState } from "react";
import { stringify } from "yaml";
import { HealthIcon, StrokeIcon } from "../chrome/icons.tsx";
import { rate, success } from "../model/format.ts";
import { healthOf } from "../model/health.ts";
import { asWritten, type RelatedObject } from "../model/related.ts";

export function Tile({ name, value, tone = "" }: { name: string; value: string; tone?: string }): ReactNode {
  return (
    <div className="tile">
      <dt>{name}</dt>
      <dd className={tone}>{value}</dd>
    </div>
  );
}

export interface SplitRow {
  readonly name: string;
  readonly requestsPerSecond: number;
  readonly successRatio: number | null;
  /** `2 of 2 ready`; empty where it is not known. */
  readonly note: string;
}

/** Share of the requests by version: a bar of labelled parts, and the same as rows. */
export function VersionSplit({ rows }: { rows: readonly SplitRow[] }): ReactNode {
  const total = rows.reduce((sum, row) => sum + row.requestsPerSecond, 0);
  const share = (row: SplitRow): number => (total > 0 ? row.requestsPerSecond / total : 0);
  return (
    <section aria-label="Versions">
      <h3>Versions</h3>
      {total > 0 && rows.length > 1 && (
        <div className="split" aria-hidden="true">
          {rows.map((row, index) =>
            share(row) > 0 ? (
              <span key={row.name} className={`part p${index % 4}`} style={{ flexGrow: share(row) }}>
                {share(row) >= 0.14 ? `${row.name} ${Math.round(share(row) * 100)} %` : ""}
              </span>
            ) : null,
          )}
        </div>
      )}
      <table className="small">
        <thead>
          <tr>
            <th scope="col">Version</th>
            <th scope="col" className="number">
              Share
            </th>
            <th scope="col" className="number">
              Rate
            </th>
            <th scope="col" className="number">
              Success
            </th>
            {rows.some((row) => row.note !== "") && <th scope="col">Instances</th>}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={row.name}>
              <th scope="row">
                <i className={`swatch p${index % 4}`} />
                {row.name}
              </th>
              <td className="number">{total > 0 ? `${Math.round(share(row) * 100)} %` : "–"}</td>
              <td className="number">{rate(row.requestsPerSecond)}/s</td>
              <td className={`number ratio ${healthOf(row.successRatio)}`}>{success(row.successRatio)}</td>
              {rows.some((other) => other.note !== "") && <td>{row.note}</td>}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** Objects of the API, closed by default, each with why it is here and what its status complains about. */
export function ObjectList({
  title,
  items,
  empty,
}: {
  title: string;
  items: readonly RelatedObject[] | null;
  empty: ReactNode;
}): ReactNode {
  return (
    <section aria-label={title}>
      <h3>
        {title} {items !== null && items.length > 0 && <small>{items.length}</small>}
      </h3>
      {items === null ? (
        <p className="quiet">Reading…</p>
      ) : items.length === 0 ? (
        <p className="quiet">{empty}</p>
      ) : (
        items.map((item) => (
          <ObjectYaml key={`${item.object.kind} ${item.object.metadata.namespace} ${item.object.metadata.name}`} item={item} />
        ))
      )}
    </section>
  );
}

function ObjectYaml({ item }: { item: RelatedObject }): ReactNode {
  const { object, why, problems } = item;
  const [open, setOpen] = useState(false);
  const yaml = useMemo(() => (open ? stringify(asWritten(object), { lineWidth: 0 }).trimEnd() : ""), [open, object]);
  return (
    <details className="object" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        {problems.length > 0 && <HealthIcon health="warn" />}
        <b>{object.metadata.name}</b>
        <span>{object.kind}</span>
        <small>{why}</small>
      </summary>
      {problems.map((problem) => (
        <p key={problem} className="problem">
          {problem}
        </p>
      ))}
      <section className="yaml" aria-label={`${object.kind} ${object.metadata.name} as YAML`}>
        <CopyButton text={yaml} what={`the YAML of ${object.metadata.name}`} />
        {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a block that scrolls sideways must be reachable by keyboard. */}
        <pre tabIndex={0}>
          {yaml.split("\n").map((line, index) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: lines have no other identity.
            <YamlLine key={index} line={line} />
          ))}
        </pre>
      </section>
    </details>
  );
}

function YamlLine({ line }: { line: string }): ReactNode {
  const key = /^(\s*(?:- )*)([\w./-]+|"[^"]*"):(?=\s|$)/.exec(line);
  if (key === null) return `${line}\n`;
  return (
    <>
      {key[1]}
      <span className="k">{key[2]}</span>:{line.slice(key[0].length)}
      {"\n"}
    </>
  );
}

export function CopyButton({ text, what }: { text: string; what: string }): ReactNode {
  const [done, setDone] = useState(false);
  // Absent on plain http to another host than localhost.
  if (navigator.clipboard === undefined) return null;
  return (
    <button
      type="button"
      className="copy"
      aria-label={done ? "Copied" : `Copy ${what}`}
      title={done ? "Copied" : `Copy ${what}`}
      onClick={() => {
        navigator.clipboard.writeText(text).then(
          () => {
            setDone(true);
            window.setTimeout(() => setDone(false), 1_500);
          },
          () => setDone(false),
        );
      }}
    >
      <StrokeIcon name={done ? "check" : "copy"} />
    </button>
  );
}
