// Owns: the gate that outside configuration passes: a complete list of violations with paths, and the small readers every decoder shares.
// Never throws at bad input: a violation is noted and a stand-in value goes on, so that one pass finds everything.

import type { Address } from "../../../wire/gen/envoy/config/core/v3/address_pb.ts";
import type { DataSource } from "../../../wire/gen/envoy/config/core/v3/base_pb.ts";
import type { Secret } from "../../../wire/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts";
import type { HostPort } from "../../config.ts";
import { decodeBinary, WireError } from "../proto/binary.ts";
import { joinPath } from "../proto/json.ts";
import { type AnyValue, enumDesc, type MessageType } from "../proto/message.ts";
import { isHarmlessNumber } from "./harmless.ts";
import { ipFamily } from "./ip.ts";
import { unservedField } from "./unserved.ts";

/** One thing wrong with a configuration. `path` uses proto field names and is relative to the resource, or to the bootstrap file. */
export interface Violation {
  readonly path: string;
  readonly message: string;
}

/** What decoders may know of the world. */
export interface DecodeWorld {
  /** Reads a file named by a DataSource. Throws with a readable message. */
  readonly readFile: (path: string) => Uint8Array;
  /** Reads one of the places where the system keeps its authorities; absent: as `readFile`. */
  readonly readSystemFile?: (path: string) => Uint8Array;
  /** `static_resources.secrets` of the bootstrap, by name. */
  readonly staticSecrets: ReadonlyMap<string, Secret>;
  /** Clusters that carry control traffic and so may be HTTP/2. */
  readonly controlClusters: ReadonlySet<string>;
  /** Whether the discovery stream speaks delta; absent: it is not known here. */
  readonly delta?: boolean;
}

export class Gate {
  readonly world: DecodeWorld;
  readonly violations: Violation[] = [];

  constructor(world: DecodeWorld) {
    this.world = world;
  }

  add(path: string, message: string): void {
    this.violations.push({ path, message });
  }

  get clean(): boolean {
    return this.violations.length === 0;
  }
}

export function at(path: string, field: string): string {
  return joinPath(path, field);
}

/** `path: message` lines, for people; `; ` between them. */
export function sayViolations(violations: readonly Violation[]): string {
  return violations.map((v) => (v.path === "" ? v.message : `${v.path}: ${v.message}`)).join("; ");
}

/** Decodes protobuf bytes strictly. undefined (and a violation) when they are no such message; unknown fields are violations too. */
export function decodeStrict<T>(gate: Gate, type: MessageType<T>, bytes: Uint8Array, path: string): T | undefined {
  try {
    return decodeBinary(type, bytes, (message, field, where) => {
      if (isHarmlessNumber(message, field)) return;
      const full = where === "" ? path : path === "" ? where : `${path}.${where}`;
      gate.add(full, unservedField(message, field));
    });
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    gate.add(path, `is not a valid ${type.name}: ${error.message}`);
    return undefined;
  }
}

/** One entry of a family of extensions: the message its `typed_config` carries, and how it is decoded. */
export interface Extension<Out> {
  readonly typeName: string;
  readonly decode: (gate: Gate, typed: AnyValue, path: string) => Out | undefined;
}

/** Makes an entry of an extension table. */
export function extension<M, Out>(type: MessageType<M>, decode: (gate: Gate, message: M, path: string) => Out | undefined): Extension<Out> {
  return {
    typeName: type.name,
    decode(gate, typed, path) {
      const message = unpack(gate, type, typed, path);
      return message === undefined ? undefined : decode(gate, message, path);
    },
  };
}

/** Looks an extension up by the type of its `typed_config`, as Envoy does; an unknown one is a violation that lists the known. */
export function decodeExtension<Out>(
  gate: Gate,
  table: readonly Extension<Out>[],
  family: string,
  name: string,
  config: { readonly case?: string | undefined; readonly value?: AnyValue | undefined } | undefined,
  path: string,
): Out | undefined {
  const known = table.map((entry) => entry.typeName).join(", ");
  const typed = config?.value;
  if (typed === undefined || typed.typeUrl === "") {
    // A typed_config without "@type" has been complained of already, where it was read.
    if (typed === undefined)
      gate.add(at(path, "typed_config"), `is missing (${family}${name === "" ? "" : ` "${name}"`}); known types: ${known}`);
    return undefined;
  }
  const typeName = typed.typeUrl.slice(typed.typeUrl.lastIndexOf("/") + 1);
  const entry = table.find((candidate) => candidate.typeName === typeName);
  if (entry === undefined) {
    gate.add(
      at(path, "typed_config"),
      `${typeName} is not a supported ${family}${name === "" ? "" : ` (name "${name}")`}; known types: ${known}`,
    );
    return undefined;
  }
  return entry.decode(gate, typed, at(path, "typed_config"));
}

