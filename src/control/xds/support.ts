// Owns: small snapshots for tests of this folder. Not used by the product.

import type { XdsResource, XdsSnapshot, XdsType } from "../../wire/xds-types.ts";

/** A resource whose version is its content. */
export function resource(type: XdsType, name: string, version = "1"): XdsResource {
  return { type, name, version: `${name}@${version}`, value: new TextEncoder().encode(version) };
}

/** `snapshot("w", { cluster: ["a", "b=2"] })`: cluster a in version 1 and b in version 2. */
export function snapshot(workload: string, names: Partial<Record<XdsType, readonly string[]>>): XdsSnapshot {
  const make = (type: XdsType): ReadonlyMap<string, XdsResource> =>
    new Map(
      (names[type] ?? []).map((text) => {
        const [name, version] = text.split("=") as [string, string | undefined];
        return [name, resource(type, name, version ?? "1")] as const;
      }),
    );
  return {
    workload,
    resources: { cluster: make("cluster"), endpoint: make("endpoint"), listener: make("listener"), route: make("route") },
  };
}
