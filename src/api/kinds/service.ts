// Owns: v1 Service: a name, ports, and which workloads stand behind it. Never: virtual IPs, node ports, load balancers (refused).

import { ageColumn, defineKind, dnsLabel, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { portNumber } from "../port.ts";
import { isRecord, notImplemented, type Schema, show } from "../schema.ts";
import { formatLabels } from "../selector.ts";

export interface ServicePort {
  readonly name?: string;
  readonly port: number;
  /** Number, or name of a port of the workload. */
  readonly targetPort?: number | string;
  readonly appProtocol?: string;
  readonly protocol?: string;
}

export interface ServiceObject extends KubeObject {
  spec: { selector?: Record<string, string>; ports?: ServicePort[]; type?: string; clusterIP?: string };
}

/** What the application speaks on a port: HTTP/1.1, HTTP/2 without TLS (gRPC among it), bytes that are passed on as they are, or datagrams. */
export type PortProtocol = "http" | "http2" | "tcp" | "udp";

/** Has requests, which routes and policies can tell apart. */
export function speaksHttp(protocol: PortProtocol): boolean {
  return protocol === "http" || protocol === "http2";
}

/** Values of `appProtocol` (Kubernetes's own begin with `kubernetes.io/`) and first words of port names (Istio's). */
const words: Readonly<Record<string, PortProtocol>> = {
  http: "http",
  "kubernetes.io/http": "http",
  "grpc-web": "http",
  ws: "http",
  "kubernetes.io/ws": "http",
  http2: "http2",
  h2c: "http2",
  "kubernetes.io/h2c": "http2",
  grpc: "http2",
};

/**
 * `protocol: UDP` is datagrams, whatever they hold. Else `appProtocol` decides; then the port's name, as Istio has it (`http`, `http-web`, `grpc-api`, `tcp-db`); then tcp.
 * Protocols the proxies do not parse (mongo, mysql, tls, …) are carried as opaque bytes.
 */
export function portProtocol(port: Pick<ServicePort, "name" | "appProtocol" | "protocol">): PortProtocol {
  if (port.protocol === "UDP") return "udp";
  if (port.appProtocol !== undefined) return words[port.appProtocol.toLowerCase()] ?? "tcp";
  const name = port.name?.toLowerCase() ?? "";
  if (name === "grpc-web" || name.startsWith("grpc-web-")) return "http";
  return words[name.split("-")[0] as string] ?? "tcp";
}

const port: Schema = {
  type: "object",
  required: ["port"],
  properties: {
    name: { type: "string", maxLength: 63 },
    port: { type: "integer", minimum: 1, maximum: 65535 },
    targetPort: { type: "int-or-string" },
    appProtocol: { type: "string", maxLength: 253 },
    protocol: { type: "string", enum: ["TCP", "UDP", "SCTP"], default: "TCP" },
  },
};

const noAddresses = "a service of the mesh is reached by name, through the sidecar of the caller";

export const serviceKind = defineKind({
  group: "",
  versions: ["v1"],
  kind: "Service",
  plural: "services",
  shortNames: ["svc"],
  categories: ["all"],
  namespaced: true,
  hasStatus: true,
  returnsDeleted: true,
  nameForm: "dns-1035-label",
  requiredFields: ["spec"],
  selectableFields: {
    "spec.clusterIP": (object) => (object as ServiceObject).spec?.clusterIP ?? "",
    "spec.type": (object) => (object as ServiceObject).spec?.type ?? "",
  },
  fields: {
    spec: {
      type: "object",
      properties: {
        selector: { type: "object", mapType: "atomic", additionalProperties: { type: "string" } },
        ports: { type: "array", items: port, minItems: 1, maxItems: 250, listType: "map", listMapKeys: ["port", "protocol"] },
        type: { type: "string", enum: ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"], default: "ClusterIP" },
        clusterIP: { type: "string", enum: ["", "None"] },
        sessionAffinity: { type: "string", enum: ["None", "ClientIP"], default: "None" },
      },
      required: ["ports"],
    },
  },
  unimplemented: {
    "spec.type=NodePort": `use ClusterIP; ${noAddresses}`,
    "spec.type=LoadBalancer": `use ClusterIP; ${noAddresses}`,
    "spec.type=ExternalName": "use a Service without selector and an EndpointSlice",
    "spec.sessionAffinity=ClientIP": "remove it",
    "spec.sessionAffinityConfig": "",
    "spec.ports[].protocol=SCTP": "only TCP and UDP are carried",
    "spec.ports[].nodePort": noAddresses,
    "spec.clusterIPs": noAddresses,
    "spec.externalIPs": noAddresses,
    "spec.externalName": "use a Service without selector and an EndpointSlice",
    "spec.externalTrafficPolicy": "",
    "spec.internalTrafficPolicy": "",
    "spec.healthCheckNodePort": "",
    "spec.ipFamilies": noAddresses,
    "spec.ipFamilyPolicy": noAddresses,
    "spec.loadBalancerClass": "",
    "spec.loadBalancerIP": "",
    "spec.loadBalancerSourceRanges": "use an AuthorizationPolicy",
    "spec.allocateLoadBalancerNodePorts": "",
    "spec.publishNotReadyAddresses": "",
    "spec.trafficDistribution": "",
  },
  notes: [
    "Selects WorkloadEntries of its own namespace by their labels. Without selector its endpoints come from EndpointSlices.",
    "What the application speaks on a port says its `appProtocol`, else the first word of its name (`http-web`, `grpc-api`): `http`, `ws` and `grpc-web` are HTTP/1.1; `http2`, `h2c` and `grpc` are HTTP/2; everything else (mongo, mysql, tls, ...) is carried as opaque TCP.",
    "A port with `protocol: UDP` carries datagrams as they are, whatever its name and `appProtocol` say, and may have the number of a TCP port. They go in plain text from the caller's sidecar to the application, so only where no policy of the workload forbids that: the condition `UDPCarried` says where it does, and what to do. Callers reach it by `weft run --upstream NAME=PORT/udp`.",
    "The port of a workload: the one in `spec.ports` with the service port's name, else the one `targetPort` names, else the number in `targetPort`.",
    "Reached through the sidecar as NAME (own namespace), NAME.NAMESPACE, NAME.NAMESPACE.svc and NAME.NAMESPACE.svc.cluster.local, with or without port; without, port 80 is meant, or the first of TCP if there is none.",
    "Refused beside another Service that says a different protocol of the same port of the same workloads.",
  ],
  moreDefaults: fillTargetPorts,
  rules: serviceRules,
  columns: [
    textColumn("Type", "ClusterIP.", (object) => (object as ServiceObject).spec?.type ?? "ClusterIP"),
    textColumn("Cluster-IP", "None where spec.clusterIP says so; services of the mesh have no address.", (object) => {
      const address = (object as ServiceObject).spec?.clusterIP ?? "";
      return address === "" ? "<none>" : address;
    }),
    textColumn("External-IP", "Always <none>: a Gateway leads in from outside.", () => "<none>"),
    textColumn("Port(s)", "PORT/PROTOCOL of each port.", (object) => {
      const ports = (object as ServiceObject).spec?.ports ?? [];
      return ports.length === 0 ? "<none>" : ports.map((each) => `${each.port}/${each.protocol ?? "TCP"}`).join(",");
    }),
    ageColumn,
    textColumn(
      "Selector",
      "Labels of the workloads behind the service; <none> when EndpointSlices say.",
      (object) => formatLabels((object as ServiceObject).spec?.selector),
      1,
    ),
  ],
});

function fillTargetPorts(object: KubeObject): void {
  const spec = object.spec;
  if (!isRecord(spec) || !Array.isArray(spec.ports)) return;
  for (const each of spec.ports as unknown[]) {
    if (isRecord(each) && each.targetPort === undefined && portNumber(String(each.port)) !== undefined) each.targetPort = each.port;
  }
}

function serviceRules(object: KubeObject): Violation[] {
  const { spec } = object as ServiceObject;
  const out: Violation[] = [];
  const ports = spec.ports ?? [];
  for (const [at, each] of ports.entries()) {
    const path = `spec.ports[${at}]`;
    if (each.name !== undefined && !dnsLabel.test(each.name))
      out.push({ path: `${path}.name`, message: `${show(each.name)} is no port name: lower-case letters, digits and '-'` });
    if (each.name === undefined && ports.length > 1)
      out.push({ path: `${path}.name`, message: "is required when a service has several ports" });
    for (let other = 0; other < at; other++) {
      if (ports[other]!.port === each.port && (ports[other]!.protocol ?? "TCP") === (each.protocol ?? "TCP"))
        out.push({ path: `${path}.port`, message: `${each.port} is taken by spec.ports[${other}]` });
      if (each.name !== undefined && ports[other]!.name === each.name)
        out.push({ path: `${path}.name`, message: `${show(each.name)} is taken by spec.ports[${other}]` });
    }
    const target = each.targetPort;
    if (typeof target === "number" && (target < 1 || target > 65535))
      out.push({ path: `${path}.targetPort`, message: `must be from 1 to 65535, got ${target}` });
    if (typeof target === "string" && !/^(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$/.test(target))
      out.push({
        path: `${path}.targetPort`,
        message: `${show(target)} is no port name of a workload (at most 15 lower-case letters, digits and '-'); a number goes without quotes`,
      });
    if (each.protocol !== "UDP" && each.appProtocol?.toLowerCase() === "https")
      out.push({
        path: `${path}.appProtocol`,
        message: notImplemented('value "https"', "use http: the mesh encrypts; or tcp when the application itself speaks TLS"),
      });
  }
  return out;
}
