// Owns: the path that a request is routed, judged and forwarded by. Usually the bytes of its head; where policies read paths, the normal form.

import { rewrittenPath, setPath, subject } from "../authz/judge.ts";
import { pathEnd } from "../authz/path.ts";
import type { HttpChain } from "../chain/chain.ts";
import type { Head } from "../http1/head.ts";
import { latin1 } from "./bytes.ts";

const slash = latin1("/");

/** The path is bytes[from, to), its query ends at `queryTo`. One for the process, valid until the next `readTarget`. */
export const target = { bytes: slash, from: 0, to: 1, queryTo: 1, changed: false };

/** Fills `target`. False: the path cannot be normalised and must be refused. */
export function readTarget(http: HttpChain, bytes: Uint8Array, head: Head, isConnect: boolean): boolean {
  target.bytes = bytes;
  target.from = head.pathFrom;
  target.queryTo = head.pathTo;
  target.changed = false;
  if (http.readsPath) {
    if (!setPath(bytes, head.pathFrom, head.pathTo)) return false;
    if (rewrittenPath.size > 0) {
      target.bytes = rewrittenPath.bytes.slice(0, rewrittenPath.size);
      target.from = 0;
      target.queryTo = rewrittenPath.size;
      target.changed = true;
    }
    target.to = subject.pathTo;
  } else target.to = pathEnd(bytes, head.pathFrom, head.pathTo);
  if (target.to === target.from && !isConnect) {
    // RFC 9110 4.2.3: an absolute target without a path means `/`; policies judge it as that.
    target.bytes = slash;
    target.from = 0;
    target.to = 1;
    target.queryTo = 1;
    subject.pathBytes = slash;
    subject.pathFrom = 0;
    subject.pathTo = 1;
    subject.fullTo = 1;
  }
  return true;
}
