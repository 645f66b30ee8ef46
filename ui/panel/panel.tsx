// Owns: the side panel (a bottom sheet on small screens) of the selected service or call: what it shows, in which order, and where focus goes.

import { type ReactNode, useEffect, useMemo, useRef } from "react";
import type { ProxyObject } from "../../src/api/live.ts";
import { HealthIcon, LockIcon, StrokeIcon } from "../chrome/icons.tsx";
import type { Api } from "../live/api.ts";
import { type Details, useDetails } from "../live/use-live.ts";
import { byteRate, duration, rate, success } from "../model/format.ts";
import { edgeHealth, type Health, healthOf, healthWords, serviceHealth } from "../model/health.ts";
import type { Selection } from "../model/location.ts";
import { type CallEdge, isOutside, type Picture, type ServiceNode } from "../model/picture.ts";
import { instancesOf, policiesOf, routesOf } from "../model/related.ts";
import { callTitle, lockWords, nameOf, outcome, serviceState } from "../model/words.ts";
import { Charts } from "./charts.tsx";
import { Circuits } from "./circuits.tsx";
import { Instances } from "./instances.tsx";
import { ObjectList, type SplitRow, Tile, VersionSplit } from "./parts.tsx";

export interface PanelProps {
  readonly api: Api;
  readonly selection: Selection;
  readonly picture: Picture;
  readonly proxies: readonly ProxyObject[];
  readonly round: number;
  readonly windowSeconds: number;
  readonly theme: string;
  readonly onSelect: (selection: Selection) => void;
  readonly onClose: () => void;
}

export function SidePanel(props: PanelProps): ReactNode {
  const { api, selection, picture, round, onClose } = props;
  const edge = selection.kind === "call" ? picture.calls.get(selection.id) : undefined;
  const node = selection.kind === "service" ? picture.services.get(selection.id) : undefined;
  // A call keeps its series when it drops out of the window, so the id alone must do.
  const seriesId = edge === undefined ? selection.id : `${edge.from}>${edge.to}`;
  const details = useDetails(api, selection, seriesId, round);
  const title = useRef<HTMLHeadingElement>(null);
  const key = `${selection.kind} ${selection.id}`;
  useEffect(() => {
    if (key !== "") title.current?.focus({ preventScroll: true });
  }, [key]);
  const traffic = node && picture.traffic.get(node.id);
  const health: Health = edge ? edgeHealth(edge.stats) : node ? serviceHealth(node, traffic) : "idle";
  const name = edge ? callTitle(edge) : (node?.name ?? selection.id);
  return (
    <aside className="panel" aria-label={selection.kind === "service" ? `Service ${name}` : `Call ${name}`}>
      <header>
        <div>
          <h2 tabIndex={-1} ref={title}>
            <HealthIcon health={health} />
            {name}
          </h2>
          <p className="soft">
            {edge ? `${edge.stats.protocol} call` : "service"}
            {node && node.namespace !== "" && ` in ${node.namespace}`} · {node ? serviceState(node, traffic) : healthWords[health]}
          </p>
        </div>
        <button type="button" className="plain" aria-label="Close the panel" title="Close (Esc)" onClick={onClose}>
          <StrokeIcon name="close" />
        </button>
      </header>
      <div className="panel-body">
        {edge ? (
          <CallBody {...props} edge={edge} details={details} />
        ) : node ? (
          <ServiceBody {...props} node={node} details={details} />
        ) : (
          <p className="quiet">
            {selection.id} is not in the picture now: nothing was seen of it in the last {props.windowSeconds} s, or it is gone.
          </p>
        )}
      </div>
    </aside>
  );
}

