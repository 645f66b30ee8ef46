// Owns: how PeerAuthentications fold into the mode of one port of one workload. Default: STRICT.

import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import { type MutualTlsMode, type PeerAuthenticationObject, stated } from "../../api/kinds/peerauthentication.ts";
import { matchesLabels } from "../../api/selector.ts";
import type { Selectable, World } from "../world.ts";

/** `appPort`: where the application listens; undefined = a port without a sidecar's listener. */
export function mutualTlsMode(world: World, workload: Selectable, appPort: number | undefined): MutualTlsMode {
  return decided(world, workload, appPort)?.mode ?? "STRICT";
}

/** The policy that `mutualTlsMode` follows; undefined = the default. */
export function decidingPolicy(world: World, workload: Selectable, appPort: number | undefined): PeerAuthenticationObject | undefined {
  return decided(world, workload, appPort)?.by;
}

interface Decision {
  readonly mode: MutualTlsMode;
  readonly by: PeerAuthenticationObject;
}

function decided(world: World, workload: Selectable, appPort: number | undefined): Decision | undefined {
  const own = workload.namespace === rootNamespace ? [] : (world.peerAuthentications.get(workload.namespace) ?? []);
  const root = world.peerAuthentications.get(rootNamespace) ?? [];
  const levels = [selecting(own, workload), unselective(own), selecting(root, workload), unselective(root)];
  for (const level of levels) {
    for (const each of appPort === undefined ? [] : level) {
      const mode = stated(each.spec?.portLevelMtls?.[String(appPort)]);
      if (mode !== undefined) return { mode, by: each };
    }
    for (const each of level) {
      const mode = stated(each.spec?.mtls);
      if (mode !== undefined) return { mode, by: each };
    }
  }
  return undefined;
}

function selecting(list: readonly PeerAuthenticationObject[], workload: Selectable): PeerAuthenticationObject[] {
  return list.filter((each) => hasSelector(each) && matchesLabels(each.spec?.selector?.matchLabels ?? {}, workload.labels));
}

function unselective(list: readonly PeerAuthenticationObject[]): PeerAuthenticationObject[] {
  return list.filter((each) => !hasSelector(each));
}

function hasSelector(each: PeerAuthenticationObject): boolean {
  return Object.keys(each.spec?.selector?.matchLabels ?? {}).length > 0;
}
