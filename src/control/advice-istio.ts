// Owns: what a writer of a VirtualService, a DestinationRule or a PeerAuthentication is told about references that lead nowhere now, and about
// a rule that has callers speak plain text where a policy demands mutual TLS. Pure. Never a reason to refuse: Istio accepts all of it, and
// what is not there yet may come.

import { rootNamespace } from "../api/kinds/authorizationpolicy.ts";
import { type DestinationRuleObject, givesKey, ruleHost, type TlsPlace, tlsPlaces } from "../api/kinds/destinationrule-spec.ts";
import { boundGateways, type Destination, type VirtualServiceObject, virtualHosts, wholeHost } from "../api/kinds/virtualservice-spec.ts";
import { matchesLabels } from "../api/selector.ts";
import { externalService } from "../compile/plan/external.ts";
import { appPortOf } from "../compile/plan/mesh.ts";
import { credentialTroubles, emptySubset } from "../compile/policies/destinationrule.ts";
import { decidingPolicy, mutualTlsMode } from "../compile/policies/peerauthentication.ts";
import { resolveFully } from "../compile/policies/virtualservice-plan.ts";
import { destinationRuleSource, serviceSource } from "../compile/sources.ts";
import { keyOf, namespaceOf, resolvePort, type ServiceModel, type WorkloadModel, type World } from "../compile/world.ts";

type Placed = readonly [place: string, to: Destination | undefined];

function destinationsOf({ spec = {} }: VirtualServiceObject): Placed[] {
  const connections = (["tls", "tcp"] as const).flatMap((layer) =>
    (spec[layer] ?? []).flatMap(({ route = [] }, n) =>
      route.map(({ destination }, at): Placed => [`spec.${layer}[${n}].route[${at}].destination`, destination]),
    ),
  );
  const requests = (spec.http ?? []).flatMap(({ route = [], mirror, mirrors = [] }, n) => [
    ...route.map(({ destination }, at): Placed => [`spec.http[${n}].route[${at}].destination`, destination]),
    ...(mirror === undefined ? [] : [[`spec.http[${n}].mirror`, mirror] as const]),
    ...mirrors.map(({ destination }, at): Placed => [`spec.http[${n}].mirrors[${at}].destination`, destination]),
  ]);
  return [...requests, ...connections];
}

/** Hosts that nobody serves, destinations that are not there, subsets without instances. */
export function virtualServiceAdvice(world: World, candidate: VirtualServiceObject): string[] {
  const namespace = namespaceOf(candidate);
  const nobody = boundGateways(candidate).length > 0 ? [] : virtualHosts(candidate).filter((host) => serviceOf(world, host) === undefined);
  const hosts = nobody
    .filter((host) => !host.startsWith("*"))
    .map((host) => `spec.hosts: there is no Service ${host}: the routes take effect when one appears`);
  const destinations = destinationsOf(candidate).flatMap(([place, to]) => {
    if (to === undefined) return [];
    const { problem } = resolveFully(world, namespace, to);
    if (problem !== "") return [`${place}: ${problem}: its share of the traffic fails until that is there`];
    const host = wholeHost(to.host, namespace);
    const rule = to.subset === undefined ? undefined : emptySubset(world, host, to.subset);
    if (rule === undefined) return [];
    const subset = JSON.stringify(to.subset);
    return [`${place}: no instance of ${host} fits subset ${subset} of DestinationRule ${rule}: what is led there fails until one does`];
  });
  return [...hosts, ...destinations];
}

/** Files that sidecars will not read, a host that nobody serves, subsets without instances, plain text where mutual TLS is demanded. */
export function destinationRuleAdvice(world: World, candidate: DestinationRuleObject): string[] {
  return [...fileWords(candidate), ...credentialWords(world, candidate), ...referenceWords(world, candidate)];
}

/** A control plane has no business reading files of a proxy's host, so Weft's sidecars take none from it; an Envoy does. */
function fileWords(rule: DestinationRuleObject): string[] {
  return tlsPlaces(rule).flatMap(({ place, tls }) =>
    (["caCertificates", "clientCertificate", "privateKey"] as const)
      .filter((field) => (tls[field] ?? "") !== "")
      .map(
        (field) =>
          `${place}.${field}: only an Envoy reads a file that its control plane names; callers with Weft's sidecar get 503 there: use credentialName, or leave it out for the authorities of their machine`,
      ),
  );
}

