// Owns: telling a UDP service's user why nobody's datagrams reach it. The control plane's words, from the Service's status; never its own judgement.

import type { Condition, KubeObject } from "../../api/meta.ts";
import type { Client } from "../client.ts";

/** A registration is judged within 200 ms of being known. */
const looks = 10;
const lookMs = 200;

/** Why `entry` gets no datagrams; undefined when it gets them, or nobody says so in time. Never throws. */
export async function withheldFrom(client: Client, namespace: string, service: string, entry: string): Promise<string | undefined> {
  const path = `/api/v1/namespaces/${namespace}/services/${service}`;
  for (let look = 0; look < looks; look++) {
    await Bun.sleep(lookMs);
    const found = await client.json<KubeObject>(path, { timeoutMs: 2000 }).catch(() => undefined);
    const status = found?.status as { conditions?: readonly Condition[] } | undefined;
    const condition = status?.conditions?.find(({ type }) => type === "UDPCarried");
    if (condition?.status === "False" && condition.message.includes(`${namespace}/${entry} `)) return condition.message;
  }
  return undefined;
}
