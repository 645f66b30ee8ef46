// Owns: two ServiceEntries for one host: only one of them could ever be used, and which would depend on their age; and hosts that are names of Services.

import type { ServiceEntryObject } from "../../api/kinds/serviceentry-spec.ts";
import type { Violation } from "../../api/meta.ts";
import { serviceWithName } from "../plan/external.ts";
import { serviceEntrySource } from "../route-sources.ts";
import { keyOf, type World } from "../world.ts";

export function serviceEntryConflicts(world: World, candidate: ServiceEntryObject): readonly Violation[] {
  return candidate.spec.hosts.flatMap((host, at) => {
    const service = serviceWithName(world, host);
    if (service !== undefined)
      return [
        {
          path: `spec.hosts[${at}]`,
          message: `${host} is a name of Service ${service}, which has it first; use the host's full name outside the mesh`,
        },
      ];
    const other = world
      .objects(serviceEntrySource)
      .by("host", host)
      .find((each) => keyOf(each) !== keyOf(candidate));
    if (other === undefined) return [];
    const message = `ServiceEntry ${keyOf(other)} has host ${host} already, and one of the two would do nothing; add what is missing to that one, or take the host out of one of them`;
    return [{ path: `spec.hosts[${at}]`, message }];
  });
}
