// Owns: networking.istio.io ProxyConfig: how many processes the sidecars of a namespace, or of some workloads, serve with. `weft run` reads it when it
// starts. Everything else that Istio has there is refused: it is about containers.

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import type { Schema } from "../schema.ts";
import schema from "../schemas/proxyconfig.json" with { type: "json" };
import { rootNamespace } from "./authorizationpolicy.ts";
import { gather } from "./gateway-refs.ts";

export interface ProxyConfigObject extends KubeObject {
  spec: {
    selector?: { readonly matchLabels?: Readonly<Record<string, string>> };
    /** 0 = one a core. */
    concurrency?: number;
  };
}

export const proxyConfigKind = defineKind({
  group: "networking.istio.io",
  versions: ["v1beta1"],
  kind: "ProxyConfig",
  plural: "proxyconfigs",
  categories: ["istio-io", "networking-istio-io"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: schema as Schema },
  unimplemented: {
    "spec.environmentVariables":
      "give a process its environment where it is started, before weft run; what a sidecar does is said by Telemetry, Sidecar and policies",
    "spec.image": "sidecars are processes of the weft that is installed, not containers; install another version there",
  },
  notes: [
    "`concurrency` is the number of processes that a sidecar serves with, as `weft run --workers`, which goes before it; 0 is one a core, and more than one is for Linux. Without any it is one.",
    "One with a selector speaks for these workloads of its namespace, one without for the rest of it; one in `weft-system`, without selector, for workloads that none in their namespace speaks for. Of several the oldest speaks.",
    "It is read when an instance or a gateway starts; an instance that starts while the control plane is away goes by what the last one read. A change is for those that start afterwards.",
  ],
  rules: configRules,
  columns: [
    ageColumn,
    textColumn("Concurrency", "Processes of a sidecar.", (object) => String((object as ProxyConfigObject).spec?.concurrency ?? "")),
  ],
});

/** Workers of one sidecar at most, as of `--workers`. */
const mostWorkers = 128;

function configRules(object: KubeObject): Violation[] {
  const { metadata, spec } = object as ProxyConfigObject;
  return gather((add) => {
    const { concurrency, selector } = spec;
    if (concurrency === undefined) add("spec.concurrency", "is missing; without it there is nothing to say");
    else if (concurrency < 0 || concurrency > mostWorkers)
      add("spec.concurrency", `must be from 1 to ${mostWorkers}, or 0 for one a core; got ${concurrency}`);
    if (selector !== undefined && Object.keys(selector.matchLabels ?? {}).length === 0)
      add("spec.selector.matchLabels", "must name at least one label; leave selector out to mean the whole namespace");
    if (selector !== undefined && metadata.namespace === rootNamespace)
      add("spec.selector", `cannot stand in ${rootNamespace}, whose ProxyConfig is for all namespaces; put it beside the workloads`);
  });
}
