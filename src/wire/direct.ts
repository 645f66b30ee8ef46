// Owns: what both processes must agree on for direct connections: the mark of an endpoint that may be called in plain text, and the table that a sidecar
// leaves for `weft run`, who leads the explicit upstreams straight there while no sidecar does. Never decides who may be called how.

/** In an endpoint's `envoy.transport_socket_match` metadata: mutual TLS is what its callers use, and plain text is taken too (PERMISSIVE). */
export const plainMark = "weft.dev/plain";
export const plainAllowed = "allowed";

/** Raised when the meaning of a field changes; another one is not used. */
export const directFormat = 1;

/** The file, as JSON. */
export interface DirectTable {
  readonly format: typeof directFormat;
  readonly upstreams: readonly DirectUpstream[];
}

export type DirectUpstream = {
  /** On 127.0.0.1. */
  readonly port: number;
  /** `cart.shop`, for people. */
  readonly service: string;
} & (
  | {
      readonly kind: "plain";
      /** Shares of the connections; at least one with at least one endpoint. */
      readonly targets: readonly DirectTarget[];
      /** Routes of the port that need a request to be judged, and so do not apply. */
      readonly passedOver: number;
    }
  | { readonly kind: "refused"; readonly reason: string }
);

export interface DirectTarget {
  readonly weight: number;
  readonly endpoints: readonly { readonly host: string; readonly port: number; readonly weight: number }[];
}
