// Owns: what `weft check` thinks of objects and proxies. Pure: lists in, findings out.

import { rootNamespace } from "../api/kinds/authorizationpolicy.ts";
import type { ProxyObject } from "../api/live.ts";
import type { Condition, KubeObject } from "../api/meta.ts";
import { annotations } from "../wire/names.ts";
import type { Rotation } from "./rotation.ts";

export interface Finding {
  readonly level: "error" | "warning";
  readonly about: string;
  readonly message: string;
  readonly fix: string;
}

export interface Mesh {
  readonly services: readonly KubeObject[];
  readonly entries: readonly KubeObject[];
  readonly slices: readonly KubeObject[];
  readonly routes: readonly KubeObject[];
  readonly policies: readonly KubeObject[];
  readonly roles: readonly KubeObject[];
  readonly clusterRoles: readonly KubeObject[];
  readonly bindings: readonly KubeObject[];
}

const named = ({ kind, metadata }: KubeObject) =>
  `${kind} ${metadata.namespace === undefined ? "" : `${metadata.namespace}/`}${metadata.name}`;

/** Renewal begins at one half of a certificate's life; as the proxy's own alarms. */
const [lateAt, graveAt] = [0.25, 0.1];

function certificateFinding(about: string, { notBefore, notAfter }: { notBefore: string; notAfter: string }, nowMs: number): Finding[] {
  const leftMs = Date.parse(notAfter) - nowMs;
  const part = leftMs / (Date.parse(notAfter) - Date.parse(notBefore));
  if (!(part < lateAt)) return [];
  const left = leftMs <= 0 ? `expired at ${notAfter}` : `ends in ${Math.ceil(leftMs / 60_000)} min (${notAfter})`;
  return [
    {
      level: part < graveAt ? "error" : "warning",
      about,
      message: `its certificate ${left} and has not been renewed, which is due at half of its life`,
      fix: "look at its log (Could not get a certificate says why); weft ca revocations has who is refused; with a good token a restart of weft run joins anew",
    },
  ];
}

/** `nowMs`: the control plane's time. */
export function proxyFindings(
  proxies: readonly ProxyObject[],
  entries: readonly KubeObject[],
  version: string,
  nowMs: number = Date.now(),
): Finding[] {
  const out: Finding[] = [];
  const idOf = ({ metadata }: KubeObject) => `${metadata.namespace}/${metadata.name}`;
  const expected = new Set(entries.map(idOf));
  // Of several control planes each knows its own proxies; in the entries all of them write who has which.
  const elsewhere = new Set(entries.filter(isElsewhere).map(idOf));
  const shown = new Set(proxies.map(idOf));
  for (const entry of entries) {
    const put = conditionsOf(entry.status).find(({ type, status }) => type === "Healthy" && status === "False");
    if (put === undefined || shown.has(idOf(entry)) || (put.reason !== "ProxyLost" && put.reason !== "SidecarDown")) continue;
    out.push({
      level: "error",
      about: named(entry),
      message: `is out of service (${put.reason}): ${put.message}`,
      fix: "look at its machine and at the log of its weft run; if it is gone for good: weft delete workloadentry",
    });
  }
  for (const { metadata, status } of proxies) {
    const id = `${metadata.namespace}/${metadata.name}`;
    const about = `proxy ${id}`;
    if (!status.connected) {
      if (expected.has(id) && !elsewhere.has(id))
        out.push({
          level: "error",
          about,
          message: "is not connected, its instance is registered",
          fix: "look at its machine and at the log of its weft run; if it is gone for good: weft delete workloadentry",
        });
      continue;
    }
    if (!status.synced && status.lastRejection !== null)
      out.push({
        level: "error",
        about,
        message: `rejects ${status.lastRejection.type}: ${status.lastRejection.reason}`,
        fix: "undo the change that brought it (weft history -A, weft rollback), or run a version of the proxy that knows it",
      });
    else if (!status.synced)
      out.push({
        level: "warning",
        about,
        message: "has not acknowledged its newest configuration",
        fix: "wait a moment and check again; then look at its log",
      });
    if (status.certificate !== undefined) out.push(...certificateFinding(about, status.certificate, nowMs));
    const [program, its] = status.agent.split("/");
    if (program === "weft" && its !== undefined && version !== "" && its !== version)
      out.push({
        level: "warning",
        about,
        message: `is weft ${its}, the control plane ${version}`,
        fix: "install the version there, and kill -URG the pid of weft run: the sidecar is replaced without a failed request",
      });
  }
  return out;
}

