// Owns: attempts that run beside each other (hedging, Envoy's `hedge_on_per_try_timeout`): the one in `x.up` and those that were parked when the next began.
// The first answer that is no failure wins and the others are given up; a failure counts only when nobody else is left to answer.

import type { Endpoint } from "../balance/endpoint.ts";
import type { Exchange } from "./exchange.ts";
import { dropAttempt, leaveEndpoint } from "./flow.ts";
import type { UpstreamHalf } from "./halves.ts";

export interface Parked {
  readonly half: UpstreamHalf;
  readonly endpoint: Endpoint;
}

/** Sets the attempt under way aside; it goes on. */
export function park(x: Exchange): void {
  const one: Parked = { half: x.up as UpstreamHalf, endpoint: x.endpoint as Endpoint };
  if (x.parked === null) x.parked = [one];
  else x.parked.push(one);
  x.up = null;
}

/** The attempt in `up` is over or was never made: an older one takes its place. False: there is none. */
export function standBack(x: Exchange): boolean {
  const one = x.parked?.pop();
  if (x.parked !== null && x.parked.length === 0) x.parked = null;
  if (one === undefined) return false;
  x.up = one.half;
  x.endpoint = one.endpoint;
  x.sent = true;
  return true;
}

/** A parked attempt failed while others go on. */
export function lostParked(x: Exchange, half: UpstreamHalf): void {
  const parked = x.parked;
  const at = parked === null ? -1 : parked.findIndex((one) => one.half === half);
  if (parked === null || at < 0) return;
  (parked[at] as Parked).endpoint.active--;
  parked.splice(at, 1);
  if (parked.length === 0) x.parked = null;
}

/** An answer has come while several attempts run: true where it is this one's turn to speak, which is then in `up` and alone. */
export function wins(x: Exchange, half: UpstreamHalf, status: number): boolean {
  const parked = x.parked as Parked[];
  if (half !== x.up) {
    const at = parked.findIndex((one) => one.half === half);
    if (at < 0) return false;
    if (status >= 500) {
      lostParked(x, half);
      half.owner = null;
      half.dispose();
      return false;
    }
    const one = parked[at] as Parked;
    parked.splice(at, 1);
    dropAttempt(x);
    x.up = one.half;
    x.endpoint = one.endpoint;
    x.sent = true;
  } else if (status >= 500) {
    half.owner = null;
    leaveEndpoint(x);
    half.dispose();
    standBack(x);
    return false;
  }
  dropParked(x);
  return true;
}

/** Gives all of them up. */
export function dropParked(x: Exchange): void {
  const parked = x.parked;
  x.parked = null;
  if (parked === null) return;
  for (const one of parked) {
    one.half.owner = null;
    one.endpoint.active--;
    one.half.dispose();
  }
}
