// Owns: sets of field paths, kept as the tree that FieldsV1 is (structured-merge-diff's serialisation), and their words in messages.
// Never looks at an object or a schema.

/**
 * A node of the tree: `self` = the path that leads here is a member. Steps are FieldsV1's: `f:NAME`, `k:{"port":80}` (an item of a keyed
 * list), `v:"text"` (an item of a set). Never changed once made.
 */
export interface FieldSet {
  readonly self: boolean;
  readonly children: ReadonlyMap<string, FieldSet>;
}

const none: ReadonlyMap<string, FieldSet> = new Map();

export const emptySet: FieldSet = { self: false, children: none };
export const leafSet: FieldSet = { self: true, children: none };

/** Leaves out children that hold nothing. */
export function makeSet(self: boolean, children: Iterable<readonly [string, FieldSet]>): FieldSet {
  const kept = new Map<string, FieldSet>();
  for (const [step, child] of children) if (!isEmpty(child)) kept.set(step, child);
  return { self, children: kept.size === 0 ? none : kept };
}

export function isEmpty(set: FieldSet): boolean {
  return !set.self && set.children.size === 0;
}

export function union(a: FieldSet, b: FieldSet): FieldSet {
  if (isEmpty(a)) return b;
  if (isEmpty(b)) return a;
  const children = new Map(a.children);
  for (const [step, child] of b.children) children.set(step, union(children.get(step) ?? emptySet, child));
  return { self: a.self || b.self, children };
}

/** Members of `a` that are no members of `b`; what lies under a member of `b` stays. */
export function difference(a: FieldSet, b: FieldSet): FieldSet {
  if (isEmpty(b)) return a;
  return makeSet(
    a.self && !b.self,
    [...a.children].map(([step, child]) => [step, difference(child, b.children.get(step) ?? emptySet)] as const),
  );
}

export function intersection(a: FieldSet, b: FieldSet): FieldSet {
  return makeSet(
    a.self && b.self,
    [...a.children].map(([step, child]) => [step, intersection(child, b.children.get(step) ?? emptySet)] as const),
  );
}

export function sameSet(a: FieldSet, b: FieldSet): boolean {
  if (a.self !== b.self || a.children.size !== b.children.size) return false;
  for (const [step, child] of a.children) {
    const other = b.children.get(step);
    if (other === undefined || !sameSet(child, other)) return false;
  }
  return true;
}

/** `{"f:spec":{"f:ports":{".":{},"k:{\"port\":80}":{}}}}`; keys in order, so that equal sets give equal bytes. */
export function toFieldsV1(set: FieldSet): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  // A member without children is `{}` at its parent; with children it says so by `.`.
  if (set.self && set.children.size > 0) out["."] = {};
  for (const step of [...set.children.keys()].sort()) out[step] = toFieldsV1(set.children.get(step) ?? emptySet);
  return out;
}

/** undefined when it is no FieldsV1. */
export function fromFieldsV1(fields: unknown): FieldSet | undefined {
  return read(fields, false);
}

function read(fields: unknown, below: boolean): FieldSet | undefined {
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) return undefined;
  const children = new Map<string, FieldSet>();
  let self = below;
  for (const [step, value] of Object.entries(fields)) {
    if (step === ".") continue;
    if (!/^[fkvi]:/.test(step)) return undefined;
    const child = read(value, true);
    if (child === undefined) return undefined;
    children.set(step, child);
  }
  if (below && children.size > 0) self = Object.hasOwn(fields, ".");
  return { self, children };
}

/** Every member in the words of kubectl: `.spec.ports[port=80,protocol="TCP"].targetPort`. */
export function pathsOf(set: FieldSet, prefix = ""): string[] {
  const out = set.self ? [prefix] : [];
  for (const step of [...set.children.keys()].sort()) out.push(...pathsOf(set.children.get(step) ?? emptySet, prefix + stepWords(step)));
  return out;
}

function stepWords(step: string): string {
  const rest = step.slice(2);
  if (step.startsWith("f:")) return `.${rest}`;
  if (step.startsWith("v:")) return `[=${rest}]`;
  if (step.startsWith("i:")) return `[${rest}]`;
  try {
    const key = JSON.parse(rest) as Record<string, unknown>;
    return `[${Object.keys(key)
      .sort()
      .map((name) => `${name}=${JSON.stringify(key[name])}`)
      .join(",")}]`;
  } catch {
    return `[${rest}]`;
  }
}
