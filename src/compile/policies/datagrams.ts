// Owns: whether datagrams may be sent to a port of a workload. Between sidecars UDP has neither encryption nor a caller's identity, and the destination's
// sidecar never sees them: a policy that asks for one of these could only be ignored, and is answered by sending nothing instead.

import type { DatagramRefusal } from "../plan/plan.ts";
import { keyOf, type Selectable, type World } from "../world.ts";
import { foldPolicies, policiesOf } from "./authorizationpolicy.ts";
import { mutualTlsMode } from "./peerauthentication.ts";

/** `appPort`: where the application takes datagrams. `hasSidecar`: what has none takes plain text over TCP too, whatever PeerAuthentication says. */
export function datagramRefusal(world: World, workload: Selectable, hasSidecar: boolean, appPort: number): DatagramRefusal | undefined {
  if (hasSidecar && mutualTlsMode(world, workload, appPort) === "STRICT") return { reason: "StrictMutualTLS" };
  const policies = policiesOf(world, workload);
  const port = { protocol: "udp", appPort } as const;
  const asks = (some: typeof policies) => {
    const { deny, allow } = foldPolicies(world, some, port);
    // A rule that lets everybody use the port needs nobody to judge it.
    return deny.length > 0 || (allow !== null && !allow.some((rule) => rule.sources.length === 0 && rule.operations.length === 0));
  };
  if (!asks(policies)) return undefined;
  return { reason: "AuthorizationPolicy", policies: policies.filter((policy) => asks([policy])).map(keyOf) };
}
