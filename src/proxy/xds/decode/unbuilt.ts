// Owns: fields that our protobuf subset has, because the compiler writes them for other proxies, and that this proxy does not act on: each is
// refused by name. A decoder that learns a field takes it off its list here. Never decides what a field means.

import { at, type Gate } from "./gate.ts";

/** Fields by message, in protobuf's and in our spelling. */
export const unbuilt = {
  action: ["maxStreamDuration"],
} as const;

/** Notes a violation for each of `fields` that `message` has set. */
export function refuseUnbuilt(gate: Gate, message: object, fields: readonly string[], path: string): void {
  for (const field of fields) {
    const value = (message as Readonly<Record<string, unknown>>)[field];
    if (isSet(value)) gate.add(at(path, snake(field)), "is not supported by this proxy");
  }
}

function isSet(value: unknown): boolean {
  if (value === undefined || value === "" || value === false || value === 0 || value === 0n) return false;
  if (Array.isArray(value)) return value.length > 0;
  if (typeof value !== "object" || value === null) return true;
  // A oneof with no member chosen, or an empty map.
  return "case" in value ? value.case !== undefined : Object.keys(value).length > 0;
}

function snake(field: string): string {
  return field.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
