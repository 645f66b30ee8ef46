// Owns: the shape of an Istio WorkloadGroup, for its validation and for `weft run`. Types only: a process that stays reads this and no schema.

import type { KubeObject } from "../meta.ts";

export interface Probe {
  readonly initialDelaySeconds?: number;
  /** 0 or left out: 1. */
  readonly timeoutSeconds?: number;
  /** 0 or left out: 10. */
  readonly periodSeconds?: number;
  /** 0 or left out: 1. */
  readonly successThreshold?: number;
  /** 0 or left out: 3. */
  readonly failureThreshold?: number;
  readonly httpGet?: {
    readonly path?: string;
    readonly port: number;
    readonly host?: string;
    readonly scheme?: string;
    readonly httpHeaders?: readonly { readonly name?: string; readonly value?: string }[];
  };
  readonly tcpSocket?: { readonly host?: string; readonly port: number };
  readonly exec?: { readonly command?: readonly string[] };
  readonly grpc?: { readonly port: number; readonly service?: string };
}

export interface WorkloadGroupObject extends KubeObject {
  spec: {
    metadata?: { readonly labels?: Readonly<Record<string, string>>; readonly annotations?: Readonly<Record<string, string>> };
    template?: {
      readonly ports?: Readonly<Record<string, number>>;
      readonly labels?: Readonly<Record<string, string>>;
      readonly locality?: string;
      readonly weight?: number;
      readonly serviceAccount?: string;
    };
    probe?: Probe;
  };
}
