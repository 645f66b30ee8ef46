// Owns: gateway.networking.k8s.io GatewayClass: which Gateways are Weft's.

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { Condition } from "../meta.ts";
import { extendSchema, type Schema } from "../schema.ts";
import published from "../schemas/gatewayclass.json" with { type: "json" };
import type { GatewayClassObject } from "./gateway-spec.ts";

export const gatewayClassKind = defineKind({
  group: "gateway.networking.k8s.io",
  versions: ["v1", "v1beta1"],
  kind: "GatewayClass",
  plural: "gatewayclasses",
  shortNames: ["gc"],
  categories: ["gateway-api"],
  namespaced: false,
  hasStatus: true,
  requiredFields: ["spec"],
  // `description` is not in the schema that the package publishes.
  fields: {
    spec: extendSchema(published as Schema, "", { description: { type: "string", maxLength: 64, description: "What the class is for." } }),
  },
  unimplemented: { "spec.parametersRef": "a Gateway of Weft has no parameters beyond its own fields" },
  notes: [
    "controllerName weft.dev/gateway makes it Weft's; other classes are stored and left alone.",
    "The class `weft` is there without an object.",
  ],
  columns: [
    textColumn("Controller", "Whose Gateways these are.", (object) => (object as GatewayClassObject).spec?.controllerName ?? ""),
    textColumn("Accepted", "Whether Weft serves Gateways of this class.", (object) => {
      const list = (object.status as { conditions?: Condition[] } | undefined)?.conditions ?? [];
      return list.find(({ type }) => type === "Accepted")?.status ?? "Unknown";
    }),
    ageColumn,
    textColumn("Description", "What the class is for.", (object) => (object as GatewayClassObject).spec?.description ?? "", 1),
  ],
});
