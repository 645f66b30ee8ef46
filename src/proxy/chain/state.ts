// Owns: what stages of the HTTP chain keep from one configuration to the next (buckets, limits found by measuring). Never what belongs to a request.

import type { BuildContext } from "../runtime/build.ts";

/** State of stages that outlives a configuration, by context and by what it belongs to (its own configuration in the key). Bounded: the oldest go. */
const states = new WeakMap<BuildContext, Map<string, unknown>>();
const mostStates = 4_096;

export function stateOf<State>(context: BuildContext, key: string, make: () => State): State {
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
