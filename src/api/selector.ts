// Owns: label selection. Never looks anything up.

/** Every pair of `wanted` is in `labels`. An empty `wanted` fits everything: callers decide what an absent selector means. */
export function matchesLabels(wanted: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>): boolean {
  for (const key in wanted) if (labels[key] !== wanted[key]) return false;
  return true;
}

/** `app=reviews,version=v1`, sorted; `<none>` when empty. */
export function formatLabels(labels: Readonly<Record<string, string>> | undefined): string {
  const pairs = Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`);
  return pairs.length === 0 ? "<none>" : pairs.sort().join(",");
}
