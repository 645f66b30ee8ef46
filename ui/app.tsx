// Owns: the page as a whole: which view, which filter, what is selected, and the keys that hold everywhere. Numbers come from useLive, drawing is in the views.

import { lazy, type ReactNode, Suspense, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Guard } from "./chrome/guard.tsx";
import { Header, Toolbar } from "./chrome/header.tsx";
import { Banner, EmptyMesh, NoCalls, NothingFound } from "./chrome/notices.tsx";
import { useTheme } from "./chrome/theme.ts";
import { ListView } from "./list/list-view.tsx";
import type { Api } from "./live/api.ts";
import { useLive } from "./live/use-live.ts";
import { type Place, readPlace, type Selection, type View, writePlace } from "./model/location.ts";
import { findText, inNamespace, isOutside, toPicture } from "./model/picture.ts";

// Each in its own file of script: a phone that shows the list never loads the graph.
const loadGraph = () => import("./graph/graph-view.tsx");
const GraphView = lazy(() => loadGraph().then((m) => ({ default: m.GraphView })));
const SidePanel = lazy(() => import("./panel/panel.tsx").then((m) => ({ default: m.SidePanel })));

export function App({ api }: { api: Api }): ReactNode {
  const [place, setPlace] = usePlace();
  const theme = useTheme();
  const live = useLive(api, place.windowSeconds);
  const [view, setView] = useState<View>(() => place.view ?? (window.matchMedia("(max-width: 640px)").matches ? "list" : "graph"));
  const { graph } = live;
  // Started before there is anything to draw, so that script and first answer travel at the same time. A failure shows where the graph would be.
  useEffect(() => {
    if (view === "graph") loadGraph().catch(() => undefined);
  }, [view]);
  const whole = useMemo(() => (graph === null ? null : toPicture(graph, live.proxies ?? [])), [graph, live.proxies]);
  const picture = useMemo(() => whole && inNamespace(whole, place.namespace), [whole, place.namespace]);
  const found = useMemo(() => picture && findText(picture, place.text), [picture, place.text]);

  const select = useCallback((selection: Selection) => setPlace({ selection }), [setPlace]);
  const { selection } = place;
  const close = useCallback(() => {
    setPlace({ selection: null });
    // Back to the item in the graph or list, so that the keyboard goes on from there.
    const name = selection === null ? "" : `${selection.kind} ${selection.id}`;
    document.querySelector<HTMLElement>(`[data-item="${CSS.escape(name)}"]`)?.focus({ preventScroll: true });
  }, [selection, setPlace]);

  const open = place.selection !== null;
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const inField = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
      if (event.key === "Escape" && inField && place.text !== "") setPlace({ text: "" });
      else if (event.key === "Escape" && open) close();
      else if (event.key === "/" && !(inField && event.target instanceof HTMLInputElement && event.target.type === "search")) {
        event.preventDefault();
        document.querySelector<HTMLInputElement>("[data-find]")?.focus();
      }
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [open, close, place.text, setPlace]);

  const trustDomain = live.mesh?.spec.trustDomain;
  useEffect(() => {
    if (trustDomain !== undefined) document.title = `${trustDomain} · Weft`;
  }, [trustDomain]);

  const serviceCount = whole && [...whole.services.values()].filter((node) => !isOutside(node)).length;
  const matches = found === null ? null : found.services.size;
  const shared = picture && { picture, found, selection: place.selection, onSelect: select };

  return (
    <div className={open ? "page with-panel" : "page"}>
      <button type="button" className="skip" onClick={skipToMain}>
        Skip to the services
      </button>
      <Header mesh={live.mesh} services={serviceCount} proxies={live.proxies} connection={live.connection} theme={theme} />
      <Toolbar
        place={place}
        view={view}
        namespaces={whole?.namespaces ?? []}
        found={matches}
        onChange={(change) => {
          if (change.view) setView(change.view);
          setPlace(change);
        }}
      />
      <Banner connection={live.connection} hasPicture={graph !== null} onRetry={live.again} />
      <main id="main" tabIndex={-1}>
        {shared === null || picture === null ? (
          live.connection.name === "loading" && (
            <p className="overlay" role="status">
              Reading the mesh…
            </p>
          )
        ) : whole?.services.size === 0 ? (
          <EmptyMesh />
        ) : picture.services.size === 0 || matches === 0 ? (
          <NothingFound onClear={() => setPlace({ text: "", namespace: "" })} />
        ) : (
          <Guard key={view} what={view === "graph" ? "The graph" : "The list"}>
            {picture.calls.size === 0 && <NoCalls windowSeconds={place.windowSeconds} />}
            {view === "list" ? (
              <ListView {...shared} />
            ) : (
              <Suspense fallback={<p className="overlay">Loading the graph…</p>}>
                <GraphView key={place.namespace} {...shared} />
              </Suspense>
            )}
          </Guard>
        )}
      </main>
      {place.selection !== null && picture !== null && whole !== null && (
        <Guard key={`${place.selection.kind} ${place.selection.id}`} what="The panel">
          <Suspense fallback={<aside className="panel" aria-label="Loading" />}>
            <SidePanel
              api={api}
              selection={place.selection}
              picture={whole}
              proxies={live.proxies ?? []}
              round={live.round}
              windowSeconds={place.windowSeconds}
              theme={theme.effective}
              onSelect={select}
              onClose={close}
            />
          </Suspense>
        </Guard>
      )}
    </div>
  );
}

/** The place in the address and as state; going back and pasting a link work. */
function usePlace(): [Place, (change: Partial<Place>) => void] {
  const [place, setWhole] = useState(() => readPlace(window.location.hash));
  const current = useRef(place);
  const change = useCallback((part: Partial<Place>) => {
    current.current = { ...current.current, ...part };
    setWhole(current.current);
    window.history.replaceState(null, "", `${window.location.pathname}${writePlace(current.current)}`);
  }, []);
  useEffect(() => {
    const onHash = (): void => {
      current.current = readPlace(window.location.hash);
      setWhole(current.current);
    };
    window.addEventListener("hashchange", onHash);
    return () => window.removeEventListener("hashchange", onHash);
  }, []);
  return [place, change];
}

function skipToMain(): void {
  document.querySelector<HTMLElement>("#main [data-item], #main")?.focus();
}
