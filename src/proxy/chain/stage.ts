// Owns: what a stage of the HTTP chain is: one policy between the finding of a route and the choice of an endpoint. Types and verdicts only; which
// stages there are and in what order they run stands in stages.ts, how they are run in http/staged.ts.

import type { Exchange } from "../http/exchange.ts";
import type { Head } from "../http1/head.ts";
import type { BuildContext } from "../runtime/build.ts";

/**
 * What a stage says of a request. `replied`: it has answered it (`reply`, or a `sendReply` followed by `answered`). `held`: nothing goes on until
 * `x.resume(serial)`, called with the `x.serial` of this moment, or until the time in `x.tryAtMs`, which the stage may set.
 * `again`: as `held`, and this stage is asked once more when the request goes on.
 */
export const verdict = { go: 0, replied: 1, held: 2, again: 3 } as const;
export type Verdict = (typeof verdict)[keyof typeof verdict];

/**
 * Compiled for a chain or for one route of it, and shared by all their requests: what belongs to one request stands in its exchange. Every function
 * is synchronous and null where the stage has no business (rule 3).
 */
export interface Stage {
  /** Before authorization, for answers that need none (a CORS preflight): `go` or `replied`. `head` is valid within the call only. */
  readonly early: ((x: Exchange, bytes: Uint8Array, head: Head, nowMs: number) => Verdict) | null;
  /** With route and permit known and nothing chosen yet. */
  readonly request: ((x: Exchange, bytes: Uint8Array, head: Head, nowMs: number) => Verdict) | null;
  /** The answer's head is about to be written, whoever made it; null bytes and head: a reply of ours, with `x.status`. It may add lines by `addAnswerLines`. */
  readonly answer: ((x: Exchange, bytes: Uint8Array | null, head: Head | null) => void) | null;
  /** The request is over, however it ended; called once for each stage whose `request` was called. */
  readonly end: ((x: Exchange) => void) | null;
}

/** One kind of stage: how its configuration becomes a Stage, or null where it asks for nothing. `where` names what it belongs to, for state that outlives a configuration. Throws a sentence. */
export interface StageFamily<Config> {
  build(config: Config, where: string, context: BuildContext): Stage | null;
}
