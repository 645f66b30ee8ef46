// Owns: a whole store out of etcd, true at one revision, and a whole store into an empty prefix of etcd. Never writes where a store stands already.

import { type Dump, type DumpRow, liveRows, makeDump } from "../dump.ts";
import { type ObjectKey, StoreFailure } from "../store.ts";
import { afterPrefix, type Body, formatMark, readHistory, writeHistory, writeObject } from "./layout.ts";
import { put, remove, transaction, writtenAt } from "./requests.ts";
import type { Rows } from "./rows.ts";

const loadingMark = `${formatMark} loading`;
const batchBytes = 512 * 1024;
const batchRows = 100;
const inlineBytes = 48 * 1024;
const pieceBytes = 512 * 1024;

export async function dumpEtcd(rows: Rows): Promise<Dump> {
  const { kvs, head } = await rows.snapshot(rows.layout.history);
  const found: DumpRow[] = [];
  for (const kv of kvs) {
    const row = readHistory(kv.value);
    if (row.revision > head.revision) continue;
    const { resource, namespace, name } = row.key;
    const body = await rows.bodyOf(row.body);
    found.push({
      revision: row.revision,
      type: row.type,
      resource,
      namespace,
      name,
      body,
      at: row.atMs,
      author: row.by,
      tx: row.transaction,
    });
  }
  return makeDump(head.revision, head.oldest, found);
}

/** Throws StoreFailure when the prefix holds anything but a copy that was cut short, which is cleared away. Keys of leases, members and secrets stay. */
export async function loadEtcd(rows: Rows, dump: Dump): Promise<void> {
  const { layout, connection } = rows;
  const all = `${layout.prefix}/`;
  const [format, head, anything] = await rows.several([
    { from: layout.format },
    { from: layout.head },
    { from: all, to: afterPrefix(all), limit: 1, keysOnly: true },
  ]);
  const text = (value: Uint8Array | undefined) => (value === undefined ? undefined : new TextDecoder().decode(value));
  const mark = text(format?.kvs[0]?.value);
  const revision = text(head?.kvs[0]?.value);
  if (mark === undefined && anything?.kvs[0] !== undefined)
    throw new StoreFailure(`etcd holds keys of another program below ${layout.prefix}; name another prefix: etcd://HOST:PORT/PREFIX`);
  if (mark !== undefined && mark !== loadingMark && (revision ?? "0") !== "0")
    throw new StoreFailure(
      `etcd holds a store at revision ${revision} below ${layout.prefix}; name another prefix, or delete that one (etcdctl del --prefix ${all})`,
    );
  const begun = await connection.txn(
    transaction([writtenAt(layout.format, format?.kvs[0]?.modRevision ?? 0n)], [put(layout.format, loadingMark)], []),
    true,
  );
  if (!begun.succeeded) throw new StoreFailure(`somebody else writes below ${layout.prefix} in etcd at this moment; nothing was copied`);
  for (const prefix of [layout.objects, layout.history, layout.blobs])
    await connection.txn(transaction([], [remove(prefix, afterPrefix(prefix))], []), true);

  let waiting: ReturnType<typeof put>[] = [];
  let bytes = 0;
  const flush = async () => {
    if (waiting.length > 0) await connection.txn(transaction([], waiting, []), true);
    waiting = [];
    bytes = 0;
  };
  const add = async (key: string, value: Uint8Array) => {
    if (waiting.length >= batchRows || bytes + value.length > batchBytes) await flush();
    waiting.push(put(key, value));
    bytes += value.length + key.length;
  };
  const state = new Map<string, { readonly revision: number; readonly body: Body }>();
  for (const row of dump.rows) {
    const key: ObjectKey = { resource: row.resource, namespace: row.namespace, name: row.name };
    const path = layout.object(key);
    const before = state.get(path);
    let body: Body;
    const size = Buffer.byteLength(row.body);
    if (row.type === "deleted" && before !== undefined && "blob" in before.body) body = before.body;
    else if (size <= inlineBytes) body = { text: row.body };
    else {
      const blob = `copy.${row.revision}`;
      const whole = Buffer.from(row.body);
      const pieces = Math.ceil(size / pieceBytes);
      for (let at = 0; at < pieces; at++) await add(layout.blob(blob, at), whole.subarray(at * pieceBytes, (at + 1) * pieceBytes));
      body = { blob, pieces };
    }
    const value = writeHistory({
      revision: row.revision,
      type: row.type,
      key,
      atMs: row.at,
      by: row.author,
      transaction: row.tx,
      previous: before?.revision ?? 0,
      previousBlob: before !== undefined && "blob" in before.body ? before.body.blob : undefined,
      attempt: "copy",
      body,
    });
    await add(layout.at(row.revision), value);
    if (row.type === "deleted") state.delete(path);
    else state.set(path, { revision: row.revision, body });
  }
  for (const row of liveRows(dump)) {
    const key: ObjectKey = { resource: row.resource, namespace: row.namespace, name: row.name };
    const now = state.get(layout.object(key));
    if (now !== undefined) await add(layout.object(key), writeObject({ revision: row.revision, key, body: now.body }));
  }
  await flush();
  const last = [
    put(layout.head, String(dump.revision)),
    put(layout.oldest, `${dump.oldest} ${dump.oldest}`),
    put(layout.format, formatMark),
  ];
  await connection.txn(transaction([], last, []), true);
}
