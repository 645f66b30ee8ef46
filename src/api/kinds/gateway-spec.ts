// Owns: the shapes of Gateway, GatewayClass and ReferenceGrant as the inside reads them, once validated, and the names that Weft goes by there.

import type { KubeObject } from "../meta.ts";

/** What a GatewayClass names to have its Gateways served by Weft. */
export const gatewayController = "weft.dev/gateway";

/** The class that is there without an object, so that a first Gateway needs none. */
export const builtInClass = "weft";

/** Options of `listeners[].tls`: files on the machine where `weft gateway` runs, instead of a Secret. */
export const tlsFiles = { certificate: "weft.dev/certificate-file", privateKey: "weft.dev/private-key-file" } as const;

export type ListenerProtocol = "HTTP" | "HTTPS" | "TLS" | "TCP" | "UDP";

export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly { readonly key: string; readonly operator: string; readonly values?: readonly string[] }[];
}

export interface CertificateRef {
  readonly group?: string;
  readonly kind?: string;
  readonly name: string;
  readonly namespace?: string;
}

/** Whose objects may be attached. */
export interface AllowedNamespaces {
  readonly from?: "All" | "Selector" | "Same" | "None";
  readonly selector?: LabelSelector;
}

export interface GatewayListener {
  readonly name: string;
  readonly hostname?: string;
  readonly port: number;
  readonly protocol: ListenerProtocol;
  readonly tls?: {
    readonly mode?: "Terminate" | "Passthrough";
    readonly certificateRefs?: readonly CertificateRef[];
    readonly options?: Readonly<Record<string, string>>;
  };
  readonly allowedRoutes?: {
    readonly kinds?: readonly { readonly group?: string; readonly kind: string }[];
    readonly namespaces?: { readonly from?: "All" | "Selector" | "Same"; readonly selector?: LabelSelector };
  };
}

export interface GatewayObject extends KubeObject {
  spec: { gatewayClassName: string; listeners: GatewayListener[]; allowedListeners?: { namespaces?: AllowedNamespaces } };
}

export interface GatewayClassObject extends KubeObject {
  spec: { controllerName: string; description?: string };
}

export interface ReferenceGrantObject extends KubeObject {
  spec: {
    from: { group: string; kind: string; namespace: string }[];
    to: { group: string; kind: string; name?: string }[];
  };
}

/** Kinds of routes that a listener of each protocol can carry. */
export const routeKindsOf: Readonly<Record<ListenerProtocol, readonly string[]>> = {
  HTTP: ["HTTPRoute", "GRPCRoute"],
  HTTPS: ["HTTPRoute", "GRPCRoute"],
  TLS: ["TLSRoute", "TCPRoute"],
  TCP: ["TCPRoute"],
  UDP: ["UDPRoute"],
};
