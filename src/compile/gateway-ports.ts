// Owns: which listeners of a Gateway are served, by its plan and by the word of the processes that serve it; and how to say so. Pure.

import { closedListeners } from "../api/kinds/closed-listeners.ts";
import { isHealthy, type WorkloadEntryObject } from "../api/kinds/workloadentry.ts";
import type { GatewayPlan } from "./plan/gateways.ts";
import type { ListenerModel } from "./policies/gateway.ts";
import { gatewayPlan } from "./policies/gateway-plan.ts";
import { workloadSource } from "./sources.ts";
import type { World } from "./world.ts";

/** How a listener that could be opened stands. `reason`: of Programmed, as Gateway API has it (ListenerConditionReason). */
export interface Standing {
  readonly programmed: boolean;
  readonly reason: "Programmed" | "Invalid" | "Pending";
  readonly message: string;
}

const inForce = "in the configuration of the Gateway's processes";

/** Of a Gateway. One that has not a single port open is not healthy, and has something to say. */
export function processesOf(world: World, key: string): readonly WorkloadEntryObject[] {
  return world
    .objects(workloadSource)
    .by("gateway", key)
    .filter((entry) => isHealthy(entry) || closedListeners(entry).length > 0);
}

/** A status is read by people: the words of one process stand for those of all. */
export function standings(world: World, key: string): (listener: ListenerModel) => Standing {
  const plan = gatewayPlan(world, key);
  const processes = processesOf(world, key);
  return (listener) => {
    if (processes.length === 0) return { programmed: false, reason: "Pending", message: "no process serves the Gateway" };
    if (plan === undefined || !isPlanned(plan, listener)) return { programmed: false, reason: "Pending", message: routeless(listener) };
    const transport = listener.protocol === "UDP" ? "udp" : "tcp";
    const said = processes.flatMap((entry) => {
      const own = closedListeners(entry).find((each) => each.port === listener.port && each.transport === transport);
      return own === undefined ? [] : [{ ...own, name: entry.metadata.name }];
    });
    const [first] = said;
    if (first === undefined) return { programmed: true, reason: "Programmed", message: inForce };
    const words = `${first.name} says: ${first.words}`;
    if (said.length === processes.length && said.every(({ reason }) => reason === "NotOpen"))
      return { programmed: false, reason: "Invalid", message: `no process has port ${listener.port} open; ${words}` };
    const lag = first.reason === "Outdated" ? " and goes on with what it had" : "";
    const count = `${processes.length - said.length} of ${processes.length} processes`;
    return { programmed: true, reason: "Programmed", message: `in force at ${count}; ${words}${lag}` };
  };
}

/** What a listener without a port of its own waits for. */
function routeless({ protocol, port, kinds }: ListenerModel): string {
  const wanted = protocol === "TLS" || protocol === "TCP" || protocol === "UDP" ? kinds.join(" or ") : "route";
  return `no ${wanted} that leads somewhere is attached: port ${port} takes nothing for this listener until one is`;
}

function isPlanned({ ports }: GatewayPlan, { name, protocol, port }: ListenerModel): boolean {
  return ports.some((each) => {
    if (each.port !== port || (each.kind === "udp") !== (protocol === "UDP")) return false;
    return each.kind !== "tls" || each.chains.some((chain) => chain.name === name || chain.name.startsWith(`${name}|`));
  });
}
