// Owns: what of the page's state lives in the address (after #), so that a reload or a pasted link shows the same. Pure.

export type View = "graph" | "list";
export const windows = [10, 30, 60] as const;
export type WindowSeconds = (typeof windows)[number];

export type Selection = { readonly kind: "service"; readonly id: string } | { readonly kind: "call"; readonly id: string };

export interface Place {
  /** null = what suits the screen. */
  readonly view: View | null;
  readonly windowSeconds: WindowSeconds;
  readonly namespace: string;
  readonly text: string;
  readonly selection: Selection | null;
}

/** Anything unknown or malformed falls back to its default; an address is never an error. */
export function readPlace(hash: string): Place {
  const params = new URLSearchParams(hash.replace(/^#/, ""));
  const view = params.get("view");
  const seconds = Number(params.get("window"));
  const service = params.get("service");
  const call = params.get("call");
  return {
    view: view === "graph" || view === "list" ? view : null,
    windowSeconds: windows.find((w) => w === seconds) ?? 30,
    namespace: params.get("namespace") ?? "",
    text: params.get("find") ?? "",
    selection: service ? { kind: "service", id: service } : call ? { kind: "call", id: call } : null,
  };
}

/** The shortest address that `readPlace` reads back to the same place; empty for the default. */
export function writePlace(place: Place): string {
  const params = new URLSearchParams();
  if (place.view !== null) params.set("view", place.view);
  if (place.windowSeconds !== 30) params.set("window", String(place.windowSeconds));
  if (place.namespace !== "") params.set("namespace", place.namespace);
  if (place.text !== "") params.set("find", place.text);
  if (place.selection !== null) params.set(place.selection.kind, place.selection.id);
  const text = params.toString().replaceAll("%2F", "/").replaceAll("%3E", ">");
  return text === "" ? "" : `#${text}`;
}