/** The message inside an Any of a known type. */
export function unpack<T>(gate: Gate, type: MessageType<T>, typed: AnyValue, path: string): T | undefined {
  if (typed.parsed !== undefined) return typed.parsed as T;
  return decodeStrict(gate, type, typed.value, path);
}

/** Maps an enum value to ours by its proto name; a value that is not in `supported` is a violation that names it. */
export function choose<T>(
  gate: Gate,
  path: string,
  enumName: string,
  value: number,
  supported: Readonly<Record<string, T>>,
  fallback: T,
  why = "",
): T {
  const name = enumDesc(enumName).byNumber.get(value) ?? String(value);
  if (Object.hasOwn(supported, name)) return supported[name] as T;
  gate.add(path, `${name} is not supported${why === "" ? "" : ` (${why})`}; supported: ${Object.keys(supported).join(", ")}`);
  return fallback;
}

type DurationLike = { readonly seconds: bigint; readonly nanos: number };

/** Milliseconds of a duration that must not be negative. */
export function millis(gate: Gate, path: string, duration: DurationLike | undefined, fallbackMs: number): number {
  if (duration === undefined) return fallbackMs;
  const ms = Number(duration.seconds) * 1000 + duration.nanos / 1e6;
  if (ms < 0) gate.add(path, "must not be negative");
  // Timers beyond 24 days overflow; nobody means them.
  if (ms > 0x7fff_ffff) gate.add(path, "must be below 24 days");
  return ms;
}

/** How long a client keeps a cookie: no timer of ours, so that it may be months. */
export function cookieMillis(gate: Gate, path: string, duration: DurationLike | undefined, fallbackMs: number): number {
  if (duration === undefined) return fallbackMs;
  const seconds = Number(duration.seconds);
  if (seconds < 0) gate.add(path, "must not be negative");
  return seconds * 1000 + duration.nanos / 1e6;
}

/** A TCP address (`orUdp`: of either kind); `literal` refuses names where only an IP address makes sense. */
export function hostPort(gate: Gate, path: string, address: Address | undefined, literal: boolean, orUdp = false): HostPort {
  const nowhere = { host: "127.0.0.1", port: 0 };
  if (address === undefined || address.address.case === undefined) {
    gate.add(at(path, "socket_address"), "is missing");
    return nowhere;
  }
  const socket = address.address.value;
  const inner = at(path, "socket_address");
  choose(
    gate,
    at(inner, "protocol"),
    "envoy.config.core.v3.SocketAddress.Protocol",
    socket.protocol,
    orUdp ? { TCP: 1, UDP: 1 } : { TCP: 1 },
    1,
  );
  if (socket.address === "") gate.add(at(inner, "address"), "is missing");
  else if (literal && ipFamily(socket.address) === 0) gate.add(at(inner, "address"), `"${socket.address}" is not an IP address`);
  if (socket.portSpecifier.case === undefined) {
    gate.add(at(inner, "port_value"), "is missing");
    return { host: socket.address, port: 0 };
  }
  if (socket.portSpecifier.value > 65_535) gate.add(at(inner, "port_value"), `${socket.portSpecifier.value} is not a port (0 to 65535)`);
  return { host: socket.address, port: socket.portSpecifier.value };
}

/** The bytes a DataSource names, or undefined (with a violation when it names something that cannot be read). */
export function dataSource(gate: Gate, path: string, source: DataSource | undefined): Uint8Array | undefined {
  if (source === undefined) return undefined;
  switch (source.specifier.case) {
    case "inlineString":
      return new TextEncoder().encode(source.specifier.value);
    case "inlineBytes":
      return source.specifier.value;
    case "filename":
      try {
        return gate.world.readFile(source.specifier.value);
      } catch (error) {
        gate.add(at(path, "filename"), `cannot read ${source.specifier.value}: ${error instanceof Error ? error.message : String(error)}`);
        return undefined;
      }
    case undefined:
      gate.add(path, "needs one of filename, inline_string, inline_bytes");
      return undefined;
  }
}

export function present(gate: Gate, path: string, value: string): string {
  if (value === "") gate.add(path, "must not be empty");
  return value;
}
