// Owns: the intermediate form between objects and xDS: what each workload's proxy should do, in the mesh's words.
// Policies fold into it (../policies), `../emit` turns it into resources. Never holds protobuf.

import type { MutualTlsMode } from "../../api/kinds/peerauthentication.ts";
import type { PortProtocol } from "../../api/kinds/service.ts";
import type { ServicePortModel, ServiceRef, WorkloadModel } from "../world.ts";
import type { ServedGatewayPlan } from "./gateways.ts";
import type { LimitsPlan } from "./limits.ts";
import type { BackendPlan, HashPlan } from "./routes.ts";
import type { TrafficPlan } from "./traffic.ts";

// ---- what all workloads share -------------------------------------------------------------------------------------------

/** One port of one service, as those see it who lead to it: nothing here changes while its endpoints come and go. */
export interface TargetPlan {
  readonly service: ServiceRef;
  readonly port: ServicePortModel;
  /** `outbound|80||cart.shop.svc.cluster.local` */
  readonly cluster: string;
  /** The service's name without a port leads here. */
  readonly isDefault: boolean;
  /** Of its instances only those of this subset; absent = all. */
  readonly subset?: string;
  /** It is a host of a ServiceEntry. */
  readonly external?: ExternalPlan;
  /** The key of requests, where its balancer hashes. */
  readonly hash?: HashPlan;
  /** Of a port of opaque bytes: how long a connection may last. */
  readonly connectionMs?: number;
  /** Callers send a read to another instance too where the first has not answered by then. */
  readonly hedgeAfterMs?: number;
}

/** What a listener of opaque bytes is told of a cluster that it leads to. */
export function opaqueBackend({ hash, connectionMs }: TargetPlan): Pick<BackendPlan, "hashesSource" | "connectionMs"> {
  return { ...(hash?.kind === "source" ? { hashesSource: true as const } : {}), ...(connectionMs === undefined ? {} : { connectionMs }) };
}

/** A host of a ServiceEntry. */
export interface ExternalPlan {
  /** The proxy asks DNS for its addresses, and goes on asking. */
  readonly dns: boolean;
  /** A request goes to the host and port that it says. */
  readonly anywhere?: true;
  /** Of the entry. */
  readonly namespace: string;
  /** Namespaces of callers that may use it; `*` = all, `.` = its own. */
  readonly exportTo: readonly string[];
}

/** One port of one service: a cluster and its endpoints. */
export interface PortPlan extends TargetPlan {
  readonly traffic: TrafficPlan;
  readonly endpoints: readonly EndpointPlan[];
  /** Who gets no datagrams although it stands behind the port, sorted by name; empty for ports that are not UDP. */
  readonly withheld: readonly WithheldPlan[];
  /** SPIFFE IDs that its endpoints with mutual TLS may present, sorted; healthy or not, so that a flapping endpoint changes endpoints only. */
  readonly identities: readonly string[];
}

export interface WithheldPlan {
  /** `NS/WORKLOAD`, or `EndpointSlice NS/NAME`. */
  readonly name: string;
  /** Where the application takes datagrams. */
  readonly appPort: number;
  readonly refusal: DatagramRefusal;
}

/** Why datagrams, which have neither encryption nor an identity, must not go somewhere. */
export type DatagramRefusal =
  | { readonly reason: "StrictMutualTLS" }
  /** `NS/NAME` of the policies that would have to be asked. */
  | { readonly reason: "AuthorizationPolicy"; readonly policies: readonly string[] };

export interface EndpointPlan {
  readonly address: string;
  readonly port: number;
  readonly weight: number;
  readonly mutualTls: boolean;
  /** It takes plain text beside mutual TLS, and nothing demands mutual TLS of its callers. */
  readonly plainAllowed?: true;
  /** Empty = not told. */
  readonly identity: string;
  /** `workload;namespace;app;version;cluster`, as Istio writes it. */
  readonly workload: string;
  /** `region/zone/sub-zone`; absent = not told. */
  readonly locality?: string;
  /** Those of a lower one are used while enough of them are available; absent = 0, the lowest. */
  readonly priority?: number;
  /** The name that it is known by, for routes that write the endpoint's name as host; absent = it has none. */
  readonly hostname?: string;
}

// ---- one workload -----------------------------------------------------------------------------------------------------------

