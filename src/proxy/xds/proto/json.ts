// Owns: protobuf JSON (protobuf.dev/programming-guides/json) over the descriptors of message.ts, for configuration files. Reads strictly and goes
// on after a mistake, so that one run lists them all. Never decides what a feature means: xds/decode does.

import {
  type AnyValue,
  emptyMessage,
  enumDesc,
  type FieldDesc,
  findMessage,
  type MessageDesc,
  type MessageType,
  messageDesc,
} from "./message.ts";

/** Says what is wrong at a path such as `static_resources.listeners[0].name`. */
export type Complain = (path: string, message: string) => void;

/** Whether a field that the subset lacks may be passed over: the message's full name and the field as written. */
export type Harmless = (message: string, field: string) => boolean;

/** Makes a message of parsed JSON (or YAML). Always answers with a message; it may be trusted only if nothing was complained of. */
export function decodeJson<T>(type: MessageType<T>, json: unknown, path: string, complain: Complain, harmless: Harmless): T {
  return new JsonReader(complain, harmless).message(messageDesc(type.name), json, path) as T;
}

export function joinPath(path: string, field: string): string {
  return path === "" ? field : `${path}.${field}`;
}

class JsonReader {
  readonly #complain: Complain;
  readonly #harmless: Harmless;

  constructor(complain: Complain, harmless: Harmless) {
    this.#complain = complain;
    this.#harmless = harmless;
  }

  message(desc: MessageDesc, json: unknown, path: string, skip = ""): Record<string, unknown> {
    const made = emptyMessage(desc);
    if (!isObject(json)) {
      this.#complain(path, `must be an object (${desc.name}), not ${describe(json)}`);
      return made;
    }
    const seen = new Map<string, string>();
    for (const [key, value] of Object.entries(json)) {
      if (key === skip) continue;
      const field = desc.byName.get(key);
      if (field === undefined) {
        if (!this.#harmless(desc.name, key)) this.#complain(joinPath(path, key), unknownField(desc));
        continue;
      }
      const at = joinPath(path, field.name);
      const before = seen.get(field.name);
      if (before !== undefined) {
        this.#complain(at, `is given twice, as ${before} and as ${key}`);
        continue;
      }
      seen.set(field.name, key);
      // null stands for "not set" everywhere (protobuf JSON mapping).
      if (value === null) continue;
      if (field.oneof === "") {
        made[field.local] = this.#field(field, value, at);
        continue;
      }
      const chosen = made[field.oneof] as { case?: string };
      if (chosen.case !== undefined) {
        const other = desc.byName.get(chosen.case)?.name ?? chosen.case;
        this.#complain(at, `cannot stand beside ${other}: one of them at most`);
        continue;
      }
      made[field.oneof] = { case: field.local, value: this.#field(field, value, at) };
    }
    return made;
  }

  #field(field: FieldDesc, json: unknown, path: string): unknown {
    if (field.label === "list") {
      if (!Array.isArray(json)) {
        this.#complain(path, `must be a list, not ${describe(json)}`);
        return [];
      }
      return json.map((item, at) => this.#value(field, item, `${path}[${at}]`));
    }
    if (field.label === "map") {
      const made: Record<string, unknown> = {};
      if (!isObject(json)) {
        this.#complain(path, `must be an object, not ${describe(json)}`);
        return made;
      }
      for (const [key, item] of Object.entries(json)) {
        const value = this.#value(field, item, `${path}["${key}"]`);
        Object.defineProperty(made, key, { value, enumerable: true, configurable: true, writable: true });
      }
      return made;
    }
    return this.#value(field, json, path);
  }

  #value(field: FieldDesc, json: unknown, path: string): unknown {
    switch (field.kind) {
      case "m":
        return this.message(messageDesc(field.ref), json, path);
      case "e":
        return this.#enum(field.ref, json, path);
      case "A":
        return this.#any(json, path);
      case "D":
        return this.#duration(json, path);
      case "S":
        if (isObject(json)) return json;
        this.#complain(path, `must be an object, not ${describe(json)}`);
        return {};
      case "T":
        this.#complain(path, "timestamps are not read from configuration");
        return undefined;
      case "w":
        return this.#scalar(field.ref, json, path);
      default:
        return this.#scalar(field.kind, json, path);
    }
  }

  #enum(name: string, json: unknown, path: string): number {
    const desc = enumDesc(name);
    if (typeof json === "string") {
      const value = desc.byName.get(json);
      if (value !== undefined) return value;
    } else if (typeof json === "number" && desc.byNumber.has(json)) return json;
    this.#complain(path, `${describe(json)} is not one of ${[...desc.byName.keys()].join(", ")}`);
    return 0;
  }

