// Owns: what a WorkloadGroup gives an instance: reading it, and laying it under the flags of `weft run`. Never registers anything, and loads no schema:
// the control plane has checked the object.

import type { Probe, WorkloadGroupObject } from "../../api/kinds/workloadgroup-spec.ts";
import { ApiFailure, type Client } from "../client.ts";
import { CliFailure } from "../failure.ts";
import type { AppCheck } from "./health.ts";
import type { Plan } from "./plan.ts";

export interface Template {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Of the application, by the name of the Service's port. */
  readonly ports: Readonly<Record<string, number>>;
  readonly weight?: number;
  readonly locality?: string;
  readonly serviceAccount?: string;
  readonly check?: AppCheck;
}

export const groupPath = (namespace: string, name: string): string =>
  `/apis/networking.istio.io/v1/namespaces/${namespace}/workloadgroups/${name}`;

export async function readGroup(client: Client, namespace: string, name: string): Promise<Template> {
  try {
    return templateOf(await client.json<WorkloadGroupObject>(groupPath(namespace, name), { timeoutMs: 5000 }));
  } catch (error) {
    if (!(error instanceof ApiFailure) || error.code !== 404) throw error;
    throw new CliFailure(
      `there is no WorkloadGroup ${namespace}/${name} (--group); make one with weft apply, or leave the flag out. Nothing was started or registered.`,
    );
  }
}

export function templateOf({ metadata, spec }: WorkloadGroupObject): Template {
  const { labels = {}, ports = {}, weight, locality, serviceAccount } = spec.template ?? {};
  return {
    name: metadata.name,
    namespace: metadata.namespace ?? "default",
    uid: metadata.uid ?? "",
    labels: { ...spec.metadata?.labels, ...labels },
    annotations: { ...spec.metadata?.annotations },
    ports,
    ...(weight === undefined ? {} : { weight }),
    ...(locality === undefined ? {} : { locality }),
    ...(serviceAccount === undefined ? {} : { serviceAccount }),
    ...(spec.probe === undefined ? {} : { check: checkOf(spec.probe) }),
  };
}

/** With Istio's defaults, 0 being one of them. */
function checkOf(probe: Probe): AppCheck {
  const or = (value: number | undefined, standard: number): number => (value === undefined || value === 0 ? standard : value);
  return {
    kind: kindOf(probe),
    ...(probe.initialDelaySeconds === undefined ? {} : { delayMs: probe.initialDelaySeconds * 1000 }),
    intervalMs: or(probe.periodSeconds, 10) * 1000,
    timeoutMs: or(probe.timeoutSeconds, 1) * 1000,
    failures: or(probe.failureThreshold, 3),
    successes: or(probe.successThreshold, 1),
  };
}

function kindOf({ httpGet, tcpSocket, exec, grpc }: Probe): AppCheck["kind"] {
  if (httpGet !== undefined)
    return {
      type: "http",
      path: httpGet.path ?? "/",
      port: httpGet.port,
      headers: (httpGet.httpHeaders ?? []).map(({ name = "", value = "" }) => [name, value] as const),
      ...(httpGet.scheme === "HTTPS" ? { tls: true } : {}),
    };
  if (tcpSocket !== undefined) return { type: "tcp", port: tcpSocket.port };
  if (grpc !== undefined) return { type: "grpc", service: grpc.service ?? "", port: grpc.port };
  return { type: "exec", command: exec?.command ?? [] };
}

/** The flags, and beneath them the group. Throws where it does not say which port this instance is. */
export function withGroup(plan: Plan, template: Template): Plan {
  const [port, portName] = portOf(plan, template);
  const clash = plan.upstreams.find((each) => each.localPort === port && each.transport === (plan.protocol === "udp" ? "udp" : "tcp"));
  if (clash !== undefined)
    throw new CliFailure(
      `--upstream ${clash.service}=${clash.localPort}: ${port} is COMMAND's own port, by WorkloadGroup ${template.namespace}/${template.name}; take another`,
    );
  return {
    ...plan,
    template,
    port,
    portName,
    serviceAccount: plan.serviceAccount ?? template.serviceAccount,
    locality: plan.locality ?? template.locality,
    check: plan.check ?? template.check,
  };
}

function portOf(plan: Plan, { namespace, name, ports }: Template): readonly [port: number | undefined, name: string | undefined] {
  const all = Object.entries(ports);
  const [first, second] = all;
  if (first === undefined) return [plan.port, undefined];
  if (second === undefined) return [plan.port ?? first[1], first[0]];
  const found = all.find(([, number]) => number === plan.port);
  if (found !== undefined) return [found[1], found[0]];
  throw new CliFailure(
    `WorkloadGroup ${namespace}/${name} has the ports ${all.map(([each, number]) => `${each}:${number}`).join(", ")}; say by --port which of them this instance answers${plan.port === undefined ? "" : `, ${plan.port} is none`}`,
  );
}