function ServiceBody({
  node,
  details,
  picture,
  proxies,
  windowSeconds,
  theme,
  onSelect,
}: PanelProps & { node: ServiceNode; details: Details }): ReactNode {
  const calls = [...picture.calls.values()];
  const callers = calls.filter((edge) => edge.to === node.id);
  const callees = calls.filter((edge) => edge.from === node.id);
  const { objects } = details;
  const related = useMemo(
    () =>
      objects && {
        instances: instancesOf(node, objects.entries, proxies),
        routes: routesOf(node, objects),
        policies: policiesOf(node, objects),
      },
    [node, objects, proxies],
  );
  return (
    <>
      <dl className="tiles" aria-label={`Numbers over the last ${windowSeconds} s`}>
        <Tile name="Requests" value={`${rate(node.requestsPerSecond)}/s`} />
        <Tile name="Success" value={success(node.successRatio)} tone={`ratio ${healthOf(node.successRatio)}`} />
        <Tile name="p50" value={duration(node.p50Ms)} />
        <Tile name="p99" value={duration(node.p99Ms)} />
      </dl>
      <Series details={details} theme={theme} unit="Requests" />
      <Circuits
        circuits={picture.circuits.filter((one) => one.service === node.id || one.callerService === node.id)}
        service={node.id}
        onSelect={onSelect}
      />
      {node.versions.length > 0 && <VersionSplit rows={splitOf(node, callers)} />}
      <CallList title="Called by" calls={callers} end="from" onSelect={onSelect} />
      <CallList title="Calls" calls={callees} end="to" onSelect={onSelect} />
      {isOutside(node) ? (
        <div className="quiet">
          {callees.length > 0 && <p>What calls from outside has no sidecar: the mesh knows neither its name nor its identity.</p>}
          {callers.length > 0 && <p>What is called here is no service of this mesh: the sidecars of its callers answer in its place.</p>}
        </div>
      ) : (
        <>
          <Instances instances={related?.instances ?? null} />
          <Configuration details={details} routes={related?.routes ?? null} policies={related?.policies ?? null} name={node.name} />
        </>
      )}
    </>
  );
}

function CallBody({
  edge,
  details,
  picture,
  windowSeconds,
  theme,
  onSelect,
}: PanelProps & { edge: CallEdge; details: Details }): ReactNode {
  const { stats } = edge;
  const { objects } = details;
  const target = picture.services.get(edge.to);
  const related = useMemo(
    () => objects && target && { routes: routesOf(target, objects), policies: policiesOf(target, objects) },
    [target, objects],
  );
  const tcp = stats.protocol === "tcp";
  return (
    <>
      {stats.mutualTls === null ? null : (
        <p className={stats.mutualTls ? "security" : "security open"}>
          <LockIcon closed={stats.mutualTls} />
          <span>{lockSentence(edge, picture)}</span>
        </p>
      )}
      <dl className="tiles" aria-label={`Numbers over the last ${windowSeconds} s`}>
        {tcp ? (
          <>
            <Tile name="Bytes" value={byteRate(stats.bytesPerSecond)} />
            <Tile name="Open" value={String(stats.openConnections)} />
            <Tile name="Connections" value={`${rate(stats.requestsPerSecond)}/s`} />
            <Tile name="Success" value={success(stats.successRatio)} tone={`ratio ${edgeHealth(stats)}`} />
          </>
        ) : (
          <>
            <Tile name="Requests" value={`${rate(stats.requestsPerSecond)}/s`} />
            <Tile name="Success" value={success(stats.successRatio)} tone={`ratio ${edgeHealth(stats)}`} />
            <Tile name="p50" value={duration(stats.p50Ms)} />
            <Tile name="p99" value={duration(stats.p99Ms)} />
          </>
        )}
      </dl>
      <Series details={details} theme={theme} unit={tcp ? "Connections" : "Requests"} />
      <Circuits
        circuits={picture.circuits.filter((one) => one.service === edge.to && one.callerService === edge.from)}
        service={edge.to}
        onSelect={onSelect}
      />
      {edge.byVersion.length > 0 && (
        <VersionSplit rows={edge.byVersion.map((v) => ({ ...v, name: versionName(v.version, target), note: "" }))} />
      )}
      <section aria-label="Ends">
        <h3>Ends</h3>
        <ul className="calls">
          {(["from", "to"] as const).map((end) => (
            <li key={end}>
              <button type="button" className="link" onClick={() => onSelect({ kind: "service", id: edge[end] })}>
                {end === "from" ? "caller " : "callee "}
                <b>{edge[end]}</b>
              </button>
            </li>
          ))}
        </ul>
      </section>
      <Configuration
        details={details}
        routes={related?.routes ?? (target ? null : [])}
        policies={related?.policies ?? (target ? null : [])}
        name={nameOf(edge.to, edge.to)}
      />
    </>
  );
}

