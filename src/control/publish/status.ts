// Owns: merging a wanted status into the one an object has: times of transition stay where nothing turned, and a status that says the same
// is left alone, so that writing statuses can never feed itself. Pure.

type Json = unknown;
type Fields = Record<string, Json>;

const timeField = "lastTransitionTime";

/** The status to write, with its times filled in, or undefined when the object already says so. */
export function mergeStatus(wanted: Fields, current: Json, nowMs: number): Fields | undefined {
  // Kubernetes writes times to the second.
  const now = `${new Date(nowMs).toISOString().slice(0, 19)}Z`;
  const merged = merge(wanted, current, now) as Fields;
  return Bun.deepEquals(merged, current) ? undefined : merged;
}

function merge(wanted: Json, current: Json, now: string): Json {
  if (Array.isArray(wanted)) {
    const olds = Array.isArray(current) ? (current as Json[]) : [];
    return wanted.map((item: Json, at) => merge(item, counterpart(item, olds, at), now));
  }
  if (!isFields(wanted)) return wanted;
  const old = isFields(current) ? current : {};
  const out: Fields = {};
  for (const [key, value] of Object.entries(wanted)) if (value !== undefined) out[key] = merge(value, old[key], now);
  if (isCondition(wanted)) out[timeField] = old.status === wanted.status && typeof old[timeField] === "string" ? old[timeField] : now;
  return out;
}

/** The element of a list that is about the same thing: a condition of the same type, a parent with the same reference, else the same place. */
function counterpart(item: Json, olds: readonly Json[], at: number): Json {
  if (!isFields(item)) return olds[at];
  if (isCondition(item)) return olds.find((old) => isFields(old) && old.type === item.type);
  if (item.parentRef !== undefined) {
    return olds.find((old) => isFields(old) && old.controllerName === item.controllerName && Bun.deepEquals(old.parentRef, item.parentRef));
  }
  return olds[at];
}

function isCondition(value: Fields): boolean {
  return typeof value.type === "string" && (value.status === "True" || value.status === "False" || value.status === "Unknown");
}

function isFields(value: Json): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
