// Owns: two PeerAuthentications of one namespace with the same selector that state different modes for the same ports.

import { type PeerAuthenticationObject, stated } from "../../api/kinds/peerauthentication.ts";
import type { Violation } from "../../api/meta.ts";
import { keyOf, namespaceOf, type World } from "../world.ts";
import { canonical } from "./canonical.ts";

export function peerAuthenticationConflicts(world: World, candidate: PeerAuthenticationObject): readonly Violation[] {
  const out: Violation[] = [];
  for (const other of world.peerAuthentications.get(namespaceOf(candidate)) ?? []) {
    if (keyOf(other) === keyOf(candidate) || selectorOf(other) !== selectorOf(candidate)) continue;
    const compare = (path: string, mine: string | undefined, theirs: string | undefined): void => {
      if (mine === undefined || theirs === undefined || mine === theirs) return;
      out.push({
        path,
        message: `states ${mine} where PeerAuthentication ${keyOf(other)}, ${path}, states ${theirs} for the same workloads; change that one, or select other workloads`,
      });
    };
    compare("spec.mtls.mode", stated(candidate.spec?.mtls), stated(other.spec?.mtls));
    for (const [port, setting] of Object.entries(candidate.spec?.portLevelMtls ?? {}))
      compare(`spec.portLevelMtls["${port}"].mode`, stated(setting), stated(other.spec?.portLevelMtls?.[port]));
  }
  return out;
}

function selectorOf(each: PeerAuthenticationObject): string {
  return canonical(each.spec?.selector?.matchLabels ?? {});
}