function lockSentence(edge: CallEdge, picture: Picture): string {
  if (edge.stats.mutualTls) return "Mutual TLS: both ends have shown a certificate of this mesh.";
  const target = picture.services.get(edge.to);
  if (target !== undefined && isOutside(target)) return "No mutual TLS: what was called is no service of this mesh.";
  const sidecars = [edge.from, edge.to].every((id) => (picture.services.get(id)?.versions.length ?? 0) > 0);
  return sidecars
    ? "Not all under mutual TLS: some of these calls went in plain text, or reached no instance."
    : "Not encrypted: one of the ends has no sidecar, so anybody on the way can read and change this.";
}

function Series({ details, theme, unit }: { details: Details; theme: string; unit: string }): ReactNode {
  if (details.series !== null) return <Charts series={details.series} theme={theme} unit={unit} />;
  return (
    <p className="quiet charts-wait">
      {details.seriesFailure === null ? "Reading the last minutes…" : `The last minutes cannot be read: ${details.seriesFailure.message}`}
    </p>
  );
}

interface ConfigurationProps {
  readonly details: Details;
  readonly routes: ReturnType<typeof routesOf> | null;
  readonly policies: ReturnType<typeof policiesOf> | null;
  readonly name: string;
}

function Configuration({ details, routes, policies, name }: ConfigurationProps): ReactNode {
  if (details.objects === null && details.objectsFailure !== null) {
    return <p className="problem">Routes and policies cannot be read: {details.objectsFailure.message}</p>;
  }
  return (
    <>
      <ObjectList title="Routes" items={routes} empty={<>No HTTPRoute has {name} as its parent: calls go straight to its instances.</>} />
      <ObjectList
        title="Policies"
        items={policies}
        empty={<>No AuthorizationPolicy guards {name}: every workload of the mesh may call it.</>}
      />
    </>
  );
}

function CallList({
  title,
  calls,
  end,
  onSelect,
}: {
  title: string;
  calls: readonly CallEdge[];
  end: "from" | "to";
  onSelect: (selection: Selection) => void;
}): ReactNode {
  if (calls.length === 0) return null;
  return (
    <section aria-label={title}>
      <h3>
        {title} <small>{calls.length}</small>
      </h3>
      <ul className="calls">
        {calls.map((edge) => {
          const health = edgeHealth(edge.stats);
          return (
            <li key={edge.id}>
              <button type="button" className="link" onClick={() => onSelect({ kind: "call", id: edge.id })}>
                <HealthIcon health={health} />
                <b>{nameOf(edge[end], end === "from" ? edge.to : edge.from)}</b>
                <LockIcon closed={edge.stats.mutualTls} />
                <span className="visually-hidden">{lockWords(edge.stats.mutualTls)}</span>
                <span className="number">
                  {edge.stats.protocol === "tcp" ? byteRate(edge.stats.bytesPerSecond) : `${rate(edge.stats.requestsPerSecond)}/s`}
                </span>
                <span className={`number ratio ${health}`}>
                  {edge.stats.protocol === "tcp" && edge.stats.successRatio === null ? "tcp" : outcome(edge.stats.successRatio)}
                </span>
              </button>
            </li>
          );
        })}
      </ul>
    </section>
  );
}

/** What reaches each version, summed over the callers; versions that nobody called are listed with zero. */
function splitOf(node: ServiceNode, callers: readonly CallEdge[]): SplitRow[] {
  const parts = callers.flatMap((edge) => edge.byVersion);
  const versions = new Set([...node.versions.map((v) => v.version), ...parts.map((v) => v.version)]);
  return [...versions].map((version) => {
    const own = parts.filter((part) => part.version === version);
    const requestsPerSecond = own.reduce((sum, v) => sum + v.requestsPerSecond, 0);
    const good = own.reduce((sum, v) => sum + v.requestsPerSecond * (v.successRatio ?? 1), 0);
    const instances = node.versions.find((v) => v.version === version);
    return {
      name: versionName(version, node),
      requestsPerSecond,
      successRatio: requestsPerSecond > 0 ? good / requestsPerSecond : null,
      note: instances === undefined ? "none" : `${instances.ready} of ${instances.instances} ready`,
    };
  });
}

/** Calls that reached no instance are counted under an empty version; so are instances without one, where there are any. */
function versionName(version: string, node: ServiceNode | undefined): string {
  if (version !== "") return version;
  return node === undefined || node.versions.length === 0 || node.versions.some((v) => v.version === "") ? "unversioned" : "no instance";
}
