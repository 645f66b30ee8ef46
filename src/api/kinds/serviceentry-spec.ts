// Owns: the shape of a ServiceEntry as the inside reads it, once validated.

import type { KubeObject } from "../meta.ts";
import type { PortProtocol } from "./service.ts";

export interface ServiceEntryPort {
  readonly number: number;
  readonly name: string;
  readonly protocol?: string;
  readonly targetPort?: number;
}

export interface ServiceEntryEndpoint {
  readonly address?: string;
  readonly ports?: Readonly<Record<string, number>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly weight?: number;
  readonly serviceAccount?: string;
}

export type Resolution = "NONE" | "STATIC" | "DNS" | "DNS_ROUND_ROBIN" | "DYNAMIC_DNS";

/** A request goes to the host and port that it says. Absent is Istio's default, NONE. */
export function leadsAnywhere(resolution: Resolution | undefined): boolean {
  return resolution === undefined || resolution === "NONE" || resolution === "DYNAMIC_DNS";
}

export interface ServiceEntryObject extends KubeObject {
  spec: {
    hosts: string[];
    ports: ServiceEntryPort[];
    location?: "MESH_EXTERNAL" | "MESH_INTERNAL";
    resolution?: Resolution;
    endpoints?: ServiceEntryEndpoint[];
    workloadSelector?: { labels?: Record<string, string> };
    exportTo?: string[];
    subjectAltNames?: string[];
  };
}

/** Istio's names of protocols, and what the proxy does with each. */
const protocols: Readonly<Record<string, PortProtocol>> = {
  HTTP: "http",
  "GRPC-WEB": "http",
  HTTP2: "http2",
  GRPC: "http2",
  HTTPS: "tcp",
  TLS: "tcp",
  TCP: "tcp",
  MONGO: "tcp",
  MYSQL: "tcp",
  REDIS: "tcp",
};

export const entryProtocols = Object.keys(protocols);

/** undefined = Istio has no such protocol. Default, as there: TCP. */
export function entryProtocol(text: string | undefined): PortProtocol | undefined {
  const name = (text ?? "TCP").toUpperCase();
  return Object.hasOwn(protocols, name) ? protocols[name] : undefined;
}
