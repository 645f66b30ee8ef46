import { expect, test } from "bun:test";
import type { CompiledTable } from "../route/table.ts";
import { latin1 } from "./bytes.ts";
import { hostOf, noHost } from "./host-memo.ts";

/** A table that knows no host: every answer is null, but of its own. */
const table = (): CompiledTable => ({ exact: new Map(), suffixes: [], prefixes: [], any: null }) as unknown as CompiledTable;

test("connections that ask one table for one authority share the answer", () => {
  const first = table();
  const bytes = latin1("Host: a.example\r\nHost: b.example");
  const one = hostOf(noHost, first, bytes, 6, 15);
  expect([...one.authority]).toEqual([...latin1("a.example")]);
  expect(hostOf(noHost, first, latin1("a.example"), 0, 9)).toBe(one);
  expect(hostOf(one, first, bytes, 6, 15)).toBe(one);
  const other = hostOf(one, first, bytes, 23, 32);
  expect([...other.authority]).toEqual([...latin1("b.example")]);
  // What a connection remembers is its own, whatever others have asked since.
  expect(hostOf(one, first, bytes, 6, 15)).toBe(one);
  // A new configuration is asked anew.
  expect(hostOf(other, table(), bytes, 23, 32)).not.toBe(other);
});
