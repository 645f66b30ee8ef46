// Owns: delegation among VirtualServices: a root's routes with those put in their place that it delegates to, by Istio's rules of merging; and what
// cannot be followed: nobody there, one that has hosts of its own, one that is not exported, a cycle. Never plans a route.

import {
  delegateKey,
  exportedTo,
  type OwnFault,
  ownFault,
  type TextMatch,
  type VirtualEdits,
  type VirtualHeaders,
  type VirtualMatch,
  type VirtualRoute,
  type VirtualServiceObject,
} from "../../api/kinds/virtualservice-spec.ts";
import { virtualServiceSource } from "../sources.ts";
import { derived, equal, keyOf, namespaceOf, type World } from "../world.ts";

/** A route as it takes effect. */
export interface WholeRoute {
  /** `NS/VIRTUALSERVICE/ROUTE`, of a delegated one that of the root and then its own behind a `+`. */
  readonly name: string;
  /** With everything that the roots above have given it. */
  readonly route: VirtualRoute;
  /** Namespace of the object that it is written in: short names of destinations are of it. */
  readonly namespace: string;
  /** Where it is written, for messages: `spec.http[0]`, of a delegated one with its object in front. */
  readonly where: string;
  /** Faults that the annotation of its object or of a root gives it. */
  readonly fault: OwnFault | undefined;
}

export interface Whole {
  readonly routes: readonly WholeRoute[];
  /** What was left out, in words that name both objects. */
  readonly problems: readonly string[];
  /** `NS/NAME` of everything delegated to, sorted. */
  readonly reached: readonly string[];
}

/** A chain longer than this is taken for a mistake; Istio allows one step. */
const mostSteps = 8;

/** Of a VirtualService by its `NS/NAME`. */
export const wholeRoutes = derived<Whole>((world, key) => {
  const object = world.objects(virtualServiceSource).get(key);
  const problems: string[] = [];
  const reached = new Set<string>();
  const routes = object === undefined ? [] : follow(world, object, [key], problems, reached);
  return { routes, problems, reached: [...reached].sort() };
}, equal);

function follow(
  world: World,
  object: VirtualServiceObject,
  path: readonly string[],
  problems: string[],
  reached: Set<string>,
): WholeRoute[] {
  const key = keyOf(object);
  const namespace = namespaceOf(object);
  const root = path.length === 1;
  return (object.spec?.http ?? []).flatMap((route, at): WholeRoute[] => {
    const where = `${root ? "" : `VirtualService ${key} `}spec.http[${at}]`;
    const name = `${key}/${route.name ?? at}`;
    const fault = ownFault(object, route.name);
    if (route.delegate === undefined) return [{ name, route, namespace, where, fault }];
    const to = delegateKey(route.delegate, namespace);
    const lost = (words: string): WholeRoute[] => {
      problems.push(`${where}.delegate: ${words}`);
      return [];
    };
    if (path.includes(to))
      return lost(`VirtualService ${key} delegates to ${to}, which delegates back to it (${[...path, to].join(" → ")})`);
    if (path.length > mostSteps) return lost(`VirtualService ${path[0]} reaches ${to} by more than ${mostSteps} delegations`);
    const delegate = world.objects(virtualServiceSource).get(to);
    if (delegate === undefined) return lost(`VirtualService ${key} delegates to ${to}, and there is no such VirtualService`);
    if ((delegate.spec?.hosts ?? []).length > 0)
      return lost(`VirtualService ${to} has hosts of its own; only one without hosts can be delegated to by ${key}`);
    const seen = exportedTo(delegate.spec?.exportTo, namespaceOf(delegate));
    if (!seen.includes("*") && !seen.includes(namespace))
      return lost(`VirtualService ${to} is not exported to namespace ${namespace} of ${key}`);
    reached.add(to);
    return follow(world, delegate, [...path, to], problems, reached).flatMap((each): WholeRoute[] => {
      const matches = bothMatches(route.match ?? [], each.route.match ?? []);
      if (matches === undefined) {
        problems.push(`${each.where}: no match of it lies within those of VirtualService ${key} spec.http[${at}], which delegates to it`);
        return [];
      }
      return [{ ...each, name: `${name}+${each.name}`, route: bothRoutes(route, each.route, matches), fault: each.fault ?? fault }];
    });
  });
}

