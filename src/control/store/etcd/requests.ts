// Owns: making etcd's requests from our words, and the shape of transactions with more operations than etcd takes in one list. Pure.

import { create } from "@bufbuild/protobuf";
import {
  type Compare,
  Compare_CompareResult as CompareResult,
  CompareSchema,
  Compare_CompareTarget as CompareTarget,
  type RangeRequest,
  RangeRequestSchema,
  type RequestOp,
  RequestOpSchema,
  RangeRequest_SortOrder as SortOrder,
  RangeRequest_SortTarget as SortTarget,
  type TxnRequest,
  TxnRequestSchema,
} from "../../../wire/gen/etcd/etcdserverpb/rpc_pb.ts";

const bytes = (key: string | Uint8Array): Uint8Array => (typeof key === "string" ? Buffer.from(key) : key);

export interface Range {
  readonly from: string | Uint8Array;
  /** Absent = the one key. */
  readonly to?: string | Uint8Array;
  readonly limit?: number;
  /** etcd's own revision; 0 = the newest. */
  readonly revision?: bigint;
  readonly descending?: boolean;
  readonly keysOnly?: boolean;
}

export function range({ from, to, limit = 0, revision = 0n, descending = false, keysOnly = false }: Range): RangeRequest {
  return create(RangeRequestSchema, {
    key: bytes(from),
    ...(to !== undefined && { rangeEnd: bytes(to) }),
    limit: BigInt(limit),
    revision,
    keysOnly,
    ...(descending && { sortOrder: SortOrder.DESCEND, sortTarget: SortTarget.KEY }),
  });
}

export function read(what: Range): RequestOp {
  return create(RequestOpSchema, { request: { case: "requestRange", value: range(what) } });
}

export function put(key: string, value: Uint8Array | string, lease = 0n): RequestOp {
  return create(RequestOpSchema, {
    request: {
      case: "requestPut",
      value: { $typeName: "etcdserverpb.PutRequest", key: bytes(key), value: bytes(value), lease, ignoreValue: false },
    },
  });
}

/** Leaves the value as it is and takes it from its lease; fails when the key is gone. */
export function keepForGood(key: string): RequestOp {
  return create(RequestOpSchema, {
    request: {
      case: "requestPut",
      value: { $typeName: "etcdserverpb.PutRequest", key: bytes(key), value: new Uint8Array(0), lease: 0n, ignoreValue: true },
    },
  });
}

export function remove(key: string | Uint8Array, to?: string | Uint8Array): RequestOp {
  return create(RequestOpSchema, {
    request: {
      case: "requestDeleteRange",
      value: { $typeName: "etcdserverpb.DeleteRangeRequest", key: bytes(key), rangeEnd: to === undefined ? new Uint8Array(0) : bytes(to) },
    },
  });
}

/** The key was last written at etcd's revision `at`; 0 = it is not there. */
export function writtenAt(key: string, at: bigint): Compare {
  return create(CompareSchema, {
    result: CompareResult.EQUAL,
    target: CompareTarget.MOD,
    key: bytes(key),
    targetUnion: { case: "modRevision", value: at },
  });
}

/** The key was made at etcd's revision `at` and has been there since. */
export function madeAt(key: string, at: bigint): Compare {
  return create(CompareSchema, {
    result: CompareResult.EQUAL,
    target: CompareTarget.CREATE,
    key: bytes(key),
    targetUnion: { case: "createRevision", value: at },
  });
}

export function holds(key: string, value: string): Compare {
  return create(CompareSchema, {
    result: CompareResult.EQUAL,
    target: CompareTarget.VALUE,
    key: bytes(key),
    targetUnion: { case: "value", value: bytes(value) },
  });
}

/** etcd's --max-txn-ops is 128 by default, and counts each level of nesting against it. */
const mostOperations = 120;

/** Many operations as a tree of transactions: etcd limits the operations along each branch, not their sum. */
export function nested(operations: readonly RequestOp[]): RequestOp[] {
  if (operations.length <= mostOperations) return [...operations];
  // Three levels of forty are 64 000.
  const width = operations.length <= 60 * 60 ? 60 : 40;
  let level: RequestOp[] = [...operations];
  while (level.length > width) {
    const next: RequestOp[] = [];
    for (let at = 0; at < level.length; at += width) {
      const success = level.slice(at, at + width);
      next.push(create(RequestOpSchema, { request: { case: "requestTxn", value: create(TxnRequestSchema, { success }) } }));
    }
    level = next;
  }
  return level;
}

export function transaction(compare: readonly Compare[], success: readonly RequestOp[], failure: readonly RequestOp[]): TxnRequest {
  return create(TxnRequestSchema, { compare: [...compare], success: nested(success), failure: [...failure] });
}