/** `nowMs`: the control plane's time. */
export function objectFindings(mesh: Mesh, nowMs: number = Date.now()): Finding[] {
  return [
    ...emptyServices(mesh, nowMs),
    ...[...mesh.routes, ...mesh.policies].flatMap(statusFindings),
    ...idleAuthentications(mesh),
    ...danglingBindings(mesh),
  ];
}

/** As the control plane answers `/weft/v1alpha1/ca`, as far as it is judged. */
export interface AuthorityFacts {
  readonly sharedKeys?: "plain" | "sealed" | null;
  readonly rotation: null | Rotation;
}

const hourMs = 3_600_000;
/** Proxies that are connected take a new root within seconds. */
const distributingMs = hourMs;
/** Behind the end of the last certificate of the other root, a day after the switch. */
const slackMs = hourMs;

/** What is wrong with the mesh's authority. `nowMs`: the control plane's time. */
export function authorityFindings({ rotation, sharedKeys }: AuthorityFacts, nowMs: number): Finding[] {
  const out: Finding[] = [];
  if (sharedKeys === "plain")
    out.push({
      level: "warning",
      about: "store",
      message: "the mesh's keys stand in etcd as they are: whoever reads etcd, or a backup of it, can issue identities",
      fix: "seal them: start each control plane with the same weft up --store-key FILE, 32 random bytes or more (docs/high-availability.md)",
    });
  if (rotation === null) return out;
  const { phase, startedAt, switchedAt, waitingFor, othersEndAt } = rotation;
  const who = waitingFor.length === 0 ? "" : `: it waits for ${listed(waitingFor)}`;
  const since = phase === "distributing" ? startedAt : (switchedAt ?? startedAt);
  const dueMs =
    phase === "distributing"
      ? Date.parse(startedAt) + distributingMs
      : (othersEndAt === null ? Date.parse(since) : Date.parse(othersEndAt)) + slackMs;
  if (nowMs <= dueMs) return out;
  out.push({
    level: "warning",
    about: "root rotation",
    message: `stands still (${phase} since ${since})${who}`,
    fix:
      phase === "distributing"
        ? "start or update who lacks the new root; or weft ca finish --force, which cuts them off, or weft ca abandon"
        : `see the control plane's log for what keeps it; weft ca finish${phase === "returning" ? "" : " (weft ca status says who would be cut off)"} ends it`,
  });
  return out;
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(", ");
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown;
}

/** PeerAuthentications that reach no workload; they have no status that could say so. */
function idleAuthentications({ policies, entries }: Mesh): Finding[] {
  const out: Finding[] = [];
  for (const policy of policies) {
    if (policy.kind !== "PeerAuthentication") continue;
    const { namespace } = policy.metadata;
    const { selector } = (policy.spec ?? {}) as { selector?: { matchLabels?: Record<string, string> } };
    const wanted = Object.entries(selector?.matchLabels ?? {});
    const everywhere = namespace === rootNamespace;
    const reached = entries.some(
      (entry) => (everywhere || entry.metadata.namespace === namespace) && wanted.every(([key, value]) => labelsOf(entry)[key] === value),
    );
    if (reached) continue;
    out.push({
      level: "warning",
      about: named(policy),
      message:
        wanted.length > 0
          ? `selects no workload: none${everywhere ? "" : ` in ${namespace}`} has the labels ${wanted.map((pair) => pair.join("=")).join(",")}`
          : `selects no workload: there is none ${everywhere ? "yet" : `in ${namespace}`}`,
      fix: "correct its selector or namespace, or start what it is for; until then those workloads go by the next wider PeerAuthentication",
    });
  }
  return out;
}

