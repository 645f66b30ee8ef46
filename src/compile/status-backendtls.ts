// Owns: what BackendTLSPolicies are told: for each ancestor (the Service, for the mesh; every Gateway that leads to it) whether the policy is in force
// there and whether its authorities are there. Conditions and reasons of GEP-1897. Never decides which policy speaks.

import type { BackendTlsPolicyObject, PolicyTargetRef } from "../api/kinds/backendtlspolicy-spec.ts";
import { gatewayGroup } from "../api/kinds/gateway-refs.ts";
import { gatewayController } from "../api/kinds/gateway-spec.ts";
import type { Condition } from "../api/meta.ts";
import { serviceHost } from "../wire/names.ts";
import { condition } from "./condition.ts";
import { type Authorities, authoritiesOf, policiesFor } from "./policies/backendtlspolicy.ts";
import { gatewayPlan } from "./policies/gateway-plan.ts";
import { backendTlsSource, gatewaySource } from "./route-sources.ts";
import { derived, equal, keyOf, namespaceOf, type World } from "./world.ts";

/** Gateway API, PolicyStatus. */
const mostAncestors = 16;

/** Hosts of services that a Gateway's routes lead to. By `NS/NAME`. */
const hostsBehind = derived<readonly string[]>((world, key) => {
  const plan = gatewayPlan(world, key);
  const clusters = new Set<string>();
  const take = (backends: readonly { readonly cluster: string; readonly missing: boolean }[]) => {
    for (const { cluster, missing } of backends) if (!missing) clusters.add(cluster);
  };
  for (const { hosts } of plan?.tables ?? [])
    for (const { routes } of hosts) for (const { action } of routes) if (action.kind === "forward") take(action.backends);
  for (const port of plan?.ports ?? []) {
    if (port.kind === "tcp") for (const { backends } of [port, ...(port.subnets ?? [])]) take(backends);
    else if (port.kind === "tls") for (const { to } of port.chains) if (to.kind === "tcp") take(to.backends);
  }
  return [...new Set([...clusters].map((cluster) => cluster.split("|")[3] ?? ""))].sort();
}, equal);

/** Keys of the Gateways that lead to a service's host. */
const gatewaysBefore = derived<readonly string[]>(
  (world, host) =>
    world
      .objects(gatewaySource)
      .keys("all", "")
      .filter((key) => hostsBehind(world, key).includes(host)),
  equal,
);

export function backendTlsStatus(world: World, key: string): Record<string, unknown> | undefined {
  const policy = world.objects(backendTlsSource).get(key);
  const authorities = authoritiesOf(world, key);
  if (policy === undefined || authorities === undefined) return undefined;
  const namespace = namespaceOf(policy);
  const ancestors = policy.spec.targetRefs.flatMap((ref) => {
    const conditions = conditionsOf(world, policy, ref, authorities);
    const service = {
      ancestorRef: {
        group: "",
        kind: "Service",
        name: ref.name,
        namespace,
        ...(ref.sectionName === undefined ? {} : { sectionName: ref.sectionName }),
      },
      controllerName: "weft.dev/mesh",
      conditions,
    };
    const gateways = gatewaysBefore(world, serviceHost(ref.name, namespace)).map((gateway) => {
      const [within = "", name = ""] = gateway.split("/");
      return {
        ancestorRef: { group: gatewayGroup, kind: "Gateway", name, namespace: within },
        controllerName: gatewayController,
        conditions,
      };
    });
    return [service, ...gateways];
  });
  // A Gateway may lead to several targets: the first that has something against it is the one to be told.
  const told = new Map<string, (typeof ancestors)[number]>();
  for (const ancestor of ancestors) {
    const place = JSON.stringify(ancestor.ancestorRef);
    const before = told.get(place);
    if (
      before === undefined ||
      (before.conditions.every(({ status }) => status === "True") && ancestor.conditions.some(({ status }) => status !== "True"))
    )
      told.set(place, ancestor);
  }
  return { ancestors: [...told.values()].slice(0, mostAncestors) };
}

function conditionsOf(world: World, policy: BackendTlsPolicyObject, ref: PolicyTargetRef, authorities: Authorities): Condition[] {
  const { pem, problems } = authorities;
  const [first] = problems;
  const words = problems.map((each) => each.message).join("; ");
  const resolved =
    first === undefined
      ? condition(policy, "ResolvedRefs", true, "ResolvedRefs", "every authority is there")
      : condition(policy, "ResolvedRefs", false, first.reason, words);
  const accept = (holds: boolean, reason: string, message: string) => [condition(policy, "Accepted", holds, reason, message), resolved];
  const service = world.services.get(`${namespaceOf(policy)}/${ref.name}`);
  const section = ref.sectionName;
  if (service === undefined || (section !== undefined && !service.ports.some((port) => port.name === section)))
    return accept(
      false,
      "TargetNotFound",
      service === undefined
        ? `there is no Service ${namespaceOf(policy)}/${ref.name}; the policy takes effect when it is created`
        : `Service ${service.key} has no port named ${section}; it has ${service.ports.map(({ name, port }) => name || port).join(", ")}`,
    );
  const [speaker] = policiesFor(world, service.key, section ?? "");
  if (speaker !== undefined && keyOf(speaker) !== keyOf(policy))
    return accept(
      false,
      "Conflicted",
      `BackendTLSPolicy ${keyOf(speaker)} is for the same ${section === undefined ? "Service" : "port"} and goes before, as the older or the first by name; delete one of the two`,
    );
  if (pem === undefined)
    return accept(
      false,
      "NoValidCACertificate",
      `no authority can be believed, so that instances of Service ${service.key} without a sidecar get no requests: ${words}`,
    );
  const covered = service.workloads.filter(({ mutualTls }) => mutualTls).length;
  const rest =
    covered === 0
      ? ""
      : `; ${covered === 1 ? "one instance has" : `${covered} instances have`} a sidecar and ${covered === 1 ? "is" : "are"} reached by the mesh's mutual TLS`;
  return accept(true, "Accepted", `callers of Service ${service.key} speak TLS to instances without a sidecar${rest}`);
}
