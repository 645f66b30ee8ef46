// Owns: contradictions between objects, each good alone. A contradiction is refused when the second object comes, with a message that names
// both sides and the way out. Only what can be proven from the objects themselves; equal duplicates contradict nothing.

import type { KubeObject, Violation } from "../api/meta.ts";
import { policyConflicts } from "./conflicts/authorizationpolicy.ts";
import { destinationRuleConflicts } from "./conflicts/destinationrule.ts";
import { routeConflicts } from "./conflicts/httproute.ts";
import { gatewayConflicts } from "./conflicts/istiogateway.ts";
import { peerAuthenticationConflicts } from "./conflicts/peerauthentication.ts";
import { secretConflicts } from "./conflicts/secret.ts";
import { serviceConflicts } from "./conflicts/service.ts";
import { serviceEntryConflicts } from "./conflicts/serviceentry.ts";
import { sidecarConflicts } from "./conflicts/sidecar.ts";
import { telemetryConflicts } from "./conflicts/telemetry.ts";
import { virtualServiceConflicts } from "./conflicts/virtualservice.ts";
import { entryConflicts } from "./conflicts/workloadentry.ts";
import type { World } from "./world.ts";

/** One function a kind. `candidate` has passed its kind's validation; an object of the same name in `world` is what it replaces. */
type Conflicts = (world: World, candidate: KubeObject) => readonly Violation[];

const byKind: Readonly<Record<string, Conflicts>> = {
  HTTPRoute: routeConflicts as Conflicts,
  AuthorizationPolicy: policyConflicts as Conflicts,
  DestinationRule: destinationRuleConflicts as Conflicts,
  Gateway: gatewayConflicts as Conflicts,
  PeerAuthentication: peerAuthenticationConflicts as Conflicts,
  Secret: secretConflicts as Conflicts,
  Service: serviceConflicts as Conflicts,
  ServiceEntry: serviceEntryConflicts as Conflicts,
  Sidecar: sidecarConflicts as Conflicts,
  Telemetry: telemetryConflicts as Conflicts,
  VirtualService: virtualServiceConflicts as Conflicts,
  WorkloadEntry: entryConflicts as Conflicts,
};

/** Every contradiction between `candidate` and what is there; empty = it may be stored. */
export function admit(world: World, candidate: KubeObject): readonly Violation[] {
  return Object.hasOwn(byKind, candidate.kind) ? byKind[candidate.kind]!(world, candidate) : [];
}
