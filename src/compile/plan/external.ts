// Owns: hosts of ServiceEntries as the rest of the plan sees them: services whose name is the host, with endpoints of their own or addresses that DNS
// knows. Of two entries for one host the oldest speaks. Never holds protobuf.

import type { ServiceObject } from "../../api/kinds/service.ts";
import { isAddress } from "../../api/kinds/serviceentry.ts";
import { entryProtocol, leadsAnywhere, type ServiceEntryObject } from "../../api/kinds/serviceentry-spec.ts";
import { outboundCluster, tlsModeLabel, tlsModeMutual } from "../../wire/names.ts";
import { formatIdentity } from "../../wire/spiffe.ts";
import { serviceEntrySource } from "../route-sources.ts";
import { byAge, derived, equal, keyOf, namespaceOf, type ServiceModel, type ServicePortModel, selectedIn, type World } from "../world.ts";
import type { EndpointPlan, ExternalPlan } from "./plan.ts";

/** `NS/NAME` of the Service that has a host as one of its short names, which no entry can take from it. */
export function serviceWithName(world: World, host: string): string | undefined {
  const [, name, namespace] = /^([^.*]+)\.([^.]+)(?:\.svc)?$/.exec(host) ?? [];
  const key = `${namespace}/${name}`;
  return name === undefined || world.services.get(key) === undefined ? undefined : key;
}

function entryOf(world: World, host: string): ServiceEntryObject | undefined {
  if (serviceWithName(world, host) !== undefined) return undefined;
  return [...world.objects(serviceEntrySource).by("host", host)].sort(byAge)[0];
}

/** Whose DestinationRules speak about a host: those of its entry's namespace. undefined = no entry has it. */
export function externalNamespace(world: World, host: string): string | undefined {
  const entry = entryOf(world, host);
  return entry === undefined ? undefined : namespaceOf(entry);
}

/** `NS/NAME` of the entry that speaks for a host. */
export function externalOverride(world: World, host: string): string | undefined {
  const entry = entryOf(world, host);
  return entry === undefined ? undefined : keyOf(entry);
}

/** Every cluster of every host, sorted. */
export const externalClusters = derived<readonly string[]>((world) => {
  const hosts = [
    ...new Set(
      world
        .objects(serviceEntrySource)
        .all()
        .flatMap(({ spec }) => spec.hosts),
    ),
  ].sort();
  return hosts.flatMap((host) => (entryOf(world, host)?.spec.ports ?? []).map((port) => outboundCluster(port.number, host)));
}, equal);

/** The host as a service; its key can be no Service's, as those have no dots. */
export const externalService = derived<ServiceModel | undefined>((world, host) => {
  const entry = entryOf(world, host);
  if (entry === undefined) return undefined;
  const namespace = namespaceOf(entry);
  const ports = entry.spec.ports.map((port) => ({
    name: port.name,
    port: port.number,
    protocol: entryProtocol(port.protocol) ?? ("tcp" as const),
    targetPort: port.targetPort,
  }));
  const selector = entry.spec.workloadSelector?.labels ?? {};
  return {
    key: `${namespace}/${host}`,
    name: host,
    namespace,
    host,
    ports,
    defaultPort: ports.find((port) => port.port === 80) ?? ports[0],
    defaultUdpPort: undefined,
    selector,
    workloads: selectedIn(world, namespace, selector).flatMap((key) => world.workloads.get(key) ?? []),
    slices: [],
    // Statuses of Services read it, and a ServiceEntry gets none of those.
    object: entry as unknown as ServiceObject,
  };
});

/** What of an entry those who lead to it must know. */
export function externalPlan(world: World, host: string): ExternalPlan | undefined {
  const entry = entryOf(world, host);
  if (entry === undefined) return undefined;
  const { resolution, exportTo = ["*"] } = entry.spec;
  // A host without wildcard is known beforehand, whatever the resolution: its name is asked for as with DNS.
  const anywhere = leadsAnywhere(resolution) && isWildcard(host);
  return { dns: !anywhere && resolution !== "STATIC", ...(anywhere ? { anywhere } : {}), namespace: namespaceOf(entry), exportTo };
}

/** Names that a server's certificate must have. */
export function externalNames(world: World, host: string): readonly string[] {
  return entryOf(world, host)?.spec.subjectAltNames ?? [];
}

export function isWildcard(host: string): boolean {
  return host.startsWith("*");
}

/** Some entry has a host with a wildcard. */
export const anyWildcards = derived<boolean>((world) =>
  world
    .objects(serviceEntrySource)
    .all()
    .some(({ spec }) => spec.hosts.some(isWildcard)),
);

/** Callers of a namespace may use it. */
export function isVisible({ namespace, exportTo }: ExternalPlan, caller: string): boolean {
  return exportTo.some((each) => each === "*" || each === caller || (each === "." && namespace === caller));
}

/** Addresses that the entry itself names: IP addresses, or with DNS names to ask for; and the identities of those that have a sidecar. */
export function externalEndpoints(
  world: World,
  host: string,
  port: ServicePortModel,
): { readonly endpoints: readonly EndpointPlan[]; readonly identities: readonly string[] } {
  const entry = entryOf(world, host);
  if (entry === undefined || entry.spec.workloadSelector !== undefined || isWildcard(host)) return { endpoints: [], identities: [] };
  const namespace = namespaceOf(entry);
  const usual = typeof port.targetPort === "number" ? port.targetPort : port.port;
  const given = entry.spec.endpoints ?? [];
  const listed = given.length > 0 || entry.spec.resolution === "STATIC" ? given : [{ address: host }];
  const identities = new Set<string>();
  const endpoints = listed.map((each) => {
    const mutualTls = each.labels?.[tlsModeLabel] === tlsModeMutual;
    const identity = mutualTls
      ? formatIdentity({ trustDomain: world.trustDomain, namespace, serviceAccount: each.serviceAccount ?? "default" })
      : "";
    if (identity !== "") identities.add(identity);
    return {
      address: each.address ?? host,
      port: each.ports?.[port.name] ?? usual,
      // 0 is how protobuf spells "not set" (Istio: default 1).
      weight: each.weight === undefined || each.weight === 0 ? 1 : each.weight,
      mutualTls,
      identity,
      workload: `;${namespace};${host};;`,
      // Of a name that is asked for it is that name, of an address the host's.
      hostname: each.address === undefined || isAddress(each.address) ? host : each.address,
    };
  });
  const named = entry.spec.resolution === "STATIC" ? endpoints.filter(({ address }) => isAddress(address)) : endpoints;
  return { endpoints: named, identities: [...identities].sort() };
}
