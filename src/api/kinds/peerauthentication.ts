// Owns: security.istio.io PeerAuthentication: whether a sidecar's ports take mutual TLS only, plain text beside it, or plain text only.

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { portNumber } from "../port.ts";
import { type Schema, show } from "../schema.ts";
import peerAuthenticationSchema from "../schemas/peerauthentication.json" with { type: "json" };

export type MutualTlsMode = "STRICT" | "PERMISSIVE" | "DISABLE";

interface Setting {
  readonly mode?: MutualTlsMode | "UNSET";
}

export interface PeerAuthenticationObject extends KubeObject {
  spec?: {
    selector?: { matchLabels?: Record<string, string> };
    mtls?: Setting;
    /** Keys are ports where the application listens. */
    portLevelMtls?: Record<string, Setting>;
  };
}

/** The mode that a setting states; undefined = it leaves that to whatever is less specific. */
export function stated(setting: Setting | undefined): MutualTlsMode | undefined {
  return setting?.mode === "UNSET" ? undefined : setting?.mode;
}

export const peerAuthenticationKind = defineKind({
  group: "security.istio.io",
  versions: ["v1", "v1beta1"],
  kind: "PeerAuthentication",
  plural: "peerauthentications",
  shortNames: ["pa"],
  categories: ["istio-io", "security-istio-io"],
  namespaced: true,
  hasStatus: true,
  strictOnly: true,
  fields: { spec: peerAuthenticationSchema as Schema },
  notes: [
    "STRICT, the default of the mesh: callers without a certificate of the mesh are refused. PERMISSIVE: the same port takes plain text too, from callers who then have no identity. DISABLE: plain text only, and sidecars call it so.",
    "The most specific object that states a mode decides: `portLevelMtls`, selector in the namespace, namespace, selector in `weft-system`, `weft-system`; of several equally specific ones the oldest. `UNSET` states nothing.",
    "`portLevelMtls` needs a selector; its keys are ports where the application listens.",
    "An AuthorizationPolicy that allows principals or namespaces never allows a caller in plain text.",
    "Refused beside another of the same namespace and selector that states another mode.",
  ],
  rules: peerRules,
  columns: [
    textColumn("Mode", "What spec.mtls.mode states.", (object) => stated((object as PeerAuthenticationObject).spec?.mtls) ?? "UNSET"),
    ageColumn,
  ],
});

function peerRules(object: KubeObject): Violation[] {
  const out: Violation[] = [];
  const spec = (object as PeerAuthenticationObject).spec ?? {};
  const labels = Object.entries(spec.selector?.matchLabels ?? {});
  for (const [key, value] of labels) {
    if (key === "" || key.includes("*") || value.includes("*"))
      out.push({ path: `spec.selector.matchLabels["${key}"]`, message: "wildcards are not allowed in labels" });
  }
  const ports = Object.keys(spec.portLevelMtls ?? {});
  if (ports.length > 0 && labels.length === 0)
    out.push({
      path: "spec.portLevelMtls",
      message: "needs spec.selector.matchLabels: a port is one of some workloads, not of a namespace",
    });
  for (const port of ports) {
    if (portNumber(port) === undefined)
      out.push({
        path: `spec.portLevelMtls["${port}"]`,
        message: `${show(port)} is no port number; write the port where the application listens`,
      });
  }
  return out;
}
