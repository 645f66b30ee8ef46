// Owns: what a control plane does that cannot reach the store while another one can: it sends its proxies there, for what it knows grows old, and the
// others begin to believe that its proxies are gone. When nobody can reach the store it keeps them. Decides from facts it is given; opens nothing itself.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Member } from "./session.ts";

export interface ElsewhereDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** How long the store has been silent, ms; 0 while it answers. */
  readonly silentMs: () => number;
  /** The other control planes, as far as is known. */
  readonly others: () => readonly Member[];
  /** Whether one says that it is ready. */
  readonly isReady: (member: Member) => Promise<boolean>;
  /** See `XdsServer.shed`. */
  readonly shed: (reason: string | undefined) => void;
}

/** Longer than etcd's election; proxies are elsewhere long before anybody takes them for lost (30 s). */
export const shedAfterMs = 5_000;
const lookEveryMs = 1_000;

export function watchStore(deps: ElsewhereDeps): Timer {
  let shed = false;
  let asking = false;
  const look = async () => {
    if (deps.silentMs() < shedAfterMs) {
      if (shed) deps.shed(undefined);
      shed = false;
      return;
    }
    if (shed) return;
    const ready = await Promise.all(deps.others().map((member) => deps.isReady(member).catch(() => false)));
    const found = deps.others()[ready.indexOf(true)];
    if (found === undefined || deps.silentMs() < shedAfterMs) return;
    shed = true;
    deps.log.warn({ to: found.xdsAddress }, "The store does not answer here, but elsewhere: proxies are sent there");
    deps.shed(`this control plane cannot reach its store; connect to another one, for example ${found.xdsAddress}`);
  };
  return deps.clock.every(lookEveryMs, () => {
    if (asking) return;
    asking = true;
    look()
      .catch((cause: unknown) => deps.log.error({ cause }, "It could not be found out who reaches the store"))
      .finally(() => {
        asking = false;
      });
  });
}
