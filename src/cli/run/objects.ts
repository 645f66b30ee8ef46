// Owns: the two objects that `weft run` writes, the Service and the WorkloadEntry, and which port of a Service an instance stands behind. Pure.

import { type PortProtocol, portProtocol } from "../../api/kinds/service.ts";
import type { Condition, KubeObject } from "../../api/meta.ts";
import { annotations, tlsModeLabel, tlsModeMutual } from "../../wire/names.ts";
import { CliFailure } from "../failure.ts";
import type { Template } from "./group.ts";
import type { Plan, Protocol } from "./plan.ts";

export interface ServicePort {
  readonly name?: string;
  readonly port: number;
  readonly protocol?: string;
  readonly appProtocol?: string;
  readonly targetPort?: number | string;
}

/** The Service for a name that has none yet. */
export function newService(plan: Plan & { readonly port: number }, namespace: string): KubeObject {
  const protocol = plan.protocol ?? "http";
  const port = plan.servicePort ?? (protocol === "tcp" || protocol === "udp" ? plan.port : 80);
  // What a group calls the port says what it speaks, unless a flag does.
  const told = plan.protocol === undefined && plan.portName !== undefined ? {} : { appProtocol: protocol };
  const spoken = protocol === "udp" ? { protocol: "UDP" } : { protocol: "TCP", ...told };
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: plan.service, namespace },
    spec: { selector: { app: labelsFor(plan).app }, ports: [{ name: plan.portName ?? protocol, port, ...spoken }] },
  };
}

export interface ChosenPort {
  /** Key in the WorkloadEntry's ports. */
  readonly name: string;
  readonly port: number;
  readonly protocol: PortProtocol;
}

/** UDP, else appProtocol, else the prefix of the port's name, else tcp (Istio's rules for the protocols of this mesh). */
export function protocolOf(port: ServicePort): PortProtocol {
  return portProtocol(port);
}

function spokenBy(protocol: Protocol): PortProtocol {
  return portProtocol(protocol === "udp" ? { protocol: "UDP" } : { appProtocol: protocol });
}

/** The port of an existing Service that this instance answers; refuses when flags and Service contradict each other. */
export function choosePort(service: KubeObject, plan: Plan): ChosenPort {
  const spec = (service.spec ?? {}) as { ports?: readonly ServicePort[] };
  const label = `Service ${service.metadata.namespace}/${service.metadata.name}`;
  const all = spec.ports ?? [];
  const shown = all.map((p) => `${p.name ?? "(no name)"}:${p.port}/${protocolOf(p)}`).join(", ");
  const candidates = all.filter(
    (p) =>
      (plan.servicePort === undefined || p.port === plan.servicePort) &&
      (plan.protocol === undefined || protocolOf(p) === spokenBy(plan.protocol)) &&
      (plan.portName === undefined || p.name === plan.portName || p.targetPort === plan.portName),
  );
  const port = candidates[0];
  if (port === undefined) {
    const asked = [
      plan.servicePort === undefined ? "" : `--service-port ${plan.servicePort}`,
      plan.protocol === undefined ? "" : `--protocol ${plan.protocol}`,
      plan.portName === undefined ? "" : `port ${plan.portName} of WorkloadGroup ${plan.group}`,
    ];
    throw new CliFailure(
      `${label} has no port for ${asked.filter((a) => a !== "").join(" with ") || "an instance"}; it has ${shown || "none"}. Leave the flag out, or change the Service.`,
    );
  }
  // Endpoints find the sidecar's port by name: of the Service's port, or of its targetPort.
  const name = port.name ?? (typeof port.targetPort === "string" ? port.targetPort : undefined);
  if (name === undefined || name === "") {
    throw new CliFailure(
      `port ${port.port} of ${label} has no name, so no instance can be found behind it; give it one, for example ${protocolOf(port)}`,
    );
  }
  return { name, port: port.port, protocol: protocolOf(port) };
}

