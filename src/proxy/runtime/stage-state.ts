// Owns: what stages of the HTTP chain keep from one configuration to the next (buckets, limits found by measuring). Never what belongs to a request.

import type { BuildContext } from "./build.ts";

/** State of stages that outlives a configuration, by context and by what it belongs to. Bounded: the oldest go. */
const states = new WeakMap<BuildContext, Map<string, unknown>>();
const mostStates = 4_096;

/** The state of the stage `what`, as long as its configuration says the same. */
export function stateOf<State>(context: BuildContext, what: string, config: unknown, make: () => State): State {
  const key = `${what} ${JSON.stringify(config)}`;
  let known = states.get(context);
  if (known === undefined) {
    known = new Map();
    states.set(context, known);
  }
  const found = known.get(key) as State | undefined;
  // Put at the end: what is still in use goes last.
  if (found !== undefined) known.delete(key);
  else if (known.size >= mostStates) known.delete(known.keys().next().value as string);
  const state = found ?? make();
  known.set(key, state);
  return state;
}
