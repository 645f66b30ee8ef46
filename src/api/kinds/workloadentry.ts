// Owns: networking.istio.io WorkloadEntry: one instance of a service, where it is dialled, who it runs as, and (in annotations) how its
// sidecar is laid out on its host. Written by `weft run`; by hand for programs without a sidecar.

import { isIP } from "node:net";
import { annotations, type Transport, tlsModeLabel, usesOthers } from "../../wire/names.ts";
import { ageColumn, defineKind, dns1035Label, dnsLabel, dnsSubdomain, textColumn } from "../define.ts";
import type { Condition, KubeObject, Violation } from "../meta.ts";
import { portNumber } from "../port.ts";
import { type Schema, show } from "../schema.ts";
import workloadEntrySchema from "../schemas/workloadentry.json" with { type: "json" };

export interface WorkloadEntryObject extends KubeObject {
  spec: {
    address?: string;
    ports?: Record<string, number>;
    labels?: Record<string, string>;
    weight?: number;
    /** `region/zone/sub-zone`. */
    locality?: string;
    serviceAccount?: string;
  };
  status?: { conditions?: Condition[] };
}

/** One port that the sidecar takes from peers and hands to the application. */
export interface InboundPort {
  readonly name: string;
  /** Of the application, on 127.0.0.1. */
  readonly appPort: number;
}

/** One local port that leads to a service, for programs that know no HTTP proxy. */
export interface Upstream {
  readonly service: string;
  /** undefined = the workload's own. */
  readonly namespace: string | undefined;
  /** undefined = the service's default port of `transport`. */
  readonly port: number | undefined;
  readonly localPort: number;
  readonly transport: Transport;
}

/** Labels that selectors see: `spec.labels` over `metadata.labels`. */
export function labelsOf(entry: WorkloadEntryObject): Readonly<Record<string, string>> {
  return { ...entry.metadata.labels, ...entry.spec.labels };
}

/** Healthy unless a condition says otherwise: entries made by hand have no condition. */
export function isHealthy(entry: WorkloadEntryObject): boolean {
  const healthy = healthOf(entry);
  return healthy === undefined || healthy === "True";
}

/** Whether calls may go there. An entry whose health is reported is none before the first report, and none without ports: it only calls. */
export function isEndpoint(entry: WorkloadEntryObject): boolean {
  const healthy = healthOf(entry);
  if (entry.metadata.annotations?.[annotations.health] !== "reported") return healthy === undefined || healthy === "True";
  return healthy === "True" && Object.keys(entry.spec.ports ?? {}).length > 0;
}

function healthOf(entry: WorkloadEntryObject): string | undefined {
  return entry.status?.conditions?.find((condition) => condition.type === "Healthy")?.status;
}

export const defaultServiceAccount = "default";

/** Parses the annotation `weft.dev/inbound`; a string is what is wrong with it. */
export function parseInbound(text: string): readonly InboundPort[] | string {
  const out: InboundPort[] = [];
  for (const part of parts(text)) {
    const [, name, digits] = /^([a-z0-9-]+)=(\d+)$/.exec(part) ?? [];
    if (name === undefined || digits === undefined || !dnsLabel.test(name))
      return `${show(part)} is not of the form PORTNAME=APPLICATIONPORT`;
    const appPort = portNumber(digits);
    if (appPort === undefined) return `${show(part)}: the port must be from 1 to 65535`;
    if (out.some((port) => port.name === name)) return `port name ${show(name)} stands there twice`;
    out.push({ name, appPort });
  }
  return out;
}

/** Parses the annotation `weft.dev/upstreams`; a string is what is wrong with it. */
export function parseUpstreams(text: string): readonly Upstream[] | string {
  const out: Upstream[] = [];
  for (const part of parts(text)) {
    const [, service, namespace, port, local, udp] = /^([^.:=]+)(?:\.([^.:=]+))?(?::(\d+))?=(\d+)(\/udp)?$/.exec(part) ?? [];
    if (
      service === undefined ||
      local === undefined ||
      !dns1035Label.test(service) ||
      (namespace !== undefined && !dnsLabel.test(namespace))
    ) {
      return `${show(part)} is not of the form SERVICE[.NAMESPACE][:PORT]=LOCALPORT[/udp]`;
    }
    const localPort = portNumber(local);
    const servicePort = port === undefined ? undefined : portNumber(port);
    if (localPort === undefined || (port !== undefined && servicePort === undefined)) return `${show(part)}: ports must be from 1 to 65535`;
    const transport = udp === undefined ? "tcp" : "udp";
    if (out.some((other) => other.localPort === localPort && other.transport === transport))
      return `local port ${localPort} stands there twice`;
    out.push({ service, namespace, port: servicePort, localPort, transport });
  }
  return out;
}

/** Parses the annotation `weft.dev/uses` into names as the forward proxy has them, `usesOthers` among them; a string is what is wrong with it. */
export function parseUses(text: string): readonly string[] | string {
  const out = parts(text);
  for (const part of out) {
    if (part === usesOthers) continue;
    const [, service, namespace, port] = /^([^.:=]+)(?:\.([^.:=]+))?(?::(\d+))?$/.exec(part) ?? [];
    if (service === undefined || !dns1035Label.test(service) || (namespace !== undefined && !dnsLabel.test(namespace)))
      return `${show(part)} is not of the form SERVICE[.NAMESPACE][:PORT], nor "${usesOthers}" (others when they are first called)`;
    if (port !== undefined && portNumber(port) === undefined) return `${show(part)}: the port must be from 1 to 65535`;
  }
  return out;
}

