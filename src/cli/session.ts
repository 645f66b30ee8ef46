// Owns: what a verb that talks to the control plane starts with: the client, the namespace, the kinds. Reads flags and environment; asks nothing by itself.

import { Client } from "./client.ts";
import { discover, findResource, type Resource } from "./discovery.ts";
import { kubeconfigPath, readAccess } from "./kubeconfig.ts";
import type { Invocation } from "./verb.ts";

export interface Session {
  readonly client: Client;
  readonly namespace: string;
  /** Asked for once. */
  resources(): Promise<readonly Resource[]>;
  find(word: string): Promise<Resource>;
}

export function openSession(invocation: Pick<Invocation, "args" | "env">): Session {
  const access = readAccess(kubeconfigPath(invocation.args.text("kubeconfig"), invocation.env));
  const client = new Client(access);
  let known: Promise<readonly Resource[]> | undefined;
  const resources = () => {
    known ??= discover(client);
    return known;
  };
  return {
    client,
    namespace: invocation.args.text("namespace") ?? access.namespace,
    resources,
    find: async (word) => findResource(await resources(), word),
  };
}
