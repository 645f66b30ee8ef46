// Owns: reading what a route carries in its metadata (Envoy's `filter_metadata`). Never knows what for.

export type RouteMetadata = Readonly<Record<string, unknown>>;

/** The text at a path; empty = there is none. */
export function textIn(metadata: RouteMetadata, path: readonly string[]): string {
  let found: unknown = metadata;
  for (let i = 0; i < path.length; i++) {
    if (typeof found !== "object" || found === null) return "";
    const name = path[i] as string;
    found = Object.hasOwn(found, name) ? (found as RouteMetadata)[name] : undefined;
  }
  return typeof found === "string" ? found : "";
}
