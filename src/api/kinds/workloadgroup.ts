// Owns: networking.istio.io WorkloadGroup: what instances that `weft run --group` registers have in common, and how they are asked whether they are well.
// What has no meaning there is refused. Never makes a WorkloadEntry: the instance does.

import { tlsModeLabel, tlsModeMutual } from "../../wire/names.ts";
import { ageColumn, defineKind, dnsLabel, dnsSubdomain, textColumn } from "../define.ts";
import { isToken, wrongFieldValue } from "../http-words.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { extendSchema, type Schema, show } from "../schema.ts";
import schema from "../schemas/workloadgroup.json" with { type: "json" };
import { gather } from "./gateway-refs.ts";
import type { Probe, WorkloadGroupObject } from "./workloadgroup-spec.ts";

/** Newer than the schema that the package publishes. */
const grpc: Schema = { type: "object", required: ["port"], properties: { port: { type: "integer" }, service: { type: "string" } } };

export const workloadGroupKind = defineKind({
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  kind: "WorkloadGroup",
  plural: "workloadgroups",
  shortNames: ["wg"],
  categories: ["istio-io", "networking-istio-io"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: { ...extendSchema(schema as Schema, "probe", { grpc }), required: ["template"] } },
  unimplemented: {
    "spec.template.address": "each instance says its own: weft run --address",
    "spec.template.network": "all workloads are on one network",
  },
  notes: [
    "`weft run --group NAME` registers a WorkloadEntry made from it, owned by it: labels of `metadata` and of `template` together, annotations, weight, and where no flag says otherwise the service account, locality and port. Its own flags go before it.",
    "`template.ports` has the name of the Service's port and the port that the application listens on. Of several, `weft run --port` says which this instance is; a port that is none of them is refused where there are several.",
    "`probe` is asked of the application beside the sidecar, with Istio's defaults: every 10 s, 1 s for an answer, 3 failures, 1 success. `weft run --health-…` stands in its place. A probe of HTTPS does not check the certificate, as in Kubernetes.",
    "It is read when an instance starts. A change is for those that start afterwards. Entries of a group that is deleted are deleted with it; an instance that still runs registers again, on its own.",
  ],
  rules: groupRules,
  columns: [
    ageColumn,
    textColumn(
      "Ports",
      "NAME:PORT of the application.",
      (object) =>
        Object.entries((object as WorkloadGroupObject).spec?.template?.ports ?? {})
          .map(([name, port]) => `${name}:${port}`)
          .sort()
          .join(","),
      1,
    ),
    textColumn(
      "ServiceAccount",
      "Whom its instances run as.",
      (object) => (object as WorkloadGroupObject).spec?.template?.serviceAccount ?? "",
      1,
    ),
  ],
});

type Add = (path: string, message: string) => void;

function groupRules(object: KubeObject): Violation[] {
  const { metadata, template, probe } = (object as WorkloadGroupObject).spec;
  return gather((add) => {
    for (const [place, labels] of [
      ["spec.metadata.labels", metadata?.labels ?? {}],
      ["spec.template.labels", template?.labels ?? {}],
    ] as const)
      labelRules(labels, place, add);
    for (const [key, value] of Object.entries(template?.labels ?? {})) {
      const other = metadata?.labels?.[key];
      if (other !== undefined && other !== value)
        add(`spec.template.labels["${key}"]`, `${show(value)} contradicts ${show(other)} in spec.metadata.labels; keep one`);
    }
    for (const key of Object.keys(metadata?.annotations ?? {}))
      if (key.startsWith("weft.dev/"))
        add(`spec.metadata.annotations["${key}"]`, "is written by weft run itself, from its flags; leave it out");
    for (const [name, port] of Object.entries(template?.ports ?? {})) {
      if (!dnsLabel.test(name)) add(`spec.template.ports["${name}"]`, "is no port name: lower-case letters, digits and '-'");
      if (port < 1 || port > 65_535) add(`spec.template.ports["${name}"]`, `must be from 1 to 65535, got ${port}`);
    }
    const { weight, serviceAccount, locality } = template ?? {};
    if (weight !== undefined && (weight < 0 || weight > 1_000_000)) add("spec.template.weight", `must be from 0 to 1000000, got ${weight}`);
    if (serviceAccount !== undefined && !dnsSubdomain.test(serviceAccount))
      add("spec.template.serviceAccount", `${show(serviceAccount)} is no service account name`);
    if (locality !== undefined && !/^[\w.-]+(\/[\w.-]+){0,2}$/.test(locality))
      add("spec.template.locality", `${show(locality)} must be REGION, REGION/ZONE or REGION/ZONE/SUBZONE`);
    if (probe !== undefined) probeRules(probe, add);
  });
}

