// Owns: header edits of a table, virtual host, route or cluster of a route to HeaderEdits. Never applies one.

import type { HeaderValueOption } from "../../../wire/gen/envoy/config/core/v3/base_pb.ts";
import type { HeaderEdits, HeaderValue } from "../../config.ts";
import { compileValue } from "../../route/commands.ts";
import { choose, type Gate } from "./gate.ts";

export const noEdits: HeaderEdits = { remove: [], set: [], add: [] };

/** Framing and connection handling belong to the proxy (RFC 9110 section 7.6.1, RFC 9112 section 6); Envoy refuses the host as well. */
const ownHeaders = [
  "host",
  "connection",
  "content-length",
  "transfer-encoding",
  "te",
  "trailer",
  "upgrade",
  "keep-alive",
  "proxy-connection",
];

function headerName(gate: Gate, path: string, name: string): string {
  const lower = name.toLowerCase();
  if (!/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(lower)) gate.add(path, `"${name}" is not a header name`);
  else if (ownHeaders.includes(lower)) gate.add(path, `"${lower}" belongs to the proxy and cannot be edited`);
  return lower;
}

/** `noEdits` itself where there are none. */
export function headerEdits(
  gate: Gate,
  options: readonly HeaderValueOption[],
  removals: readonly string[],
  path: string,
  which: "request_headers" | "response_headers",
): HeaderEdits {
  if (options.length + removals.length === 0) return noEdits;
  const set: HeaderValue[] = [];
  const add: HeaderValue[] = [];
  const addIfAbsent: HeaderValue[] = [];
  const setIfPresent: HeaderValue[] = [];
  options.forEach((option, n) => {
    const where = `${path}.${which}_to_add[${n}]`;
    const name = headerName(gate, `${where}.header.key`, option.header?.key ?? "");
    const value = option.header?.value ?? "";
    if (value === "") gate.add(`${where}.header.value`, "must not be empty");
    if (hasControl(value)) gate.add(`${where}.header.value`, "must not contain control characters");
    try {
      compileValue(value);
    } catch (error) {
      gate.add(`${where}.header.value`, (error as Error).message);
    }
    // Deprecated, and stronger than append_action where it stands. protobuf-es's type has the wrapper here; our reader gives what is in it.
    const append = option.append as unknown as boolean | undefined;
    if (append !== undefined && option.appendAction !== 0)
      gate.add(`${where}.append`, "and append_action exclude each other; remove append");
    const list =
      append !== undefined
        ? append
          ? add
          : set
        : choose(
            gate,
            `${where}.append_action`,
            "envoy.config.core.v3.HeaderValueOption.HeaderAppendAction",
            option.appendAction,
            {
              APPEND_IF_EXISTS_OR_ADD: add,
              OVERWRITE_IF_EXISTS_OR_ADD: set,
              ADD_IF_ABSENT: addIfAbsent,
              OVERWRITE_IF_EXISTS: setIfPresent,
            },
            add,
          );
    list.push({ name, value });
  });
  const remove = removals.map((name, n) => headerName(gate, `${path}.${which}_to_remove[${n}]`, name));
  return {
    remove,
    set,
    add,
    ...(addIfAbsent.length === 0 ? {} : { addIfAbsent }),
    ...(setIfPresent.length === 0 ? {} : { setIfPresent }),
  };
}

export function hasControl(value: string): boolean {
  for (let n = 0; n < value.length; n++) {
    const code = value.charCodeAt(n);
    if (code < 32 ? code !== 9 : code === 127) return true;
  }
  return false;
}
