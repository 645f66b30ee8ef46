// Owns: how many processes the sidecar of an instance serves with, as ProxyConfigs say it: which of them speaks, and reading them. Loads no schema.

import type { ProxyConfigObject } from "../../api/kinds/proxyconfig.ts";
import { matchesLabels } from "../../api/selector.ts";
import { ApiFailure, type Client } from "../client.ts";
import { reasonOf } from "../failure.ts";
import type { Say } from "./say.ts";

/** Whose ProxyConfigs are for all namespaces: `rootNamespace`, which comes with a schema. */
const meshWide = "weft-system";

/** As `--workers` has it; undefined = nobody says. */
export async function workersFor(
  client: Client,
  namespace: string,
  labels: Readonly<Record<string, string>>,
  say: Say,
): Promise<string | undefined> {
  const all = await Promise.all([...new Set([namespace, meshWide])].map((each) => read(client, each, say)));
  const found = speaking(all.flat(), namespace, labels);
  if (found === undefined) return undefined;
  const { concurrency = 1 } = found.spec;
  const workers = concurrency === 0 ? "auto" : String(concurrency);
  say.info(
    `ProxyConfig ${found.metadata.namespace}/${found.metadata.name}: the sidecar serves with ${concurrency === 0 ? "a process for each core" : concurrency === 1 ? "one process" : `${workers} processes`}`,
  );
  return workers;
}

/** For the workload alone, then for its namespace, then for the mesh; of several the oldest. */
export function speaking(
  configs: readonly ProxyConfigObject[],
  namespace: string,
  labels: Readonly<Record<string, string>>,
): ProxyConfigObject | undefined {
  const rank = ({ metadata, spec }: ProxyConfigObject): number => {
    const selector = spec.selector?.matchLabels;
    if (metadata.namespace === namespace && selector !== undefined) return matchesLabels(selector, labels) ? 0 : 3;
    if (selector !== undefined) return 3;
    return metadata.namespace === namespace ? 1 : metadata.namespace === meshWide ? 2 : 3;
  };
  const age = ({ metadata }: ProxyConfigObject): string => `${metadata.creationTimestamp ?? ""} ${metadata.name}`;
  return configs
    .filter((each) => rank(each) < 3)
    .sort((a, b) => rank(a) - rank(b) || (age(a) < age(b) ? -1 : 1))
    .at(0);
}

/** A credential that may not read them gets what everybody has without any, and is told. */
async function read(client: Client, namespace: string, say: Say): Promise<readonly ProxyConfigObject[]> {
  try {
    const path = `/apis/networking.istio.io/v1beta1/namespaces/${namespace}/proxyconfigs`;
    return (await client.json<{ items: readonly ProxyConfigObject[] }>(path, { timeoutMs: 5000 })).items;
  } catch (error) {
    if (!(error instanceof ApiFailure) || error.code >= 500) throw error;
    if (error.code !== 404)
      say.warn(`the ProxyConfigs of ${namespace} are not read, and the sidecar serves as if there were none: ${reasonOf(error)}`);
    return [];
  }
}
