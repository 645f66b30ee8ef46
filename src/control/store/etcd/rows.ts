// Owns: reading the store's rows out of etcd: page by page, at one of etcd's own revisions, with bodies in pieces put together. Never writes.

import { create } from "@bufbuild/protobuf";
import { type RangeResponse, RequestOpSchema, TxnRequestSchema } from "../../../wire/gen/etcd/etcdserverpb/rpc_pb.ts";
import type { KeyValue } from "../../../wire/gen/etcd/mvccpb/kv_pb.ts";
import { type Revision, StoreFailure } from "../store.ts";
import { type EtcdConnection, EtcdError } from "./connection.ts";
import { afterKey, afterPrefix, type Body, type HistoryRow, type Layout, readHistory } from "./layout.ts";
import { nested, type Range, range } from "./requests.ts";

/** Rows a page: with bodies of 48 KiB at most in a row that is far below the largest message. */
const pageRows = 500;
/** A list that etcd compacts away while it is read is begun again so often. */
const mostRestarts = 3;

const text = new TextDecoder();

export interface Head {
  readonly revision: Revision;
  /** etcd's revision of the last write of `head`; 0 = the store is new. */
  readonly writtenAt: bigint;
  readonly oldest: Revision;
  readonly swept: Revision;
  readonly oldestWrittenAt: bigint;
  /** etcd's revision at which all this is true. */
  readonly etcd: bigint;
}

export class Rows {
  readonly connection: EtcdConnection;
  readonly layout: Layout;

  constructor(connection: EtcdConnection, layout: Layout) {
    this.connection = connection;
    this.layout = layout;
  }

  async head(): Promise<Head> {
    const [head, oldest] = await this.several([{ from: this.layout.head }, { from: this.layout.oldest }]);
    return headOf(head as RangeResponse, oldest as RangeResponse);
  }

  /** Several reads, true at one moment. */
  async several(reads: readonly Range[]): Promise<RangeResponse[]> {
    const operations = reads.map((what) => create(RequestOpSchema, { request: { case: "requestRange", value: range(what) } }));
    const answer = await this.connection.txn(create(TxnRequestSchema, { success: nested(operations) }), true);
    const found: RangeResponse[] = [];
    const collect = (responses: typeof answer.responses): void => {
      for (const { response } of responses) {
        if (response.case === "responseRange") found.push(response.value);
        else if (response.case === "responseTxn") collect(response.value.responses);
      }
    };
    collect(answer.responses);
    const { header } = answer;
    // A read inside a transaction carries no header of its own.
    for (const each of found) if (header !== undefined) each.header = header;
    return found;
  }

  /** All keys of a prefix, as they were at one moment together with the head. */
  async snapshot(prefix: string): Promise<{ readonly kvs: readonly KeyValue[]; readonly head: Head }> {
    for (let attempt = 1; ; attempt++) {
      const to = afterPrefix(prefix);
      const [first, head, oldest] = await this.several([
        { from: prefix, to, limit: pageRows },
        { from: this.layout.head },
        { from: this.layout.oldest },
      ]);
      const at = headOf(head as RangeResponse, oldest as RangeResponse);
      const page = first as RangeResponse;
      try {
        const rest = page.more ? await this.all(afterKey(lastKey(page)), to, at.etcd) : [];
        return { kvs: [...page.kvs, ...rest], head: at };
      } catch (cause) {
        if (!(cause instanceof EtcdError && cause.trouble.compacted) || attempt >= mostRestarts) throw cause;
      }
    }
  }

  /** A range, page by page, at one of etcd's revisions (0: the newest, each page for itself). */
  async all(from: string | Uint8Array, to: Uint8Array, revision = 0n): Promise<KeyValue[]> {
    const found: KeyValue[] = [];
    let at: string | Uint8Array = from;
    for (;;) {
      const page = await this.connection.range(range({ from: at, to, limit: pageRows, revision }));
      found.push(...page.kvs);
      if (!page.more) return found;
      at = afterKey(lastKey(page));
    }
  }

  /** History behind `after`, oldest first, one page; `etcd`: the revision of etcd at which it is true. */
  async historyPage(after: Revision): Promise<{ readonly rows: readonly HistoryRow[]; readonly more: boolean; readonly etcd: bigint }> {
    const page = await this.connection.range(
      range({ from: this.layout.at(after + 1), to: afterPrefix(this.layout.history), limit: pageRows }),
    );
    return { rows: page.kvs.map((kv) => readHistory(kv.value)), more: page.more, etcd: page.header?.revision ?? 0n };
  }

  /** The text of a body, wherever it stands. */
  async bodyOf(body: Body): Promise<string> {
    if ("text" in body) return body.text;
    const prefix = `${this.layout.blobs}${body.blob}/`;
    const pieces = await this.all(prefix, afterPrefix(prefix));
    if (pieces.length !== body.pieces)
      throw new StoreFailure(
        `the store in etcd lacks ${body.pieces - pieces.length} of ${body.pieces} pieces of the body ${body.blob}: it is damaged. Put a backup back.`,
      );
    return text.decode(Buffer.concat(pieces.map((piece) => piece.value)));
  }
}

function lastKey(page: RangeResponse): Uint8Array {
  return (page.kvs.at(-1) as KeyValue).key;
}

export function headOf(head: RangeResponse, oldest: RangeResponse): Head {
  const [kv] = head.kvs;
  const [kept] = oldest.kvs;
  const [first = 1, swept = 1] = kept === undefined ? [] : text.decode(kept.value).split(" ").map(Number);
  return {
    revision: kv === undefined ? 0 : Number(text.decode(kv.value)),
    writtenAt: kv?.modRevision ?? 0n,
    oldest: first,
    swept,
    oldestWrittenAt: kept?.modRevision ?? 0n,
    etcd: head.header?.revision ?? 0n,
  };
}
