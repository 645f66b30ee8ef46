// Owns: arithmetic of host names with wildcards, as Gateway API has it: which names a listener and a route have in common, and which is the
// more specific. Pure. A name is in lower case: exact, `*.` and a name (any number of labels in front), or `*`.

export function lower(name: string | undefined): string {
  return name === undefined || name === "" ? "*" : name.toLowerCase();
}

/** Every name that `narrow` stands for is one of `wide`'s. */
export function covers(wide: string, narrow: string): boolean {
  if (wide === "*" || wide === narrow) return true;
  if (!wide.startsWith("*.")) return false;
  const suffix = wide.slice(1);
  return narrow.startsWith("*.") ? narrow.slice(1).endsWith(suffix) : narrow.endsWith(suffix);
}

/** What a listener's name and those of a route (none = all) have in common; empty = nothing. */
export function intersect(listener: string, route: readonly string[]): string[] {
  if (route.length === 0) return [listener];
  const out = route.map(lower).flatMap((name) => (covers(listener, name) ? [name] : covers(name, listener) ? [listener] : []));
  return [...new Set(out)].sort();
}

/** Greater is more specific: an exact name before every wildcard, the longer before the shorter. */
export function specificity(name: string): number {
  if (name === "*") return 0;
  // Longer than any DNS name.
  return name.startsWith("*.") ? name.length : 1000 + name.length;
}

/** The most specific of `names` that covers `name`. */
export function bestCovering(names: readonly string[], name: string): string | undefined {
  let best: string | undefined;
  for (const each of names) if (covers(each, name) && (best === undefined || specificity(each) > specificity(best))) best = each;
  return best;
}
