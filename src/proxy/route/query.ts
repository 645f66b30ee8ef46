// Owns: matching one query parameter. The first parameter of that name decides, with its value as it stands (Envoy does not decode either).

import type { QueryMatch } from "../config.ts";
import { equals, indexOf, latin1 } from "../http/bytes.ts";
import { compileBytes } from "./match.ts";

/** Over the query in [from, to), without its `?`. */
export type QueryPredicate = (bytes: Uint8Array, from: number, to: number) => boolean;

export function compileQuery(config: QueryMatch): QueryPredicate {
  const name = latin1(config.name);
  const matches = config.match === null ? null : compileBytes(config.match);
  return (bytes, from, to) => {
    for (let at = from; at < to; ) {
      const amp = indexOf(bytes, at, to, 38);
      const end = amp < 0 ? to : amp;
      const sign = indexOf(bytes, at, end, 61);
      if (equals(bytes, at, sign < 0 ? end : sign, name)) return matches === null || matches(bytes, sign < 0 ? end : sign + 1, end);
      at = end + 1;
    }
    return false;
  };
}
