// Owns: reading the head of an exchange's request once more, for what is asked after it was forwarded: header commands, CORS, mirrors.

import type { HttpChain } from "../chain/chain.ts";
import { Head, parseRequest } from "../http1/head.ts";
import type { Exchange } from "./exchange.ts";

const head = new Head();

/** Offsets into `x.bytes`, valid until the next call; null: the request is not kept any more. */
export function requestHeadOf(x: Exchange): Head | null {
  head.limits = (x.chain.terminal as HttpChain).limits;
  return parseRequest(x.bytes, x.headFrom, x.headTo, head) > 0 ? head : null;
}
