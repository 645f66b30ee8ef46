// Owns: the conditions by which a WorkloadEntry says what its proxy does not have open of a Gateway's ports: one for each. The control plane that the
// proxy is connected to writes them, so that every control plane of the mesh knows. Never decides what follows from them.

import type { Transport } from "../../wire/names.ts";
import type { Condition, KubeObject } from "../meta.ts";

const typePrefix = "listener.weft.dev/";

/** `NotOpen`: the port takes no connections for this listener. `Outdated`: what it had before goes on. */
export type ClosedReason = "NotOpen" | "Outdated";

export interface ClosedListener {
  readonly port: number;
  readonly transport: Transport;
  readonly reason: ClosedReason;
  /** The proxy's own. */
  readonly words: string;
}

/** A proxy says at most so much of one listener here; all of it stands in its Proxy object. */
const mostWords = 500;

/** Sorted by port; times are the writer's. */
export function closedConditions(closed: readonly ClosedListener[], at: string): Condition[] {
  return closed
    .map(({ port, transport, reason, words }) => ({
      type: `${typePrefix}${port}-${transport}`,
      status: "False" as const,
      reason,
      message: words.slice(0, mostWords),
      lastTransitionTime: at,
    }))
    .sort((a, b) => (a.type < b.type ? -1 : 1));
}

export function isClosedCondition({ type }: Pick<Condition, "type">): boolean {
  return type.startsWith(typePrefix);
}

/** What an entry says; nothing for one that says nothing. */
export function closedListeners({ status }: KubeObject): readonly ClosedListener[] {
  const conditions = (status as { conditions?: readonly Condition[] } | undefined)?.conditions ?? [];
  return conditions.flatMap((each) => {
    const [, port, transport] = /^listener\.weft\.dev\/(\d{1,5})-(tcp|udp)$/.exec(each.type) ?? [];
    if (port === undefined || each.status !== "False") return [];
    const reason = each.reason === "Outdated" ? "Outdated" : "NotOpen";
    return [{ port: Number(port), transport: transport as Transport, reason, words: each.message } as const];
  });
}