/** What to say when the Service does not select this instance; undefined when it does. */
export function selectionFault(service: KubeObject, labels: Readonly<Record<string, string>>): string | undefined {
  const selector = (service.spec as { selector?: Record<string, string> } | undefined)?.selector;
  const label = `Service ${service.metadata.namespace}/${service.metadata.name}`;
  if (selector === undefined || Object.keys(selector).length === 0)
    return `${label} has no selector, so that it will not send anything to this instance`;
  const missing = Object.entries(selector).filter(([key, value]) => labels[key] !== value);
  if (missing.length === 0) return undefined;
  return `${label} selects ${missing.map(([k, v]) => `${k}=${v}`).join(", ")}, which this instance has not, so that it will not send anything to it`;
}

export interface EntryFacts {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** undefined: nobody dials this instance, it only calls. */
  readonly chosen: ChosenPort | undefined;
  readonly inboundPort: number;
  readonly httpProxyPort: number;
  readonly adminPort: number;
}

export function labelsFor(plan: Plan): Readonly<Record<string, string>> {
  return {
    app: plan.service,
    ...plan.template?.labels,
    ...(plan.version === undefined ? {} : { version: plan.version }),
    [tlsModeLabel]: tlsModeMutual,
  };
}

export function newEntry(plan: Plan, facts: EntryFacts): KubeObject {
  const { chosen } = facts;
  // Datagrams go to COMMAND itself: no sidecar can take them for it.
  const direct = chosen?.protocol === "udp";
  const { template } = plan;
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadEntry",
    metadata: {
      name: facts.name,
      namespace: facts.namespace,
      labels: { ...labelsFor(plan) },
      ...(template === undefined ? {} : { ownerReferences: [ownerOf(template)] }),
      annotations: {
        ...template?.annotations,
        ...(chosen === undefined || direct ? {} : { [annotations.inbound]: `${chosen.name}=${plan.port}` }),
        // A gateway's process calls nobody of itself: it is given what its routes lead to, and no more.
        ...(plan.gateway === undefined
          ? { [annotations.httpProxyPort]: String(facts.httpProxyPort) }
          : { [annotations.gateway]: plan.gateway }),
        [annotations.health]: "reported",
        // The customary words by which a Prometheus finds what to scrape.
        "prometheus.io/scrape": "true",
        "prometheus.io/port": String(facts.adminPort),
        "prometheus.io/path": "/stats/prometheus",
        ...(plan.upstreamsText === "" ? {} : { [annotations.upstreams]: plan.upstreamsText }),
        ...(plan.usesText === "" ? {} : { [annotations.uses]: plan.usesText }),
      },
    },
    spec: {
      address: plan.address,
      ...(chosen === undefined ? {} : { ports: { [chosen.name]: direct ? (plan.port as number) : facts.inboundPort } }),
      serviceAccount: facts.serviceAccount,
      ...(plan.locality === undefined ? {} : { locality: plan.locality }),
      ...(template?.weight === undefined ? {} : { weight: template.weight }),
    },
  };
}

function ownerOf({ name, uid }: Template) {
  return { apiVersion: "networking.istio.io/v1", kind: "WorkloadGroup", name, uid, controller: true };
}

export type Health = "starting" | "healthy" | "unhealthy" | "running" | "sidecar-down" | "draining";

const healthWords: Readonly<Record<Health, readonly [status: "True" | "False", reason: string, message: string]>> = {
  starting: ["False", "Starting", "the application does not answer yet"],
  healthy: ["True", "Answering", "the application answers on its port"],
  unhealthy: ["False", "Unhealthy", "the application fails its health checks"],
  running: ["True", "Running", "the application runs; it only calls others"],
  "sidecar-down": ["False", "SidecarDown", "the sidecar has ended and is being started again"],
  draining: ["False", "Draining", "the application is about to end"],
};

export function condition(health: Health, at: Date, note = ""): Condition {
  const [status, reason, words] = healthWords[health];
  const message = note === "" ? words : `${words}; ${note}`;
  return { type: "Healthy", status, reason, message, lastTransitionTime: `${at.toISOString().slice(0, 19)}Z` };
}
