// Owns: gateway.networking.k8s.io UDPRoute, attached to Services and Gateways.

import { defineKind } from "../define.ts";
import type { Schema } from "../schema.ts";
import published from "../schemas/udproute.json" with { type: "json" };
import { layer4Columns, layer4Rules, layer4Schema, layer4Unimplemented } from "./gateway-layer4.ts";

export const udpRouteKind = defineKind({
  group: "gateway.networking.k8s.io",
  versions: ["v1alpha2"],
  kind: "UDPRoute",
  plural: "udproutes",
  categories: ["gateway-api"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: layer4Schema(published as Schema) },
  unimplemented: layer4Unimplemented,
  notes: [
    "All datagrams to the parent go to the backend, whose UDP port is meant. Of two routes on one port the older is used, and the other is not accepted (`Conflicted`).",
    "Datagrams have no mutual TLS: what forbids them to the backend (see Service) forbids them here too.",
  ],
  rules: layer4Rules("datagrams", true),
  columns: layer4Columns,
});