function emptyServices({ services, entries, slices }: Mesh, nowMs: number): Finding[] {
  const out: Finding[] = [];
  for (const service of services) {
    const { name, namespace } = service.metadata;
    const { selector, type } = (service.spec ?? {}) as { selector?: Record<string, string>; type?: string };
    if (type === "ExternalName") continue;
    const sliced = slices
      .filter((slice) => slice.metadata.namespace === namespace && slice.metadata.labels?.["kubernetes.io/service-name"] === name)
      .flatMap((slice) => (slice.endpoints as readonly { readonly conditions?: { readonly ready?: boolean } }[] | undefined) ?? []);
    const wanted = Object.entries(selector ?? {});
    const selected =
      wanted.length === 0
        ? []
        : entries.filter(
            (entry) => entry.metadata.namespace === namespace && wanted.every(([key, value]) => labelsOf(entry)[key] === value),
          );
    if (sliced.length === 0 && selected.length === 0)
      out.push({
        level: "warning",
        about: named(service),
        message:
          wanted.length > 0
            ? `no instance has its labels ${wanted.map((pair) => pair.join("=")).join(",")}: calls get 503`
            : "has no selector and no EndpointSlice: calls get 503",
        fix: `start one (weft run --service ${name} -n ${namespace}), or correct spec.selector`,
      });
    else if (sliced.every(({ conditions }) => conditions?.ready === false)) out.push(...unwell(service, selected, sliced.length, nowMs));
  }
  return out;
}

/** An instance that is about to answer, or about to end, is no fault yet; one that fails its checks from the start stays `Starting`. */
const passing = new Set(["Starting", "Draining"]);
const passingMs = 60_000;
const lost = new Set(["ProxyLost", "SidecarDown"]);

/** Says it of a service of which no instance takes calls. `closed`: endpoints of its EndpointSlices, none of which is ready. */
function unwell(service: KubeObject, entries: readonly KubeObject[], closed: number, nowMs: number): Finding[] {
  const reasons: string[] = [];
  const said: string[] = [];
  for (const entry of entries) {
    const healthy = conditionsOf(entry.status).find(({ type }) => type === "Healthy");
    const reported = entry.metadata.annotations?.[annotations.health] === "reported";
    if (healthy === undefined ? !reported : healthy.status === "True") return [];
    const { reason, message } = healthy ?? { reason: "Starting", message: "its health has not been reported yet" };
    const since = healthy?.lastTransitionTime ?? entry.metadata.creationTimestamp;
    const long = passing.has(reason) && nowMs - Date.parse(since ?? "") > passingMs;
    reasons.push(long ? "late" : reason);
    said.push(`${entry.metadata.name} is not healthy (${reason}): ${message}${long ? `, since ${since}` : ""}`);
  }
  if (closed > 0) said.push(`${closed} endpoint${closed === 1 ? " of its EndpointSlices is" : "s of its EndpointSlices are"} not ready`);
  const shown = said.length > 3 ? `${said.slice(0, 3).join("; ")}; and ${said.length - 3} more` : said.join("; ");
  const first = entries.find((_, at) => !passing.has(reasons[at] as string)) ?? entries[0];
  const grave = closed > 0 || reasons.some((reason) => !passing.has(reason));
  const there = first === undefined ? "" : `weft describe workloadentry ${first.metadata.name} -n ${first.metadata.namespace}`;
  const fix =
    first === undefined
      ? "look at what writes its EndpointSlices: conditions.ready of an endpoint says whether it takes calls"
      : !grave
        ? `wait until it answers on its port, and check again; ${there} says what it waits for`
        : reasons.some((reason) => lost.has(reason))
          ? "look at its machine and at the log of its weft run, which starts a sidecar again by itself"
          : `mend what its health check finds (${there}, the log of its weft run); it takes calls again as soon as it passes`;
  return [
    {
      level: grave ? "error" : "warning",
      about: named(service),
      message: `no instance takes calls: ${shown}`,
      fix,
    },
  ];
}

