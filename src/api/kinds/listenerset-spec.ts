// Owns: the shape of a ListenerSet as the inside reads it, once validated.

import type { KubeObject } from "../meta.ts";
import type { GatewayListener } from "./gateway-spec.ts";

/** Listeners that a Gateway has from another object (GEP-1713). */
export interface ListenerSetObject extends KubeObject {
  spec: {
    parentRef: { group?: string; kind?: string; name: string; namespace?: string };
    listeners: GatewayListener[];
  };
}
