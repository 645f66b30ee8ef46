// Owns: gateway.networking.k8s.io TCPRoute, attached to Services and Gateways.

import { defineKind } from "../define.ts";
import type { Schema } from "../schema.ts";
import published from "../schemas/tcproute.json" with { type: "json" };
import { layer4Columns, layer4Rules, layer4Schema, layer4Unimplemented } from "./gateway-layer4.ts";

export const tcpRouteKind = defineKind({
  group: "gateway.networking.k8s.io",
  versions: ["v1alpha2"],
  kind: "TCPRoute",
  plural: "tcproutes",
  categories: ["gateway-api"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: layer4Schema(published as Schema) },
  unimplemented: layer4Unimplemented,
  notes: [
    "All connections to the parent go to the backends, shared out by their weights. Of two routes on one port the older is used, and the other is not accepted (`Conflicted`).",
  ],
  rules: layer4Rules("connections", false),
  columns: layer4Columns,
});