/** What the delegate does not say is the root's. */
function bothRoutes(root: VirtualRoute, own: VirtualRoute, match: readonly VirtualMatch[]): VirtualRoute {
  const given: Record<string, unknown> = { ...root };
  const headers = bothHeaders(root.headers, own.headers);
  // A redirect or an answer takes nothing that is about destinations; and mirrors are of one object or of the other.
  const left = ["delegate", "match", "headers", "name"];
  if (own.route === undefined) left.push("rewrite", "timeout", "retries", ...mirrorFields);
  else if (own.mirror !== undefined || own.mirrors !== undefined) left.push(...mirrorFields);
  for (const field of left) delete given[field];
  return { ...(given as VirtualRoute), ...own, ...(match.length === 0 ? {} : { match }), ...(headers === undefined ? {} : { headers }) };
}

const mirrorFields = ["mirror", "mirrors", "mirrorPercentage", "mirrorPercent"] as const;

function bothHeaders(root: VirtualHeaders | undefined, own: VirtualHeaders | undefined): VirtualHeaders | undefined {
  if (root === undefined || own === undefined) return own ?? root;
  const edits = (above: VirtualEdits = {}, below: VirtualEdits = {}): VirtualEdits => ({
    set: { ...above.set, ...below.set },
    add: { ...above.add, ...below.add },
    remove: [...new Set([...(above.remove ?? []), ...(below.remove ?? [])])],
  });
  return { request: edits(root.request, own.request), response: edits(root.response, own.response) };
}

/** Every pair that can both hold; undefined = none can. No matches fit everything. */
function bothMatches(root: readonly VirtualMatch[], own: readonly VirtualMatch[]): readonly VirtualMatch[] | undefined {
  if (root.length === 0) return own;
  if (own.length === 0) return root;
  const out = own.flatMap((below) => root.flatMap((above) => bothMatch(above, below) ?? []));
  return out.length === 0 ? undefined : out;
}

function bothMatch(root: VirtualMatch, own: VirtualMatch): VirtualMatch | undefined {
  for (const field of ["uri", "scheme", "method", "authority"] as const) if (!within(root[field], own[field])) return undefined;
  for (const field of ["headers", "withoutHeaders", "queryParams"] as const)
    for (const [name, text] of Object.entries(own[field] ?? {})) if (!within(root[field]?.[name], text)) return undefined;
  for (const field of ["port", "sourceNamespace", "ignoreUriCase"] as const)
    if (root[field] !== undefined && own[field] !== undefined && root[field] !== own[field]) return undefined;
  for (const [name, value] of Object.entries(own.sourceLabels ?? {}))
    if (root.sourceLabels !== undefined && Object.hasOwn(root.sourceLabels, name) && root.sourceLabels[name] !== value) return undefined;
  if (root.gateways !== undefined && own.gateways !== undefined && !own.gateways.every((each) => root.gateways?.includes(each)))
    return undefined;
  const name = [root.name, own.name].filter((each) => each !== undefined).join("-");
  const maps = (["headers", "withoutHeaders", "queryParams", "sourceLabels"] as const).flatMap((field) =>
    root[field] === undefined && own[field] === undefined ? [] : [[field, { ...root[field], ...own[field] }]],
  );
  return { ...root, ...own, ...(name === "" ? {} : { name }), ...Object.fromEntries(maps) } as VirtualMatch;
}

/** Whether everything that `own` fits is fitted by `root` too; of expressions nobody can say, but that one fits what is the same. */
function within(root: TextMatch | undefined, own: TextMatch | undefined): boolean {
  if (root === undefined || own === undefined || Object.keys(root).length === 0) return true;
  if (root.regex !== undefined || own.regex !== undefined) return root.regex === own.regex;
  if (root.exact !== undefined) return own.exact === root.exact;
  return (own.exact ?? own.prefix ?? "").startsWith(root.prefix ?? "");
}
