// Owns: networking.istio.io ServiceEntry: hosts outside the mesh (or inside, without a Service) that callers reach by name.

import { isIP } from "node:net";
import { ageColumn, defineKind, dnsLabel, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { extendSchema, notImplemented, type Schema, show } from "../schema.ts";
import published from "../schemas/serviceentry.json" with { type: "json" };
import { type Add, gather } from "./gateway-refs.ts";
import { entryProtocol, entryProtocols, leadsAnywhere, type ServiceEntryObject } from "./serviceentry-spec.ts";

/** Newer than the schema that the package publishes. */
const resolutions: Readonly<Record<string, Schema>> = {
  resolution: { type: "string", enum: ["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] },
};
const whole = extendSchema(published as Schema, "", resolutions);

const byName = "callers reach the hosts by name, through their sidecar";

export const serviceEntryKind = defineKind({
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  kind: "ServiceEntry",
  plural: "serviceentries",
  shortNames: ["se"],
  categories: ["istio-io", "networking-istio-io"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: whole },
  unimplemented: {
    "spec.addresses": `${byName}; remove them`,
    "spec.endpoints[].locality": "balancing by locality is not built for ServiceEntries",
    "spec.endpoints[].network": "there is one network",
  },
  notes: [
    "Makes its hosts known to callers: by HOST or HOST:PORT through HTTP_PROXY. A host that no Service and no ServiceEntry names gets 502 with a sentence that says so.",
    "`resolution: DNS` asks for the host's addresses (or those of the endpoints' names) and goes on asking; `STATIC` takes the addresses of `endpoints`, or the WorkloadEntries that `workloadSelector` selects. `DNS_ROUND_ROBIN` is balanced as `DNS` is.",
    "A port's protocol: HTTP and GRPC-WEB are HTTP/1.1, HTTP2 and GRPC are HTTP/2, and routes and policies see requests; TCP, TLS, HTTPS and the rest are carried as bytes, with the application's own TLS inside. To have the sidecar begin TLS, write protocol HTTP and `tls` of a DestinationRule for the host.",
    "Traffic to `endpoints` goes in plain text unless an endpoint has the label security.istio.io/tlsMode: istio, which stands for a sidecar; selected WorkloadEntries as behind a Service.",
    "`resolution: NONE` and `DYNAMIC_DNS` lead where the request says. Only there a host may have a wildcard (`*.example.com`): the name is asked for in DNS when a request comes; a name without wildcard goes before it, as does the longer wildcard. A host without one is asked for as with `DNS`.",
    "`subjectAltNames` are the names that a server's certificate must have, where a DestinationRule begins TLS (SIMPLE, MUTUAL) and names none itself.",
    "Which hosts that nobody has made known may be called is said by the label `weft.dev/outbound` of a Namespace and by a Sidecar's outboundTrafficPolicy.",
    "Refused: hosts of the mesh's own domain, and a host that another ServiceEntry has.",
  ],
  rules: serviceEntryRules,
  columns: [
    textColumn("Hosts", "Names that it makes known.", (object) => JSON.stringify((object as ServiceEntryObject).spec?.hosts ?? [])),
    textColumn("Location", "Inside or outside the mesh.", (object) => (object as ServiceEntryObject).spec?.location ?? ""),
    textColumn("Resolution", "How addresses are found.", (object) => (object as ServiceEntryObject).spec?.resolution ?? ""),
    ageColumn,
  ],
});

const hostName = /^(?=.{1,253}$)[a-z0-9_]([-a-z0-9_]*[a-z0-9])?(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9])?)*$/;

function serviceEntryRules(object: KubeObject): Violation[] {
  const spec: Partial<ServiceEntryObject["spec"]> = (object as ServiceEntryObject).spec;
  return gather((add) => {
    const { endpoints = [], workloadSelector, resolution } = spec;
    checkHosts(spec.hosts ?? [], leadsAnywhere(resolution), add);
    checkPorts(spec, add);
    if (leadsAnywhere(resolution)) checkAnywhere(spec, add);
    for (const [at, name] of (spec.subjectAltNames ?? []).entries())
      if (name === "") add(`spec.subjectAltNames[${at}]`, "must not be empty");
    if (endpoints.length > 0 && workloadSelector !== undefined)
      add("spec.workloadSelector", "endpoints and workloadSelector exclude each other; remove one");
    if (resolution === "STATIC" && endpoints.length === 0 && workloadSelector === undefined)
      add(
        "spec.endpoints",
        "is required for resolution STATIC, unless workloadSelector names workloads: without either nobody would answer",
      );
    if (workloadSelector !== undefined && resolution !== "STATIC")
      add("spec.workloadSelector", `needs resolution STATIC, got ${show(resolution)}`);
    if (workloadSelector !== undefined && Object.keys(workloadSelector.labels ?? {}).length === 0)
      add("spec.workloadSelector.labels", "must name at least one label, or it would select every workload of the namespace");
    for (const [at, endpoint] of endpoints.entries()) checkEndpoint(spec, endpoint, `spec.endpoints[${at}]`, add);
    for (const [at, to] of (spec.exportTo ?? []).entries())
      if (to === "~") add(`spec.exportTo[${at}]`, '"~" exports to nobody, so that the object would do nothing; delete it instead');
      else if (to !== "*" && to !== "." && !dnsLabel.test(to))
        add(`spec.exportTo[${at}]`, `must be ".", "*" or the name of a namespace, got ${show(to)}`);
  });
}

/** What a request says decides where it goes. */
function checkAnywhere({ endpoints = [], ports = [], resolution = "NONE", location }: Partial<ServiceEntryObject["spec"]>, add: Add): void {
  if (endpoints.length > 0)
    add("spec.endpoints", `resolution ${resolution} goes where the request says; write STATIC or DNS for endpoints`);
  for (const [at, { targetPort, number }] of ports.entries())
    if (targetPort !== undefined && targetPort !== number)
      add(
        `spec.ports[${at}].targetPort`,
        `resolution ${resolution} goes to the port that the request names; write STATIC or DNS for another`,
      );
  if (location === "MESH_INTERNAL") add("spec.location", `resolution ${resolution} knows no workloads of the mesh; write MESH_EXTERNAL`);
}

function checkHosts(hosts: readonly string[], wildcards: boolean, add: Add): void {
  if (hosts.length === 0) add("spec.hosts", "must name at least one host");
  const seen = new Map<string, number>();
  for (const [at, host] of hosts.entries()) {
    const path = `spec.hosts[${at}]`;
    if (host.startsWith("*.") && !wildcards)
      add(
        path,
        `${show(host)} has a wildcard, whose addresses nobody knows beforehand: write resolution NONE or DYNAMIC_DNS, or each host`,
      );
    else if (host === "*") add(path, "would be every host: give the namespace the label weft.dev/outbound: allow-any instead");
    else if (host.startsWith("*.") && !hostName.test(host.slice(2))) add(path, `${show(host)} is no *. and a DNS name in lower case`);
    else if (!host.startsWith("*.") && !hostName.test(host)) add(path, `${show(host)} is no DNS name in lower case`);
    else if (host === "cluster.local" || host.endsWith(".cluster.local"))
      add(path, `${show(host)} is in the mesh's own domain; a Service without selector and an EndpointSlice makes such a name`);
    else if (!host.includes(".")) add(path, `${show(host)} has no dot, so that it would hide the short name of a Service; use a full name`);
    const before = seen.get(host);
    if (before !== undefined) add(path, `is the same as spec.hosts[${before}]`);
    else seen.set(host, at);
  }
}

function checkPorts({ ports = [], resolution, endpoints = [] }: Partial<ServiceEntryObject["spec"]>, add: Add): void {
  if (ports.length === 0) add("spec.ports", "must name at least one port");
  for (const [at, port] of ports.entries()) {
    const path = `spec.ports[${at}]`;
    if (port.number === undefined) add(`${path}.number`, "is required");
    else if (port.number < 1 || port.number > 65535) add(`${path}.number`, `must be from 1 to 65535, got ${port.number}`);
    if (port.name === undefined || port.name === "") add(`${path}.name`, "is required");
    if (port.targetPort !== undefined && (port.targetPort < 1 || port.targetPort > 65535))
      add(`${path}.targetPort`, `must be from 1 to 65535, got ${port.targetPort}`);
    if (entryProtocol(port.protocol) === undefined)
      add(`${path}.protocol`, `must be one of ${entryProtocols.join(", ")}, got ${show(port.protocol)}`);
    const number = ports.findIndex((other, index) => index < at && other.number === port.number);
    if (number >= 0) add(`${path}.number`, `${port.number} is taken by spec.ports[${number}]`);
    const name = ports.findIndex((other, index) => index < at && other.name === port.name);
    if (name >= 0 && port.name !== undefined) add(`${path}.name`, `${show(port.name)} is taken by spec.ports[${name}]`);
  }
  if (resolution === "DNS_ROUND_ROBIN" && endpoints.length > 1)
    add("spec.endpoints", "DNS_ROUND_ROBIN takes one endpoint at most; write resolution: DNS for several");
}

function checkEndpoint(
  spec: Partial<ServiceEntryObject["spec"]>,
  { address, ports = {}, weight }: NonNullable<ServiceEntryObject["spec"]["endpoints"]>[number],
  path: string,
  add: Add,
): void {
  const literal = address !== undefined && isAddress(address);
  if (address === undefined || address === "") add(`${path}.address`, "is required");
  else if (address.startsWith("unix://")) add(`${path}.address`, notImplemented("a Unix socket", "name an IP address"));
  else if (spec.resolution === "STATIC" && !literal)
    add(`${path}.address`, `${show(address)} is no IP address; names need resolution: DNS`);
  else if (!literal && !hostName.test(address)) add(`${path}.address`, `${show(address)} is neither an IP address nor a DNS name`);
  const known = (spec.ports ?? []).map(({ name }) => name);
  for (const [name, number] of Object.entries(ports)) {
    if (!known.includes(name)) add(`${path}.ports.${name}`, `there is no port ${show(name)} in spec.ports`);
    if (number < 1 || number > 65535) add(`${path}.ports.${name}`, `must be from 1 to 65535, got ${number}`);
  }
  if (weight !== undefined && (weight < 0 || weight > 1_000_000)) add(`${path}.weight`, `must be from 0 to 1000000, got ${weight}`);
}

export function isAddress(text: string): boolean {
  return isIP(text) !== 0 && !text.includes("%");
}