function parts(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

export const workloadEntryKind = defineKind({
  group: "networking.istio.io",
  versions: ["v1", "v1beta1"],
  kind: "WorkloadEntry",
  plural: "workloadentries",
  shortNames: ["we"],
  categories: ["istio-io", "networking-istio-io"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: workloadEntrySchema as Schema },
  unimplemented: {
    "spec.network": "all workloads are on one network",
  },
  notes: [
    "An endpoint of every Service whose selector fits its labels (`spec.labels` over `metadata.labels`), while it has an address and its condition `Healthy` is True or absent. With the annotation `weft.dev/health: reported`, as `weft run` writes it, absent means no.",
    "The label `security.istio.io/tlsMode: istio` says that its ports take mutual TLS; callers then expect the identity of `spec.serviceAccount` (default `default`).",
    "Annotations lay out the sidecar: `weft.dev/inbound` (PORTNAME=APPLICATIONPORT,...), `weft.dev/http-proxy-port`, `weft.dev/upstreams` (SERVICE[.NAMESPACE][:PORT]=LOCALPORT[/udp],...). An upstream whose Service does not exist yet stays closed until it does.",
    "With the annotation `weft.dev/uses` (SERVICE[.NAMESPACE][:PORT],...) the forward proxy leads to these services and the upstreams' only, and the sidecar is given no others; without it to all of the mesh. With `*` in the list it is given any other service when it is first called, and no longer once it is not called any more.",
    "Refused beside another healthy entry with the same address and port.",
  ],
  rules: entryRules,
  columns: [
    ageColumn,
    textColumn("Address", "Address that peers dial.", (object) => (object as WorkloadEntryObject).spec?.address ?? ""),
    textColumn(
      "Healthy",
      "True, False, or empty when nobody checks.",
      (object) => (object as WorkloadEntryObject).status?.conditions?.find((each) => each.type === "Healthy")?.status ?? "",
    ),
    textColumn(
      "Ports",
      "NAME:PORT that peers dial.",
      (object) =>
        Object.entries((object as WorkloadEntryObject).spec?.ports ?? {})
          .map(([name, port]) => `${name}:${port}`)
          .sort()
          .join(","),
      1,
    ),
    textColumn(
      "ServiceAccount",
      "Whom the workload runs as.",
      (object) => (object as WorkloadEntryObject).spec?.serviceAccount ?? defaultServiceAccount,
      1,
    ),
  ],
});

function entryRules(object: KubeObject): Violation[] {
  const entry = object as WorkloadEntryObject;
  const { address, ports, serviceAccount, weight } = entry.spec;
  const out: Violation[] = [];
  if (address !== undefined && (isIP(address) === 0 || address.includes("%"))) {
    out.push({
      path: "spec.address",
      message: `${show(address)} is no IP address; host names and unix sockets are not implemented by this version of Weft`,
    });
  }
  for (const [name, port] of Object.entries(ports ?? {})) {
    if (!dnsLabel.test(name)) out.push({ path: `spec.ports["${name}"]`, message: "is no port name: lower-case letters, digits and '-'" });
    if (port < 1 || port > 65535) out.push({ path: `spec.ports["${name}"]`, message: `must be from 1 to 65535, got ${port}` });
  }
  if (weight !== undefined && (weight < 0 || weight > 1_000_000))
    out.push({ path: "spec.weight", message: `must be from 0 to 1000000, got ${weight}` });
  if (serviceAccount !== undefined && !dnsSubdomain.test(serviceAccount))
    out.push({ path: "spec.serviceAccount", message: `${show(serviceAccount)} is no service account name` });
  const mode = labelsOf(entry)[tlsModeLabel];
  if (mode !== undefined && mode !== "istio" && mode !== "disabled")
    out.push({ path: `metadata.labels["${tlsModeLabel}"]`, message: `must be istio or disabled, got ${show(mode)}` });
  out.push(...annotationProblems(entry));
  return out;
}

function annotationProblems(entry: WorkloadEntryObject): Violation[] {
  const out: Violation[] = [];
  const given = entry.metadata.annotations ?? {};
  const at = (key: string) => `metadata.annotations["${key}"]`;
  const inbound = given[annotations.inbound];
  if (inbound !== undefined) {
    const parsed = parseInbound(inbound);
    if (typeof parsed === "string") out.push({ path: at(annotations.inbound), message: parsed });
    else {
      for (const { name } of parsed) {
        if (entry.spec.ports?.[name] === undefined)
          out.push({
            path: at(annotations.inbound),
            message: `port ${show(name)} is not in spec.ports, where the sidecar's own port belongs`,
          });
      }
      if (parsed.length > 0 && entry.spec.address === undefined)
        out.push({ path: "spec.address", message: `is required with the annotation ${annotations.inbound}: the sidecar listens there` });
    }
  }
  const proxyPort = given[annotations.httpProxyPort];
  if (proxyPort !== undefined && portNumber(proxyPort) === undefined)
    out.push({ path: at(annotations.httpProxyPort), message: `must be a port from 1 to 65535, got ${show(proxyPort)}` });
  const uses = given[annotations.uses];
  const used = uses === undefined ? [] : parseUses(uses);
  if (typeof used === "string") out.push({ path: at(annotations.uses), message: used });
  const upstreams = given[annotations.upstreams];
  if (upstreams !== undefined) {
    const parsed = parseUpstreams(upstreams);
    if (typeof parsed === "string") out.push({ path: at(annotations.upstreams), message: parsed });
    else if (proxyPort !== undefined && parsed.some((each) => each.transport === "tcp" && String(each.localPort) === proxyPort))
      out.push({
        path: at(annotations.upstreams),
        message: `local port ${proxyPort} is the forward proxy's (${annotations.httpProxyPort})`,
      });
  }
  return out;
}
