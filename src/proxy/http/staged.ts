// Owns: running the stages of a chain (chain/stage.ts) for one request, and going on with it when one that held it lets go.

import type { HttpChain } from "../chain/chain.ts";
import { type Stage, verdict } from "../chain/stage.ts";
import type { Head } from "../http1/head.ts";
import type { CompiledRoute } from "../route/table.ts";
import type { Exchange } from "./exchange.ts";

/** The stages of this request; what a route replaces is built with its first request. */
export function stagesFor(http: HttpChain, route: CompiledRoute): readonly Stage[] | null {
  const overrides = route.stages;
  if (overrides === null) return http.stages === null || http.stages.length === 0 ? null : http.stages;
  let stages = http.routeStages.get(route);
  if (stages === undefined) {
    stages = http.buildRouteStages(route);
    if (stages !== null && stages.length === 0) stages = null;
    http.routeStages.set(route, stages);
  }
  return stages;
}

/** Those that come before authorization; false: answered. */
export function runEarly(x: Exchange, bytes: Uint8Array, head: Head, nowMs: number): boolean {
  const stages = x.stages as readonly Stage[];
  for (let i = 0; i < stages.length; i++) {
    const stage = stages[i] as Stage;
    if (stage.early !== null && stage.early(x, bytes, head, nowMs) !== verdict.go) return false;
  }
  return true;
}

/** From where the request stands to the end of the list; false: answered, or held. */
export function runStages(x: Exchange, bytes: Uint8Array, head: Head, nowMs: number): boolean {
  const stages = x.stages as readonly Stage[];
  while (x.stageAt < stages.length) {
    const stage = stages[x.stageAt++] as Stage;
    if (stage.request === null) continue;
    const said = stage.request(x, bytes, head, nowMs);
    if (said === verdict.go) continue;
    if (said === verdict.held || said === verdict.again) {
      x.held = true;
      x.askAgain = said === verdict.again;
      x.ownHalf.arm();
    }
    return false;
  }
  return true;
}

/** The answer's head is about to be written. */
export function answerStages(x: Exchange, bytes: Uint8Array | null, head: Head | null): void {
  const stages = x.stages as readonly Stage[];
  x.answerLines = null;
  for (let i = 0; i < stages.length; i++) (stages[i] as Stage).answer?.(x, bytes, head);
}

/** Adds whole header lines, each with its CRLF, to the answer. */
export function addAnswerLines(x: Exchange, lines: Uint8Array): void {
  x.answerLines = x.answerLines === null ? lines : Buffer.concat([x.answerLines, lines]);
}

/** Adds whole header lines, each with its CRLF, to every attempt of the request. */
export function addRequestLines(x: Exchange, lines: Uint8Array): void {
  x.requestLines = x.requestLines === null ? lines : Buffer.concat([x.requestLines, lines]);
}

/** The request is over. */
export function endStages(x: Exchange): void {
  const stages = x.stages as readonly Stage[];
  const run = x.stageAt;
  x.stages = null;
  x.stageAt = 0;
  x.held = false;
  x.askAgain = false;
  x.answerLines = null;
  for (let i = 0; i < run; i++) (stages[i] as Stage).end?.(x);
}
