// Owns: networking.istio.io Sidecar: which hosts the sidecars of a namespace know, and whether they let calls out to hosts that nobody has made known.

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { type Schema, show } from "../schema.ts";
import schema from "../schemas/sidecar.json" with { type: "json" };
import { rootNamespace } from "./authorizationpolicy.ts";
import { gather } from "./gateway-refs.ts";
import { outboundSwitch, parseEgressHost, type SidecarObject } from "./sidecar-spec.ts";

export const sidecarKind = defineKind({
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  kind: "Sidecar",
  plural: "sidecars",
  categories: ["istio-io", "networking-istio-io"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: schema as Schema },
  unimplemented: {
    "spec.ingress": "the ports of an instance are those of weft run --port and of its Services",
    "spec.inboundConnectionPool": "limit callers by connectionPool of a DestinationRule, or instances by an OverloadPolicy",
    "spec.outboundTrafficPolicy.egressProxy": "name the hosts in a ServiceEntry, and lead them to a Service by a VirtualService",
    "spec.egress[].port": "leave it out: hosts are restricted on all of their ports",
    "spec.egress[].bind": "a local port for a service is weft run --upstream",
    "spec.egress[].captureMode": "callers reach services by HTTP_PROXY and --upstream",
  },
  notes: [
    "`egress[].hosts`: of the services and ServiceEntries that there are, the sidecars know these and no others: NAMESPACE/HOST, with `*` for all namespaces, `.` for the caller's own, `~/*` for nothing; HOST a whole name, `*.NAME` or `*`. What routes of known hosts lead to is known too. An upstream (`weft run --upstream`) to another service stays closed.",
    "It restricts what a proxy is told; it is no guard, which an AuthorizationPolicy is.",
    "One with `workloadSelector` speaks for these workloads, one without for the rest of its namespace; one in `weft-system`, without selector, for namespaces that have none.",
    `\`outboundTrafficPolicy.mode\` goes before the label \`${outboundSwitch}\` (registry-only, allow-any) of the workload's Namespace, and that before the label of \`weft-system\`; where nothing is said it is REGISTRY_ONLY.`,
  ],
  rules: sidecarRules,
  columns: [
    ageColumn,
    textColumn(
      "Hosts",
      "What its sidecars know.",
      (object) => ((object as SidecarObject).spec?.egress ?? []).flatMap(({ hosts = [] }) => hosts).join(","),
      1,
    ),
  ],
});

function sidecarRules(object: KubeObject): Violation[] {
  const { metadata, spec = {} } = object as SidecarObject;
  return gather((add) => {
    const labels = spec.workloadSelector?.labels;
    if (spec.workloadSelector !== undefined && Object.keys(labels ?? {}).length === 0)
      add("spec.workloadSelector.labels", "must name at least one label; leave workloadSelector out to mean the whole namespace");
    if (spec.workloadSelector !== undefined && metadata.namespace === rootNamespace)
      add("spec.workloadSelector", `cannot stand in ${rootNamespace}, whose Sidecar is for all namespaces; put it beside the workloads`);
    for (const [n, { hosts = [] }] of (spec.egress ?? []).entries()) {
      if (hosts.length === 0) add(`spec.egress[${n}].hosts`, "must name at least one host; ~/* means none");
      for (const [at, host] of hosts.entries()) {
        const parsed = parseEgressHost(host);
        if (typeof parsed === "string") add(`spec.egress[${n}].hosts[${at}]`, `${show(host)} ${parsed}`);
      }
    }
    if ((spec.egress ?? []).length > 1)
      add("spec.egress[1]", "several entries are for several ports, which is not implemented; put all hosts into the first");
    if (spec.egress === undefined && spec.outboundTrafficPolicy === undefined)
      add("spec", "says nothing: give it egress or outboundTrafficPolicy");
  });
}
