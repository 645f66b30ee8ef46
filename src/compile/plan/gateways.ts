// Owns: the intermediate form of what a gateway's process opens: ports, filter chains, tables of hosts. Plain data, the same for all processes
// that serve one Gateway. Never holds protobuf.

import type { Subnet } from "../../api/kinds/subnet.ts";
import type { AuthzPlan } from "./plan.ts";
import type { BackendPlan, RoutePlan } from "./routes.ts";

export interface GatewayPlan {
  /** `NS/NAME` */
  readonly key: string;
  /** Sorted by port, TCP before UDP. Ports that lead nowhere yet are left out. */
  readonly ports: readonly GatewayPortPlan[];
  /** Sorted by name. */
  readonly tables: readonly GatewayTablePlan[];
  /** So many proxies before it are believed; absent = none. */
  readonly trustedProxies?: number;
}

export type GatewayPortPlan =
  /** Plain HTTP; the table tells hosts apart. `grpcWeb`: some route there is for gRPC, so that calls of browsers are translated. */
  | { readonly kind: "http"; readonly port: number; readonly table: string; readonly grpcWeb?: true }
  /** The name in the handshake chooses a chain. */
  | { readonly kind: "tls"; readonly port: number; readonly chains: readonly GatewayChainPlan[] }
  /** `backends` may be empty where `subnets` has something: connections from and to elsewhere are closed. */
  | { readonly kind: "tcp"; readonly port: number; readonly backends: readonly BackendPlan[]; readonly subnets?: readonly SubnetPlan[] }
  | { readonly kind: "udp"; readonly port: number; readonly cluster: string };

/** Connections of one network to one; the most precise destination decides, then the most precise source, as in Envoy. No two are for the same. */
export interface SubnetPlan {
  readonly name: string;
  readonly source?: Subnet;
  readonly destination?: Subnet;
  readonly backends: readonly BackendPlan[];
}

export interface GatewayChainPlan {
  /** Of the listener, and of the route where one listener has several chains. */
  readonly name: string;
  /** Empty = any name, and none. */
  readonly serverNames: readonly string[];
  /** undefined = nothing is decrypted. */
  readonly certificate: CertificatePlan | undefined;
  readonly to:
    | { readonly kind: "http"; readonly table: string; readonly grpcWeb?: true }
    | { readonly kind: "tcp"; readonly backends: readonly BackendPlan[] };
}

export type CertificatePlan =
  | { readonly kind: "pem"; readonly chain: string; readonly privateKey: string }
  /** Files on the machine of the process. */
  | { readonly kind: "files"; readonly chain: string; readonly privateKey: string };

export interface GatewayTablePlan {
  readonly name: string;
  readonly hosts: readonly GatewayHostPlan[];
}

export interface GatewayHostPlan {
  /** A name, `*.` and a name, or `*`. */
  readonly domain: string;
  readonly routes: readonly RoutePlan[];
}

/** A gateway as one process serves it. */
export interface ServedGatewayPlan {
  readonly gateway: string;
  /** Where the process listens. */
  readonly address: string;
  /** By port number: what policies that select the process demand there. UDP ports have none. */
  readonly authz: Readonly<Record<number, AuthzPlan>>;
}
