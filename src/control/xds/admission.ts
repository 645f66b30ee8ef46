// Owns: whether a caller may be the node it says it is. A node id names a WorkloadEntry; the entry's service account must be the caller's. A gRPC
// program that serves nothing needs no entry: it is given what any program of its namespace is. Never believes anything else in the node message.

import type { KubeObject } from "../../api/meta.ts";
import { grpcKey } from "../../compile/proxyless.ts";
import { parseGrpcNodeId } from "../../wire/grpc-names.ts";
import { parseNodeId } from "../../wire/names.ts";
import { formatIdentity, type Identity } from "../../wire/spiffe.ts";
import { serviceAccountOf } from "../identity/access.ts";

export interface Admitted {
  readonly namespace: string;
  readonly workload: string;
  /** `NAMESPACE/WORKLOAD` */
  readonly key: string;
  /** The key of its snapshot: `key`, or of a gRPC program without a proxy `grpc NAMESPACE/WORKLOAD`. */
  readonly snapshotKey: string;
  /** What kind of program it is. */
  readonly client: "proxy" | "grpc";
  readonly identity: Identity;
  readonly labels: Readonly<Record<string, string>>;
}

export type Admission = { readonly ok: true; readonly node: Admitted } | { readonly ok: false; readonly reason: string };

/** A DNS subdomain, as Kubernetes names objects. */
const names = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;
/** Of a text of somebody who is not let in. */
const mostShown = 300;

export type FindEntry = (namespace: string, name: string) => Promise<KubeObject | undefined>;

/** Judges one node id. The reason names both sides: what was claimed and who claimed it. */
export async function admitNode(nodeId: string, caller: Identity, find: FindEntry): Promise<Admission> {
  const who = formatIdentity(caller);
  const grpc = parseGrpcNodeId(nodeId);
  const parsed = grpc ?? parseNodeId(nodeId);
  if (parsed === undefined) {
    const shown = JSON.stringify(nodeId.slice(0, mostShown));
    return no(`node id ${shown} of caller ${who} is not of the form sidecar~NAMESPACE~WORKLOADENTRY (or, of gRPC, grpc~NAMESPACE~NAME)`);
  }
  const { namespace, workload } = parsed;
  if (namespace !== caller.namespace) {
    return no(`node id ${JSON.stringify(nodeId)} lies in namespace ${namespace}, but the caller is ${who}`);
  }
  if (!names.test(workload))
    return no(`node id ${JSON.stringify(nodeId.slice(0, mostShown))}: ${JSON.stringify(workload.slice(0, mostShown))} is no object's name`);
  const entry = await find(namespace, workload);
  const key = `${namespace}/${workload}`;
  if (entry === undefined && grpc !== undefined)
    return { ok: true, node: { namespace, workload, key, snapshotKey: `${grpcKey}${key}`, client: "grpc", identity: caller, labels: {} } };
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
    node: {
      namespace,
      workload,
      key,
      snapshotKey: grpc === undefined ? key : `${grpcKey}${key}`,
      client: grpc === undefined ? "proxy" : "grpc",
      identity: caller,
      labels: entry.metadata.labels ?? {},
    },
  };
}

function no(reason: string): Admission {
  return { ok: false, reason };
}