  #any(json: unknown, path: string): AnyValue {
    const nothing: AnyValue = { typeUrl: "", value: new Uint8Array(0) };
    if (!isObject(json)) {
      this.#complain(path, `must be an object with "@type", not ${describe(json)}`);
      return nothing;
    }
    const typeUrl = json["@type"];
    if (typeof typeUrl !== "string" || typeUrl === "") {
      this.#complain(path, 'needs "@type", such as type.googleapis.com/envoy.extensions.filters.http.router.v3.Router');
      return nothing;
    }
    const desc = findMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1));
    // A type the subset lacks: whoever looks at this Any lists the types that fit there.
    if (desc === undefined) return { ...nothing, typeUrl };
    return { ...nothing, typeUrl, parsed: this.message(desc, json, path, "@type") };
  }

  #duration(json: unknown, path: string): { seconds: bigint; nanos: number } {
    const parts = typeof json === "string" ? /^(-?)(\d{1,12})(?:\.(\d{1,9}))?s$/.exec(json) : null;
    if (parts === null) {
      this.#complain(path, `${describe(json)} is not a duration such as "5s" or "0.25s"`);
      return { seconds: 0n, nanos: 0 };
    }
    const sign = parts[1] === "-" ? -1 : 1;
    return { seconds: BigInt(parts[2] as string) * BigInt(sign), nanos: sign * Number((parts[3] ?? "").padEnd(9, "0")) };
  }

  #scalar(kind: string, json: unknown, path: string): unknown {
    switch (kind) {
      case "s":
        if (typeof json === "string") return json;
        this.#complain(
          path,
          `must be a string, not ${describe(json)}${typeof json === "number" || typeof json === "boolean" ? " (quote it)" : ""}`,
        );
        return "";
      case "b":
        if (typeof json === "boolean") return json;
        this.#complain(path, `must be true or false, not ${describe(json)}`);
        return false;
      case "y":
        if (typeof json === "string" && /^[A-Za-z0-9+/_-]*={0,2}$/.test(json)) return new Uint8Array(Buffer.from(json, "base64"));
        this.#complain(path, `must be base64, not ${describe(json)}`);
        return new Uint8Array(0);
      case "d": {
        const number = typeof json === "string" && json.trim() !== "" ? Number(json) : json;
        if (typeof number === "number" && Number.isFinite(number)) return number;
        this.#complain(path, `must be a number, not ${describe(json)}`);
        return 0;
      }
      case "U":
      case "I":
        if ((typeof json === "number" && Number.isSafeInteger(json)) || (typeof json === "string" && /^-?\d{1,20}$/.test(json)))
          return BigInt(json);
        this.#complain(path, `must be a whole number, not ${describe(json)}`);
        return 0n;
      default: {
        const number = typeof json === "string" && /^-?\d{1,10}$/.test(json) ? Number(json) : json;
        const [least, most] = kind === "u" ? [0, 0xffff_ffff] : [-0x8000_0000, 0x7fff_ffff];
        if (typeof number === "number" && Number.isInteger(number) && number >= least && number <= most) return number;
        this.#complain(path, `must be a whole number from ${least} to ${most}, not ${describe(json)}`);
        return 0;
      }
    }
  }
}

function unknownField(desc: MessageDesc): string {
  const names = desc.fields.map((f) => f.name).sort();
  if (names.length === 0) return `is not supported; ${desc.name} has no settings here`;
  return `is not supported; ${desc.name} has here: ${names.join(", ")}`;
}

function isObject(json: unknown): json is Record<string, unknown> {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

/** A value as it may stand in a message: short, and never a whole document. */
export function describe(json: unknown): string {
  if (json === null || json === undefined) return "nothing";
  if (Array.isArray(json)) return "a list";
  if (typeof json === "object") return "an object";
  const text = typeof json === "string" ? `"${json}"` : String(json);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
