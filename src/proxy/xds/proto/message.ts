// Owns: descriptors of the protobuf messages a proxy reads and writes, parsed on first use from the generated text in schema.ts.
// Why not protobuf-es at run time: loading its descriptors takes 9 MB of private memory and 40 ms, of a budget of 12 MB and 100 ms for a
// whole sidecar. The types are still protobuf-es's (`import type` from wire/gen), and a test holds both codecs to the same bytes.
// Never decodes anything itself: binary.ts and json.ts do.

import { schemaText } from "./schema.ts";

/**
 * How one value is written. Scalars: s string, b bool, y bytes, u uint32, i int32, U uint64, I int64, d double. e enum and m message are
 * followed by a name. Well-known: A Any, S Struct, D Duration, T Timestamp, wu UInt32Value, wU UInt64Value, wb BoolValue.
 */
export interface FieldDesc {
  /** As in the .proto file. */
  readonly name: string;
  /** As in protobuf-es and in protobuf JSON. */
  readonly local: string;
  readonly number: number;
  readonly label: "one" | "list" | "map";
  /** The first letter of the kind. */
  readonly kind: "s" | "b" | "y" | "u" | "i" | "U" | "I" | "d" | "e" | "m" | "A" | "S" | "D" | "T" | "w";
  /** The message or enum name (`e`, `m`), the scalar's letter (`w`); otherwise empty. */
  readonly ref: string;
  /** camelCase name of the oneof it belongs to; empty for none. */
  readonly oneof: string;
}

export interface MessageDesc {
  readonly name: string;
  readonly fields: readonly FieldDesc[];
  readonly byNumber: ReadonlyMap<number, FieldDesc>;
  /** By proto name and by JSON name. */
  readonly byName: ReadonlyMap<string, FieldDesc>;
}

export interface EnumDesc {
  readonly name: string;
  readonly byName: ReadonlyMap<string, number>;
  readonly byNumber: ReadonlyMap<number, string>;
}

/** A name with the TypeScript type of its messages. */
export interface MessageType<T> {
  readonly name: string;
  /** Never set; carries T. */
  readonly shape?: T;
}

/** `messageType<Listener>("envoy.config.listener.v3.Listener")` */
export function messageType<T>(name: string): MessageType<T> {
  return { name };
}

const lines = new Map<string, string>();
for (const line of schemaText.replaceAll("~x.", "envoy.extensions.").replaceAll("~c.", "envoy.config.").split("\n")) {
  const end = line.indexOf(" ", 2);
  if (line !== "") lines.set(end < 0 ? line.slice(2) : line.slice(2, end), line);
}

const messages = new Map<string, MessageDesc>();
const enums = new Map<string, EnumDesc>();

/** The descriptor of a message by its full name; undefined when the subset has no such message. */
export function findMessage(name: string): MessageDesc | undefined {
  const known = messages.get(name);
  if (known !== undefined) return known;
  const line = lines.get(name);
  if (line === undefined || !line.startsWith("M ")) return undefined;
  const fields = line.split(" ").slice(2).map(parseField);
  const byName = new Map<string, FieldDesc>();
  for (const field of fields) byName.set(field.name, field).set(field.local, field);
  const made: MessageDesc = { name, fields, byNumber: new Map(fields.map((f) => [f.number, f])), byName };
  messages.set(name, made);
  return made;
}

/** As findMessage, for names that are ours: throws on a name the subset lacks (a bug, not bad input). */
export function messageDesc(name: string): MessageDesc {
  const found = findMessage(name);
  if (found === undefined) throw new Error(`no message ${name} in the subset`);
  return found;
}

export function enumDesc(name: string): EnumDesc {
  const known = enums.get(name);
  if (known !== undefined) return known;
  const line = lines.get(name);
  if (line === undefined || !line.startsWith("E ")) throw new Error(`no enum ${name} in the subset`);
  const byName = new Map<string, number>();
  const byNumber = new Map<number, string>();
  for (const pair of line.split(" ").slice(2)) {
    const [value, number] = pair.split("=") as [string, string];
    byName.set(value, Number(number));
    byNumber.set(Number(number), value);
  }
  const made: EnumDesc = { name, byName, byNumber };
  enums.set(name, made);
  return made;
}

function parseField(text: string): FieldDesc {
  const [name, number, kindText, oneof] = text.split("=") as [string, string, string, string | undefined];
  const label = kindText.startsWith("*") ? "list" : kindText.startsWith("%") ? "map" : "one";
  const kind = label === "one" ? kindText : kindText.slice(1);
  return {
    name,
    local: camel(name),
    number: Number(number),
    label,
    kind: kind[0] as FieldDesc["kind"],
    ref: kind.slice(1),
    oneof: oneof === undefined ? "" : camel(oneof),
  };
}

function camel(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_all, letter: string) => letter.toUpperCase());
}

/** The value a field has when it is absent, as protobuf-es gives it; undefined for messages and members of a oneof. */
export function absent(field: FieldDesc): unknown {
  if (field.label === "list") return [];
  if (field.label === "map") return {};
  switch (field.kind) {
    case "s":
      return "";
    case "b":
      return false;
    case "y":
      return new Uint8Array(0);
    case "u":
    case "i":
    case "d":
    case "e":
      return 0;
    case "U":
    case "I":
      return 0n;
    default:
      return undefined;
  }
}

/** A message with nothing set. */
export function emptyMessage(desc: MessageDesc): Record<string, unknown> {
  const made: Record<string, unknown> = {};
  for (const field of desc.fields) {
    if (field.oneof !== "") made[field.oneof] = { case: undefined };
    else made[field.local] = absent(field);
  }
  return made;
}

/** An Any as these codecs hand it out: `parsed` is there when it came from JSON, where no bytes exist. */
export interface AnyValue {
  readonly typeUrl: string;
  readonly value: Uint8Array;
  readonly parsed?: Record<string, unknown>;
}
