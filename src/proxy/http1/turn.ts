// Owns: what an HTTP/1 connection needs only while a request is under way, shared by all connections of the process: an idle one holds none of it, which
// is more than half of what it would take. Never decides when a request is over: its connection does.

import type { CompiledChain } from "../chain/chain.ts";
import { Exchange } from "../http/exchange.ts";
import type { DownstreamHalf } from "../http/halves.ts";
import { BodyReader } from "./body.ts";

/** Turns kept for requests to come; those of a burst are left to the collector. */
const kept = 512;
const spare: Turn[] = [];

/** One request being read and answered. */
export class Turn {
  readonly exchange: Exchange;
  readonly body = new BodyReader();

  constructor(half: DownstreamHalf, chain: CompiledChain) {
    this.exchange = new Exchange(half, chain);
  }
}

/** A turn for a request of `half`. */
export function takeTurn(half: DownstreamHalf, chain: CompiledChain): Turn {
  const turn = spare.pop();
  if (turn === undefined) return new Turn(half, chain);
  turn.exchange.attach(half, chain);
  return turn;
}

/** The exchange has ended in good order, and nobody will touch it but by another `takeTurn`. */
export function giveBack(turn: Turn): void {
  if (spare.length < kept) spare.push(turn);
}
