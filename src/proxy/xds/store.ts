// Owns: what the control plane has sent and we have accepted: per type and name the last good version, and beside it the last rejected one.
// A rejected version is not used in any part; the good one before it serves on. Never sends anything and never applies anything.

import { type StreamType, streamOrder, type XdsType } from "../../wire/xds-types.ts";
import type { XdsStatus } from "../admin/admin.ts";
import { type DecodeWorld, sayViolations } from "./decode/gate.ts";
import { type DecodedByType, decodeResource } from "./decode/resource.ts";

interface Held<T> {
  readonly version: string;
  readonly hash: bigint;
  /** The same object for as long as the bytes are the same. */
  readonly config: T;
  /** As accepted, where a snapshot is kept; null where not: they would only take memory. */
  readonly bytes: Uint8Array | null;
}

interface TypeState<T> {
  readonly held: Map<string, Held<T>>;
  readonly rejected: Map<string, { readonly version: string; readonly reason: string }>;
  /** Names the server said it does not have. */
  readonly absent: Set<string>;
  /** A response of this type has come since the proxy started. */
  heard: boolean;
}

function typeState<T>(): TypeState<T> {
  return { held: new Map(), rejected: new Map(), absent: new Set(), heard: false };
}

/** One resource as a response carries it. */
export interface Incoming {
  readonly name: string;
  readonly version: string;
  readonly bytes: Uint8Array;
}

/** What is accepted of every type. `host`: absent = none was asked for. */
export type KeptResources = { readonly [T in XdsType]: readonly Incoming[] } & { readonly host?: readonly Incoming[] };

export class ResourceStore {
  readonly types: { readonly [T in StreamType]: TypeState<DecodedByType[T]> } = {
    cluster: typeState(),
    endpoint: typeState(),
    listener: typeState(),
    route: typeState(),
    host: typeState(),
  };
  readonly #world: DecodeWorld;
  /** Names of static resources, which the control plane must not take over. */
  readonly #reserved: { readonly [T in XdsType]?: ReadonlySet<string> };
  readonly #keepBytes: boolean;

  /** `keepBytes`: for `kept`. */
  constructor(world: DecodeWorld, reserved: { readonly [T in XdsType]?: ReadonlySet<string> }, keepBytes = false) {
    this.#world = world;
    this.#reserved = reserved;
    this.#keepBytes = keepBytes;
  }

  /** Everything that is accepted, as it came. */
  kept(type: StreamType): readonly Incoming[] {
    return [...this.types[type].held].flatMap(([name, { version, bytes }]) => (bytes === null ? [] : [{ name, version, bytes }]));
  }

  /** Takes what `kept` answered in another life of this proxy: all of it, or none and the reason. */
  restore(resources: KeptResources): string | undefined {
    for (const type of streamOrder) {
      for (const one of resources[type] ?? []) {
        const problem = this.take(type, one);
        if (problem === undefined) continue;
        for (const state of Object.values(this.types)) for (const map of [state.held, state.rejected]) map.clear();
        return problem;
      }
    }
    return undefined;
  }

  /** Takes one resource. Answers what is wrong with it, or undefined when it is now the good version. */
  take<T extends StreamType>(type: T, incoming: Incoming): string | undefined {
    const state = this.types[type] as TypeState<DecodedByType[T]>;
    const hash = Bun.hash(incoming.bytes) as bigint;
    const before = state.held.get(incoming.name);
    if (before !== undefined && before.hash === hash) {
      state.held.set(incoming.name, { ...before, version: incoming.version });
      state.rejected.delete(incoming.name);
      return undefined;
    }
    const decoded = decodeResource(
      type,
      incoming.bytes,
      this.#world,
      before === undefined ? undefined : { name: incoming.name, config: before.config },
    );
    const name = incoming.name === "" ? decoded.name : incoming.name;
    let reason: string | undefined;
    if ("violations" in decoded) reason = sayViolations(decoded.violations);
    // A virtual host has a name of its own beside the one that it was asked for by.
    else if (decoded.name !== name && type !== "host")
      reason = `the response calls it ${JSON.stringify(name)}, the resource itself ${JSON.stringify(decoded.name)}`;
    else if (this.#reserved[type]?.has(name)) reason = "a static resource of the bootstrap has this name";
    if (reason !== undefined || "violations" in decoded) {
      state.rejected.set(name, { version: incoming.version, reason: reason ?? "" });
      return `${type} ${name === "" ? "(without a name)" : name}: ${reason}`;
    }
    state.rejected.delete(name);
    state.absent.delete(name);
    // A copy: what came is a part of a larger message.
    const bytes = this.#keepBytes ? incoming.bytes.slice() : null;
    state.held.set(name, { version: incoming.version, hash, config: decoded.config, bytes });
    return undefined;
  }

  /** The server no longer has it, or never had it. */
  remove(type: StreamType, name: string): void {
    const state = this.types[type];
    state.rejected.delete(name);
    // A service whose endpoints vanish while its cluster stays keeps the last ones, as in Envoy: an empty answer would say so with an empty list.
    if (type === "endpoint" && state.held.has(name)) return;
    state.held.delete(name);
    if (type === "endpoint" || type === "route" || type === "host") state.absent.add(name);
  }

  /** Forgets what nobody asks for any more. */
  forget(type: "endpoint" | "route" | "host", wanted: ReadonlySet<string>): void {
    const state = this.types[type];
    for (const map of [state.held, state.rejected]) for (const name of [...map.keys()]) if (!wanted.has(name)) map.delete(name);
    for (const name of [...state.absent]) if (!wanted.has(name)) state.absent.delete(name);
  }

  versions(type: StreamType): Record<string, string> {
    const made: Record<string, string> = {};
    for (const [name, held] of this.types[type].held) made[name] = held.version;
    return made;
  }

  status(connected: boolean): XdsStatus {
    return {
      connected,
      types: streamOrder.flatMap((type) => {
        const { held, rejected, absent, heard } = this.types[type];
        if (type === "host" && !heard && held.size === 0) return [];
        const accepted = [...held].map(([name, one]) => ({ name, version: one.version, state: "accepted" }));
        const refused = [...rejected].map(([name, one]) => ({ name, version: one.version, state: "rejected", reason: one.reason }));
        const missing = type === "host" ? [...absent].map((name) => ({ name, version: "", state: "absent" })) : [];
        return [{ type, resources: [...accepted, ...refused, ...missing] }];
      }),
    };
  }
}