/** Its proxy is connected, to a control plane that may be another than the one that is asked. */
function isElsewhere(entry: KubeObject): boolean {
  const conditions = conditionsOf(entry.status);
  return (
    conditions.some(
      ({ type, status, message }) => type === "ProxyConnected" && status === "True" && / to control plane \S+$/.test(message),
    ) && !conditions.some(({ type, status, reason }) => type === "Healthy" && status === "False" && reason === "ProxyLost")
  );
}

/** Labels of an entry: its own and those of its spec. */
function labelsOf(entry: KubeObject): Record<string, string> {
  const { labels } = (entry.spec ?? {}) as { labels?: Record<string, string> };
  return { ...labels, ...entry.metadata.labels };
}

function conditionsOf(status: unknown): readonly Condition[] {
  const { conditions } = (status ?? {}) as { conditions?: Condition[] };
  return conditions ?? [];
}

/** Conditions that are bad when they hold. */
const badWhenTrue = new Set(["Conflicted", "DatagramsWithheld", "OverlappingTLSConfig"]);
/** True, and yet without effect: it selects nobody, or what it is for is not there. */
const idle = new Set(["NoWorkload", "NoService"]);

/** What the control plane says of an object, of its parents, its targets and its listeners: each no once. */
function statusFindings(object: KubeObject): Finding[] {
  const status = (object.status ?? {}) as Readonly<
    Record<"parents" | "ancestors" | "listeners", readonly { readonly name?: string }[] | undefined>
  >;
  const route = status.parents !== undefined;
  const said = [
    ...conditionsOf(status).map((each) => ({ each, where: "" })),
    ...[...(status.parents ?? []), ...(status.ancestors ?? [])].flatMap((part) => conditionsOf(part).map((each) => ({ each, where: "" }))),
    ...(status.listeners ?? []).flatMap((part) => conditionsOf(part).map((each) => ({ each, where: `listener ${part.name}: ` }))),
  ];
  // A listener says more than the Gateway's word that one of them is not valid.
  const detailed = said.some(({ each, where }) => where !== "" && each.status === "False" && !badWhenTrue.has(each.type));
  return said.flatMap(({ each, where }): Finding[] => {
    const { type, reason, message } = each;
    const no = badWhenTrue.has(type) ? each.status === "True" : each.status === "False";
    if (!no && !(each.status === "True" && idle.has(reason))) return [];
    if (reason === "ListenersNotValid" && detailed) return [];
    const grave = no && (route || type === "Accepted" || type === "ResolvedRefs") && !laterOn.has(reason);
    return [
      {
        level: grave ? "error" : "warning",
        about: named(object),
        message: no && !badWhenTrue.has(type) ? `${where}${type} is False (${reason}): ${message}` : `${where}${message} (${reason})`,
        fix: fixes[type] ?? "correct what it names, or make and start what it is for",
      },
    ];
  });
}

/** Not accepted only until what they are for is made: the object is as it should be. */
const laterOn = new Set(["NoSuchService", "TargetNotFound"]);
const fixes: Readonly<Record<string, string>> = {
  Enforced: "correct its selector, or start what it selects",
  DatagramsWithheld: "correct its selector, or start what it selects",
  ResolvedRefs: "make what it refers to, or correct the reference",
  Programmed: "start the process that serves it (weft gateway NAME -n NAMESPACE), or mend what it names",
};

function danglingBindings({ bindings, roles, clusterRoles }: Mesh): Finding[] {
  const out: Finding[] = [];
  for (const binding of bindings) {
    const { kind, name } = (binding.roleRef ?? {}) as { kind?: string; name?: string };
    const there =
      kind === "Role"
        ? roles.some(({ metadata }) => metadata.name === name && metadata.namespace === binding.metadata.namespace)
        : clusterRoles.some(({ metadata }) => metadata.name === name);
    if (!there)
      out.push({
        level: "warning",
        about: named(binding),
        message: `refers to ${kind} ${name}, which is not there: it grants nothing`,
        fix: "make the role, or delete the binding",
      });
  }
  return out;
}
