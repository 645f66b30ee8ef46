// Owns: what `weft check` thinks of objects and proxies. Pure: lists in, findings out.

import type { ProxyObject } from "../api/live.ts";
import type { Condition, KubeObject } from "../api/meta.ts";

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

export function proxyFindings(proxies: readonly ProxyObject[], entries: readonly KubeObject[], version: string): Finding[] {
  const out: Finding[] = [];
  const expected = new Set(entries.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`));
  for (const { metadata, status } of proxies) {
    const id = `${metadata.namespace}/${metadata.name}`;
    const about = `proxy ${id}`;
    if (!status.connected) {
      if (expected.has(id))
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

export function objectFindings(mesh: Mesh): Finding[] {
  return [
    ...emptyServices(mesh),
    ...mesh.routes.flatMap(routeFindings),
    ...mesh.policies.flatMap(policyFindings),
    ...mesh.policies.flatMap(attachedFindings),
    ...danglingBindings(mesh),
  ];
}

function emptyServices({ services, entries, slices }: Mesh): Finding[] {
  const out: Finding[] = [];
  for (const service of services) {
    const { name, namespace } = service.metadata;
    const { selector, type } = (service.spec ?? {}) as { selector?: Record<string, string>; type?: string };
    if (type === "ExternalName") continue;
    const sliced = slices.some(
      (slice) =>
        slice.metadata.namespace === namespace &&
        slice.metadata.labels?.["kubernetes.io/service-name"] === name &&
        ((slice.endpoints as unknown[] | undefined) ?? []).length > 0,
    );
    const wanted = Object.entries(selector ?? {});
    const selected =
      wanted.length > 0 &&
      entries.some((entry) => entry.metadata.namespace === namespace && wanted.every(([key, value]) => labelsOf(entry)[key] === value));
    if (!sliced && !selected)
      out.push({
        level: "warning",
        about: named(service),
        message:
          wanted.length > 0
            ? `no instance has its labels ${wanted.map((pair) => pair.join("=")).join(",")}: calls get 503`
            : "has no selector and no EndpointSlice: calls get 503",
        fix: `start one (weft run --service ${name} -n ${namespace}), or correct spec.selector`,
      });
  }
  return out;
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

function routeFindings(route: KubeObject): Finding[] {
  const { parents } = (route.status ?? {}) as { parents?: unknown[] };
  return (parents ?? []).flatMap((parent) =>
    conditionsOf(parent)
      .filter(({ status }) => status === "False")
      .map(
        (each): Finding => ({
          level: "error",
          about: named(route),
          message: `${each.type} is False (${each.reason}): ${each.message}`,
          fix: "make what it refers to, or correct the reference",
        }),
      ),
  );
}

/** Of policies that are attached to something: each target has its word. */
function attachedFindings(policy: KubeObject): Finding[] {
  const { ancestors } = (policy.status ?? {}) as { ancestors?: unknown[] };
  return (ancestors ?? []).flatMap((ancestor) =>
    conditionsOf(ancestor)
      .filter(({ status }) => status === "False")
      .map(
        ({ type, reason, message }): Finding => ({
          level: type === "Accepted" ? "error" : "warning",
          about: named(policy),
          message: `${type} is False (${reason}): ${message}`,
          fix: "correct its target, or make and start what it is for",
        }),
      ),
  );
}

function policyFindings(policy: KubeObject): Finding[] {
  return conditionsOf(policy.status)
    .filter(({ type, status }) => (type === "Enforced" && status === "False") || (type === "DatagramsWithheld" && status === "True"))
    .map(
      (each): Finding => ({
        level: "warning",
        about: named(policy),
        message: `${each.message} (${each.reason})`,
        fix: "correct its selector, or start what it selects",
      }),
    );
}

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
