// Owns: the words of the statuses of Sidecars and ServiceEntries. What they say is found elsewhere (./policies, ./plan/external.ts).

import { rootNamespace } from "../api/kinds/authorizationpolicy.ts";
import type { ServiceEntryObject } from "../api/kinds/serviceentry-spec.ts";
import { condition } from "./condition.ts";
import { externalOverride, externalService, serviceWithName } from "./plan/external.ts";
import { declaredUpstreams } from "./plan/workload.ts";
import { sidecarVerdict } from "./policies/sidecar.ts";
import { serviceEntrySource, sidecarSource } from "./route-sources.ts";
import { workloadSource } from "./sources.ts";
import { keyOf, namespaceOf, type World } from "./world.ts";

export function sidecarStatus(world: World, key: string): Record<string, unknown> | undefined {
  const object = world.objects(sidecarSource).get(key);
  if (object === undefined) return undefined;
  const namespace = namespaceOf(object);
  const workloads = world.objects(workloadSource);
  const near = namespace === rootNamespace ? workloads.keys("all", "") : workloads.keys("namespace", namespace);
  const verdict = sidecarVerdict(world, key, near, (workload) => declaredUpstreams(world, workload));
  if (verdict === undefined) return undefined;
  const { used, empty, closed } = verdict;
  return {
    observedGeneration: object.metadata.generation ?? 1,
    conditions: [
      used
        ? condition(object, "Accepted", true, "Accepted", "its workloads go by it")
        : condition(object, "Accepted", true, "NoWorkload", "it speaks for no workload; it takes effect when one appears"),
      empty.length === 0
        ? condition(object, "HostsResolved", true, "HostsResolved", "every host is there")
        : condition(object, "HostsResolved", false, "NoSuchHost", `no Service and no ServiceEntry fits ${empty.join(", ")}`),
      ...(closed.length === 0
        ? []
        : [condition(object, "UpstreamsClosed", true, "HostNotKnown", `egress does not let them know the host: ${closed.join("; ")}`)]),
    ],
  };
}

export function serviceEntryStatus(world: World, key: string): Record<string, unknown> | undefined {
  const object: ServiceEntryObject | undefined = world.objects(serviceEntrySource).get(key);
  if (object === undefined) return undefined;
  const overridden = object.spec.hosts.flatMap((host) => {
    const service = serviceWithName(world, host);
    if (service !== undefined) return [`${host} (it is a name of Service ${service})`];
    const by = externalOverride(world, host);
    return by === undefined || by === key ? [] : [`${host} (ServiceEntry ${by} is older)`];
  });
  const { workloadSelector } = object.spec;
  const selected =
    workloadSelector === undefined
      ? undefined
      : object.spec.hosts.some((host) => (externalService(world, host)?.workloads.length ?? 0) > 0);
  return {
    observedGeneration: object.metadata.generation ?? 1,
    conditions: [
      overridden.length === 0
        ? condition(object, "Accepted", true, "Accepted", "its hosts are known to callers")
        : condition(object, "Accepted", false, "Conflicted", `another speaks for ${overridden.join(", ")}`),
      ...(selected === undefined
        ? []
        : [
            selected
              ? condition(object, "WorkloadsSelected", true, "WorkloadsSelected", "workloadSelector fits WorkloadEntries")
              : condition(
                  object,
                  "WorkloadsSelected",
                  false,
                  "NoWorkload",
                  `workloadSelector fits no WorkloadEntry of namespace ${keyOf(object).split("/")[0]}: calls are answered with 503`,
                ),
          ]),
    ],
  };
}