function labelRules(labels: Readonly<Record<string, string>>, place: string, add: Add): void {
  for (const [key, value] of Object.entries(labels)) {
    const at = `${place}["${key}"]`;
    if (!/^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/.test(key))
      add(at, "is no key of a label");
    if (!/^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/.test(value)) add(at, `${show(value)} is no value of a label`);
    if (key === tlsModeLabel && value !== tlsModeMutual)
      add(at, `must be ${tlsModeMutual}, as instances of weft run have a sidecar; got ${show(value)}`);
  }
}

const ways = ["httpGet", "tcpSocket", "exec", "grpc"] as const;

function probeRules(probe: Probe, add: Add): void {
  const given = ways.filter((way) => probe[way] !== undefined);
  if (given.length !== 1)
    add("spec.probe", `needs exactly one of ${ways.join(", ")}${given.length === 0 ? "" : `, has ${given.join(", ")}`}`);
  for (const [field, most] of [
    ["initialDelaySeconds", 3_600],
    ["timeoutSeconds", 300],
    ["periodSeconds", 3_600],
    ["successThreshold", 100],
    ["failureThreshold", 100],
  ] as const) {
    const value = probe[field];
    if (value !== undefined && (value < 0 || value > most)) add(`spec.probe.${field}`, `must be from 0 to ${most}, got ${value}`);
  }
  for (const way of ["httpGet", "tcpSocket", "grpc"] as const) {
    const port = probe[way]?.port;
    if (probe[way] !== undefined && (port === undefined || port < 1 || port > 65_535))
      add(`spec.probe.${way}.port`, `must be from 1 to 65535${port === undefined ? "" : `, got ${port}`}`);
  }
  for (const way of ["httpGet", "tcpSocket"] as const) {
    const host = probe[way]?.host ?? "";
    if (!["", "localhost", "127.0.0.1"].includes(host))
      add(`spec.probe.${way}.host`, `${show(host)}: the application is asked on 127.0.0.1, beside its sidecar; leave it out`);
  }
  const { path = "/", scheme = "", httpHeaders = [] } = probe.httpGet ?? {};
  if (!/^\/[\x21-\x7e]*$/.test(path)) add("spec.probe.httpGet.path", `${show(path)} must be a path such as /healthz`);
  if (!["", "HTTP", "HTTPS"].includes(scheme)) add("spec.probe.httpGet.scheme", `${show(scheme)} must be HTTP or HTTPS`);
  for (const [n, { name = "", value = "" }] of httpHeaders.entries()) {
    if (!isToken(name)) add(`spec.probe.httpGet.httpHeaders[${n}].name`, `${show(name)} is no name of a header field`);
    const wrong = value === "" ? undefined : wrongFieldValue(value);
    if (wrong !== undefined) add(`spec.probe.httpGet.httpHeaders[${n}].value`, wrong);
  }
  if (probe.exec !== undefined && ((probe.exec.command ?? []).length === 0 || probe.exec.command?.[0] === ""))
    add("spec.probe.exec.command", "must name a program");
  const service = probe.grpc?.service ?? "";
  if (service !== "" && !/^[\w./-]{1,127}$/.test(service)) add("spec.probe.grpc.service", `${show(service)} is no name of a gRPC service`);
}
