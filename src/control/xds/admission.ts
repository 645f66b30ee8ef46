// Owns: whether a caller may be the node it says it is. A node id names a WorkloadEntry; the entry's service account must be the caller's.
// Never believes anything else in the node message.

import type { KubeObject } from "../../api/meta.ts";
import { parseNodeId } from "../../wire/names.ts";
import { formatIdentity, type Identity } from "../../wire/spiffe.ts";
import { serviceAccountOf } from "../identity/access.ts";

export interface Admitted {
  readonly namespace: string;
  readonly workload: string;
  /** `NAMESPACE/WORKLOAD`: the key of its snapshot. */
  readonly key: string;
  readonly identity: Identity;
  readonly labels: Readonly<Record<string, string>>;
}

export type Admission = { readonly ok: true; readonly node: Admitted } | { readonly ok: false; readonly reason: string };

export type FindEntry = (namespace: string, name: string) => Promise<KubeObject | undefined>;

/** Judges one node id. The reason names both sides: what was claimed and who claimed it. */
export async function admitNode(nodeId: string, caller: Identity, find: FindEntry): Promise<Admission> {
  const who = formatIdentity(caller);
  const parsed = parseNodeId(nodeId);
  if (parsed === undefined) {
    return no(`node id ${JSON.stringify(nodeId)} of caller ${who} is not of the form sidecar~NAMESPACE~WORKLOADENTRY`);
  }
  const { namespace, workload } = parsed;
  if (namespace !== caller.namespace) {
    return no(`node id ${JSON.stringify(nodeId)} lies in namespace ${namespace}, but the caller is ${who}`);
  }
  const entry = await find(namespace, workload);
  if (entry === undefined) {
    return no(
      `node id ${JSON.stringify(nodeId)} names WorkloadEntry ${namespace}/${workload}, which does not exist (caller ${who}); register it first`,
    );
  }
  const account = serviceAccountOf(entry);
  if (account !== caller.serviceAccount) {
    const owner = formatIdentity({ ...caller, serviceAccount: account });
    return no(`node id ${JSON.stringify(nodeId)} names WorkloadEntry ${namespace}/${workload} of ${owner}, but the caller is ${who}`);
  }
  return {
    ok: true,
    node: { namespace, workload, key: `${namespace}/${workload}`, identity: caller, labels: entry.metadata.labels ?? {} },
  };
}

function no(reason: string): Admission {
  return { ok: false, reason };
}
