// Owns: the shape of an Istio Sidecar, its hosts as they are written, and the switch of namespaces for hosts that nobody has made known.

import type { KubeObject } from "../meta.ts";

export type OutboundMode = "REGISTRY_ONLY" | "ALLOW_ANY";

export interface SidecarObject extends KubeObject {
  spec?: {
    workloadSelector?: { labels?: Readonly<Record<string, string>> };
    egress?: readonly { readonly hosts?: readonly string[] }[];
    outboundTrafficPolicy?: { readonly mode?: OutboundMode };
  };
}

/** One of `egress[].hosts`. */
export interface EgressHost {
  /** `*` = any, `.` = the caller's own. */
  readonly namespace: string;
  /** A name, `*.` and a name, or `*`. */
  readonly host: string;
}

/** `NAMESPACE/HOST`; a string is what is wrong with it, undefined = nothing is meant (`~/*`). */
export function parseEgressHost(text: string): EgressHost | string | undefined {
  const [, namespace, host] = /^([a-z0-9]([-a-z0-9]*[a-z0-9])?|\*|\.|~)\/(\S+)$/.exec(text) === null ? [] : splitOnce(text);
  if (namespace === undefined || host === undefined) return "must be NAMESPACE/HOST: a namespace, *, . or ~, and a name, *.NAME or *";
  if (namespace === "~") return host === "*" ? undefined : '"~" means no host at all: write ~/*';
  const name = host.startsWith("*.") ? host.slice(2) : host;
  if (host !== "*" && !/^[a-z0-9_]([-a-z0-9_.]*[a-z0-9])?$/.test(name)) return `${JSON.stringify(host)} is no name, *.NAME or *`;
  if (!host.includes(".") && host !== "*") return `${JSON.stringify(host)} must be a whole name, such as ${host}.shop.svc.cluster.local`;
  return { namespace, host };
}

function splitOnce(text: string): [string, string, string] {
  const at = text.indexOf("/");
  return [text, text.slice(0, at), text.slice(at + 1)];
}

/** All of a Sidecar; undefined = it does not restrict. */
export function egressHosts({ spec = {} }: Pick<SidecarObject, "spec">): readonly EgressHost[] | undefined {
  if (spec.egress === undefined || spec.egress.length === 0) return undefined;
  return spec.egress.flatMap(({ hosts = [] }) =>
    hosts.flatMap((text) => {
      const parsed = parseEgressHost(text);
      return parsed === undefined || typeof parsed === "string" ? [] : [parsed];
    }),
  );
}

/** Label of a namespace (of `weft-system`: of the whole mesh): whether its callers reach hosts that nobody has made known. */
export const outboundSwitch = "weft.dev/outbound";
export const outboundModes: Readonly<Record<string, OutboundMode>> = { "registry-only": "REGISTRY_ONLY", "allow-any": "ALLOW_ANY" };
