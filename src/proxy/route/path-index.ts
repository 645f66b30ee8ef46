// Owns: which routes of a virtual host can match a path at all, by what their paths begin with: a tree of prefixes whose nodes list, in the order of the
// configuration, every route whose literal beginning leads there or to a node above. The first match of the list is so the first match of all.
// Never decides a match: the caller asks each route of the list.

import { latin1 } from "../http/bytes.ts";

interface Node<Route> {
  /** Bytes from the parent to here. */
  readonly label: Uint8Array;
  readonly routes: readonly Route[];
  /** First bytes of the labels below, and the nodes of those. */
  readonly keys: Uint8Array;
  readonly children: readonly Node<Route>[];
  /** Byte -> one more than the place in `children`, where there are many; else null. */
  readonly table: Uint8Array | null;
}

/** Below this a walk over the list is as quick as the tree, and a table of a thousand small hosts is spared its memory. */
const smallest = 16;
const manyChildren = 8;
/**
 * Entries of all lists together, for each route. Beginnings that all lie within each other (`/a`, `/aa`, `/aaa`, ...) would need the square of their
 * number; then the list alone stays.
 */
const mostPerRoute = 32;

export interface PathIndex<Route> {
  readonly all: readonly Route[];
  readonly root: Node<Route> | null;
}

/** `beginning`: what every path that a route takes begins with; "" = anything. */
export function makePathIndex<Route>(routes: readonly Route[], beginning: (route: Route) => string): PathIndex<Route> {
  if (routes.length < smallest) return { all: routes, root: null };
  const byText = new Map<string, number[]>();
  routes.forEach((route, n) => {
    const text = beginning(route);
    const list = byText.get(text);
    if (list === undefined) byText.set(text, [n]);
    else list.push(n);
  });
  if (byText.size < 2) return { all: routes, root: null };
  let budget = routes.length * mostPerRoute;
  const texts = [...byText.keys()].sort();
  const build = (label: string, path: string, from: number, to: number, above: readonly number[]): Node<Route> | null => {
    const own = texts[from] === path ? (byText.get(path) as number[]) : [];
    const numbers = own.length === 0 ? above : [...above, ...own].sort((a, b) => a - b);
    budget -= own.length === 0 ? 0 : numbers.length;
    if (budget < 0) return null;
    const keys: number[] = [];
    const children: Node<Route>[] = [];
    let at = texts[from] === path ? from + 1 : from;
    while (at < to) {
      const first = texts[at] as string;
      const byte = first.charCodeAt(path.length);
      let end = at + 1;
      while (end < to && (texts[end] as string).charCodeAt(path.length) === byte) end++;
      const last = texts[end - 1] as string;
      let size = path.length + 1;
      while (size < first.length && size < last.length && first[size] === last[size]) size++;
      const child = build(first.slice(path.length, size), first.slice(0, size), at, end, numbers);
      if (child === null) return null;
      keys.push(byte);
      children.push(child);
      at = end;
    }
    const table = keys.length < manyChildren ? null : new Uint8Array(256);
    if (table !== null) for (const [n, key] of keys.entries()) table[key] = n + 1;
    return { label: latin1(label), routes: numbers.map((n) => routes[n] as Route), keys: Uint8Array.from(keys), children, table };
  };
  return { all: routes, root: build("", "", 0, texts.length, []) };
}

/** The routes that can match bytes[from, to), in order. */
export function candidates<Route>(index: PathIndex<Route>, bytes: Uint8Array, from: number, to: number): readonly Route[] {
  let node = index.root;
  if (node === null) return index.all;
  let at = from;
  while (at < to) {
    const child: Node<Route> | undefined = node.children[childAt(node, bytes[at] as number)];
    if (child === undefined) break;
    const label = child.label;
    const size = label.length;
    if (to - at < size) break;
    for (let i = 1; i < size; i++) if (bytes[at + i] !== label[i]) return node.routes;
    node = child;
    at += size;
  }
  return node.routes;
}

/** The place of the child whose label begins with `byte`; -1: none. */
function childAt<Route>(node: Node<Route>, byte: number): number {
  if (node.table !== null) return (node.table[byte] as number) - 1;
  const keys = node.keys;
  for (let i = 0; i < keys.length; i++) if (keys[i] === byte) return i;
  return -1;
}
