// Owns: the shape of a BackendTLSPolicy as the inside reads it, once validated.

import type { KubeObject } from "../meta.ts";

export interface PolicyTargetRef {
  readonly group: string;
  readonly kind: string;
  readonly name: string;
  readonly sectionName?: string;
}

export interface BackendTlsPolicyObject extends KubeObject {
  spec: {
    readonly targetRefs: readonly PolicyTargetRef[];
    readonly validation: {
      readonly hostname: string;
      readonly caCertificateRefs?: readonly { readonly group: string; readonly kind: string; readonly name: string }[];
      readonly wellKnownCACertificates?: string;
      readonly subjectAltNames?: readonly { readonly type: "Hostname" | "URI"; readonly hostname?: string; readonly uri?: string }[];
    };
  };
}
