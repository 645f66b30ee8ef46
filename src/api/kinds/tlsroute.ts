// Owns: gateway.networking.k8s.io TLSRoute, attached to Services and Gateways.

import { defineKind } from "../define.ts";
import type { Schema } from "../schema.ts";
import published from "../schemas/tlsroute.json" with { type: "json" };
import { layer4Rules, layer4Schema, layer4Unimplemented, tlsColumns } from "./gateway-layer4.ts";

export const tlsRouteKind = defineKind({
  group: "gateway.networking.k8s.io",
  versions: ["v1", "v1alpha3", "v1alpha2"],
  kind: "TLSRoute",
  plural: "tlsroutes",
  categories: ["gateway-api"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: layer4Schema(published as Schema) },
  unimplemented: layer4Unimplemented,
  notes: [
    "Connections are told apart by the name in the TLS handshake (SNI) alone; nothing is decrypted on a Service or on a listener with `tls.mode: Passthrough`. On a listener with `Terminate` the Gateway decrypts and the backends get plain bytes (over mutual TLS where they have a sidecar).",
    "`hostnames` like `*.example.com` fit every name below; the longest wins. On a port of a Service that a TLSRoute is attached to, a connection whose name fits none is closed.",
    "Through the forward proxy (CONNECT) the name in the handshake is not seen: a tunnel goes to the Service itself.",
  ],
  rules: layer4Rules("connections", false),
  columns: tlsColumns,
});