export interface WorkloadPlan {
  readonly workload: Pick<WorkloadModel, "key" | "name" | "namespace" | "labels">;
  readonly inbound: readonly InboundPlan[];
  /** undefined = no forward proxy. */
  readonly httpProxyPort: number | undefined;
  /** Names that the forward proxy leads to, besides the upstreams'; undefined = not declared. */
  readonly uses: readonly string[] | undefined;
  /** The forward proxy asks for others when they are first called. */
  readonly usesOthers?: true;
  readonly upstreams: readonly UpstreamPlan[];
  readonly accessLog: AccessLogPlan;
  /** The process opens the ports of a Gateway. */
  readonly gateway?: ServedGatewayPlan;
}

export interface AccessLogPlan {
  /** Log what the application asks of others. */
  readonly client: boolean;
  /** Log what others ask of the application. */
  readonly server: boolean;
}

export interface InboundPlan {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly appPort: number;
  readonly protocol: PortProtocol;
  readonly mutualTls: MutualTlsMode;
  /** Services this port stands for, sorted by key. */
  readonly services: readonly ServiceRef[];
  readonly authz: AuthzPlan;
  /** Absent = no policy limits it. */
  readonly limits?: LimitsPlan;
}

export interface UpstreamPlan {
  /** Name of the listener. */
  readonly name: string;
  readonly localPort: number;
  readonly target: TargetPlan;
  /** What TLSRoutes, TCPRoutes and UDPRoutes say of it; absent = all goes to the service. */
  readonly connections?: ConnectionsPlan;
}

/** What happens to the connections of a port. */
export interface ConnectionsPlan {
  /** By name in the handshake, each name once; undefined = all alike. */
  readonly byName:
    | readonly { readonly route: string; readonly hosts: readonly string[]; readonly backends: readonly BackendPlan[] }[]
    | undefined;
  readonly backends: readonly BackendPlan[];
}

// ---- authorization ------------------------------------------------------------------------------------------------------------

export interface AuthzPlan {
  /** Sorted by name; a connection or request that one of these matches is refused. */
  readonly deny: readonly AuthzRulePlan[];
  /** null = no ALLOW policy applies, everything not denied passes. Otherwise what none of these matches is refused; empty refuses all. */
  readonly allow: readonly AuthzRulePlan[] | null;
  /** Whose tokens are taken, which is asked before; absent = nobody looks at tokens. */
  readonly tokens?: readonly TokenRulePlan[];
}

/** Tokens of one issuer. */
export interface TokenRulePlan {
  readonly issuer: string;
  readonly audiences: readonly string[];
  /** A JSON Web Key Set. */
  readonly keys: string;
  readonly forward: boolean;
  /** Names in lower case. All three empty: where tokens usually stand. */
  readonly fromHeaders: readonly { readonly name: string; readonly prefix: string }[];
  readonly fromParams: readonly string[];
  readonly fromCookies: readonly string[];
  /** Empty = none. */
  readonly payloadHeader: string;
  readonly claimHeaders: readonly { readonly header: string; readonly claim: string }[];
  /** Sorted. */
  readonly spaceDelimited: readonly string[];
}

/** Any of `sources` and any of `operations` must fit; an empty list fits everything. */
export interface AuthzRulePlan {
  /** `ns[NS]-policy[NAME]-rule[I]`, as Istio's. */
  readonly name: string;
  readonly sources: readonly (readonly SourceCondition[])[];
  readonly operations: readonly (readonly OperationCondition[])[];
}

/** All conditions of a source or operation must hold; a condition holds when any (or with `negate` none) of its values fits. */
export type SourceCondition =
  | { readonly field: "principal"; readonly negate: boolean; readonly values: readonly TextMatch[] }
  /** ISSUER/SUBJECT of the request's token. */
  | { readonly field: "token"; readonly negate: boolean; readonly values: readonly TextMatch[] }
  /** A claim of it by its path, or an entry of it. */
  | { readonly field: "claim"; readonly path: readonly string[]; readonly negate: boolean; readonly values: readonly TextMatch[] }
  /** `ip`: who is connected; `client`: who the request's client is, behind proxies that are believed. */
  | {
      readonly field: "ip" | "client";
      readonly negate: boolean;
      readonly values: readonly { readonly prefix: string; readonly length: number }[];
    };

export interface OperationCondition {
  readonly field: "host" | "method" | "path";
  readonly negate: boolean;
  readonly values: readonly TextMatch[];
}

/** `present`: any value at all. */
export type TextMatch = { readonly kind: "exact" | "prefix" | "suffix" | "regex"; readonly value: string } | { readonly kind: "present" };

/** The routes' own file has them; here for those who read them from this one. */
export type { ForwardPlan, MatchPlan, RoutePlan, ValueMatchPlan } from "./routes.ts";
