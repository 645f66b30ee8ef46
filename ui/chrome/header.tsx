// Owns: the two bars at the top: what mesh this is and how the page is connected to it; and the controls over the picture.

import { type ReactNode, useId } from "react";
import type { MeshObject, ProxyObject } from "../../src/api/live.ts";
import type { Connection } from "../live/poller.ts";
import { count } from "../model/format.ts";
import { type Place, type View, windows } from "../model/location.ts";
import { StrokeIcon } from "./icons.tsx";
import type { Theme, ThemeState } from "./theme.ts";

export interface HeaderProps {
  readonly mesh: MeshObject | null;
  readonly services: number | null;
  readonly proxies: readonly ProxyObject[] | null;
  readonly connection: Connection;
  readonly theme: ThemeState;
}

export function Header({ mesh, services, proxies, connection, theme }: HeaderProps): ReactNode {
  const connected = proxies?.filter((p) => p.status.connected) ?? [];
  const behind = connected.filter((p) => !p.status.synced).length;
  const breaking = connected.filter((p) => (p.status.ejected ?? []).length + (p.status.openCircuits ?? []).length > 0).length;
  const gone = (proxies?.length ?? 0) - connected.length;
  return (
    <header className="bar top">
      <h1>
        <svg className="mark" viewBox="0 0 24 24" aria-hidden="true">
          <path d="M3 6c5 0 5 12 9 12s4-12 9-12" />
          <path d="M3 18c5 0 5-12 9-12s4 12 9 12" />
        </svg>
        Weft
      </h1>
      <dl className="facts">
        <Fact name="Mesh" value={mesh === null ? "…" : `${mesh.metadata.name} · ${mesh.spec.trustDomain}`} />
        <Fact name="Control plane" value={mesh === null ? "…" : mesh.status.version} className="wide" />
        <Fact name="Services" value={services === null ? "…" : String(services)} />
        <Fact
          name="Proxies"
          value={proxies === null ? "…" : String(connected.length)}
          note={[
            behind > 0 ? `${behind} not in sync` : "",
            gone > 0 ? `${gone} lost` : "",
            breaking > 0 ? `${breaking} with circuits open` : "",
          ]
            .filter((s) => s !== "")
            .join(", ")}
        />
      </dl>
      <ConnectionState connection={connection} />
      <ThemeButton {...theme} />
    </header>
  );
}

function Fact({ name, value, note = "", className = "" }: { name: string; value: string; note?: string; className?: string }): ReactNode {
  return (
    <div className={className}>
      <dt>{name}</dt>
      <dd>
        {value}
        {note !== "" && <em> · {note}</em>}
      </dd>
    </div>
  );
}

const connectionWords: Record<Connection["name"], string> = { loading: "connecting", live: "live", lost: "reconnecting" };

function ConnectionState({ connection }: { connection: Connection }): ReactNode {
  const refused = connection.name === "lost" && connection.failure.kind === "refused";
  return (
    <p className={`connection ${connection.name}`} role="status" data-connection={connection.name}>
      <i aria-hidden="true" />
      {refused ? "signed out" : connectionWords[connection.name]}
    </p>
  );
}

const nextTheme: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
const themeIcon = { auto: "auto", light: "sun", dark: "moon" } as const;

function ThemeButton({ theme, choose }: ThemeState): ReactNode {
  const words = theme === "auto" ? "Colours: as the system" : `Colours: ${theme}`;
  return (
    <button
      type="button"
      className="plain theme"
      aria-label={`${words}. Switch to ${nextTheme[theme]}`}
      title={words}
      onClick={() => choose(nextTheme[theme])}
    >
      <StrokeIcon name={themeIcon[theme]} />
    </button>
  );
}

export interface ToolbarProps {
  readonly place: Place;
  readonly view: View;
  readonly namespaces: readonly string[];
  readonly found: number | null;
  readonly onChange: (change: Partial<Place>) => void;
}

export function Toolbar({ place, view, namespaces, found, onChange }: ToolbarProps): ReactNode {
  const findId = useId();
  const namespaceId = useId();
  return (
    <search className="bar tools" aria-label="View and filter">
      <Choice
        legend="View"
        name="view"
        value={view}
        options={[
          ["graph", "Graph"],
          ["list", "List"],
        ]}
        icons
        onChange={(next) => onChange({ view: next as View })}
      />
      <Choice
        legend="Window"
        prefix="last"
        name="window"
        value={String(place.windowSeconds)}
        options={windows.map((w) => [String(w), `${w} s`])}
        onChange={(next) => onChange({ windowSeconds: windows.find((w) => String(w) === next) ?? 30 })}
      />
      <label className="visually-hidden" htmlFor={namespaceId}>
        Namespace
      </label>
      <select id={namespaceId} value={place.namespace} onChange={(event) => onChange({ namespace: event.target.value })}>
        <option value="">All namespaces</option>
        {[...new Set([...namespaces, ...(place.namespace === "" ? [] : [place.namespace])])].map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
      <span className="find">
        <StrokeIcon name="search" />
        <label className="visually-hidden" htmlFor={findId}>
          Find a service
        </label>
        <input
          id={findId}
          data-find
          type="search"
          placeholder="Find a service  ( / )"
          autoComplete="off"
          spellCheck={false}
          value={place.text}
          onChange={(event) => onChange({ text: event.target.value })}
        />
      </span>
      <span className="found" role="status">
        {found !== null && `${count(found, "service")} found`}
      </span>
    </search>
  );
}

interface ChoiceProps {
  readonly legend: string;
  readonly name: string;
  readonly value: string;
  readonly options: readonly (readonly [value: string, label: string])[];
  readonly icons?: boolean;
  /** Shown before the choices; without it the legend is for screen readers alone. */
  readonly prefix?: string;
  readonly onChange: (value: string) => void;
}

/** Radio buttons that look like one segmented control: the arrow keys come with the radios. */
function Choice({ legend, name, value, options, icons = false, prefix = "", onChange }: ChoiceProps): ReactNode {
  return (
    <fieldset className="choice">
      <legend className="visually-hidden">{legend}</legend>
      {prefix !== "" && <i aria-hidden="true">{prefix}</i>}
      {options.map(([option, label]) => (
        <label key={option}>
          <input type="radio" name={name} value={option} checked={value === option} onChange={() => onChange(option)} />
          <span>
            {icons && <StrokeIcon name={option === "graph" ? "graph" : "list"} />}
            {label}
          </span>
        </label>
      ))}
    </fieldset>
  );
}
