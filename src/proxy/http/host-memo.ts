// Owns: the last authority that a connection asked for and the virtual host it leads to: most clients ask for the same one all the time. Connections that
// ask for the same share one memo, so that it costs each of them a reference. Never decides what a host is: the route table does.

import { type CompiledHost, type CompiledTable, findHost } from "../route/table.ts";

/** What was asked, of which table, and the answer. Never changed. */
export interface HostMemo {
  readonly table: CompiledTable | null;
  readonly authority: Uint8Array;
  readonly host: CompiledHost | null;
}

/** Of a connection that has asked for nothing yet. */
export const noHost: HostMemo = { table: null, authority: new Uint8Array(0), host: null };
/** The newest of the process. */
let newest: HostMemo = noHost;

/** The memo for the authority in bytes[from, to): `last` when it fits, which costs one comparison. */
export function hostOf(last: HostMemo, table: CompiledTable, bytes: Uint8Array, from: number, to: number): HostMemo {
  if (fits(last, table, bytes, from, to)) return last;
  if (!fits(newest, table, bytes, from, to))
    newest = { table, authority: Uint8Array.prototype.slice.call(bytes, from, to), host: findHost(table, bytes, from, to) };
  return newest;
}

function fits(memo: HostMemo, table: CompiledTable, bytes: Uint8Array, from: number, to: number): boolean {
  const known = memo.authority;
  const size = to - from;
  if (memo.table !== table || known.length !== size) return false;
  for (let i = 0; i < size; i++) if (known[i] !== bytes[from + i]) return false;
  return true;
}