/** Secrets that cannot be used now, and private keys that some of the callers will not be given. */
function credentialWords(world: World, candidate: DestinationRuleObject): string[] {
  const namespace = namespaceOf(candidate);
  // By default a rule speaks to all; who says so, or speaks for the whole mesh, means others.
  const meant = namespace === rootNamespace ? ["*"] : (candidate.spec?.exportTo ?? []);
  const others = candidate.spec?.workloadSelector === undefined && meant.some((to) => to !== "." && to !== namespace);
  const bad = credentialTroubles(world, candidate) ?? [];
  return [
    ...bad.map((problem) => `${problem}: calls are answered with 503 until it is there`),
    ...(others && givesKey(candidate)
      ? [
          `tls.credentialName: the private key of MUTUAL is given to callers of namespace ${namespace} alone, and those of others get 503 by this rule until they have a rule and a Secret in their own namespace`,
        ]
      : []),
  ];
}

function referenceWords(world: World, candidate: DestinationRuleObject): string[] {
  const host = ruleHost(candidate);
  if (host.startsWith("*")) return [];
  const service = serviceOf(world, host);
  if (service === undefined) return [`spec.host: there is no Service ${host}: the rule takes effect when it is created`];
  const empty = (candidate.spec?.subsets ?? []).filter(
    ({ labels = {} }) => !service.workloads.some((workload) => matchesLabels(labels, workload.labels)),
  );
  const names = empty.map(({ name }) => name).join(", ");
  return [
    ...(empty.length === 0 ? [] : [`spec.subsets: no instance of ${host} fits ${names}: what is led there fails until one does`]),
    ...plainWords(candidate).flatMap((plain) => {
      const refusing = refusedBy(world, service, plain);
      return refusing === undefined
        ? []
        : [
            `${plain.place}: DISABLE has callers speak plain text to ${refusing.workload}, where ${refusing.policy} demands mutual TLS: they will be refused; use ISTIO_MUTUAL, or PERMISSIVE there`,
          ];
    }),
  ];
}

/** DestinationRules that have callers speak plain text to `reached`, where `STRICT` will be. */
export function plainRules(world: World, reached: readonly WorkloadModel[]): string[] {
  const names = new Set(reached.map((each) => each.key));
  const rules = world.objects(destinationRuleSource);
  return rules.keys("all", "").flatMap((key) => {
    const rule = rules.get(key);
    const plain = rule === undefined ? [] : plainWords(rule);
    if (rule === undefined || plain.length === 0) return [];
    const workloads = serviceOf(world, ruleHost(rule))?.workloads ?? [];
    const met = plain.find(({ labels }) => workloads.some((each) => names.has(each.key) && matchesLabels(labels, each.labels)));
    if (met === undefined) return [];
    return [
      `mtls STRICT: DestinationRule ${keyOf(rule)}, ${met.place}, has callers of ${ruleHost(rule)} speak plain text, and they will be refused; say ISTIO_MUTUAL there, or PERMISSIVE here`,
    ];
  });
}

function serviceOf(world: World, host: string): ServiceModel | undefined {
  const [key] = world.objects(serviceSource).keys("host", host);
  return key === undefined ? externalService(world, host) : world.services.get(key);
}

/** A place where a rule says DISABLE: for which port (0 = all) and which instances. */
interface Plain {
  readonly place: string;
  readonly port: number;
  readonly labels: TlsPlace["labels"];
}

const plainWords = (rule: DestinationRuleObject): Plain[] =>
  tlsPlaces(rule).flatMap(({ place, tls, port, labels }) => (tls.mode === "DISABLE" ? [{ place: `${place}.mode`, port, labels }] : []));

/** An instance that would refuse it, and the policy that says so. */
function refusedBy(world: World, service: ServiceModel, plain: Plain): { readonly workload: string; readonly policy: string } | undefined {
  for (const workload of service.workloads) {
    if (!workload.mutualTls || !matchesLabels(plain.labels, workload.labels)) continue;
    for (const port of service.ports) {
      if (plain.port !== 0 && plain.port !== port.port) continue;
      const appPort = appPortOf(workload, resolvePort(workload, port).name);
      if (mutualTlsMode(world, workload, appPort) !== "STRICT") continue;
      const by = decidingPolicy(world, workload, appPort);
      return {
        workload: workload.key,
        policy: by === undefined ? "the default (no PeerAuthentication)" : `PeerAuthentication ${keyOf(by)}`,
      };
    }
  }
  return undefined;
}
